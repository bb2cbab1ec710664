//! What one task counts: plain numbers that its own thread owns.

use std::ops::{Index, IndexMut};

use super::{DurationHistogram, SinkNumbers};

/// Distinct classes of sink errors kept per node. Classes come from plugins, so their number is not ours to
/// trust; every built-in sink has fewer than ten.
pub const MAX_SINK_ERROR_CLASSES: usize = 32;

/// The class that takes what comes after [`MAX_SINK_ERROR_CLASSES`].
pub const OTHER_ERROR_CLASS: &str = "other";

/// What became of a record. Each source record has one in the end, the first of this list that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Written to the dead letter topic and acknowledged there.
    DeadLettered,
    /// Passed over by `policy: skip` or `on_gap: skip`.
    Skipped,
    /// Stored by every sink that got something of it.
    Delivered,
    /// Taken into state that a checkpoint or a committed offset covers.
    Absorbed,
    /// Consumed by a transform that made nothing of it and keeps no state.
    Filtered,
    /// Given back by an abort or by a restart of the task; it is read and counted again.
    Rewound,
}

impl Outcome {
    /// Every outcome, in the order of precedence.
    pub const ALL: [Outcome; 6] = [
        Outcome::DeadLettered,
        Outcome::Skipped,
        Outcome::Delivered,
        Outcome::Absorbed,
        Outcome::Filtered,
        Outcome::Rewound,
    ];

    /// The value of the label `outcome`.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::DeadLettered => "dead_lettered",
            Outcome::Skipped => "skipped",
            Outcome::Delivered => "delivered",
            Outcome::Absorbed => "absorbed",
            Outcome::Filtered => "filtered",
            Outcome::Rewound => "rewound",
        }
    }
}

/// One count for each [`Outcome`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes([u64; Outcome::ALL.len()]);

impl Outcomes {
    /// Adds `records` to one outcome.
    pub fn add(&mut self, outcome: Outcome, records: u64) {
        self.0[outcome as usize] += records;
    }

    /// The count of one outcome.
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    /// The sum over all outcomes.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// What a task knows of one partition of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionCounters {
    /// The source node's name.
    pub node: String,
    /// The topic's name.
    pub topic: String,
    /// The partition's number in the topic.
    pub partition: i32,
    /// Records read. Kept after the partition was given up: the account is over all that was ever read.
    pub records: u64,
    /// Records that retention removed before they were read (`on_gap: skip`).
    pub lost: u64,
    /// Records between the read position and the partition's end; `None` while not assigned or not known.
    pub lag_records: Option<u64>,
    /// The watermark, in milliseconds since the Unix epoch; `None` while not assigned or without one.
    pub watermark_ms: Option<i64>,
}

/// What a task knows of one transform or sink.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeCounters {
    /// The node's name in the topology.
    pub node: String,
    /// What became of the records that this node made.
    pub derived: Outcomes,
    /// How long the calls into the plugin took.
    pub call_durations: DurationHistogram,
    /// Errors that a sink's target answered with, by class.
    pub sink_errors: Vec<(String, u64)>,
    /// What else a sink reports.
    pub sink: SinkNumbers,
}

impl NodeCounters {
    /// Counts `errors` of one class; classes beyond [`MAX_SINK_ERROR_CLASSES`] share [`OTHER_ERROR_CLASS`].
    pub fn add_sink_errors(&mut self, class: &str, errors: u64) {
        if let Some((_, count)) = self
            .sink_errors
            .iter_mut()
            .find(|(known, _)| known == class)
        {
            *count += errors;
        } else if self.sink_errors.len() < MAX_SINK_ERROR_CLASSES || class == OTHER_ERROR_CLASS {
            self.sink_errors.push((class.to_owned(), errors));
        } else {
            self.add_sink_errors(OTHER_ERROR_CLASS, errors);
        }
    }
}

/// Where a partition stands in its task's counters. Good for as long as the counters live, restarts included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionIndex(usize);

/// Where a node stands in its task's counters. Good for as long as the counters live, restarts included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeIndex(usize);

/// Everything one task counts. Owned by the task's thread: no atomics, no locks.
///
/// The account of I2: the records read equal the records settled plus `pending`. [`TaskCounters::read`],
/// [`TaskCounters::settle`] and [`TaskCounters::rewind_pending`] keep it at every step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskCounters {
    partitions: Vec<PartitionCounters>,
    nodes: Vec<NodeCounters>,
    /// Source records by what became of them.
    pub settled: Outcomes,
    /// Source records read and not yet settled.
    pub pending: u64,
    /// How long a checkpoint took, from the stop of the processing to its durable end.
    pub checkpoint_durations: DurationHistogram,
}

/// A task's counters as they stood at one moment between two batches.
pub type TaskSnapshot = TaskCounters;

impl TaskCounters {
    /// The place of a partition; makes it at the first time. Linear in the partitions: call it when one is
    /// assigned, not for each batch.
    pub fn partition(&mut self, node: &str, topic: &str, partition: i32) -> PartitionIndex {
        let place = self
            .partitions
            .iter()
            .position(|p| p.partition == partition && p.topic == topic && p.node == node);
        PartitionIndex(place.unwrap_or_else(|| {
            self.partitions.push(PartitionCounters {
                node: node.to_owned(),
                topic: topic.to_owned(),
                partition,
                ..PartitionCounters::default()
            });
            self.partitions.len() - 1
        }))
    }

