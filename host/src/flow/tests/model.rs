//! A random life of a pipeline against a list: whatever is refused, rejected, panics, fails or is away, wherever the
//! transform gives back, and however often the task goes back, no offset is committed before the record's fate is
//! durable, and every record meets its fate.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Steps after the random ones, in which everything has to come to its end: a retry is due after a millisecond.
const STEPS_TO_THE_END_MAX: u32 = 200_000;

/// How a call of the transform ends.
#[derive(Debug, Clone, Copy)]
enum CallEnd {
    /// The whole batch.
    Whole,
    /// Gives back after so many records, at least one.
    Yields(usize),
    /// After so many records, with an error that is worth trying again.
    Retries(usize),
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Reads at most so many records.
    Read(usize),
    /// So many records fit into the store at once.
    Room(usize),
    Kafka {
        is_away: bool,
    },
    PollSinks,
    Commit,
}

/// First letters of values, by how often they come.
fn kinds() -> impl Strategy<Value = Vec<char>> {
    let kind = prop_oneof![
        8 => Just('k'),
        8 => prop::sample::select(vec!['n', 'f', 'r', 'p', 'x', 'B', 'L']),
    ];
    prop::collection::vec(kind, 1..80)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..20_usize).prop_map(Step::Read),
        2 => (0..12_usize).prop_map(Step::Room),
        2 => prop::bool::weighted(0.3).prop_map(|is_away| Step::Kafka { is_away }),
        2 => Just(Step::PollSinks),
        3 => Just(Step::Commit),
    ]
}

fn call_end() -> impl Strategy<Value = CallEnd> {
    prop_oneof![
        3 => Just(CallEnd::Whole),
        2 => (0..6_usize).prop_map(CallEnd::Yields),
        1 => (0..6_usize).prop_map(CallEnd::Retries),
    ]
}

/// The transform: what the first letter of a value says, up to where the call ends.
fn letters<'b>(batch: &Batch<'b>, out: &mut Output<'b>, end: CallEnd) -> Consumed {
    let all = batch.records.len();
    let records = match end {
        CallEnd::Whole => all,
        CallEnd::Yields(records) => records.clamp(1, all),
        CallEnd::Retries(records) => records.min(all),
    };
    let taken = || batch.records.iter().take(records);
    if taken().any(|record| text(record).starts_with('p')) {
        return stopped(0, error_kind::PANIC);
    }
    for record in taken() {
        match text(record).as_bytes()[0] {
            b'r' => out.fail(refusal_of(record)),
            b'f' => {}
            b'n' => (0..3).for_each(|_| out.emit(*record)),
            _ => out.emit(*record),
        }
    }
    match end {
        CallEnd::Retries(_) if records < all => stopped(records, error_kind::RETRYABLE),
        _ => Consumed::ok(records),
    }
}

/// Where something of a record must be when its offset is committed.
fn fates(value: &str) -> Vec<(&'static str, String)> {
    let at = |place| (place, value.to_owned());
    match value.as_bytes()[0] {
        b'r' | b'p' => vec![at("dlq")],
        b'f' => vec![],
        // Kafka refuses it for the one topic, the store has it.
        b'B' | b'L' => vec![at("dlq"), at("store")],
        b'x' => vec![at("dlq"), at("out")],
        _ => vec![at("out"), at("store")],
    }
}

fn refused_as(letter: char, value: &str) -> Option<RDKafkaErrorCode> {
    value
        .starts_with(letter)
        .then_some(RDKafkaErrorCode::MessageSizeTooLarge)
}

/// `ends` are the ends of the transform's calls, in turn; one in each round is whole, or nothing would ever come to its end.
fn pipeline(kafka: &FakeKafka, ends: &[CallEnd]) -> Rig {
    let mut ends = [ends, &[CallEnd::Whole]].concat().into_iter().cycle();
    let (rig, _) = Rig::new(Policy::DeadLetter, kafka.clone())
        .with_receivers(&[TRANSFORM])
        .kafka_sink("out")
        .plugin_sink()
        .transform(
            Scope::Record,
            &[OUT, Receiver::Sink(1)],
            move |batch, out| letters(batch, out, ends.next().unwrap_or(CallEnd::Whole)),
        );
    rig.store.lock().expect("store").rejects = Some(|value| value.starts_with('x'));
    rig
}

struct Life {
    log: Vec<String>,
    ends: Vec<CallEnd>,
    kafka: FakeKafka,
    rig: Rig,
    stored: BTreeSet<String>,
    next: i64,
    committed: i64,
    isolate_below: i64,
}

