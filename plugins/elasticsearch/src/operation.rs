//! One record as one operation of a bulk: a pure function of record and configuration, so that a replay makes the same
//! bytes (invariant I5).

use std::borrow::Cow;
use std::cell::RefCell;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Instant;

use foldhash::quality::RandomState;
use jiff::Timestamp;
use serde::Serialize;

use crate::document;
use crate::index_name::{IndexNames, IndexPattern};
use crate::refusal::{Refusal, code};
use crate::sources::{IdSource, RoutingSource, VersionSource};
use crate::write_plan::{Action, WritePlan};

/// Elasticsearch's own limit of an `_id`.
const ID_MAX_BYTES: usize = 512;
const _: () = assert!(ID_MAX_BYTES <= u16::MAX as usize);
/// What the scratch buffer keeps after a record: far more than nearly every operation, and nothing beside a bulk.
const SCRATCH_KEPT_BYTES: usize = 1 << 20;
/// The header that `version: auto` looks at first.
const VERSION_HEADER: &str = "weir.version";
/// The field that a data stream asks for.
const TIMESTAMP_FIELD: &str = "@timestamp";
/// How often the server itself tries an update again that met another writer, before it tells us.
const UPDATE_RETRIES: u32 = 3;

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

/// When a record was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    /// The host's wall clock, in milliseconds since the Unix epoch: tells a record's age for the metrics and nothing else.
    pub(crate) wall_ms: i64,
}

impl Arrival {
    /// How old a record of this timestamp was; nothing is younger than now.
    fn age_ms_of(self, timestamp_ms: i64) -> u64 {
        let age_ms = self.wall_ms.saturating_sub(timestamp_ms);
        u64::try_from(age_ms).unwrap_or(0)
    }
}

/// Operations on one document share a lane. It is a hash: a collision only makes one document wait for another, for as
/// long as that one waits. Of 32 bits, so that the table of lanes, into which every operation looks twice, is small: of
/// the 5,000 documents of a full buffer two share a lane in one of 340 buffers (default settings).
pub(crate) type Lane = u32;

/// An operation on its way, with what the scheduler remembers about it.
#[derive(Debug)]
pub(crate) struct Operation {
    /// What the host's ledger calls the record.
    pub(crate) seq: u64,
    pub(crate) action: Action,
    pub(crate) index: Arc<str>,
    pub(crate) text: OperationText,
    pub(crate) lane: Lane,
    /// Carries an external version, so the server keeps the order.
    pub(crate) versioned: bool,
    pub(crate) accepted_at: Instant,
    /// Its age then in milliseconds, by its timestamp; only for the metrics.
    pub(crate) age_ms_when_accepted: Option<u64>,
    /// Answers that asked for this item again; drives its back-off.
    pub(crate) retries: u32,
    /// An attempt ended in doubt: what the server finds may be this operation's own work.
    pub(crate) maybe_applied: bool,
    /// The storm breaker has taken its rejection back.
    pub(crate) held_by_breaker: bool,
    /// Apart, for hardly any operation has one, and thousands of operations wait in memory.
    pub(crate) suspicion: Option<Box<Suspicion>>,
}

/// What speaks against an operation itself; see [`crate::scheduler`] for how it is counted.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    pub(crate) faults: u32,
    pub(crate) stored_at_last_fault: u64,
    pub(crate) answers_at_suspicion: Option<u64>,
    /// Requests of this operation alone that were refused as a whole.
    pub(crate) refused_alone: u32,
}

/// Id and lines of an operation, one after the other: made by the task's thread and given back by the worker's, so each
/// allocation counts.
#[derive(Debug)]
pub(crate) struct OperationText {
    bytes: Box<[u8]>,
    /// `None`: no id.
    id_bytes: Option<u16>,
}

impl OperationText {
    fn split(&self) -> (&[u8], &[u8]) {
        let id_bytes = self.id_bytes.unwrap_or(0).into();
        self.bytes.split_at_checked(id_bytes).unwrap_or_default()
    }
}

impl Operation {
    /// As bytes of UTF-8; `None` where the server makes one.
    pub(crate) fn id(&self) -> Option<&[u8]> {
        self.text.id_bytes.map(|_| self.text.split().0)
    }

    /// Action line and, but for a delete, document line, each with its line end.
    pub(crate) fn lines(&self) -> &[u8] {
        self.text.split().1
    }

    pub(crate) fn suspicion(&mut self) -> &mut Suspicion {
        self.suspicion.get_or_insert_default()
    }

    /// The server looked at this item by itself: whatever the whole request was suspected of is settled.
    pub(crate) fn clear_of_refusals(&mut self) {
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.answers_at_suspicion = None;
            suspicion.refused_alone = 0;
        }
    }

    /// For messages: `document `7``, or what else there is to name it by.
    pub(crate) fn name(&self) -> String {
        match self.id() {
            Some(id) => format!("document `{}`", String::from_utf8_lossy(id)),
            None => "document without id".to_owned(),
        }
    }
}

/// What of an operation does not stand in its document.
struct Metadata<'r> {
    index: Arc<str>,
    id: Option<Cow<'r, str>>,
    version: Option<u64>,
    routing: Option<Cow<'r, str>>,
}

