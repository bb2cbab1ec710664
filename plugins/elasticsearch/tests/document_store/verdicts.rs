//! What becomes of single items.

use serde_json::json;
use weir_document_store::{BulkFault, ItemFault, ItemTarget, Settings};
use weir_plugin_sdk::testing::TestRecord;

use crate::bench::{Bench, INDEX, record, records};

#[test]
fn case_1_all_items_are_stored() {
    let mut bench = Bench::new(json!({}));
    bench.write_and_settle(&records(2_500));
    assert_eq!(
        (bench.count("stored"), bench.stored_documents()),
        (2_500, 2_500)
    );
    assert!(bench.errors.is_empty());
    let bulk = &bench.store.observations().bulks()[0];
    assert_eq!(bulk.header("content-type"), Some("application/x-ndjson"));
    assert!(bulk.header("authorization").is_none());
}

#[test]
fn case_2_one_mapping_error_among_500() {
    let mut bench = Bench::new(json!({}));
    let fault = ItemFault::new(
        ItemTarget::id("id250"),
        400,
        "document_parsing_exception",
        "failed to parse field [n]",
    );
    bench.store.faults().push_item(fault);
    bench.write_and_settle(&records(500));
    assert_eq!(
        (bench.count("stored"), bench.count("elasticsearch.mapping")),
        (499, 1)
    );
    let message = &bench.messages[&251];
    assert!(
        message.contains("id250") && message.contains("failed to parse field [n]"),
        "{message}"
    );
    assert!(bench.store.document(INDEX, "id250").is_none());
}

#[test]
fn case_3_three_of_500_are_sent_again() {
    let mut bench = Bench::new(json!({ "max_in_flight": 1 }));
    for id in ["id3", "id300", "id499"] {
        let fault = ItemFault::new(
            ItemTarget::id(id),
            429,
            "es_rejected_execution_exception",
            "full",
        )
        .times(1);
        bench.store.faults().push_item(fault);
    }
    bench.write_and_settle(&records(500));
    assert_eq!(
        (bench.count("stored"), bench.errors["item_overload"]),
        (500, 3)
    );
    let operations: usize = bench
        .store
        .observations()
        .bulks()
        .iter()
        .map(|bulk| bulk.operations.len())
        .sum();
    assert_eq!(operations, 503);
}

#[test]
fn case_15_a_document_above_the_servers_limit_goes_alone() {
    let settings = Settings {
        body_max_bytes: 20_000,
        ..Settings::default()
    };
    let mut bench = Bench::with_store(settings, json!({}));
    let mut input = records(40);
    input[20] =
        TestRecord::value(json!({ "text": "x".repeat(30_000) }).to_string()).with_key("large");
    bench.write_and_settle(&input);
    assert_eq!(
        (
            bench.count("stored"),
            bench.count("elasticsearch.payload_too_large")
        ),
        (39, 1)
    );
    assert!(
        bench.messages[&21].contains("large"),
        "{}",
        bench.messages[&21]
    );
}

#[test]
fn case_17_records_that_would_poison_a_bulk_never_travel() {
    let mut bench = Bench::new(json!({ "batch": { "bytes": "64KiB", "age": "10ms" } }));
    let mut input = records(8);
    input[0] = record(&"x".repeat(600), 1);
    input[1] = TestRecord::value("{}");
    input[2] = TestRecord {
        value: None,
        ..record("tombstone", 1)
    };
    input[3] = TestRecord::value("[1]").with_key("array");
    input[4] = TestRecord::value(b"{\"a\":\"\xff\"}").with_key("bytes");
    input[5] = TestRecord::value(json!({ "a": "x".repeat(70_000) }).to_string()).with_key("large");
    input[6] = record("v", 1).with_header("weir.version", "-1");
    bench.write_and_settle(&input);
    let codes: Vec<&str> = bench.ended.values().map(String::as_str).collect();
    let expected = [
        "elasticsearch.id_length",
        "elasticsearch.key_null",
        "elasticsearch.value_null",
        "elasticsearch.value_not_object",
        "elasticsearch.value_not_utf8",
        "elasticsearch.document_too_large",
        "elasticsearch.version_invalid",
        "stored",
    ];
    assert_eq!(codes, expected);
    assert_eq!(bench.store.observations().received(), 1);
}