impl Life {
    fn new(kinds: &[char], ends: Vec<CallEnd>) -> Self {
        let log = kinds.iter().enumerate();
        let log = log.map(|(at, kind)| format!("{kind}{at}")).collect();
        let kafka = FakeKafka::new();
        kafka.0.borrow_mut().client = |value| refused_as('L', value);
        kafka.0.borrow_mut().broker = |value| refused_as('B', value);
        // The client refuses no dead letter here: what is large for a sink's topic is not for theirs.
        kafka.0.borrow_mut().takes_dead_letters = true;
        Life {
            rig: pipeline(&kafka, &ends),
            ends,
            log,
            kafka,
            stored: BTreeSet::new(),
            next: 0,
            committed: 0,
            isolate_below: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.committed == self.log.len() as i64
    }

    /// One step; what asks for it makes the task go back.
    fn live(&mut self, step: Step) -> Result<(), TestCaseError> {
        match self.step(step) {
            Ok(()) => Ok(()),
            Err(FlowError::Isolate { .. }) => {
                self.go_back();
                Ok(())
            }
            Err(error) => Err(TestCaseError::fail(error.to_string())),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), FlowError> {
        match step {
            Step::Read(records) if self.rig.flow.wants_input() => self.read(records)?,
            Step::Read(_) => {}
            Step::Room(room) => self.rig.store.lock().expect("store").room = room,
            Step::Kafka { is_away } => self.kafka.0.borrow_mut().is_away = is_away,
            Step::PollSinks => self.rig.flow.poll_sinks(&mut self.rig.counters)?,
            Step::Commit => self.commit()?,
        }
        self.rig.run()
    }

    fn read(&mut self, records: usize) -> Result<(), FlowError> {
        let isolates = self.next < self.isolate_below;
        if isolates && self.rig.flow.pending() > 0 {
            // As the task does: each travels alone.
            return self.commit();
        }
        let limit = if isolates { 1 } else { records };
        let from = self.next as usize;
        let until = (from + limit).min(self.log.len());
        let batch = self.log[from..until].to_vec();
        if batch.is_empty() {
            return Ok(());
        }
        self.next = until as i64;
        self.rig.push(from as i64, &batch, isolates)?;
        self.rig.run()?;
        if isolates {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), FlowError> {
        self.rig.flow.flush_outbox(Duration::ZERO)?;
        let offset = self.rig.committable(self.next);
        self.stored
            .extend(self.rig.store.lock().expect("store").stored.drain(..));
        for at in self.committed..offset {
            let value = &self.log[at as usize];
            for (place, value) in fates(value) {
                let found = match place {
                    "store" => self.stored.contains(&value),
                    topic => self.kafka.delivered(topic).contains(&value),
                };
                assert!(
                    found,
                    "{value} is not in {place}, but {offset} was committed"
                );
            }
        }
        self.committed = self.committed.max(offset);
        self.rig.flow.count_settled(&mut self.rig.counters);
        assert!(self.rig.counters.is_balanced());
        assert_eq!(self.rig.counters.pending, self.rig.flow.pending());
        Ok(())
    }

    /// As the task does: from the committed offset, one record at a time as far as it was.
    fn go_back(&mut self) {
        self.isolate_below = self.isolate_below.max(self.next);
        self.next = self.committed;
        self.stored
            .extend(self.rig.store.lock().expect("store").stored.drain(..));
        self.kafka.0.borrow_mut().in_flight.clear();
        self.rig = pipeline(&self.kafka, &self.ends);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_offset_is_committed_before_its_record_has_met_its_fate(
        kinds in kinds(),
        ends in prop::collection::vec(call_end(), 1..12),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut life = Life::new(&kinds, ends);
        for step in steps {
            life.live(step)?;
        }
        // Everything that was away is back.
        life.live(Step::Kafka { is_away: false })?;
        let rest = [Step::Read(7), Step::Room(5), Step::PollSinks, Step::Commit];
        let mut left = STEPS_TO_THE_END_MAX;
        for step in rest.into_iter().cycle() {
            if life.is_over() {
                break;
            }
            left -= 1;
            prop_assert!(left > 0, "no progress at {} of {}", life.committed, kinds.len());
            life.live(step)?;
        }
        let dead = life.kafka.delivered("dlq");
        let innocent = dead.iter().find(|value| !"rpBLx".contains(&value[..1]));
        prop_assert_eq!(innocent, None);
    }
}
