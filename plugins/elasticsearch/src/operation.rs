//! One record as one operation of a bulk: a pure function of record and configuration, so that a replay makes the same
//! bytes (invariant I5).

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use crate::config::{IdSource, VersionSource};
use crate::document;
use crate::refusal::{Refusal, code};

/// Elasticsearch's own limit of an `_id`.
const ID_MAX_BYTES: usize = 512;
/// The header that `version: auto` looks at first.
const VERSION_HEADER: &str = "weir.version";

/// What the sink needs of a record.
pub(crate) trait SourceRecord {
    fn seq(&self) -> u64;
    fn key(&self) -> Option<&[u8]>;
    fn value(&self) -> Option<&[u8]>;
    /// Value of the last header of this name; the inner `None` is a null value.
    fn header(&self, name: &str) -> Option<Option<&[u8]>>;
    fn timestamp_ms(&self) -> Option<i64>;
    /// Topic, partition, offset; `None` for a record derived from many.
    fn coordinates(&self) -> Option<(&str, i32, i64)>;
}

/// An operation on its way, with what the scheduler remembers about it.
#[derive(Debug)]
pub(crate) struct Operation {
    /// What the host's ledger calls the record.
    pub(crate) seq: u64,
    pub(crate) id: Box<str>,
    /// Operations on one document share a lane. It is a hash: a collision only makes two documents wait for each other.
    pub(crate) lane: u64,
    /// Carries an external version, so the server keeps the order.
    pub(crate) versioned: bool,
    /// Action line and document line, each with its line end.
    pub(crate) lines: Box<[u8]>,
    pub(crate) accepted_at: Instant,
    /// Answers that asked for this item again; drives its back-off.
    pub(crate) retries: u32,
    /// See [`crate::scheduler`] for how faults and suspicion are counted.
    pub(crate) faults: u32,
    pub(crate) stored_at_last_fault: u64,
    pub(crate) answers_at_suspicion: Option<u64>,
}

/// Makes operations from records.
#[derive(Debug)]
pub(crate) struct OperationShaper {
    /// `{"index":{"_index":"visits","_id":`
    action_prefix: Vec<u8>,
    id: IdSource,
    version: VersionSource,
    operation_max_bytes: usize,
    lanes: RandomState,
}

impl OperationShaper {
    /// `operation_max_bytes` bounds both lines together: an operation must fit into a bulk.
    pub(crate) fn new(
        index: &str,
        id: IdSource,
        version: VersionSource,
        operation_max_bytes: usize,
    ) -> Self {
        let action_prefix = format!(
            "{{\"index\":{{\"_index\":{},\"_id\":",
            serde_json::Value::from(index)
        );
        OperationShaper {
            action_prefix: action_prefix.into_bytes(),
            id,
            version,
            operation_max_bytes,
            lanes: RandomState::new(),
        }
    }

    /// Errors: the record can never be a document, and why.
    pub(crate) fn shape(
        &self,
        record: &impl SourceRecord,
        accepted_at: Instant,
    ) -> Result<Operation, Refusal> {
        let value = record.value().ok_or_else(|| {
            Refusal::new(
                code::VALUE_NULL,
                "the value is null, and this sink deletes no documents",
            )
        })?;
        let text = document::check_object(value)?;
        let id = self.document_id(record, text)?;
        let version = self.document_version(record)?;
        let lines = self.lines(&id, version, text);
        if lines.len() > self.operation_max_bytes {
            let (size, limit) = (lines.len(), self.operation_max_bytes);
            let message = format!(
                "the document takes {size} bytes of a bulk, above the limit `batch.bytes` of {limit}"
            );
            return Err(Refusal::new(code::DOCUMENT_TOO_LARGE, message));
        }
        Ok(Operation {
            seq: record.seq(),
            lane: self.lanes.hash_one(id.as_str()),
            id: id.into_boxed_str(),
            versioned: version.is_some(),
            lines: lines.into_boxed_slice(),
            accepted_at,
            retries: 0,
            faults: 0,
            stored_at_last_fault: 0,
            answers_at_suspicion: None,
        })
    }

    fn lines(&self, id: &str, version: Option<u64>, text: &str) -> Vec<u8> {
        // 64 holds the version's 20 digits, its names and the brackets; an id that needs escapes grows the vector.
        let mut lines = Vec::with_capacity(self.action_prefix.len() + id.len() + 64 + text.len());
        lines.extend_from_slice(&self.action_prefix);
        lines.extend_from_slice(serde_json::Value::from(id).to_string().as_bytes());
        if let Some(version) = version {
            lines.extend_from_slice(
                format!(",\"version\":{version},\"version_type\":\"external\"").as_bytes(),
            );
        }
        lines.extend_from_slice(b"}}\n");
        document::append_line(&mut lines, text);
        lines
    }

