//! Makes the records of a checkpoint: parts that changed, tombstones of parts that are gone, then the head.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::format::{Head, HeadNode, HeadPart, Key, PartName, chunks_of, frame};
use super::{
    NodeCheckpoint, PART_CHUNK_BYTES_MAX, PARTS_PER_SLOT_MAX, STATE_BYTES_PER_SLOT_MAX,
    SlotCheckpoint, SlotName,
};

/// A slot at a cut.
#[derive(Clone, Debug)]
pub struct SlotSnapshot {
    /// The next offset to read.
    pub offset: i64,
    /// The watermark that transforms were given, unix milliseconds.
    pub watermark_ms: Option<i64>,
    /// The pipeline's, see [`SlotCheckpoint`].
    pub pipeline_watermark_ms: Option<i64>,
    pub nodes: Vec<NodeSnapshot>,
}

/// The state of one transform in a slot at a cut.
#[derive(Clone, Debug)]
pub struct NodeSnapshot {
    pub node: String,
    pub plugin: String,
    pub fingerprint: u64,
    pub version: u32,
    /// `None`: as in the checkpoint before.
    pub parts: BTreeMap<u64, Option<Vec<u8>>>,
}

/// A record for the checkpoint topic; without a value it removes what stands under its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRecord {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// Why a checkpoint cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error(
        "plugin.protocol.snapshot: the transform `{node}` says that part {id} of {slot} has not changed, and it was never given"
    )]
    UnknownPart {
        slot: SlotName,
        node: String,
        id: u64,
    },
    #[error(
        "checkpoint.state_too_large: the state of {slot} has {parts} parts of {bytes} bytes together, and {PARTS_PER_SLOT_MAX} parts of {STATE_BYTES_PER_SLOT_MAX} bytes are the limit; let the transforms keep less"
    )]
    TooLarge {
        slot: SlotName,
        parts: usize,
        bytes: usize,
    },
}

/// Knows the newest checkpoint of each slot. A checkpoint is staged first and counts from [`CheckpointWriter::committed`]
/// on: the transaction that carries it may be aborted.
#[derive(Default)]
pub struct CheckpointWriter {
    slots: BTreeMap<SlotName, Slot>,
}

#[derive(Default)]
struct Slot {
    last: Option<SlotCheckpoint>,
    staged: Option<SlotCheckpoint>,
}

impl CheckpointWriter {
    /// Begins a slot with the checkpoint that was restored, or without any.
    pub fn begin(&mut self, slot: SlotName, restored: Option<SlotCheckpoint>) {
        let last = restored;
        self.slots.insert(slot, Slot { last, staged: None });
    }

    /// Forgets a slot that is no longer the task's.
    pub fn forget(&mut self, slot: &SlotName) {
        self.slots.remove(slot);
    }

    /// The newest checkpoint that counts.
    pub fn last(&self, slot: &SlotName) -> Option<&SlotCheckpoint> {
        self.slots.get(slot)?.last.as_ref()
    }

    /// The generation of the staged checkpoint, or of the newest that counts.
    pub fn generation(&self, slot: &SlotName) -> Option<u64> {
        let slot = self.slots.get(slot)?;
        let newest = slot.staged.as_ref().or(slot.last.as_ref())?;
        Some(newest.generation)
    }

    /// Stages a checkpoint; answers its records in the order in which they are to be written.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn stage(
        &mut self,
        name: &SlotName,
        snapshot: SlotSnapshot,
    ) -> Result<Vec<CheckpointRecord>, WriteError> {
        let slot = self.slots.entry(name.clone()).or_default();
        let mut records = Vec::new();
        let mut nodes = Vec::with_capacity(snapshot.nodes.len());
        for node in snapshot.nodes {
            let before = slot.last.as_ref().and_then(|last| {
                let mut nodes = last.nodes.iter();
                nodes.find(|known| known.node == node.node)
            });
            nodes.push(stage_node(name, node, before, &mut records)?);
        }
        let checkpoint = SlotCheckpoint {
            generation: slot.last.as_ref().map_or(0, |last| last.generation) + 1,
            offset: snapshot.offset,
            watermark_ms: snapshot.watermark_ms,
            pipeline_watermark_ms: snapshot.pipeline_watermark_ms,
            nodes,
        };
        check_size(name, &checkpoint)?;
        let gone = slot.last.iter().flat_map(|last| &last.nodes);
        for node in gone {
            let still = checkpoint.nodes.iter().find(|now| now.node == node.node);
            remove_parts(name, node, still, &mut records);
        }
        records.push(CheckpointRecord {
            key: Key::Head(name.clone()).to_bytes(),
            value: Some(head_of(&checkpoint).to_value()),
        });
        slot.staged = Some(checkpoint);
        Ok(records)
    }

    /// What was staged is durable.
    pub fn committed(&mut self) {
        for slot in self.slots.values_mut() {
            slot.last = slot.staged.take().or(slot.last.take());
        }
    }

    /// What was staged was taken back.
    pub fn rolled_back(&mut self) {
        self.slots.values_mut().for_each(|slot| slot.staged = None);
    }
}