#[test]
fn case_18_one_operation_that_refuses_its_whole_request_is_found() {
    let mut bench = Bench::new(json!({ "max_in_flight": 1 }));
    let fault = ItemFault::new(
        ItemTarget::id("id77"),
        400,
        "action_request_validation_exception",
        "no",
    );
    bench.store.faults().push_item(fault.whole_request());
    bench.write_and_settle(&records(128));
    assert_eq!(
        (
            bench.count("stored"),
            bench.count("elasticsearch.request_invalid")
        ),
        (127, 1)
    );
    assert!(bench.messages[&78].contains("id77"));
    let requests = bench.store.observations().received();
    // Both halves of seven levels, the first, and two more: the third refusal of it alone convicts.
    assert!(requests <= 1 + 2 * 7 + 2, "{requests} requests");
}

#[test]
fn case_21_to_23_blocks_and_missing_indices_are_waited_for() {
    for (status, error_type) in [
        (403, "cluster_block_exception"),
        (429, "cluster_block_exception"),
        (404, "index_not_found_exception"),
        (400, "index_closed_exception"),
        (503, "unavailable_shards_exception"),
    ] {
        let mut bench = Bench::new(json!({}));
        bench.store.faults().push_item(ItemFault::new(
            ItemTarget::Any,
            status,
            error_type,
            "blocked",
        ));
        bench.write(&records(20));
        bench.poll_until("a second try", |bench| {
            bench.store.observations().received() >= 3
        });
        let reason = bench.unavailable().expect("a reason");
        assert!(reason.contains(error_type), "{reason}");
        assert!(bench.ended.is_empty());
        bench.store.faults().clear();
        bench.settle();
        assert_eq!(bench.count("stored"), 20, "{error_type}");
        bench.poll_until("available again", |bench| bench.unavailable().is_none());
    }
}

#[test]
fn case_26_an_update_waits_for_its_predecessor_without_versions() {
    let mut bench = Bench::new(json!({ "version": "none" }));
    bench.store.faults().push_item(
        ItemFault::new(
            ItemTarget::id("a"),
            429,
            "es_rejected_execution_exception",
            "full",
        )
        .times(2),
    );
    bench.write_and_settle(&[record("a", 1), record("b", 1), record("a", 2)]);
    assert_eq!((bench.count("stored"), bench.version_of("a")), (3, Some(2)));
    let sent: Vec<Vec<String>> = bench
        .store
        .observations()
        .bulks()
        .iter()
        .map(|bulk| sources(bulk))
        .collect();
    let of_a = |text: &&String| text.contains("\"a\"");
    let of_a: Vec<&String> = sent.iter().flatten().filter(of_a).collect();
    let versions: Vec<bool> = of_a
        .iter()
        .map(|text| text.contains("\"version\":2"))
        .collect();
    assert_eq!(versions, [false, false, false, true]);
}

fn sources(bulk: &weir_document_store::ObservedBulk) -> Vec<String> {
    bulk.operations
        .iter()
        .map(|operation| String::from_utf8_lossy(&operation.source).into_owned())
        .collect()
}

#[test]
fn case_27_no_document_is_ever_in_two_requests() {
    for version in ["auto", "none"] {
        let mut bench =
            Bench::new(json!({ "version": version, "batch": { "records": 5, "age": "0s" } }));
        bench.store.faults().set_standing(Some(BulkFault::Latency {
            before_apply: std::time::Duration::from_millis(5),
            before_answer: std::time::Duration::from_millis(5),
        }));
        let input: Vec<TestRecord> = (0..200)
            .map(|offset| record(&format!("id{}", offset % 7), offset))
            .collect();
        bench.write_and_settle(&input);
        assert_eq!(
            bench.store.observations().flights_max(),
            1,
            "version {version}"
        );
        for key in 0..7 {
            let last = (0..200).rev().find(|offset| offset % 7 == key);
            assert_eq!(
                bench.version_of(&format!("id{key}")),
                last,
                "version {version}"
            );
        }
    }
}

