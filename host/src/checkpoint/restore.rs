//! Whether a checkpoint fits what the consumer group has committed (I3).

use super::{Restorable, SlotCheckpoint, SlotName};
use crate::topology::Delivery;

/// First word of the text that a group keeps with an offset of a stateful pipeline.
const METADATA_PREFIX: &str = "weir/1 checkpoint=";

/// The text for the group to keep with an offset: a checkpoint of this generation goes with it, so that neither can be
/// lost, or moved by hand, unnoticed.
pub fn commit_metadata(generation: u64) -> String {
    format!("{METADATA_PREFIX}{generation}")
}

/// The generation that a text names; `None` for an offset that was committed by something else.
pub fn generation_of(metadata: &str) -> Option<u64> {
    metadata.strip_prefix(METADATA_PREFIX)?.parse().ok()
}

/// How a slot begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restore {
    /// Without state, at the committed offset if there is one.
    Fresh,
    /// With this state, at its offset.
    From(SlotCheckpoint),
}

/// Why a slot cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error(
        "checkpoint.missing: the group committed {slot} at offset {offset} with checkpoint {generation}, and the checkpoint topic has {found}; restore the topic, or give the state up with `weir checkpoints reset`"
    )]
    Missing {
        slot: SlotName,
        offset: i64,
        generation: u64,
        found: String,
    },
    #[error(
        "checkpoint.offset_mismatch: the group has committed {slot} at offset {committed}, and the checkpoint belongs to offset {checkpoint}: the group was reset by hand; set it back, or give the state up with `weir checkpoints reset`"
    )]
    OffsetMismatch {
        slot: SlotName,
        committed: i64,
        checkpoint: i64,
    },
    #[error(
        "checkpoint.no_offset: the group has no offset for {slot}, and the checkpoint belongs to offset {checkpoint}: the group was deleted, or its offsets have expired; set it to {checkpoint}, or give the state up with `weir checkpoints reset`"
    )]
    NoOffset { slot: SlotName, checkpoint: i64 },
    #[error(
        "checkpoint.incomplete: the checkpoint topic has a head of generation {generation} for {slot}, and not the parts that belong to it; restore the topic, or give the state up with `weir checkpoints reset`"
    )]
    Incomplete { slot: SlotName, generation: u64 },
}

/// What the group has committed for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedOffset<'a> {
    pub offset: i64,
    pub metadata: &'a str,
}

/// Decides how a slot begins.
///
/// Under exactly once offset and checkpoint move in one transaction: they are equal, or someone else moved one of them.
/// Under at least once the checkpoint is durable first, so that it may be ahead of the group, and then it wins.
///
/// # Errors
/// See [`RestoreError`].
pub fn decide(
    slot: &SlotName,
    committed: Option<CommittedOffset<'_>>,
    found: &Restorable<'_>,
    delivery: Delivery,
) -> Result<Restore, RestoreError> {
    let slot = slot.clone();
    let generation = committed.and_then(|committed| generation_of(committed.metadata));
    let checkpoint = match found {
        Restorable::Whole(checkpoint) => *checkpoint,
        Restorable::Incomplete(generation) => {
            return Err(RestoreError::Incomplete {
                slot,
                generation: *generation,
            });
        }
        Restorable::Nothing => {
            return match (committed, generation) {
                (Some(CommittedOffset { offset, .. }), Some(generation)) => {
                    Err(RestoreError::Missing {
                        slot,
                        offset,
                        generation,
                        found: "none".to_owned(),
                    })
                }
                _ => Ok(Restore::Fresh),
            };
        }
    };
    let is_first = checkpoint.generation == 1;
    let Some(CommittedOffset { offset, .. }) = committed else {
        // The process ended between the two: only the first checkpoint has no offset before it.
        return match delivery == Delivery::AtLeastOnce && is_first {
            true => Ok(Restore::From(checkpoint.clone())),
            false => Err(RestoreError::NoOffset {
                slot,
                checkpoint: checkpoint.offset,
            }),
        };
    };
    if let Some(generation) = generation.filter(|generation| *generation > checkpoint.generation) {
        return Err(RestoreError::Missing {
            slot,
            offset,
            generation,
            found: format!("only {}", checkpoint.generation),
        });
    }
    let is_ahead = generation.is_some() && checkpoint.offset >= offset;
    let fits = match delivery {
        Delivery::ExactlyOnce => checkpoint.offset == offset,
        Delivery::AtLeastOnce => checkpoint.offset == offset || is_ahead || is_first,
    };
    match fits {
        true => Ok(Restore::From(checkpoint.clone())),
        false => Err(RestoreError::OffsetMismatch {
            slot,
            committed: offset,
            checkpoint: checkpoint.offset,
        }),
    }
}
