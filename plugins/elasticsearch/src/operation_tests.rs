use super::*;
use crate::config::IdPointer;
use crate::document::Pointer;

#[derive(Clone)]
struct TestRecord {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(&'static str, Option<&'static [u8]>)>,
    timestamp_ms: Option<i64>,
    coordinates: Option<(&'static str, i32, i64)>,
}

impl SourceRecord for TestRecord {
    fn seq(&self) -> u64 {
        7
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
            .map(|(_, value)| *value)
    }

    fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp_ms
    }

    fn coordinates(&self) -> Option<(&str, i32, i64)> {
        self.coordinates
    }
}

fn record() -> TestRecord {
    TestRecord {
        key: Some(b"k\"1".to_vec()),
        value: Some(b"{\"a\":1,\n\"u\":{\"id\":42}}".to_vec()),
        headers: vec![],
        timestamp_ms: Some(1_700_000_000_000),
        coordinates: Some(("visits", 3, 99)),
    }
}

fn shaper(id: IdSource, version: VersionSource) -> OperationShaper {
    OperationShaper::new("my-index", id, version, 1_000)
}

fn shape(shaper: &OperationShaper, record: &TestRecord) -> Result<Operation, Refusal> {
    shaper.shape(record, Instant::now())
}

fn lines(id: IdSource, version: VersionSource, record: &TestRecord) -> String {
    let operation = shape(&shaper(id, version), record).expect("an operation");
    String::from_utf8(operation.lines.into_vec()).expect("text")
}

fn refused(
    id: IdSource,
    version: VersionSource,
    change: impl FnOnce(&mut TestRecord),
) -> &'static str {
    let mut record = record();
    change(&mut record);
    shape(&shaper(id, version), &record)
        .expect_err("refused")
        .code
}

#[test]
fn key_and_offset_make_the_action_line() {
    let expected = "{\"index\":{\"_index\":\"my-index\",\"_id\":\"k\\\"1\",\"version\":99,\"version_type\":\"external\"}}\n\
                    {\"a\":1, \"u\":{\"id\":42}}\n";
    assert_eq!(
        lines(IdSource::Key, VersionSource::Auto, &record()),
        expected
    );
}

#[test]
fn each_id_source_names_its_document() {
    let id = |source: IdSource, record: &TestRecord| {
        shape(&shaper(source, VersionSource::None), record)
            .expect("an operation")
            .id
            .into_string()
    };
    let mut with_header = record();
    with_header.headers = vec![("id", Some(b"old")), ("id", Some(b"new"))];
    assert_eq!(id(IdSource::Key, &record()), "k\"1");
    assert_eq!(id(IdSource::Coordinates, &record()), "visits+3+99");
    assert_eq!(id(IdSource::Header("id".into()), &with_header), "new");
    let pointer = IdPointer(Pointer::parse("/u/id").expect("pointer"));
    assert_eq!(id(IdSource::Field(pointer), &record()), "42");
}

#[test]
fn each_version_source_numbers_its_document() {
    let mut with_headers = record();
    with_headers.headers = vec![
        ("weir.version", Some(b"9223372036854775807")),
        ("v", Some(b"0")),
    ];
    let line = |version, record: &TestRecord| lines(IdSource::Key, version, record);
    assert!(line(VersionSource::Auto, &with_headers).contains("\"version\":9223372036854775807,"));
    assert!(line(VersionSource::Offset, &with_headers).contains("\"version\":99,"));
    assert!(line(VersionSource::Timestamp, &with_headers).contains("\"version\":1700000000000,"));
    assert!(line(VersionSource::Header("v".into()), &with_headers).contains("\"version\":0,"));
    assert!(!line(VersionSource::None, &with_headers).contains("version"));
}

#[test]
fn case_17_ids_that_would_poison_a_bulk_are_caught_before_sending() {
    let key = |key: Option<Vec<u8>>| {
        refused(IdSource::Key, VersionSource::Auto, |record| {
            record.key = key
        })
    };
    assert_eq!(key(None), code::KEY_NULL);
    assert_eq!(key(Some(vec![])), code::ID_LENGTH);
    assert_eq!(key(Some(vec![b'x'; 600])), code::ID_LENGTH);
    assert_eq!(key(Some(vec![0xff])), code::ID_NOT_UTF8);
    let mut longest = record();
    longest.key = Some(vec![b'x'; 512]);
    assert!(shape(&shaper(IdSource::Key, VersionSource::Auto), &longest).is_ok());
    assert_eq!(
        refused(IdSource::Header("id".into()), VersionSource::Auto, |_| {}),
        code::ID_MISSING
    );
    assert_eq!(
        refused(IdSource::Coordinates, VersionSource::None, |record| {
            record.coordinates = None
        }),
        code::ID_MISSING
    );
}

#[test]
fn versions_outside_the_range_are_refused() {
    for text in [
        &b"-1"[..],
        b"9223372036854775808",
        b"1.5",
        b"",
        b"+1",
        b" 1",
        b"\xff",
    ] {
        let code = refused(IdSource::Key, VersionSource::Auto, |record| {
            record.headers = vec![(
                "weir.version",
                Some(Box::leak(text.to_vec().into_boxed_slice())),
            )];
        });
        assert_eq!(code, code::VERSION_INVALID, "{text:?}");
    }
    assert_eq!(
        refused(IdSource::Key, VersionSource::Auto, |record| record
            .coordinates =
            None),
        code::VERSION_MISSING
    );
    assert_eq!(
        refused(IdSource::Key, VersionSource::Header("v".into()), |_| {}),
        code::VERSION_MISSING
    );
    let timestamp = |timestamp_ms| {
        refused(IdSource::Key, VersionSource::Timestamp, |record| {
            record.timestamp_ms = timestamp_ms
        })
    };
    assert_eq!(timestamp(None), code::VERSION_MISSING);
    assert_eq!(timestamp(Some(-5)), code::VERSION_INVALID);
}

#[test]
fn values_that_are_no_document_are_refused() {
    let value = |value: Option<Vec<u8>>| {
        refused(IdSource::Key, VersionSource::Auto, |record| {
            record.value = value
        })
    };
    assert_eq!(value(None), code::VALUE_NULL);
    assert_eq!(value(Some(b"[1]".to_vec())), code::VALUE_NOT_OBJECT);
    assert_eq!(value(Some(b"{".to_vec())), code::VALUE_NOT_JSON);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(2_000)).into_bytes();
    assert_eq!(value(Some(large)), code::DOCUMENT_TOO_LARGE);
}

#[test]
fn a_replay_makes_the_same_bytes_and_the_same_lane() {
    let shaper = shaper(IdSource::Key, VersionSource::Auto);
    let first = shape(&shaper, &record()).expect("an operation");
    let second = shape(&shaper, &record()).expect("an operation");
    assert_eq!(first.lines, second.lines);
    assert_eq!(first.lane, second.lane);
}
