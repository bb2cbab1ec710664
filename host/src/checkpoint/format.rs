//! Keys and values of the checkpoint topic.
//!
//! ```text
//! key    head/<source>/<topic>/<partition>
//!        part/<source>/<topic>/<partition>/<node>/<part id>/<chunk>
//! value  "WCP" format:u8=2 length:u32 payload checksum:u64     integers little endian, checksum xxh3 of the payload
//!        payload of a head: postcard of `Head`; of a part: at most 512 KiB of its bytes
//! ```

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::SlotName;

/// A record of Kafka holds 1 MB by default; half of it leaves room for whatever stands around.
pub const PART_CHUNK_BYTES_MAX: usize = 512 * 1024;

const MAGIC: &[u8; 3] = b"WCP";
const FORMAT: u8 = 2;
/// Magic, format and length.
const PREFIX_LEN: usize = 8;
const CHECKSUM_LEN: usize = 8;

/// Why a value is not what this version wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("it is no checkpoint record: it does not begin with WCP")]
    Magic,
    #[error(
        "its format is {0} and this version of Weir reads {FORMAT}; run the version that wrote it"
    )]
    Format(u8),
    #[error("it is {found} bytes long and says {expected}")]
    Length { expected: usize, found: usize },
    #[error("its checksum does not match its bytes")]
    Checksum,
    #[error("its key is none of a checkpoint")]
    Key,
    #[error("its head cannot be read: {0}")]
    Head(String),
}

/// What a key says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Head(SlotName),
    Part(SlotName, PartName, u32),
}

/// A part of a slot's state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartName {
    pub(super) node: String,
    pub(super) id: u64,
}

impl Key {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let place = |slot: &SlotName| format!("{}/{}/{}", slot.source, slot.topic, slot.partition);
        let text = match self {
            Key::Head(slot) => format!("head/{}", place(slot)),
            Key::Part(slot, PartName { node, id }, chunk) => {
                format!("part/{}/{node}/{id}/{chunk}", place(slot))
            }
        };
        text.into_bytes()
    }

    /// Names hold no slash: nodes are `[a-z0-9_-]`, topics `[a-zA-Z0-9._-]`.
    pub(super) fn read(bytes: &[u8]) -> Result<Key, Damage> {
        let text = std::str::from_utf8(bytes).map_err(|_| Damage::Key)?;
        let fields: Vec<&str> = text.split('/').collect();
        let slot = |source: &str, topic: &str, partition: &str| {
            let partition = partition.parse().map_err(|_| Damage::Key)?;
            Ok(SlotName {
                source: source.to_owned(),
                topic: topic.to_owned(),
                partition,
            })
        };
        match fields.as_slice() {
            ["head", source, topic, partition] => Ok(Key::Head(slot(source, topic, partition)?)),
            ["part", source, topic, partition, node, id, chunk] => {
                let part = PartName {
                    node: (*node).to_owned(),
                    id: id.parse().map_err(|_| Damage::Key)?,
                };
                let chunk = chunk.parse().map_err(|_| Damage::Key)?;
                Ok(Key::Part(slot(source, topic, partition)?, part, chunk))
            }
            _ => Err(Damage::Key),
        }
    }
}

/// The record that completes a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) generation: u64,
    pub(super) offset: i64,
    pub(super) watermark_ms: Option<i64>,
    pub(super) pipeline_watermark_ms: Option<i64>,
    pub(super) nodes: Vec<HeadNode>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeadNode {
    pub(super) node: String,
    pub(super) plugin: String,
    pub(super) fingerprint: u64,
    pub(super) version: u32,
    pub(super) parts: Vec<HeadPart>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeadPart {
    pub(super) id: u64,
    pub(super) len: u32,
    pub(super) hash: u64,
}

impl HeadPart {
    pub(super) fn of(id: u64, bytes: &[u8]) -> HeadPart {
        HeadPart {
            id,
            // Bounded by STATE_BYTES_PER_SLOT_MAX.
            len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            hash: xxh3_64(bytes),
        }
    }
}

/// Chunks of a part of this length; an empty part has one.
pub(super) fn chunks_of(len: usize) -> u32 {
    let chunks = len.div_ceil(PART_CHUNK_BYTES_MAX).max(1);
    u32::try_from(chunks).unwrap_or(u32::MAX)
}

impl Head {
    pub(super) fn to_value(&self) -> Vec<u8> {
        // Numbers, texts and lists of them: postcard refuses only maps of unknown length and the like.
        frame(&postcard::to_allocvec(self).unwrap_or_default())
    }

    pub(super) fn read(value: &[u8]) -> Result<Head, Damage> {
        let payload = unframe(value)?;
        let damage = |error: postcard::Error| Damage::Head(error.to_string());
        let (head, rest) = postcard::take_from_bytes(payload).map_err(damage)?;
        match rest {
            [] => Ok(head),
            _ => Err(Damage::Head(format!("{} bytes follow it", rest.len()))),
        }
    }
}

pub(super) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(PREFIX_LEN + payload.len() + CHECKSUM_LEN);
    value.extend(MAGIC);
    value.push(FORMAT);
    // Heads and chunks are below 1 MB.
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    value.extend(len.to_le_bytes());
    value.extend(payload);
    value.extend(xxh3_64(payload).to_le_bytes());
    value
}

pub(super) fn unframe(value: &[u8]) -> Result<&[u8], Damage> {
    let (prefix, rest) = value
        .split_first_chunk::<PREFIX_LEN>()
        .ok_or(Damage::Magic)?;
    let [m0, m1, m2, format, length @ ..] = *prefix;
    if [m0, m1, m2] != *MAGIC {
        return Err(Damage::Magic);
    }
    if format != FORMAT {
        return Err(Damage::Format(format));
    }
    let expected = u32::from_le_bytes(length) as usize;
    let (payload, checksum) = rest
        .split_last_chunk::<CHECKSUM_LEN>()
        .filter(|(payload, _)| payload.len() == expected)
        .ok_or(Damage::Length {
            expected,
            found: rest.len().saturating_sub(CHECKSUM_LEN),
        })?;
    match u64::from_le_bytes(*checksum) == xxh3_64(payload) {
        true => Ok(payload),
        false => Err(Damage::Checksum),
    }
}

/// Makes length and checksum of a value fit its payload, whatever that is.
pub(super) fn seal(value: &mut Vec<u8>) {
    let payload = value.len().saturating_sub(CHECKSUM_LEN);
    if let Some(payload) = value.get(PREFIX_LEN..payload) {
        *value = frame(payload);
    }
}
