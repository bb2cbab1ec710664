//! Event time. A partition's watermark is max(largest timestamp - `max_disorder`, T - `idle_grace`), where T is the newest
//! host time at which the partition was proved read to its end; the pipeline's is the minimum.
//!
//! A proof is a high watermark asked for at T (read_uncommitted, control records included) that the consumer's position
//! has reached. Without one a silent partition does not advance: neither while Kafka is away, nor while an open
//! transaction holds records back, nor while this process was stopped.

/// Settings of a source.
#[derive(Debug, Clone, Copy)]
pub struct TimeRules {
    pub max_disorder_ms: i64,
    pub idle_grace_ms: i64,
    pub max_future_ms: i64,
}

/// Event time of one partition.
#[derive(Debug, Clone)]
pub struct PartitionTime {
    rules: TimeRules,
    largest_timestamp_ms: Option<i64>,
    proved_at_ms: Option<i64>,
    /// Asked at, end: not yet reached by the position.
    open_question: Option<(i64, i64)>,
    /// The next offset to read, control records included.
    position: i64,
    watermark_ms: Option<i64>,
}

impl PartitionTime {
    pub fn new(rules: TimeRules, position: i64) -> Self {
        PartitionTime {
            rules,
            largest_timestamp_ms: None,
            proved_at_ms: None,
            open_question: None,
            position,
            watermark_ms: None,
        }
    }

    /// Event time of the same partition as it was when everything below `position` had been processed.
    pub fn as_of(&self, position: i64, watermark_ms: Option<i64>) -> Self {
        PartitionTime {
            watermark_ms,
            ..PartitionTime::new(self.rules, position)
        }
    }

    /// Records below `position` were processed, the largest timestamp among them is `largest_timestamp_ms`.
    pub fn processed(&mut self, position: i64, largest_timestamp_ms: Option<i64>) {
        self.largest_timestamp_ms = self.largest_timestamp_ms.max(largest_timestamp_ms);
        self.reached(position);
    }

    /// Nothing stands below `position` that is not processed: an end-of-partition event.
    pub fn reached(&mut self, position: i64) {
        self.position = self.position.max(position);
        if let Some((asked_at_ms, end)) = self.open_question
            && self.position >= end
        {
            self.proved_at_ms = self.proved_at_ms.max(Some(asked_at_ms));
            self.open_question = None;
        }
    }

    /// At `asked_at_ms` the partition ended at `end`.
    pub fn end_was(&mut self, asked_at_ms: i64, end: i64) {
        if self.position >= end {
            self.proved_at_ms = self.proved_at_ms.max(Some(asked_at_ms));
            self.open_question = None;
        } else if self.open_question.is_none() {
            // The oldest open question is kept: under steady traffic a newer one would never be reached.
            self.open_question = Some((asked_at_ms, end));
        }
    }

    /// Records between the position and the newest known end.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Never goes back. `None` before the first record or proof.
    pub fn watermark_ms(&mut self) -> Option<i64> {
        let by_records = self
            .largest_timestamp_ms
            .map(|largest| largest.saturating_sub(self.rules.max_disorder_ms));
        let by_proof = self
            .proved_at_ms
            .map(|proved| proved.saturating_sub(self.rules.idle_grace_ms));
        self.watermark_ms = self.watermark_ms.max(by_records).max(by_proof);
        self.watermark_ms
    }

    /// True for a timestamp too far ahead of the host's clock to be believed.
    pub fn is_future(&self, timestamp_ms: i64, now_ms: i64) -> bool {
        timestamp_ms > now_ms.saturating_add(self.rules.max_future_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: TimeRules = TimeRules {
        max_disorder_ms: 100,
        idle_grace_ms: 5_000,
        max_future_ms: 60_000,
    };

    #[test]
    fn records_advance_the_watermark_and_it_never_goes_back() {
        let mut time = PartitionTime::new(RULES, 0);
        assert_eq!(time.watermark_ms(), None);
        time.processed(1, Some(10_000));
        assert_eq!(time.watermark_ms(), Some(9_900));
        time.processed(2, Some(4_000));
        assert_eq!(time.watermark_ms(), Some(9_900));
    }

    #[test]
    fn an_idle_partition_advances_only_with_a_proof() {
        let mut time = PartitionTime::new(RULES, 7);
        time.end_was(50_000, 9);
        assert_eq!(time.watermark_ms(), None, "two records are unread");
        time.processed(8, Some(40_000));
        assert_eq!(time.watermark_ms(), Some(39_900));
        time.reached(9);
        assert_eq!(
            time.watermark_ms(),
            Some(45_000),
            "the rest was a control record"
        );
        time.end_was(60_000, 9);
        assert_eq!(time.watermark_ms(), Some(55_000));
    }

    #[test]
    fn an_open_transaction_gives_no_proof() {
        let mut time = PartitionTime::new(RULES, 10);
        // The last stable offset is 10, the high watermark 12.
        time.reached(10);
        time.end_was(1_000_000, 12);
        assert_eq!(time.watermark_ms(), None);
    }

    #[test]
    fn the_oldest_question_is_the_one_that_gets_proved() {
        let mut time = PartitionTime::new(RULES, 0);
        time.end_was(10_000, 5);
        time.end_was(11_000, 50);
        time.reached(5);
        assert_eq!(time.watermark_ms(), Some(5_000));
    }

    #[test]
    fn a_timestamp_far_ahead_of_the_clock_is_not_believed() {
        let time = PartitionTime::new(RULES, 0);
        assert!(!time.is_future(160_000, 100_000));
        assert!(time.is_future(160_001, 100_000));
    }
}
