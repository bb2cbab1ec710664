//! The watermark rule against what it promises: a partition's log with a broker's clock, hidden records and markers, a
//! reader that is stopped and goes on, questions whose answers come late or never. No record that a broker appended
//! inside of the clocks' tolerance is ever older than the watermark that stood before it.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::super::watermark::{PartitionTime, TimeRules};

const IDLE_GRACE_MS: i64 = 5_000;
const RULES: TimeRules = TimeRules {
    max_disorder_ms: 0,
    idle_grace_ms: IDLE_GRACE_MS,
    max_future_ms: 60_000,
};
const BEGIN_MS: i64 = 1_000_000;

#[derive(Debug, Clone)]
enum Op {
    /// Time passes: for broker and host alike.
    Pass(i64),
    /// Records are appended; the flag: inside of a transaction, which hides them and what follows.
    Append(usize, bool),
    /// The open transaction ends, by a marker.
    EndTransaction,
    /// The host reads at most so many records of those that it may see.
    Read(usize),
    /// At the end of what is visible the client says so.
    EndOfPartition,
    /// The host asks where the partition ends; the answer is on its way.
    Ask,
    /// The oldest answer arrives.
    Answer,
    /// The oldest answer never does.
    LoseAnswer,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1..20_000_i64).prop_map(Op::Pass),
        4 => (1..5_usize, prop::bool::weighted(0.2)).prop_map(|(n, hidden)| Op::Append(n, hidden)),
        2 => Just(Op::EndTransaction),
        4 => (1..8_usize).prop_map(Op::Read),
        4 => Just(Op::EndOfPartition),
        4 => Just(Op::Ask),
        4 => Just(Op::Answer),
        1 => Just(Op::LoseAnswer),
    ]
}

/// What stands at an offset.
#[derive(Debug, Clone, Copy)]
enum Entry {
    Record(i64),
    Marker,
}

struct World {
    now_ms: i64,
    /// Of the broker's clock against the host's.
    skew_ms: i64,
    log: Vec<Entry>,
    /// The first offset of the open transaction: nothing from there on is visible.
    stable_end: Option<usize>,
    answers: VecDeque<(i64, i64)>,
    time: PartitionTime,
    /// The next entry that the consumer looks at.
    at: usize,
    /// Naively: every question with its end, and the largest timestamp.
    asked: Vec<(i64, i64)>,
    largest_ms: Option<i64>,
}

impl World {
    fn new(skew_ms: i64) -> World {
        World {
            now_ms: BEGIN_MS,
            skew_ms,
            log: Vec::new(),
            stable_end: None,
            answers: VecDeque::new(),
            time: PartitionTime::new(RULES, 0),
            at: 0,
            asked: Vec::new(),
            largest_ms: None,
        }
    }

    fn visible_end(&self) -> usize {
        self.stable_end.unwrap_or(self.log.len())
    }

