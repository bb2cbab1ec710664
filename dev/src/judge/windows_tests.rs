use super::*;
use crate::client::Timestamp;
use serde_json::json;

/// Minute 13:37 of 2024-09-10.
const MINUTE_S: i64 = 1_725_975_420;
const ID: &str = "2024-09-10T13:37:00+00:00";

fn record(offset: i64, append_ms: i64, value: &str) -> Record {
    Record {
        topic: "reduced".to_owned(),
        partition: 0,
        offset,
        timestamp: Timestamp::Append(append_ms),
        key: None,
        value: Some(value.as_bytes().to_vec()),
        headers: Vec::new(),
    }
}

/// Latencies 0, 10, 20, 30 in the one window and a bad record.
fn reduced() -> BTreeMap<i32, Vec<Record>> {
    let start_ms = MINUTE_S * 1_000;
    let value = format!(r#"{{"start_processing_time_unix_ms":{start_ms}}}"#);
    let mut records: Vec<Record> = (0..4)
        .map(|i| record(i, start_ms + i * 10, &value))
        .collect();
    records.push(record(
        4,
        start_ms + 5,
        r#"{"start_processing_time_unix_ms":null}"#,
    ));
    BTreeMap::from([(0, records)])
}

fn right() -> Value {
    json!({
        "@timestamp": ID, "p50": 15.0, "p75": 22.5, "p90": 27.0, "p99": 29.699_999_999_999_996,
        "count": 4, "min": 0.0, "max": 30.0,
    })
}

fn differences(id: &str, version: i64, source: Value) -> usize {
    let document = Document {
        id: id.to_owned(),
        version,
        source,
    };
    let case = WindowCase {
        reduced: &reduced(),
        documents: &BTreeMap::from([(id.to_owned(), document)]),
        rules: &WindowRules::of_size_s(60),
    };
    case.judge().differences().len()
}

#[test]
fn a_right_document_has_no_differences() {
    assert_eq!(differences(ID, 4, right()), 0);
}

#[test]
fn every_damage_is_seen() {
    assert_eq!(differences(ID, 3, right()), 1);
    // No document for the window, and a document for no window.
    assert_eq!(differences("2024-09-10T13:38:00+00:00", 4, right()), 2);
    for (field, value) in [
        ("@timestamp", json!("2024-09-10T13:37:00Z")),
        ("p90", json!(27.000_000_1)),
        ("p50", json!(15)),
        ("count", json!(4.0)),
        ("min", json!(0)),
        ("max", Value::Null),
        ("extra", json!(1)),
    ] {
        let mut source = right();
        if let Some(object) = source.as_object_mut() {
            object.insert(field.to_owned(), value);
        }
        assert_eq!(differences(ID, 4, source), 1, "{field}");
    }
}

#[test]
fn fractions_of_a_percent_name_their_field_with_an_underscore() {
    assert_eq!(field_name(99.9), "p99_9");
    assert_eq!(field_name(50.0), "p50");
}

#[test]
fn the_rank_of_a_sketch_is_bounded() {
    let sorted: Vec<f64> = (0..10_000).map(f64::from).collect();
    assert_eq!(rank_error(&sorted, 90.0, 8_999.1), 0.0);
    assert!(rank_error(&sorted, 90.0, 8_960.0) < SKETCH_RANK_ERROR);
    assert!(rank_error(&sorted, 90.0, 8_900.0) > SKETCH_RANK_ERROR);
}
