use serde_json::{Value, json};

use super::*;
use crate::testing::{Plain, arrival};

fn record() -> Plain<'static> {
    Plain {
        key: Some(b"k\"1".to_vec()),
        value: Some(b"{\"a\":1,\n\"u\":{\"id\":42}}".to_vec()),
        headers: vec![],
        timestamp_ms: Some(1_700_000_000_000),
        coordinates: Some(("visits", 3, 99)),
        ..Plain::default()
    }
}

fn shaper(id: &str, version: &str) -> OperationShaper {
    shaper_of(json!({ "index": "my-index", "id": id, "version": version }))
}

fn shaper_of(changes: Value) -> OperationShaper {
    crate::testing::shaper(changes, 1_000)
}

fn shape(shaper: &OperationShaper, record: &Plain<'static>) -> Result<Operation, Refusal> {
    shaper.shape(record, arrival(Instant::now()))
}

fn lines(id: &str, version: &str, record: &Plain<'static>) -> String {
    let operation = shape(&shaper(id, version), record).expect("an operation");
    String::from_utf8(operation.lines().to_vec()).expect("text")
}

fn refused(id: &str, version: &str, change: impl FnOnce(&mut Plain<'static>)) -> &'static str {
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
    assert_eq!(lines("key", "auto", &record()), expected);
}

#[test]
fn each_id_source_names_its_document() {
    let id = |source: &str, record: &Plain<'static>| {
        let operation = shape(&shaper(source, "none"), record).expect("an operation");
        String::from_utf8(operation.id().expect("an id").to_vec()).expect("text")
    };
    let mut with_header = record();
    with_header.headers = vec![("id", Some(b"old".to_vec())), ("id", Some(b"new".to_vec()))];
    assert_eq!(id("key", &record()), "k\"1");
    assert_eq!(id("coordinates", &record()), "visits+3+99");
    assert_eq!(id("header:id", &with_header), "new");
    assert_eq!(id("field:/u/id", &record()), "42");
}

#[test]
fn each_version_source_numbers_its_document() {
    let mut with_headers = record();
    with_headers.headers = vec![
        ("weir.version", Some(b"9223372036854775807".to_vec())),
        ("v", Some(b"0".to_vec())),
    ];
    let line = |version, record: &Plain<'static>| lines("key", version, record);
    assert!(line("auto", &with_headers).contains("\"version\":9223372036854775807,"));
    assert!(line("offset", &with_headers).contains("\"version\":99,"));
    assert!(line("timestamp", &with_headers).contains("\"version\":1700000000000,"));
    assert!(line("header:v", &with_headers).contains("\"version\":0,"));
    assert!(!line("none", &with_headers).contains("version"));
}

#[test]
fn case_17_ids_that_would_poison_a_bulk_are_caught_before_sending() {
    let key = |key: Option<Vec<u8>>| refused("key", "auto", |record| record.key = key);
    assert_eq!(key(None), code::KEY_NULL);
    assert_eq!(key(Some(vec![])), code::ID_LENGTH);
    assert_eq!(key(Some(vec![b'x'; 600])), code::ID_LENGTH);
    assert_eq!(key(Some(vec![0xff])), code::ID_NOT_UTF8);
    let mut longest = record();
    longest.key = Some(vec![b'x'; 512]);
    assert!(shape(&shaper("key", "auto"), &longest).is_ok());
    assert_eq!(refused("header:id", "auto", |_| {}), code::ID_MISSING);
    assert_eq!(
        refused("coordinates", "none", |record| {
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
        let code = refused("key", "auto", |record| {
            record.headers = vec![("weir.version", Some(text.to_vec()))];
        });
        assert_eq!(code, code::VERSION_INVALID, "{text:?}");
    }
    assert_eq!(
        refused("key", "auto", |record| record.coordinates = None),
        code::VERSION_MISSING
    );
    assert_eq!(refused("key", "header:v", |_| {}), code::VERSION_MISSING);
    let timestamp = |timestamp_ms| {
        refused("key", "timestamp", |record| {
            record.timestamp_ms = timestamp_ms
        })
    };
    assert_eq!(timestamp(None), code::VERSION_MISSING);
    assert_eq!(timestamp(Some(-5)), code::VERSION_INVALID);
}

#[test]
fn values_that_are_no_document_are_refused() {
    let value = |value: Option<Vec<u8>>| refused("key", "auto", |record| record.value = value);
    assert_eq!(value(None), code::VALUE_NULL);
    assert_eq!(value(Some(b"[1]".to_vec())), code::VALUE_NOT_OBJECT);
    assert_eq!(value(Some(b"{".to_vec())), code::VALUE_NOT_JSON);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(2_000)).into_bytes();
    assert_eq!(value(Some(large)), code::DOCUMENT_TOO_LARGE);
}

#[test]
fn a_replay_makes_the_same_bytes_and_the_same_lane() {
    let shaper = shaper("key", "auto");
    let first = shape(&shaper, &record()).expect("an operation");
    let second = shape(&shaper, &record()).expect("an operation");
    assert_eq!(first.lines(), second.lines());
    assert_eq!(first.lane, second.lane);
}

fn text_of(shaper: &OperationShaper, record: &Plain<'static>) -> String {
    let operation = shape(shaper, record).expect("an operation");
    String::from_utf8(operation.lines().to_vec()).expect("text")
}

#[test]
fn each_method_has_its_own_lines() {
    let lines = |changes| text_of(&shaper_of(changes), &record());
    assert_eq!(
        lines(json!({ "write": "create", "id": "coordinates" })),
        "{\"create\":{\"_index\":\"index\",\"_id\":\"visits+3+99\"}}\n{\"a\":1, \"u\":{\"id\":42}}\n"
    );
    assert_eq!(
        lines(json!({ "write": "upsert" })),
        "{\"update\":{\"_index\":\"index\",\"_id\":\"k\\\"1\",\"retry_on_conflict\":3}}\n\
         {\"doc\":{\"a\":1, \"u\":{\"id\":42}},\"doc_as_upsert\":true}\n"
    );
    assert_eq!(
        lines(json!({ "id": "auto", "allow_duplicates": true })),
        "{\"index\":{\"_index\":\"index\"}}\n{\"a\":1, \"u\":{\"id\":42}}\n"
    );
    assert_eq!(
        lines(json!({ "index": "{topic}-{%Y}", "routing": "field:/u/id", "version": "none" })),
        "{\"index\":{\"_index\":\"visits-2023\",\"_id\":\"k\\\"1\",\"routing\":\"42\"}}\n{\"a\":1, \"u\":{\"id\":42}}\n"
    );
}

#[test]
fn case_28_a_tombstone_deletes_with_the_version_of_its_own_record() {
    let tombstone = Plain {
        value: None,
        ..record()
    };
    let lines = |changes| text_of(&shaper_of(changes), &tombstone);
    assert_eq!(
        lines(json!({ "tombstones": "delete" })),
        "{\"delete\":{\"_index\":\"index\",\"_id\":\"k\\\"1\",\"version\":99,\"version_type\":\"external\"}}\n"
    );
    assert_eq!(
        lines(json!({ "tombstones": "delete", "write": "upsert", "routing": "key" })),
        "{\"delete\":{\"_index\":\"index\",\"_id\":\"k\\\"1\",\"routing\":\"k\\\"1\"}}\n"
    );
    let without_key = Plain {
        key: None,
        ..tombstone
    };
    let refusal =
        shape(&shaper_of(json!({ "tombstones": "delete" })), &without_key).expect_err("refused");
    assert_eq!(refusal.code, code::KEY_NULL);
}

#[test]
fn case_45_a_data_stream_gets_the_records_timestamp_where_it_has_none() {
    let shaper = shaper_of(json!({ "data_stream": true }));
    let with = |value: &str| Plain {
        value: Some(value.as_bytes().to_vec()),
        ..record()
    };
    let document = |record: &Plain<'static>| {
        text_of(&shaper, record)
            .lines()
            .nth(1)
            .expect("a document")
            .to_owned()
    };
    assert_eq!(
        document(&with("{\"a\":1e400}")),
        "{\"@timestamp\":\"2023-11-14T22:13:20Z\",\"a\":1e400}"
    );
    assert_eq!(
        document(&with("{ }")),
        "{\"@timestamp\":\"2023-11-14T22:13:20Z\" }"
    );
    assert_eq!(document(&with("{\"@timestamp\":5}")), "{\"@timestamp\":5}");
    let nowhere = Plain {
        timestamp_ms: None,
        ..with("{}")
    };
    assert_eq!(
        shape(&shaper, &nowhere).expect_err("refused").code,
        code::TIMESTAMP_MISSING
    );
    let own = Plain {
        timestamp_ms: None,
        ..with("{\"@timestamp\":5}")
    };
    assert_eq!(document(&own), "{\"@timestamp\":5}");
}

#[test]
fn routing_that_is_missing_is_refused() {
    let refused = |routing: &str| {
        let shaper = shaper_of(json!({ "routing": routing }));
        shape(&shaper, &record()).expect_err("refused").code
    };
    assert_eq!(refused("header:r"), code::ROUTING_MISSING);
    assert_eq!(refused("field:/nowhere"), code::ROUTING_MISSING);
}

#[test]
fn documents_of_other_indices_or_routings_have_other_lanes() {
    let shaper = shaper_of(json!({ "index": "{topic}", "routing": "header:r" }));
    let lane = |topic: &'static str, routing: &str| {
        let record = Plain {
            headers: vec![("r", Some(routing.as_bytes().to_vec()))],
            coordinates: Some((topic, 0, 1)),
            ..record()
        };
        shape(&shaper, &record).expect("an operation").lane
    };
    assert_eq!(lane("a", "1"), lane("a", "1"));
    assert_ne!(lane("a", "1"), lane("b", "1"));
    assert_ne!(lane("a", "1"), lane("a", "2"));
}