    /// The place of a node; makes it at the first time. Call it when the task starts.
    pub fn node(&mut self, node: &str) -> NodeIndex {
        let place = self.nodes.iter().position(|known| known.node == node);
        NodeIndex(place.unwrap_or_else(|| {
            self.nodes.push(NodeCounters {
                node: node.to_owned(),
                ..NodeCounters::default()
            });
            self.nodes.len() - 1
        }))
    }

    /// All partitions that were ever assigned to the task.
    pub fn partitions(&self) -> &[PartitionCounters] {
        &self.partitions
    }

    /// All nodes of the task.
    pub fn nodes(&self) -> &[NodeCounters] {
        &self.nodes
    }

    /// Records read over all partitions.
    pub fn source_records(&self) -> u64 {
        self.partitions.iter().map(|p| p.records).sum()
    }

    /// Counts records as read and pending. Once per batch.
    pub fn read(&mut self, partition: PartitionIndex, records: u64) {
        self[partition].records += records;
        self.pending += records;
    }

    /// Moves records from pending to an outcome. More than are pending is an error of the caller, which
    /// [`TaskCounters::is_balanced`] shows.
    pub fn settle(&mut self, outcome: Outcome, records: u64) {
        self.settled.add(outcome, records);
        self.pending = self.pending.saturating_sub(records);
    }

    /// Settles everything pending as rewound: an abort or a restart gave it back.
    pub fn rewind_pending(&mut self) {
        self.settle(Outcome::Rewound, self.pending);
    }

    /// A partition was given up: its counts stay, its lag and watermark are no longer this task's to tell.
    pub fn release(&mut self, partition: PartitionIndex) {
        let partition = &mut self[partition];
        partition.lag_records = None;
        partition.watermark_ms = None;
    }

    /// A new run of the task goes on with these counters: what was pending is given back, nothing is assigned.
    pub(super) fn resume(&mut self) {
        self.rewind_pending();
        self.nodes
            .iter_mut()
            .for_each(|node| node.sink.reset_gauges());
        for partition in &mut self.partitions {
            partition.lag_records = None;
            partition.watermark_ms = None;
        }
    }

    /// Whether the account of I2 holds: read = settled + pending.
    pub fn is_balanced(&self) -> bool {
        self.source_records() == self.settled.total() + self.pending
    }
}

// Indices are made by the methods above alone and nothing is ever removed, so they are always inside.
impl Index<PartitionIndex> for TaskCounters {
    type Output = PartitionCounters;
    fn index(&self, index: PartitionIndex) -> &PartitionCounters {
        &self.partitions[index.0]
    }
}

impl IndexMut<PartitionIndex> for TaskCounters {
    fn index_mut(&mut self, index: PartitionIndex) -> &mut PartitionCounters {
        &mut self.partitions[index.0]
    }
}

impl Index<NodeIndex> for TaskCounters {
    type Output = NodeCounters;
    fn index(&self, index: NodeIndex) -> &NodeCounters {
        &self.nodes[index.0]
    }
}

impl IndexMut<NodeIndex> for TaskCounters {
    fn index_mut(&mut self, index: NodeIndex) -> &mut NodeCounters {
        &mut self.nodes[index.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_balances_after_every_step() {
        let mut counters = TaskCounters::default();
        let first = counters.partition("visits", "visits", 0);
        let second = counters.partition("visits", "visits", 1);
        counters.read(first, 10);
        counters.read(second, 5);
        assert!(counters.is_balanced());
        for outcome in Outcome::ALL {
            counters.settle(outcome, 2);
            assert!(counters.is_balanced(), "after {}", outcome.label());
        }
        assert_eq!(counters.pending, 3);
        counters.rewind_pending();
        assert_eq!(counters.settled.get(Outcome::Rewound), 5);
        assert!(counters.is_balanced());
    }

    #[test]
    fn settling_what_was_never_read_shows() {
        let mut counters = TaskCounters::default();
        counters.settle(Outcome::Delivered, 1);
        assert!(!counters.is_balanced());
    }

    #[test]
    fn a_partition_that_comes_back_goes_on_with_its_counts() {
        let mut counters = TaskCounters::default();
        let partition = counters.partition("visits", "visits", 3);
        counters.read(partition, 7);
        counters[partition].lag_records = Some(9);
        counters.release(partition);
        assert_eq!(counters[partition].lag_records, None);
        assert_eq!(counters.partition("visits", "visits", 3), partition);
        assert_ne!(counters.partition("others", "visits", 3), partition);
        assert_eq!(counters.source_records(), 7);
    }

    #[test]
    fn classes_of_sink_errors_are_bounded() {
        let mut node = NodeCounters::default();
        for class in 0..MAX_SINK_ERROR_CLASSES + 10 {
            node.add_sink_errors(&format!("class_{class}"), 1);
        }
        node.add_sink_errors("class_0", 4);
        assert_eq!(node.sink_errors.len(), MAX_SINK_ERROR_CLASSES + 1);
        assert_eq!(node.sink_errors[0], ("class_0".to_owned(), 5));
        assert_eq!(
            node.sink_errors.last(),
            Some(&(OTHER_ERROR_CLASS.to_owned(), 10))
        );
    }
}
