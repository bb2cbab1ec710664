//! A random life of a pipeline against a small model: whatever is refused, rejected, panics, fails or is away, and however
//! often the task goes back, no offset is committed before the record's fate is durable, and every record meets its fate.

use std::collections::BTreeSet;

use super::*;

const RECORDS: i64 = 120;

/// Numbers from a seed (a linear congruential generator, Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The transform: what the first letter of a value says.
fn letters<'b>(batch: &Batch<'b>, out: &mut Output<'b>) -> Consumed {
    if batch
        .records
        .iter()
        .any(|record| text(record).starts_with('p'))
    {
        return stopped(0, error_kind::PANIC);
    }
    for record in batch.records.iter() {
        match text(record).as_bytes()[0] {
            b'r' => out.fail(refusal_of(record)),
            b'f' => {}
            b'n' => (0..3).for_each(|_| out.emit(*record)),
            _ => out.emit(*record),
        }
    }
    Consumed::ok(batch.records.len())
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

fn pipeline(kafka: &FakeKafka) -> Rig {
    let (rig, _) = Rig::new(Policy::DeadLetter, kafka.clone())
        .with_receivers(&[TRANSFORM])
        .kafka_sink("out")
        .plugin_sink()
        .transform(Scope::Record, &[OUT, Receiver::Sink(1)], letters);
    rig.store.lock().expect("store").rejects = Some(|value| value.starts_with('x'));
    rig
}

struct Life {
    random: Random,
    log: Vec<String>,
    kafka: FakeKafka,
    rig: Rig,
    stored: BTreeSet<String>,
    next: i64,
    committed: i64,
    isolate_below: i64,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let kinds = ["k", "k", "k", "k", "n", "f", "r", "p", "x", "B", "L"];
        let log = (0..RECORDS).map(|at| {
            let kind = kinds[random.below(kinds.len() as u64) as usize];
            format!("{kind}{at}")
        });
        let log = log.collect();
        let kafka = FakeKafka::new();
        kafka.0.borrow_mut().client = |value| refused_as('L', value);
        kafka.0.borrow_mut().broker = |value| refused_as('B', value);
        // The client refuses no dead letter here: what is large for a sink's topic is not for theirs.
        kafka.0.borrow_mut().takes_dead_letters = true;
        Life {
            rig: pipeline(&kafka),
            random,
            log,
            kafka,
            stored: BTreeSet::new(),
            next: 0,
            committed: 0,
            isolate_below: 0,
        }
    }

    fn step(&mut self) -> Result<(), FlowError> {
        let isolates = self.next < self.isolate_below;
        match self.random.below(6) {
            0 | 1 if self.rig.flow.wants_input() => {
                let limit = if isolates {
                    1
                } else {
                    1 + self.random.below(20)
                };
                let from = self.next as usize;
                let until = (from + limit as usize).min(self.log.len());
                let batch = self.log[from..until].to_vec();
                self.next = until as i64;
                self.rig.push(from as i64, &batch, isolates)?;
                self.rig.run()?;
                if isolates {
                    self.commit()?;
                }
            }
            2 => {
                let room = self.random.below(12) as usize;
                self.rig.store.lock().expect("store").room = room;
            }
            3 => {
                let is_away = self.random.below(3) == 0;
                self.kafka.0.borrow_mut().is_away = is_away;
            }
            4 => self.rig.flow.poll_sinks(&mut self.rig.counters)?,
            _ => self.commit()?,
        }
        self.rig.run()
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
        self.rig = pipeline(&self.kafka);
    }
}

#[test]
fn no_offset_is_committed_before_its_record_has_met_its_fate() {
    for seed in 1..=40 {
        println!("seed {seed}");
        let mut life = Life::new(seed);
        let mut steps = 0;
        while life.committed < RECORDS {
            steps += 1;
            assert!(
                steps < 100_000,
                "seed {seed}: no progress at {}",
                life.committed
            );
            match life.step() {
                Ok(()) => {}
                Err(FlowError::Isolate { .. }) => life.go_back(),
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        let dead = life.kafka.delivered("dlq");
        let innocent = dead.iter().find(|value| !"rpBLx".contains(&value[..1]));
        assert_eq!(innocent, None, "seed {seed}");
    }
}