#[test]
fn case_30_a_replay_never_beats_a_newer_write() {
    let mut bench = Bench::new(json!({}));
    bench.write_and_settle(&[record("a", 5), record("b", 5)]);
    bench.write_and_settle(&[record("a", 4), record("b", 5), record("b", 6)]);
    let ended: Vec<&str> = bench.ended.values().map(String::as_str).collect();
    assert_eq!(
        ended,
        ["stored", "stored", "superseded", "superseded", "stored"]
    );
    assert_eq!(
        (bench.version_of("a"), bench.version_of("b")),
        (Some(5), Some(6))
    );
}

#[test]
fn case_33_everything_again_after_a_restart_changes_nothing() {
    let mut first = Bench::new(json!({}));
    first.write_and_settle(&records(300));
    let documents = |bench: &Bench| -> Vec<(String, i64)> {
        bench
            .store
            .documents(INDEX)
            .into_iter()
            .map(|document| (document.id, document.version))
            .collect()
    };
    let before = documents(&first);
    let again = crate::bench::sink(crate::bench::config(&[first.store.url()], json!({})));
    let mut second = Bench::of(first.store, again);
    second.write_and_settle(&records(300));
    assert_eq!(second.count("superseded"), 300);
    assert_eq!(documents(&second), before);
}

#[test]
fn case_47_and_unknown_errors_end_somewhere_too() {
    let mut bench = Bench::new(json!({}));
    for (id, status, error_type) in [
        ("id1", 418, "teapot_exception"),
        ("id2", 400, "illegal_argument_exception"),
    ] {
        bench.store.faults().push_item(ItemFault::new(
            ItemTarget::id(id),
            status,
            error_type,
            "no",
        ));
    }
    bench
        .store
        .faults()
        .push_item(ItemFault::new(ItemTarget::id("id3"), 599, "new_exception", "no").times(2));
    bench.write_and_settle(&records(5));
    let ended: Vec<&str> = bench.ended.values().map(String::as_str).collect();
    assert_eq!(
        ended,
        [
            "stored",
            "elasticsearch.rejected",
            "elasticsearch.illegal_argument",
            "stored",
            "stored"
        ]
    );
}

#[test]
fn case_55_documents_arrive_as_they_were_written() {
    let mut bench = Bench::new(json!({}));
    let long = format!("{{\"text\":\"{}\"}}", "ä".repeat(1_000_000));
    let texts = [
        "{\"b\":18446744073709551615,\"a\":1.50}",
        "{ \"z\" : 1e400 , \"a\" : \"\\u00e4\\ud83d\\ude00\" }",
        "{\"p99_9\":12.0,\"n\":-0.0,\"big\":123456789012345678901234567890}",
        &long,
    ];
    for (number, text) in texts.iter().enumerate() {
        bench.write_and_settle(&[TestRecord::value(text).with_key(format!("id{number}"))]);
        let document = bench
            .store
            .document(INDEX, &format!("id{number}"))
            .expect("stored");
        assert_eq!(document.source.get().trim(), *text);
    }
}

#[test]
fn a_windows_document_brings_its_own_version() {
    let mut bench = Bench::new(json!({}));
    let window = |count: i64| {
        let version = (count + (1 << 40)).to_string();
        TestRecord::value(json!({ "version": count }).to_string())
            .with_key("2024-09-10T13:37:00+00:00")
            .with_header("weir.version", version)
            .offset(-1)
            .slot(u32::MAX)
    };
    bench.write_and_settle(&[window(10), window(12), window(11)]);
    let ended: Vec<&str> = bench.ended.values().map(String::as_str).collect();
    assert_eq!(ended, ["stored", "stored", "superseded"]);
    assert_eq!(bench.version_of("2024-09-10T13:37:00+00:00"), Some(12));
    bench.write_and_settle(&[TestRecord {
        headers: vec![],
        ..window(13)
    }]);
    assert_eq!(bench.count("elasticsearch.version_missing"), 1);
}

#[test]
fn every_source_of_ids_reaches_the_store() {
    for (id, expected) in [
        ("coordinates", "topic+2+9"),
        ("header:h", "from header"),
        ("field:/version", "9"),
    ] {
        let mut bench = Bench::new(json!({ "id": id }));
        bench.write_and_settle(&[record("key", 9).with_header("h", "from header").slot(2)]);
        assert!(bench.store.document(INDEX, expected).is_some(), "{id}");
    }
}
