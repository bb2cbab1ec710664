//! The transform through the SDK's harness.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_plugin_sdk::api::error_kind;
use weir_plugin_sdk::testing::{TestOutput, TestRecord, TransformHarness};
use weir_plugin_sdk::{Errors, Scope, Transform};

use super::*;

/// 2024-09-10T13:37:00+00:00.
const MINUTE: i64 = 1_725_975_420_000;

fn harness(config: Value) -> TransformHarness {
    TransformHarness::new::<LatencyWindow>(config).expect("a valid configuration")
}

/// A record appended `after_ms` into the minute, `latency_ms` after its start.
fn record(after_ms: i64, latency_ms: i64) -> TestRecord {
    let start_ms = MINUTE + after_ms - latency_ms;
    let value =
        json!({"visit": {"id": "a", "event_time": 1}, "start_processing_time_unix_ms": start_ms});
    TestRecord::value(value.to_string()).at(MINUTE + after_ms)
}

fn version(record: &TestRecord) -> u64 {
    let (name, value) = record.headers.first().expect("a header");
    assert_eq!(name, "weir.version");
    String::from_utf8_lossy(value.as_deref().expect("not null"))
        .parse()
        .expect("a number")
}

/// By `str::parse`, since serde_json does not promise the last bit of a double.
fn field(record: &TestRecord, name: &str) -> f64 {
    let text = record.text();
    let fields: BTreeMap<&str, &serde_json::value::RawValue> =
        serde_json::from_str(&text).expect("JSON");
    fields[name].get().parse().expect("a number")
}

fn codes(output: &TestOutput) -> Vec<&str> {
    output
        .failures
        .iter()
        .map(|failure| failure.code.as_str())
        .collect()
}

#[test]
fn a_window_becomes_a_document_when_the_watermark_passes_its_end() {
    let mut transform = harness(json!({}));
    let output = transform.process(&[
        record(0, 10),
        record(59_999, 20),
        record(30_000, -3).slot(1),
    ]);
    assert_eq!(
        (output.consumed, output.records.len(), output.failures.len()),
        (3, 0, 0)
    );
    assert_eq!(
        transform.watermark(MINUTE + 59_999).records,
        [],
        "still open"
    );

    let output = transform.watermark(MINUTE + 60_000);
    let [document] = &output.records[..] else {
        panic!("one document, not {output:?}")
    };
    assert_eq!(
        document.text(),
        r#"{"@timestamp":"2024-09-10T13:37:00+00:00","p50":10.0,"p75":15.0,"p90":18.0,"p99":19.8,"count":3,"min":-3.0,"max":20.0}"#
    );
    assert_eq!(
        document.key.as_deref(),
        Some(&b"2024-09-10T13:37:00+00:00"[..])
    );
    assert_eq!(version(document), 3);
    assert_eq!(
        (document.offset, document.seq, document.slot),
        (-1, 0, u32::MAX)
    );
    assert_eq!(
        transform.watermark(MINUTE + 61_000).records,
        [],
        "only once"
    );
    assert_eq!(transform.log(), [], "LogAppendTime needs no warning");
}

