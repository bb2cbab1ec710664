//! The checkpoints of a stateful pipeline (I3): per slot an offset, event time, and the state that transforms had built
//! of everything below that offset.
//!
//! They live in a compacted topic of one partition. A slot's state is cut into parts; a checkpoint writes the parts
//! that changed and then a head, which names every part with its hash. Whoever reads takes the last head whose parts
//! stand before it. [`CheckpointWriter`] makes the records, [`CheckpointImage`] reads them back, [`decide`] says
//! whether what was read fits what the consumer group has committed. None of them knows tasks, plugins or clients.

mod format;
mod image;
mod restore;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use format::{Damage, PART_CHUNK_BYTES_MAX};
pub use image::{CheckpointImage, ImageError, Restorable};
pub use restore::{CommittedOffset, Restore, RestoreError, commit_metadata, decide, generation_of};
pub use writer::{CheckpointRecord, CheckpointWriter, NodeSnapshot, SlotSnapshot, WriteError};

/// Parts that the state of a slot may have: a head that names them all, at most 25 bytes each, fits Kafka's 1 MB.
pub const PARTS_PER_SLOT_MAX: usize = 32_768;
/// Bytes that the state of a slot may have: 4,096 windows of 16 KiB. All of it is read again at a restart.
pub const STATE_BYTES_PER_SLOT_MAX: usize = 64 * 1024 * 1024;

/// Name, value and reason of each bound, for the docs.
pub const LIMITS: &[(&str, &str, &str)] = &[
    (
        "parts of a partition's state",
        "32,768",
        "a head that names them all fits Kafka's 1 MB",
    ),
    (
        "bytes of a partition's state",
        "64 MiB",
        "all of it is read again at a restart",
    ),
    (
        "record of a checkpoint",
        "512 KiB, larger parts are cut",
        "half of Kafka's default for a message",
    ),
];

/// Name of the checkpoint topic of a pipeline.
pub fn topic_name(pipeline: &str) -> String {
    format!("__weir.{pipeline}.checkpoints")
}

/// A source partition, by names that outlive a process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotName {
    /// Name of the source node.
    pub source: String,
    pub topic: String,
    pub partition: i32,
}

impl std::fmt::Display for SlotName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{} of {}", self.topic, self.partition, self.source)
    }
}

/// A checkpoint of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotCheckpoint {
    /// Counts the checkpoints of the slot from 1.
    pub generation: u64,
    /// The next offset to read.
    pub offset: i64,
    /// The watermark that transforms had been given, unix milliseconds.
    pub watermark_ms: Option<i64>,
    /// The watermark of the whole pipeline that they had been given, unix milliseconds: no later than the partitions', and
    /// not to be computed from them where a partition was added.
    pub pipeline_watermark_ms: Option<i64>,
    /// One for each transform that keeps state.
    pub nodes: Vec<NodeCheckpoint>,
}

/// The state of one transform in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCheckpoint {
    /// Name of the node.
    pub node: String,
    pub plugin: String,
    /// Of the plugin's name and configuration, see [`fingerprint`].
    pub fingerprint: u64,
    /// Of the format of the parts; the plugin's own count.
    pub version: u32,
    pub parts: BTreeMap<u64, Arc<[u8]>>,
}

impl SlotCheckpoint {
    /// Bytes of all parts.
    pub fn state_bytes(&self) -> usize {
        let parts = self.nodes.iter().flat_map(|node| node.parts.values());
        parts.map(|bytes| bytes.len()).sum()
    }
}

/// A number that changes with a transform's plugin or configuration.
pub fn fingerprint(plugin: &str, config: &serde_json::Value) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{plugin}\0{config}").as_bytes())
}

/// Gives the reader `rounds` sequences of bytes, random ones and mutations of good records, and lives. For tests: a
/// panic is the finding.
pub fn fuzz(seed: u64, rounds: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let good = fuzz_seeds();
    let mut image = CheckpointImage::default();
    for round in 0..rounds {
        let mut record = good[rng.usize(..good.len())].clone();
        let bytes = match (rng.u8(0..4), &mut record.value) {
            (0, _) | (_, None) => &mut record.key,
            (_, Some(value)) => value,
        };
        for _ in 0..rng.usize(1..5) {
            mutate(&mut rng, bytes);
        }
        // Checksums would hide what lies behind them.
        if let Some(value) = &mut record.value
            && rng.bool()
        {
            format::seal(value);
        }
        image.apply(0, Some(&record.key), record.value.as_deref());
        if round % 1_024 == 0 {
            image.slots().for_each(drop);
            image = CheckpointImage::default();
        }
    }
}

fn fuzz_seeds() -> Vec<CheckpointRecord> {
    let slot = SlotName {
        source: "s".into(),
        topic: "t".into(),
        partition: 0,
    };
    let node = NodeSnapshot {
        node: "n".into(),
        plugin: "p".into(),
        fingerprint: 1,
        version: 1,
        parts: (0..4).map(|id| (id, Some(vec![7; 30]))).collect(),
    };
    let snapshot = SlotSnapshot {
        offset: 9,
        watermark_ms: Some(1),
        pipeline_watermark_ms: Some(1),
        nodes: vec![node],
    };
    let staged = CheckpointWriter::default().stage(&slot, snapshot);
    staged.unwrap_or_default()
}

fn mutate(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    let at = rng.usize(..=bytes.len());
    match (rng.u8(0..4), bytes.get_mut(at)) {
        (0, Some(byte)) => *byte = rng.u8(..),
        (1, Some(byte)) => *byte ^= 1 << rng.u8(0..8),
        (2, _) => bytes.truncate(at),
        _ => bytes.insert(at, rng.u8(..)),
    }
}