    fn end(&self) -> i64 {
        self.log.len() as i64
    }

    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Pass(ms) => self.now_ms += ms,
            Op::Append(records, is_hidden) => {
                if *is_hidden {
                    self.stable_end.get_or_insert(self.log.len());
                }
                let entry = Entry::Record(self.now_ms + self.skew_ms);
                self.log.extend(std::iter::repeat_n(entry, *records));
            }
            Op::EndTransaction => {
                if self.stable_end.take().is_some() {
                    self.log.push(Entry::Marker);
                }
            }
            Op::Read(records) => self.read(*records)?,
            Op::EndOfPartition => {
                let end = self.visible_end();
                let rest = &self.log[self.at..end];
                if !rest.iter().any(|entry| matches!(entry, Entry::Record(_))) {
                    self.at = end;
                    self.time.reached(end as i64);
                }
            }
            Op::Ask => self.answers.push_back((self.now_ms, self.end())),
            Op::Answer => {
                if let Some((asked_ms, end)) = self.answers.pop_front() {
                    self.asked.push((asked_ms, end));
                    self.time.end_was(asked_ms, end);
                }
            }
            Op::LoseAnswer => drop(self.answers.pop_front()),
        }
        Ok(())
    }

    fn read(&mut self, records: usize) -> Result<(), TestCaseError> {
        let before = self.time.watermark_ms();
        let mut left = records;
        let mut last = None;
        while left > 0 && self.at < self.visible_end() {
            if let Entry::Record(timestamp_ms) = self.log[self.at] {
                let is_in_time = before.is_none_or(|watermark| timestamp_ms >= watermark);
                prop_assert!(is_in_time, "{timestamp_ms} is behind {before:?}");
                self.largest_ms = self.largest_ms.max(Some(timestamp_ms));
                last = Some(self.at as i64 + 1);
                left -= 1;
            }
            self.at += 1;
        }
        if let Some(position) = last {
            self.at = position as usize;
            self.time.processed(position, self.largest_ms);
        }
        Ok(())
    }

    /// max(largest timestamp - `max_disorder`, T - `idle_grace`), T being the newest question whose end was reached.
    fn rule_ms(&self) -> Option<i64> {
        let position = self.time.position();
        let proved = self.asked.iter().filter(|(_, end)| position >= *end);
        let proved = proved.map(|(asked_ms, _)| asked_ms - RULES.idle_grace_ms);
        let by_records = self.largest_ms.map(|ms| ms - RULES.max_disorder_ms);
        proved.max().max(by_records)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    /// The broker's clock may be behind the host's by `idle_grace`, and ahead by anything.
    #[test]
    fn no_record_is_older_than_the_watermark_before_it(
        skew_ms in -IDLE_GRACE_MS..20_000,
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut world = World::new(skew_ms);
        let mut last = None;
        for op in &ops {
            world.step(op)?;
            let watermark = world.time.watermark_ms();
            prop_assert!(watermark >= last, "{watermark:?} after {last:?}");
            prop_assert!(watermark <= world.rule_ms(), "ahead of the rule: {watermark:?}");
            last = watermark;
        }
    }

    /// However it got there: read to the end, the next answer moves the watermark to where the rule has it.
    #[test]
    fn read_to_its_end_a_partition_follows_the_clock(
        skew_ms in -IDLE_GRACE_MS..20_000,
        ops in prop::collection::vec(op(), 1..100),
    ) {
        let mut world = World::new(skew_ms);
        for op in &ops {
            world.step(op)?;
        }
        world.answers.clear();
        for op in [Op::EndTransaction, Op::Read(usize::MAX), Op::EndOfPartition, Op::Ask, Op::Answer] {
            world.step(&op)?;
        }
        prop_assert_eq!(world.time.position(), world.end());
        prop_assert!(world.time.watermark_ms() >= Some(world.now_ms - IDLE_GRACE_MS));
        prop_assert_eq!(world.time.watermark_ms(), world.rule_ms());
    }

    /// Under steady traffic, where no answer finds the reader at the end, the oldest question that waits is the one that
    /// gets proved: the watermark does not stand still for ever.
    #[test]
    fn the_oldest_question_is_proved_under_steady_traffic(lags in prop::collection::vec(1..50_i64, 2..50)) {
        let mut time = PartitionTime::new(RULES, 0);
        let (mut now_ms, mut end) = (BEGIN_MS, 0);
        for lag in lags {
            let oldest_ms = now_ms;
            end += lag;
            let first_end = end;
            time.end_was(now_ms, end);
            // More arrives, and is asked for, before that end is reached.
            for _ in 0..3 {
                now_ms += 500;
                end += lag;
                time.end_was(now_ms, end);
            }
            time.reached(first_end);
            prop_assert!(time.watermark_ms() >= Some(oldest_ms - IDLE_GRACE_MS));
            time.reached(end);
            now_ms += 500;
        }
    }
}