    fn document_id(&self, record: &impl SourceRecord, text: &str) -> Result<String, Refusal> {
        let id = match &self.id {
            IdSource::Key => {
                let key = record.key().ok_or_else(|| {
                    Refusal::new(code::KEY_NULL, "the key is null, and `id: key` takes the document's id from it")
                })?;
                id_text(key, "the key")?
            }
            IdSource::Coordinates => {
                let (topic, partition, offset) = record.coordinates().ok_or_else(|| {
                    let message = "the record comes from no single source record, so `id: coordinates` has none";
                    Refusal::new(code::ID_MISSING, message)
                })?;
                format!("{topic}+{partition}+{offset}")
            }
            IdSource::Header(name) => match record.header(name).flatten() {
                Some(value) => id_text(value, &format!("header `{name}`"))?,
                None => {
                    let message = format!("header `{name}`, the document's id, is missing or null");
                    return Err(Refusal::new(code::ID_MISSING, message));
                }
            },
            IdSource::Field(pointer) => pointer.0.scalar(text).ok_or_else(|| {
                let pointer = pointer.0.as_str();
                let message = format!("field `{pointer}`, the document's id, is missing or no string or 64-bit integer");
                Refusal::new(code::ID_MISSING, message)
            })?,
        };
        if id.is_empty() || id.len() > ID_MAX_BYTES {
            let length = id.len();
            let message = format!(
                "the document's id has {length} bytes; Elasticsearch takes 1 to {ID_MAX_BYTES}"
            );
            return Err(Refusal::new(code::ID_LENGTH, message));
        }
        Ok(id)
    }

    fn document_version(&self, record: &impl SourceRecord) -> Result<Option<u64>, Refusal> {
        match &self.version {
            VersionSource::None => Ok(None),
            VersionSource::Offset => offset_version(record).map(Some),
            VersionSource::Timestamp => timestamp_version(record).map(Some),
            VersionSource::Header(name) => match record.header(name) {
                Some(value) => header_version(name, value).map(Some),
                None => {
                    let message = format!("header `{name}`, the document's version, is missing");
                    Err(Refusal::new(code::VERSION_MISSING, message))
                }
            },
            VersionSource::Auto => match record.header(VERSION_HEADER) {
                Some(value) => header_version(VERSION_HEADER, value).map(Some),
                None => offset_version(record).map(Some),
            },
        }
    }
}

fn id_text(bytes: &[u8], place: &str) -> Result<String, Refusal> {
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| {
        Refusal::new(
            code::ID_NOT_UTF8,
            format!("{place}, the document's id, is not valid UTF-8"),
        )
    })?;
    Ok(text.to_owned())
}

fn offset_version(record: &impl SourceRecord) -> Result<u64, Refusal> {
    let offset = record
        .coordinates()
        .and_then(|(_, _, offset)| u64::try_from(offset).ok());
    offset.ok_or_else(|| {
        let message = format!(
            "the record has no source offset to be its version; a derived record needs the header `{VERSION_HEADER}`"
        );
        Refusal::new(code::VERSION_MISSING, message)
    })
}

fn timestamp_version(record: &impl SourceRecord) -> Result<u64, Refusal> {
    let timestamp_ms = record.timestamp_ms().ok_or_else(|| {
        Refusal::new(
            code::VERSION_MISSING,
            "the record has no timestamp to be its version",
        )
    })?;
    u64::try_from(timestamp_ms).map_err(|_| {
        Refusal::new(
            code::VERSION_INVALID,
            format!("the timestamp {timestamp_ms} is below 0 and can be no version"),
        )
    })
}

/// Decimal digits only, 0 to 2^63-1: what Elasticsearch takes as an external version.
fn header_version(name: &str, value: Option<&[u8]>) -> Result<u64, Refusal> {
    let digits = value.filter(|bytes| !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit));
    digits
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .and_then(|text| text.parse::<i64>().ok())
        .and_then(|version| u64::try_from(version).ok())
        .ok_or_else(|| {
            let message = format!(
                "header `{name}`, the document's version, is no decimal number from 0 to 2^63-1"
            );
            Refusal::new(code::VERSION_INVALID, message)
        })
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