fn check_size(slot: &SlotName, checkpoint: &SlotCheckpoint) -> Result<(), WriteError> {
    let parts = checkpoint.nodes.iter().map(|node| node.parts.len()).sum();
    let bytes = checkpoint.state_bytes();
    if parts <= PARTS_PER_SLOT_MAX && bytes <= STATE_BYTES_PER_SLOT_MAX {
        return Ok(());
    }
    Err(WriteError::TooLarge {
        slot: slot.clone(),
        parts,
        bytes,
    })
}

/// A part is written where its bytes differ from those of the checkpoint before.
fn stage_node(
    slot: &SlotName,
    node: NodeSnapshot,
    before: Option<&NodeCheckpoint>,
    records: &mut Vec<CheckpointRecord>,
) -> Result<NodeCheckpoint, WriteError> {
    let mut parts = BTreeMap::new();
    for (id, bytes) in node.parts {
        let known = before.and_then(|before| before.parts.get(&id));
        let bytes: Arc<[u8]> = match (bytes, known) {
            (None, Some(known)) => Arc::clone(known),
            (Some(bytes), Some(known)) if bytes.as_slice() == known.as_ref() => Arc::clone(known),
            (Some(bytes), known) => {
                write_part(slot, &node.node, id, &bytes, records);
                let chunks = chunks_of(bytes.len());
                let before = known.map_or(0, |known| chunks_of(known.len()));
                remove_chunks(slot, &node.node, id, chunks..before, records);
                bytes.into()
            }
            (None, None) => {
                return Err(WriteError::UnknownPart {
                    slot: slot.clone(),
                    node: node.node,
                    id,
                });
            }
        };
        parts.insert(id, bytes);
    }
    Ok(NodeCheckpoint {
        node: node.node,
        plugin: node.plugin,
        fingerprint: node.fingerprint,
        version: node.version,
        parts,
    })
}

fn part_key(slot: &SlotName, node: &str, id: u64, chunk: u32) -> Vec<u8> {
    let part = PartName {
        node: node.to_owned(),
        id,
    };
    Key::Part(slot.clone(), part, chunk).to_bytes()
}

fn write_part(
    slot: &SlotName,
    node: &str,
    id: u64,
    bytes: &[u8],
    records: &mut Vec<CheckpointRecord>,
) {
    let empty: &[u8] = &[];
    let chunks = bytes.chunks(PART_CHUNK_BYTES_MAX);
    let chunks = chunks.chain(bytes.is_empty().then_some(empty));
    records.extend((0..).zip(chunks).map(|(chunk, bytes)| CheckpointRecord {
        key: part_key(slot, node, id, chunk),
        value: Some(frame(bytes)),
    }));
}

fn remove_chunks(
    slot: &SlotName,
    node: &str,
    id: u64,
    chunks: std::ops::Range<u32>,
    records: &mut Vec<CheckpointRecord>,
) {
    records.extend(chunks.map(|chunk| CheckpointRecord {
        key: part_key(slot, node, id, chunk),
        value: None,
    }));
}

/// Removes the parts of a node that it has no more.
fn remove_parts(
    slot: &SlotName,
    before: &NodeCheckpoint,
    now: Option<&NodeCheckpoint>,
    records: &mut Vec<CheckpointRecord>,
) {
    for (id, bytes) in &before.parts {
        if now.is_none_or(|now| !now.parts.contains_key(id)) {
            let chunks = chunks_of(bytes.len());
            remove_chunks(slot, &before.node, *id, 0..chunks, records);
        }
    }
}

fn head_of(checkpoint: &SlotCheckpoint) -> Head {
    let parts = |node: &NodeCheckpoint| {
        let parts = node.parts.iter();
        parts.map(|(id, bytes)| HeadPart::of(*id, bytes)).collect()
    };
    let nodes = checkpoint.nodes.iter().map(|node| HeadNode {
        node: node.node.clone(),
        plugin: node.plugin.clone(),
        fingerprint: node.fingerprint,
        version: node.version,
        parts: parts(node),
    });
    Head {
        generation: checkpoint.generation,
        offset: checkpoint.offset,
        watermark_ms: checkpoint.watermark_ms,
        pipeline_watermark_ms: checkpoint.pipeline_watermark_ms,
        nodes: nodes.collect(),
    }
}