/// Makes operations from records.
#[derive(Debug)]
pub(crate) struct OperationShaper {
    indices: IndexNames,
    plan: WritePlan,
    operation_max_bytes: usize,
    lanes: RandomState,
    /// Where an operation's text grows until its length is known.
    scratch: RefCell<Vec<u8>>,
}

impl OperationShaper {
    /// `operation_max_bytes` bounds both lines together: an operation must fit into a bulk.
    pub(crate) fn new(index: IndexPattern, plan: WritePlan, operation_max_bytes: usize) -> Self {
        OperationShaper {
            indices: IndexNames::new(index),
            plan,
            operation_max_bytes,
            lanes: RandomState::default(),
            scratch: RefCell::default(),
        }
    }

    /// Errors: the record can never be a document, and why.
    pub(crate) fn shape(
        &self,
        record: &impl SourceRecord,
        arrival: Arrival,
    ) -> Result<Operation, Refusal> {
        let mut bytes = self.scratch.borrow_mut();
        bytes.clear();
        let operation = self.shape_in(&mut bytes, record, arrival);
        bytes.shrink_to(SCRATCH_KEPT_BYTES);
        operation
    }

    fn shape_in(
        &self,
        bytes: &mut Vec<u8>,
        record: &impl SourceRecord,
        arrival: Arrival,
    ) -> Result<Operation, Refusal> {
        let (action, metadata) = match record.value() {
            Some(value) => {
                let text = document::check_object(value)?;
                let metadata = self.metadata(record, text)?;
                self.append_document(bytes, record, &metadata, text)?;
                (self.plan.action, metadata)
            }
            None if self.plan.deletes => {
                let metadata = self.metadata(record, "{}")?;
                append_action(bytes, Action::Delete, &metadata);
                (Action::Delete, metadata)
            }
            None => {
                let message =
                    "the value is null; `tombstones: delete` would make it delete its document";
                return Err(Refusal::new(code::VALUE_NULL, message));
            }
        };
        let id_bytes = metadata.id.as_ref().map(|id| id.len());
        let (size, limit) = (
            bytes.len() - id_bytes.unwrap_or(0),
            self.operation_max_bytes,
        );
        if size > limit {
            let message = format!(
                "the document takes {size} bytes of a bulk, above the limit `batch.bytes` of {limit}"
            );
            return Err(Refusal::new(code::DOCUMENT_TOO_LARGE, message));
        }
        Ok(Operation {
            seq: record.seq(),
            action,
            lane: self.lane(record, &metadata),
            index: metadata.index,
            text: OperationText {
                bytes: bytes.as_slice().into(),
                // Of `ID_MAX_BYTES` at most.
                id_bytes: id_bytes.and_then(|bytes| u16::try_from(bytes).ok()),
            },
            versioned: metadata.version.is_some(),
            accepted_at: arrival.at,
            age_ms_when_accepted: record.timestamp_ms().map(|ms| arrival.age_ms_of(ms)),
            retries: 0,
            maybe_applied: false,
            held_by_breaker: false,
            suspicion: None,
        })
    }

    /// A record whose id the server makes waits for nobody.
    fn lane(&self, record: &impl SourceRecord, metadata: &Metadata<'_>) -> Lane {
        let Metadata {
            index, id, routing, ..
        } = metadata;
        let hash = match id {
            Some(id) => self.lanes.hash_one((index, routing, id)),
            None => self.lanes.hash_one(record.seq()),
        };
        // The upper half: either would do.
        (hash >> 32) as Lane
    }

