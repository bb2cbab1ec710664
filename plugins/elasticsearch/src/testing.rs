//! Operations for unit tests.

use std::time::Instant;

use crate::config::{IdSource, VersionSource};
use crate::operation::{Operation, OperationShaper, SourceRecord};

struct Plain<'a> {
    seq: u64,
    id: &'a str,
    version: Option<u64>,
    value: String,
}

impl SourceRecord for Plain<'_> {
    fn seq(&self) -> u64 {
        self.seq
    }

    fn key(&self) -> Option<&[u8]> {
        Some(self.id.as_bytes())
    }

    fn value(&self) -> Option<&[u8]> {
        Some(self.value.as_bytes())
    }

    fn header(&self, _name: &str) -> Option<Option<&[u8]>> {
        None
    }

    fn timestamp_ms(&self) -> Option<i64> {
        self.version.and_then(|version| i64::try_from(version).ok())
    }

    fn coordinates(&self) -> Option<(&str, i32, i64)> {
        None
    }
}

thread_local! {
    /// One each, so that equal ids have equal lanes.
    static SHAPERS: [OperationShaper; 2] = [VersionSource::None, VersionSource::Timestamp]
        .map(|version| OperationShaper::new("index", IdSource::Key, version, usize::MAX));
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
    let record = Plain {
        seq,
        id,
        version,
        value,
    };
    SHAPERS.with(|[unversioned, versioned]| {
        let shaper = if version.is_some() {
            versioned
        } else {
            unversioned
        };
        shaper
            .shape(&record, accepted_at)
            .expect("a valid operation")
    })
}