#[test]
fn windows_are_aligned_and_close_in_order() {
    let mut transform = harness(json!({"size": "7s", "percentiles": [99.9, 50]}));
    let times = [20_999, 0, 7_000, 6_999, 13_999, 14_000];
    let records: Vec<TestRecord> = times.iter().map(|time| record(0, 0).at(*time)).collect();
    let output = transform.process(&records);
    assert_eq!(codes(&output), ["latency-window.start_out_of_range"; 0]);
    let output = transform.watermark(14_000);
    let keys: Vec<String> = output
        .records
        .iter()
        .map(|r| String::from_utf8_lossy(r.key.as_deref().unwrap_or_default()).into())
        .collect();
    assert_eq!(
        keys,
        ["1970-01-01T00:00:00+00:00", "1970-01-01T00:00:07+00:00"]
    );
    assert!(output.records.iter().all(|record| version(record) == 2));
    assert!(output.records[0].text().contains(r#""p99_9":"#));
    assert_eq!(transform.watermark(21_000).records.len(), 1);
}

#[test]
fn a_late_record_corrects_the_document_once_a_call() {
    let mut transform = harness(json!({"epoch": 3}));
    transform.process(&[record(0, 10)]);
    let first = transform.watermark(MINUTE + 60_000).records;
    let output = transform.process(&[record(1, 20), record(60_000, 5), record(2, 30).slot(1)]);
    let [corrected] = &output.records[..] else {
        panic!("one correction, not {output:?}")
    };
    assert_eq!(corrected.key, first[0].key);
    assert_eq!(
        [version(&first[0]), version(corrected)],
        [3 * (1 << 40) + 1, 3 * (1 << 40) + 3]
    );
    assert_eq!(
        [field(corrected, "p50"), field(corrected, "max")],
        [20.0, 30.0]
    );

    // A late record of a window that nobody opened before makes one.
    let output = transform.process(&[record(-60_000, 7)]);
    assert_eq!(output.records.len(), 1);

    // The window is kept until the watermark reaches its end plus 5 minutes.
    transform.watermark(MINUTE + 60_000 + 299_999);
    assert_eq!(
        version(&transform.process(&[record(3, 1)]).records[0]),
        3 * (1 << 40) + 4
    );
    transform.watermark(MINUTE + 60_000 + 300_000);
    let output = transform.process(&[record(3, 1)]);
    assert_eq!(
        (codes(&output), output.records.len()),
        (vec!["latency-window.late"], 0)
    );
}

#[test]
fn the_watermark_never_falls_and_one_slots_watermark_closes_nothing() {
    let mut transform = harness(json!({}));
    transform.process(&[record(0, 10)]);
    assert_eq!(transform.slot_watermark(0, MINUTE + 120_000).records, []);
    assert_eq!(transform.watermark(MINUTE + 60_000).records.len(), 1);
    assert_eq!(transform.watermark(0).records, []);
    assert_eq!(
        transform.process(&[record(1, 10)]).records.len(),
        1,
        "still late"
    );
}

#[test]
fn bad_records_are_refused_and_the_others_counted() {
    let mut transform = harness(json!({}));
    let output = transform.process(&[
        record(0, 10),
        TestRecord::value("{........").at(MINUTE),
        TestRecord::default().at(MINUTE),
        TestRecord {
            timestamp_ms: None,
            ..record(0, 10)
        },
        record(0, 0).at(-5),
        record(0, 0).at(253_402_300_800_000),
        TestRecord::value(r#"{"start_processing_time_unix_ms":"5"}"#).at(MINUTE),
        TestRecord::value(r#"{"start_processing_time_unix_ms":-5}"#).at(MINUTE),
        TestRecord::value("{}").at(MINUTE),
        record(1, 10),
    ]);
    assert_eq!(
        codes(&output),
        [
            "latency-window.not_json",
            "latency-window.null_value",
            "latency-window.no_timestamp",
            "latency-window.timestamp_out_of_range",
            "latency-window.timestamp_out_of_range",
            "latency-window.start_not_a_number",
            "latency-window.start_out_of_range",
            "latency-window.start_missing",
        ]
    );
    assert_eq!(output.consumed, 10);
    assert_eq!(version(&transform.watermark(i64::MAX).records[0]), 2);
}

#[test]
fn fractional_starts_are_kept() {
    let mut transform = harness(json!({"start_field": "a.b"}));
    let starts = [1_725_975_419_990.625, 1_725_975_419_980.25];
    let records =
        starts.map(|start| TestRecord::value(json!({"a": {"b": start}}).to_string()).at(MINUTE));
    transform.process(&records);
    let document = &transform.watermark(MINUTE + 60_000).records[0];
    assert_eq!(
        [field(document, "min"), field(document, "max")],
        [9.375, 19.75]
    );
}

#[test]
fn a_sparse_backlog_ends_the_call_until_windows_close() {
    let mut transform = harness(json!({}));
    let records: Vec<TestRecord> = (0..5_000)
        .map(|minute| record(minute * 60_000, 1))
        .collect();
    let output = transform.process(&records);
    assert_eq!(output.consumed, 4_096);
    assert_eq!(
        output.error.map(|(kind, _)| kind),
        Some(error_kind::RETRYABLE)
    );
    assert_eq!(output.failures, []);
    // As the host does: the watermark follows what was consumed, then comes the rest.
    assert_eq!(
        transform.watermark(MINUTE + 4_095 * 60_000).records.len(),
        4_095
    );
    let output = transform.process(&records[4_096..]);
    assert_eq!((output.consumed, output.error), (904, None));

    // Without a watermark it is an error of the record.
    let mut transform = harness(json!({}));
    transform.process(&records);
    let output = transform.process(&records[4_096..4_097]);
    assert_eq!(codes(&output), ["latency-window.too_many_windows"]);
    assert_eq!(
        transform.process(&records[..10]).failures,
        [],
        "open windows take records on"
    );
}

#[test]
fn a_topic_without_append_times_is_warned_of_once() {
    let mut transform = harness(json!({}));
    for slot in [0, 1, 0] {
        transform.process(&[TestRecord {
            create_time: true,
            ..record(0, 1).slot(slot)
        }]);
    }
    let log = transform.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].1.contains("LogAppendTime"));
}

#[test]
fn a_restored_slot_goes_on_as_the_original() {
    let mut rng = fastrand::Rng::with_seed(8);
    println!("seed 8");
    let mut original = harness(json!({}));
    let mut draw = |count: usize| -> Vec<TestRecord> {
        let one = |_| {
            record(rng.i64(0..180_000), rng.i64(-5..5_000))
                .slot(rng.u32(0..2))
                .offset(rng.i64(0..1_000))
        };
        (0..count).map(one).collect()
    };
    original.process(&draw(9_000));
    original.watermark(MINUTE + 60_000);

    let mut copy = harness(json!({}));
    for slot in 0..2 {
        let (version, parts) = saved(&mut original, slot);
        copy.restore(slot, version, &parts).expect("restored");
        let kept = parts.iter().map(|(id, _)| (*id, None)).collect();
        let unchanged = (version, kept);
        assert_eq!(copy.snapshot(slot), Ok(unchanged.clone()), "as restored");
        assert_eq!(original.snapshot(slot), Ok(unchanged), "as saved before");
    }
    assert_eq!(
        copy.watermark(MINUTE + 60_000).records,
        [],
        "what was emitted is not emitted again"
    );
    let more = draw(9_000);
    let corrections = original.process(&more).records;
    assert_eq!(corrections.len(), 1);
    assert_eq!(copy.process(&more).records, corrections);
    let documents = original.watermark(i64::MAX).records;
    assert_eq!(documents.len(), 2);
    assert_eq!(copy.watermark(i64::MAX).records, documents);
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let mut transform = harness(json!({}));
    transform.process(&[record(0, 1), record(60_000, 2)]);
    let (version, parts) = saved(&mut transform, 0);
    assert_eq!(parts.len(), 2, "a part for each window");
    let restore = |version, parts: &[(u64, Vec<u8>)]| harness(json!({})).restore(0, version, parts);
    assert!(restore(version + 1, &parts).is_err_and(|message| message.contains("version")));
    assert!(
        harness(json!({"size": "2m"}))
            .restore(0, version, &parts)
            .is_err_and(|message| message.contains("size"))
    );

    let mut rng = fastrand::Rng::with_seed(10);
    println!("seed 10");
    let (id, bytes) = parts[0].clone();
    for len in 0..bytes.len() {
        let cut = [(id, bytes[..len].to_vec())];
        assert!(restore(version, &cut).is_err(), "{len} bytes");
    }
    for _ in 0..100_000 {
        let mut bytes = bytes.clone();
        for _ in 0..rng.usize(1..3) {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        // Whatever is accepted must work on.
        if transform.restore(0, version, &[(id, bytes)]).is_ok() {
            transform.snapshot(0).expect("a snapshot");
        }
    }
}

#[test]
fn a_snapshot_carries_only_the_windows_that_changed() {
    let mut transform = harness(json!({}));
    transform.process(&[record(0, 1), record(60_000, 2)]);
    let (_, parts) = saved(&mut transform, 0);
    let (first, second) = (parts[0].0, parts[1].0);
    transform.process(&[record(60_000, 3)]);
    let changed = |transform: &mut TransformHarness| -> Vec<(u64, bool)> {
        let (_, parts) = transform.snapshot(0).expect("a snapshot");
        let parts = parts.into_iter().map(|(id, bytes)| (id, bytes.is_some()));
        parts.collect()
    };
    assert_eq!(changed(&mut transform), [(first, false), (second, true)]);
    transform.watermark(MINUTE + 60_000);
    assert_eq!(
        changed(&mut transform),
        [(first, true), (second, false)],
        "it was emitted"
    );
    transform.watermark(MINUTE + 60_000 + 300_000);
    assert_eq!(
        changed(&mut transform),
        [(second, true)],
        "the first is forgotten, the second was emitted"
    );
}

/// Version and parts of a slot that was never saved before.
fn saved(transform: &mut TransformHarness, slot: u32) -> (u32, Vec<(u64, Vec<u8>)>) {
    let (version, parts) = transform.snapshot(slot).expect("a snapshot");
    let parts = parts.into_iter();
    let parts = parts.map(|(id, bytes)| (id, bytes.expect("changed")));
    (version, parts.collect())
}

#[test]
fn configurations_are_checked() {
    let check = |json: Value| -> Vec<String> {
        let config = serde_json::from_value(json).expect("well-typed");
        let mut errors = Errors::default();
        LatencyWindow::validate(&config, &mut errors);
        errors.iter().map(|(path, _)| path.to_owned()).collect()
    };
    for good in [
        json!({}),
        json!({"size": "1s", "allowed_lateness": "34m", "percentiles": [0, 100, 99.9]}),
        json!({"emit": "document", "merge": false, "epoch": 8_388_607, "start_field": "a.b"}),
        json!({"allowed_lateness": "0"}),
    ] {
        assert_eq!(check(good.clone()), Vec::<String>::new(), "{good}");
    }
    for (bad, path) in [
        (json!({"size": "1500ms"}), "/size"),
        (json!({"size": "0", "allowed_lateness": "0"}), "/size"),
        (json!({"size": "9000h"}), "/size"),
        (
            json!({"size": "1s", "allowed_lateness": "35m"}),
            "/allowed_lateness",
        ),
        (json!({"percentiles": []}), "/percentiles"),
        (json!({"percentiles": vec![1; 65]}), "/percentiles"),
        (json!({"percentiles": [50, 101]}), "/percentiles/1"),
        (json!({"percentiles": [-0.1]}), "/percentiles/0"),
        (json!({"percentiles": [50, 50.0]}), "/percentiles/1"),
        (json!({"start_field": ""}), "/start_field"),
        (json!({"start_field": "a..b"}), "/start_field"),
        (
            json!({"start_field": (["a"; 17].join("."))}),
            "/start_field",
        ),
        (json!({"epoch": 8_388_608}), "/epoch"),
        (json!({"merge": true, "emit": "sketch"}), "/merge"),
    ] {
        assert!(check(bad.clone()).contains(&path.to_owned()), "{bad}");
        assert!(TransformHarness::new::<LatencyWindow>(bad).is_err());
    }
    assert!(serde_json::from_value::<LatencyWindowConfig>(json!({"window": "1m"})).is_err());
    let description = LatencyWindow::describe(&LatencyWindowConfig::default());
    assert_eq!(
        (description.scope, description.timers),
        (Scope::Pipeline, true)
    );
}

#[test]
fn the_schema_describes_each_setting_and_its_default() {
    let schema = schemars::schema_for!(LatencyWindowConfig);
    let properties = &schema.as_value()["properties"];
    for (setting, default) in [
        ("size", json!("1m")),
        ("percentiles", json!([50.0, 75.0, 90.0, 99.0])),
        ("start_field", json!("start_processing_time_unix_ms")),
        ("allowed_lateness", json!("5m")),
        ("epoch", json!(0)),
        ("emit", json!("document")),
        ("merge", json!(false)),
    ] {
        assert_eq!(properties[setting]["default"], default, "{setting}");
        assert!(properties[setting]["description"].is_string(), "{setting}");
    }
}

/// What the documents must say, from all accepted latencies of a window.
fn expected(latencies: &[f64]) -> [f64; 6] {
    let mut sorted = latencies.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    let linear = |percentile: f64| {
        let position = last as f64 * (percentile / 100.0);
        let (below, t) = (position as usize, position.fract());
        let (a, b) = (sorted[below], sorted[(below + 1).min(last)]);
        if t < 0.5 {
            a + (b - a) * t
        } else {
            b - (b - a) * (1.0 - t)
        }
    };
    let [p50, p75, p90, p99] = [50.0, 75.0, 90.0, 99.0].map(linear);
    [p50, p75, p90, p99, sorted[0], sorted[last]]
}

/// Random records over partitions, disorder and lateness against a model that keeps everything.
#[test]
fn the_last_document_of_each_window_holds_every_accepted_record() {
    let seed = 12;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..30 {
        let mut transform = harness(json!({"size": "10s", "allowed_lateness": "20s"}));
        let mut model: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        let mut documents: BTreeMap<i64, TestRecord> = BTreeMap::new();
        let mut keep = |output: TestOutput, watermark: i64| {
            for document in output.records {
                let start = document.timestamp_ms.expect("stamped") - 9_999;
                assert!(
                    start + 10_000 <= watermark,
                    "no window is emitted before it closes"
                );
                let version_before = documents
                    .insert(start, document.clone())
                    .map_or(0, |before| version(&before));
                assert!(version(&document) > version_before, "versions rise");
            }
        };
        let mut watermark = MINUTE;
        transform.watermark(watermark);
        for _ in 0..50 {
            let count = rng.usize(0..40);
            let records: Vec<TestRecord> = (0..count)
                .map(|_| {
                    let at = watermark - MINUTE + rng.i64(-45_000..25_000);
                    record(at, rng.i64(-100..20_000)).slot(rng.u32(0..4))
                })
                .collect();
            let output = transform.process(&records);
            let refused: Vec<u64> = output.failures.iter().map(|failure| failure.seq).collect();
            assert_eq!(codes(&output), vec!["latency-window.late"; refused.len()]);
            for input in &records {
                let at = input.timestamp_ms.expect("stamped");
                let start = at - at % 10_000;
                if start + 30_000 > watermark {
                    let value: Value = serde_json::from_str(&input.text()).expect("JSON");
                    let started = value["start_processing_time_unix_ms"]
                        .as_i64()
                        .expect("a number");
                    model.entry(start).or_default().push((at - started) as f64);
                }
            }
            keep(output, watermark);
            watermark += rng.i64(0..8_000);
            keep(transform.watermark(watermark), watermark);
        }
        keep(transform.watermark(i64::MAX), i64::MAX);
        assert_eq!(
            documents.keys().collect::<Vec<_>>(),
            model.keys().collect::<Vec<_>>()
        );
        for (start, latencies) in &model {
            let document = &documents[start];
            assert_eq!(version(document), latencies.len() as u64);
            let found =
                ["p50", "p75", "p90", "p99", "min", "max"].map(|name| field(document, name));
            assert_eq!(found, expected(latencies), "{}", document.text());
        }
    }
}
