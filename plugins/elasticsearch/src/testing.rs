//! Records and operations for unit tests.

use std::time::Instant;

use serde_json::{Value, json};

use crate::config::ElasticsearchConfig;
use crate::operation::{Arrival, Operation, OperationShaper, SourceRecord};
use crate::write_plan::WritePlan;

/// A record of plain parts; `Default` has none of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plain<'a> {
    pub(crate) seq: u64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(&'a str, Option<Vec<u8>>)>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) coordinates: Option<(&'a str, i32, i64)>,
}

impl SourceRecord for Plain<'_> {
    fn seq(&self) -> u64 {
        self.seq
    }

    fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    fn header(&self, name: &str) -> Option<Option<&[u8]>> {
        self.headers
            .iter()
            .rev()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_deref())
    }

    fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp_ms
    }

    fn coordinates(&self) -> Option<(&str, i32, i64)> {
        self.coordinates
    }
}

/// The least configuration with `changes` on top.
pub(crate) fn config(changes: Value) -> ElasticsearchConfig {
    let mut config = json!({ "urls": ["http://localhost:9200"], "index": "index" });
    if let (Some(config), Value::Object(changes)) = (config.as_object_mut(), changes) {
        config.extend(changes);
    }
    serde_json::from_value(config).expect("a readable configuration")
}

pub(crate) fn shaper(changes: Value, operation_max_bytes: usize) -> OperationShaper {
    let config = config(changes);
    OperationShaper::new(
        config.index.clone(),
        WritePlan::of(&config),
        operation_max_bytes,
    )
}

thread_local! {
    /// One each, so that equal ids have equal lanes.
    static SHAPERS: [OperationShaper; 4] = [
        json!({ "version": "none", "tombstones": "delete" }),
        json!({ "version": "timestamp", "tombstones": "delete" }),
        json!({ "write": "create" }),
        json!({ "write": "upsert" }),
    ]
    .map(|changes| shaper(changes, usize::MAX));
}

/// An arrival at the Unix epoch's second 1,000, whatever the monotonic clock says.
pub(crate) fn arrival(at: Instant) -> Arrival {
    Arrival {
        at,
        wall_ms: 1_000_000,
    }
}

/// An operation on document `id`, accepted now.
pub(crate) fn operation(seq: u64, id: &str, version: Option<u64>) -> Operation {
    sized_operation(seq, id, version, 0, Instant::now())
}

/// The same with a document of about `padding` bytes.
pub(crate) fn sized_operation(
    seq: u64,
    id: &str,
    version: Option<u64>,
    padding: usize,
    accepted_at: Instant,
) -> Operation {
    let value = format!("{{\"seq\":{seq},\"pad\":\"{}\"}}", "x".repeat(padding));
    let shaper = usize::from(version.is_some());
    shape(shaper, seq, id, version, Some(value), accepted_at)
}

pub(crate) fn delete(seq: u64, id: &str, version: Option<u64>) -> Operation {
    let shaper = usize::from(version.is_some());
    shape(shaper, seq, id, version, None, Instant::now())
}

pub(crate) fn create(seq: u64, id: &str) -> Operation {
    shape(2, seq, id, None, Some("{}".to_owned()), Instant::now())
}

pub(crate) fn upsert(seq: u64, id: &str) -> Operation {
    shape(3, seq, id, None, Some("{}".to_owned()), Instant::now())
}

fn shape(
    shaper: usize,
    seq: u64,
    id: &str,
    version: Option<u64>,
    value: Option<String>,
    accepted_at: Instant,
) -> Operation {
    let record = Plain {
        seq,
        key: Some(id.as_bytes().to_vec()),
        value: value.map(String::into_bytes),
        timestamp_ms: version.and_then(|version| i64::try_from(version).ok()),
        ..Plain::default()
    };
    SHAPERS.with(|shapers| {
        shapers[shaper]
            .shape(&record, arrival(accepted_at))
            .expect("a valid operation")
    })
}
