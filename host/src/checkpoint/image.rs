//! Reads a checkpoint topic back, record by record in the order of the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::format::{Damage, Head, HeadNode, HeadPart, Key, PartName, chunks_of, unframe};
use super::{NodeCheckpoint, SlotCheckpoint, SlotName};

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "checkpoint.damaged: the record at offset {offset} of the checkpoint topic cannot be read: {damage}; restore the topic, or give the state up with `weir checkpoints reset`"
)]
pub struct ImageError {
    pub offset: i64,
    pub damage: Damage,
}

/// What the topic has of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restorable<'i> {
    Nothing,
    /// The last head whose parts stand before it.
    Whole(&'i SlotCheckpoint),
    /// There is a head, and none whose parts are all there: the newest one's generation.
    Incomplete(u64),
}

/// The newest checkpoint of every slot, as far as the log was read.
#[derive(Default)]
pub struct CheckpointImage {
    /// Records that could not be read, by key: a later record of the same key replaces one.
    damaged: BTreeMap<Vec<u8>, ImageError>,
    chunks: BTreeMap<(SlotName, PartName, u32), Arc<[u8]>>,
    slots: BTreeMap<SlotName, Slot>,
}

#[derive(Default)]
struct Slot {
    whole: Option<SlotCheckpoint>,
    newest_generation: u64,
}

impl CheckpointImage {
    /// Takes the next record of the log. Control records and records that were aborted are not for it.
    pub fn apply(&mut self, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        let key = key.unwrap_or_default();
        self.damaged.remove(key);
        if let Err(damage) = self.read(key, value) {
            let error = ImageError { offset, damage };
            self.damaged.insert(key.to_owned(), error);
        }
    }

    /// Once the log was read.
    ///
    /// # Errors
    /// A record is damaged, or a newer version wrote it, and no later one stands in its place.
    pub fn check(&self) -> Result<(), ImageError> {
        let first = self.damaged.values().min_by_key(|error| error.offset);
        first.cloned().map_or(Ok(()), Err)
    }

    fn read(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Damage> {
        let Some(value) = value else {
            // A tombstone removes what stands under any key, a damaged one too.
            match Key::read(key) {
                Ok(Key::Head(slot)) => drop(self.slots.remove(&slot)),
                Ok(Key::Part(slot, part, chunk)) => drop(self.chunks.remove(&(slot, part, chunk))),
                Err(_) => {}
            }
            return Ok(());
        };
        match Key::read(key)? {
            Key::Head(slot) => {
                let head = Head::read(value)?;
                self.apply_head(slot, head);
            }
            Key::Part(slot, part, chunk) => {
                let bytes = unframe(value)?;
                self.chunks.insert((slot, part, chunk), bytes.into());
            }
        }
        Ok(())
    }

    /// A head whose parts do not match is passed over for the one before: compaction may have removed older parts, and
    /// their newer ones belong to a head that is still to come.
    fn apply_head(&mut self, name: SlotName, head: Head) {
        let nodes: Option<Vec<NodeCheckpoint>> = head
            .nodes
            .iter()
            .map(|node| self.whole_node(&name, node))
            .collect();
        let slot = self.slots.entry(name).or_default();
        slot.newest_generation = head.generation;
        if let Some(nodes) = nodes {
            slot.whole = Some(SlotCheckpoint {
                generation: head.generation,
                offset: head.offset,
                watermark_ms: head.watermark_ms,
                pipeline_watermark_ms: head.pipeline_watermark_ms,
                nodes,
            });
        }
    }

    fn whole_node(&self, slot: &SlotName, node: &HeadNode) -> Option<NodeCheckpoint> {
        let part = |part: &HeadPart| Some((part.id, self.whole_part(slot, &node.node, part)?));
        Some(NodeCheckpoint {
            node: node.node.clone(),
            plugin: node.plugin.clone(),
            fingerprint: node.fingerprint,
            version: node.version,
            parts: node.parts.iter().map(part).collect::<Option<_>>()?,
        })
    }

    fn whole_part(&self, slot: &SlotName, node: &str, wanted: &HeadPart) -> Option<Arc<[u8]>> {
        let chunk = |chunk| {
            let part = PartName {
                node: node.to_owned(),
                id: wanted.id,
            };
            self.chunks.get(&(slot.clone(), part, chunk))
        };
        let bytes: Arc<[u8]> = match chunks_of(wanted.len as usize) {
            1 => Arc::clone(chunk(0)?),
            // The topic says how many, so that no room is made for them before they are seen.
            chunks => {
                let chunks: Option<Vec<&[u8]>> =
                    (0..chunks).map(|at| chunk(at).map(AsRef::as_ref)).collect();
                chunks?.concat().into()
            }
        };
        (HeadPart::of(wanted.id, &bytes) == *wanted).then_some(bytes)
    }

    /// What there is of one slot.
    pub fn slot(&self, name: &SlotName) -> Restorable<'_> {
        self.slots.get(name).map_or(Restorable::Nothing, Slot::get)
    }

    /// Every slot of the log.
    pub fn slots(&self) -> impl Iterator<Item = (&SlotName, Restorable<'_>)> {
        self.slots.iter().map(|(name, slot)| (name, slot.get()))
    }
}

impl Slot {
    fn get(&self) -> Restorable<'_> {
        match &self.whole {
            Some(whole) => Restorable::Whole(whole),
            None => Restorable::Incomplete(self.newest_generation),
        }
    }
}