    fn metadata<'r>(
        &self,
        record: &'r impl SourceRecord,
        text: &str,
    ) -> Result<Metadata<'r>, Refusal> {
        Ok(Metadata {
            id: self.document_id(record, text)?,
            index: self.indices.of(record)?,
            version: self.document_version(record)?,
            routing: self.routing(record, text)?,
        })
    }

    fn append_document(
        &self,
        bytes: &mut Vec<u8>,
        record: &impl SourceRecord,
        metadata: &Metadata<'_>,
        text: &str,
    ) -> Result<(), Refusal> {
        let filled = match self.plan.fills_timestamp && !document::has_member(text, TIMESTAMP_FIELD)
        {
            true => Some(with_timestamp(record, text)?),
            false => None,
        };
        let text = filled.as_deref().unwrap_or(text);
        append_action(bytes, self.plan.action, metadata);
        match self.plan.action {
            Action::Update => {
                bytes.extend_from_slice(b"{\"doc\":");
                document::append_unbroken(bytes, text);
                bytes.extend_from_slice(b",\"doc_as_upsert\":true}\n");
            }
            Action::Index | Action::Create | Action::Delete => {
                document::append_unbroken(bytes, text);
                bytes.push(b'\n');
            }
        }
        Ok(())
    }

    fn document_id<'r>(
        &self,
        record: &'r impl SourceRecord,
        text: &str,
    ) -> Result<Option<Cow<'r, str>>, Refusal> {
        let id: Cow<'_, str> = match &self.plan.id {
            IdSource::Auto => return Ok(None),
            IdSource::Key => {
                let key = record.key().ok_or_else(|| {
                    Refusal::new(
                        code::KEY_NULL,
                        "the key is null, and `id: key` takes the document's id from it",
                    )
                })?;
                id_text(key, "the key")?.into()
            }
            IdSource::Coordinates => {
                let (topic, partition, offset) = record.coordinates().ok_or_else(|| {
                    let message = "the record comes from no single source record, so `id: coordinates` has none";
                    Refusal::new(code::ID_MISSING, message)
                })?;
                Cow::from(format!("{topic}+{partition}+{offset}"))
            }
            IdSource::Header(name) => match record.header(name).flatten() {
                Some(value) => id_text(value, &format!("header `{name}`"))?.into(),
                None => {
                    let message = format!("header `{name}`, the document's id, is missing or null");
                    return Err(Refusal::new(code::ID_MISSING, message));
                }
            },
            IdSource::Field(pointer) => {
                let id = pointer.0.scalar(text).ok_or_else(|| {
                    let pointer = pointer.0.as_str();
                    let message = format!("field `{pointer}`, the document's id, is missing or no string or 64-bit integer");
                    Refusal::new(code::ID_MISSING, message)
                })?;
                id.into()
            }
        };
        if id.is_empty() || id.len() > ID_MAX_BYTES {
            let length = id.len();
            let message = format!(
                "the document's id has {length} bytes; Elasticsearch takes 1 to {ID_MAX_BYTES}"
            );
            return Err(Refusal::new(code::ID_LENGTH, message));
        }
        Ok(Some(id))
    }

    fn routing<'r>(
        &self,
        record: &'r impl SourceRecord,
        text: &str,
    ) -> Result<Option<Cow<'r, str>>, Refusal> {
        let (found, place) = match &self.plan.routing {
            RoutingSource::None => return Ok(None),
            RoutingSource::Key => (record.key().and_then(plain_text), "the key".to_owned()),
            RoutingSource::Header(name) => {
                let value = record.header(name).flatten();
                (value.and_then(plain_text), format!("header `{name}`"))
            }
            RoutingSource::Field(pointer) => (
                pointer.0.scalar(text).map(Cow::Owned),
                format!("field `{}`", pointer.0.as_str()),
            ),
        };
        let usable = found.filter(|text| !text.is_empty());
        usable.map(Some).ok_or_else(|| {
            let message = format!("{place}, the document's routing, is missing, empty or no text");
            Refusal::new(code::ROUTING_MISSING, message)
        })
    }

    fn document_version(&self, record: &impl SourceRecord) -> Result<Option<u64>, Refusal> {
        match &self.plan.version {
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

/// The id, and behind it the action's line with its line end.
fn append_action(bytes: &mut Vec<u8>, action: Action, metadata: &Metadata<'_>) {
    if let Some(id) = &metadata.id {
        bytes.extend_from_slice(id.as_bytes());
    }
    bytes.extend_from_slice(b"{\"");
    bytes.extend_from_slice(action.name().as_bytes());
    bytes.extend_from_slice(b"\":{\"_index\":");
    append_json(bytes, &*metadata.index);
    if let Some(id) = &metadata.id {
        bytes.extend_from_slice(b",\"_id\":");
        append_json(bytes, id);
    }
    if let Some(routing) = &metadata.routing {
        bytes.extend_from_slice(b",\"routing\":");
        append_json(bytes, routing);
    }
    if let Some(version) = metadata.version {
        bytes.extend_from_slice(b",\"version\":");
        append_json(bytes, &version);
        bytes.extend_from_slice(b",\"version_type\":\"external\"");
    }
    if action == Action::Update {
        bytes.extend_from_slice(b",\"retry_on_conflict\":");
        append_json(bytes, &UPDATE_RETRIES);
    }
    bytes.extend_from_slice(b"}}\n");
}

/// Text or a number.
fn append_json(bytes: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Neither can a vector refuse bytes nor can these refuse to be JSON.
    let _ = serde_json::to_writer(bytes, value);
}

/// The document with the record's timestamp as its `@timestamp`.
fn with_timestamp(record: &impl SourceRecord, text: &str) -> Result<String, Refusal> {
    let at = record
        .timestamp_ms()
        .and_then(|timestamp_ms| Timestamp::from_millisecond(timestamp_ms).ok());
    let at = at.ok_or_else(|| {
        let message = format!(
            "the document has no `{TIMESTAMP_FIELD}`, which a data stream needs, and the record no timestamp to fill it from"
        );
        Refusal::new(code::TIMESTAMP_MISSING, message)
    })?;
    Ok(document::with_member(
        text,
        TIMESTAMP_FIELD,
        &format!("\"{at}\""),
    ))
}

fn plain_text(bytes: &[u8]) -> Option<Cow<'_, str>> {
    simdutf8::basic::from_utf8(bytes).ok().map(Cow::Borrowed)
}

fn id_text<'r>(bytes: &'r [u8], place: &str) -> Result<&'r str, Refusal> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| {
        Refusal::new(
            code::ID_NOT_UTF8,
            format!("{place}, the document's id, is not valid UTF-8"),
        )
    })
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
