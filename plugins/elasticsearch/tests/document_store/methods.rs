//! Write methods, indices, aliases and data streams.

use std::time::Duration;

use serde_json::json;
use weir_document_store::{
    Action, BulkFault, Gate, ItemFault, ItemTarget, ItemsChange, ObservedBulk,
};
use weir_plugin_sdk::api::sink_metric;
use weir_plugin_sdk::testing::TestRecord;

use crate::bench::{Bench, INDEX, record, records};

fn tombstone(id: &str, version: i64) -> TestRecord {
    TestRecord {
        value: None,
        ..record(id, version)
    }
}

fn ended(bench: &Bench) -> Vec<&str> {
    bench.ended.values().map(String::as_str).collect()
}

fn actions(bulk: &ObservedBulk) -> Vec<Action> {
    let actions = bulk.operations.iter().map(|operation| operation.action);
    actions.collect()
}

#[test]
fn case_20_a_closed_index_keeps_nobody_elses_documents_waiting() {
    let mut bench = Bench::new(json!({ "index": "v-{%Y}" }));
    bench.store.faults().push_item(ItemFault::new(
        ItemTarget::Index("v-2023".into()),
        403,
        "security_exception",
        "no right to write",
    ));
    let in_year = |id: &str, ms: i64| record(id, 1).at(ms);
    let (old, new) = (1_700_000_000_000, 1_717_200_000_000);
    let input: Vec<TestRecord> = (0..10)
        .flat_map(|n| {
            [
                in_year(&format!("old{n}"), old),
                in_year(&format!("new{n}"), new),
            ]
        })
        .collect();
    bench.write(&input);
    bench.poll_until("the open index's documents", |bench| {
        bench.ended.len() == 10
    });
    assert_eq!(bench.store.documents("v-2024").len(), 10);
    assert!(
        bench.ended.keys().all(|seq| seq % 2 == 0),
        "{:?}",
        bench.ended
    );
    bench.store.faults().clear();
    bench.settle();
    assert_eq!(
        (bench.count("stored"), bench.store.documents("v-2023").len()),
        (20, 10)
    );
}

#[test]
fn case_23_an_index_that_is_not_created_by_writes_is_waited_for() {
    let mut bench = Bench::new(json!({}));
    bench.store.set_auto_create(false);
    bench.write(&records(5));
    bench.poll_until("a reason", |bench| {
        bench
            .unavailable()
            .is_some_and(|reason| reason.contains("index_not_found_exception"))
    });
    assert!(bench.ended.is_empty());
    bench.store.create_index(INDEX);
    bench.settle();
    assert_eq!((bench.count("stored"), bench.stored_documents()), (5, 5));
}

#[test]
fn case_24_an_alias_without_a_write_index_trips_the_breaker() {
    let mut bench = Bench::new(json!({ "index": "alias", "max_rejections": 7 }));
    bench.store.put_alias("alias", None);
    bench.write(&records(300));
    bench.poll_until("the breaker", |bench| {
        bench
            .unavailable()
            .is_some_and(|reason| reason.contains("index `alias` rejected"))
    });
    assert_eq!(bench.ended.len(), 7);
    bench.store.put_alias("alias", Some("real"));
    bench.settle();
    assert_eq!(
        (
            bench.count("stored"),
            bench.count("elasticsearch.illegal_argument")
        ),
        (293, 7)
    );
    assert_eq!(bench.store.documents("real").len(), 293);
    assert_eq!(bench.unavailable(), None);
}

#[test]
fn case_25_a_mapping_that_refuses_every_record_trips_the_breaker() {
    let mut bench = Bench::new(json!({ "max_rejections": 20 }));
    let strict = ItemFault::new(
        ItemTarget::Any,
        400,
        "strict_dynamic_mapping_exception",
        "unknown field",
    );
    bench.store.faults().push_item(strict);
    bench.write(&records(500));
    bench.poll_until("the breaker", |bench| bench.unavailable().is_some());
    assert_eq!(bench.count("elasticsearch.mapping"), 20);
    bench.store.faults().clear();
    bench.settle();
    assert_eq!((bench.count("stored"), bench.ended.len()), (480, 500));
}

#[test]
fn case_28_a_tombstone_deletes_and_ends_also_where_nothing_is() {
    for version in ["auto", "none"] {
        let mut bench = Bench::new(json!({ "tombstones": "delete", "version": version }));
        bench.write_and_settle(&[record("a", 1), record("b", 1)]);
        bench.write_and_settle(&[tombstone("a", 2), tombstone("nowhere", 3)]);
        assert_eq!(ended(&bench), ["stored"; 4], "{version}");
        assert!(bench.store.document(INDEX, "a").is_none());
        assert!(bench.store.document(INDEX, "b").is_some());
    }
    // The first record of all: a plain delete makes no index, and still ends.
    let mut bench = Bench::new(json!({ "tombstones": "delete", "version": "none" }));
    bench.store.set_auto_create(false);
    bench.write_and_settle(&[tombstone("a", 1)]);
    assert_eq!(ended(&bench), ["stored"]);
}

#[test]
fn case_29_a_tombstone_with_a_null_key_ends_at_once() {
    let mut bench = Bench::new(json!({ "tombstones": "delete" }));
    let nameless = TestRecord {
        key: None,
        ..tombstone("", 1)
    };
    let gate = Gate::closed();
    let held = BulkFault::HoldBeforeApply(gate.clone());
    bench.store.faults().set_standing(Some(held));
    bench.write(&[
        record("a", 1),
        nameless.clone(),
        tombstone("a", 2),
        nameless,
    ]);
    assert_eq!(
        bench.ended.keys().copied().collect::<Vec<u64>>(),
        [2, 4],
        "by the call that brought them, whatever the others wait for"
    );
    bench.store.faults().set_standing(None);
    gate.open();
    bench.settle();
    assert_eq!(
        ended(&bench),
        [
            "stored",
            "elasticsearch.key_null",
            "stored",
            "elasticsearch.key_null"
        ]
    );
    assert!(bench.store.document(INDEX, "a").is_none());
    assert_eq!(bench.store.observations().bulks()[0].operations.len(), 2);
}

/// What the documentation says: a delete keeps its version for a while (`index.gc_deletes`), and for that long no older
/// write brings the document back. After that one does, until the replay comes to the delete again.
#[test]
fn case_31_an_older_write_undoes_a_delete_that_is_no_longer_remembered() {
    let mut bench = Bench::new(json!({ "tombstones": "delete" }));
    bench.write_and_settle(&[record("a", 1), tombstone("a", 2)]);
    bench.write_and_settle(&[record("a", 1), tombstone("a", 2)]);
    assert_eq!(
        ended(&bench),
        ["stored", "stored", "superseded", "superseded"]
    );
    assert!(bench.store.document(INDEX, "a").is_none());
    bench.store.set_gc_deletes(Duration::ZERO);
    bench.write_and_settle(&[record("a", 1)]);
    assert_eq!(ended(&bench)[4..], ["stored"]);
    assert_eq!(bench.version_of("a"), Some(1), "it is back");
    bench.write_and_settle(&[tombstone("a", 2)]);
    assert_eq!(ended(&bench)[5..], ["stored"]);
    assert!(bench.store.document(INDEX, "a").is_none());
}

const ERA_MS: i64 = 1_717_200_000_000;

/// The records of a topic of 50 documents with 200 records, written `era` times before.
fn topic(era: i64) -> Vec<TestRecord> {
    let in_era = |offset: i64| {
        TestRecord::value(json!({ "version": 1_000 * era + offset }).to_string())
            .with_key(format!("id{}", offset % 50))
            .offset(offset)
            .at(ERA_MS + 86_400_000 * era + offset)
            .with_header("epoch", ((era << 40) + offset).to_string())
    };
    (0..200).map(in_era).collect()
}

#[test]
fn case_32_a_topic_that_was_created_anew_is_superseded_until_its_offsets_are_higher() {
    let mut bench = Bench::new(json!({}));
    bench.write_and_settle(&topic(1));
    let superseded = |bench: &Bench| bench.number(sink_metric::ITEMS, "superseded");
    assert_eq!(superseded(&bench), 0);
    // The second topic, up to the offset from which each document's version is its old one's successor.
    bench.write_and_settle(&topic(2)[..150]);
    assert_eq!((superseded(&bench), bench.count("superseded")), (150, 150));
    assert_eq!(
        bench.version_of("id0"),
        Some(1_150),
        "the old documents stay"
    );
    bench.write_and_settle(&[record("id0", 200)]);
    assert_eq!(
        (superseded(&bench), bench.version_of("id0")),
        (150, Some(200))
    );
}

/// Two sources of versions rise from topic to topic: the records' timestamps, and a header that a producer counts up. With
/// either, everything that the new topic says wins, also where the old one's documents have offsets as their versions.
#[test]
fn case_32_versions_of_a_higher_epoch_win() {
    for version in ["timestamp", "header:epoch"] {
        let mut old = Bench::new(json!({}));
        old.write_and_settle(&topic(1));
        let changes = json!({ "version": version });
        let sink = crate::bench::sink(crate::bench::config(&[old.store.url()], changes));
        let mut bench = Bench::of(old.store, sink);
        for era in 2..4 {
            bench.write_and_settle(&topic(era));
            assert_eq!(
                bench.number(sink_metric::ITEMS, "superseded"),
                0,
                "{version}"
            );
            for key in 0..50 {
                let last = bench.version_of(&format!("id{key}"));
                assert_eq!(last, Some(1_000 * era + 150 + key), "{version}");
            }
        }
        bench.write_and_settle(&topic(2));
        assert_eq!(bench.count("superseded"), 200, "{version}: the era before");
    }
}

#[test]
fn case_43_a_daily_index_is_the_records_own_day_also_when_replayed() {
    let mut bench = Bench::new(json!({ "index": "{topic}-{%Y.%m.%d}" }));
    let around_midnight = [
        record("a", 1).at(1_717_199_999_999),
        record("b", 2).at(1_717_200_000_000),
    ];
    bench.write_and_settle(&around_midnight);
    bench.write_and_settle(&around_midnight);
    assert_eq!(
        ended(&bench),
        ["stored", "stored", "superseded", "superseded"]
    );
    assert!(bench.store.document("topic-2024.05.31", "a").is_some());
    assert!(bench.store.document("topic-2024.06.01", "b").is_some());
}

#[test]
fn case_44_and_45_a_data_stream_takes_creations_with_a_timestamp() {
    let mut bench = Bench::new(json!({ "data_stream": true, "id": "coordinates" }));
    bench.store.create_data_stream(INDEX);
    let own = TestRecord::value("{\"@timestamp\":\"2024-06-01T00:00:00Z\"}").offset(1);
    let filled = TestRecord::value("{\"a\":1}")
        .offset(2)
        .at(1_717_200_000_123);
    let nowhere = TestRecord::value("{\"a\":1}").offset(3);
    let input = [own, filled, nowhere];
    bench.write_and_settle(&input);
    assert_eq!(
        ended(&bench),
        ["stored", "stored", "elasticsearch.timestamp_missing"]
    );
    let document = bench.store.document(INDEX, "topic+0+2").expect("stored");
    assert_eq!(
        document.source.get(),
        "{\"@timestamp\":\"2024-06-01T00:00:00.123Z\",\"a\":1}"
    );
    assert_eq!(
        actions(&bench.store.observations().bulks()[0]),
        [Action::Create; 2]
    );
    bench.write_and_settle(&input[..2]);
    assert_eq!(
        bench.count("superseded"),
        2,
        "a replay finds its own documents"
    );
}

#[test]
fn case_44_a_data_stream_that_is_written_to_as_an_index_trips_the_breaker() {
    let mut bench = Bench::new(json!({ "max_rejections": 3 }));
    bench.store.create_data_stream(INDEX);
    bench.write(&records(50));
    bench.poll_until("the breaker", |bench| bench.unavailable().is_some());
    assert_eq!(bench.count("elasticsearch.illegal_argument"), 3);
}

#[test]
fn case_46_a_creation_that_finds_its_own_document_is_no_error() {
    let mut bench = Bench::new(json!({ "write": "create", "id": "coordinates" }));
    bench.write_and_settle(&records(10));
    bench.write_and_settle(&records(10));
    assert_eq!((bench.count("stored"), bench.count("superseded")), (10, 10));

    let mut strict =
        Bench::new(json!({ "write": "create", "on_conflict": "reject", "max_in_flight": 1 }));
    strict.store.faults().push(BulkFault::ResetAfterApply);
    strict.write_and_settle(&records(10));
    assert_eq!(
        strict.count("superseded"),
        10,
        "after a lost answer the documents are its own"
    );
    strict.write_and_settle(&records(1));
    assert_eq!(strict.count("elasticsearch.document_exists"), 1);
}

#[test]
fn case_47_a_document_in_the_failure_store_is_rejected_and_counted() {
    let mut bench = Bench::new(json!({ "max_in_flight": 1 }));
    let used = BulkFault::Items(ItemsChange::FailureStore("used"));
    bench.store.faults().push(used);
    bench.write_and_settle(&records(2));
    assert_eq!(bench.count("elasticsearch.failure_store"), 2);
    assert_eq!(bench.number(sink_metric::ITEM_ERRORS, "failure_store"), 2);
    assert_eq!(bench.number(sink_metric::ITEMS, "stored"), 0);
    assert!(
        bench.messages[&1]
            .contains("`id0`: status 201, but it went to the data stream's failure store"),
        "{}",
        bench.messages[&1]
    );
    let elsewhere = BulkFault::Items(ItemsChange::FailureStore("not_applicable_or_unknown"));
    bench.store.faults().push(elsewhere);
    bench.write_and_settle(&[record("other", 9)]);
    assert_eq!(bench.count("stored"), 1);
}

#[test]
fn case_48_an_upsert_merges_and_outlives_other_writers() {
    let mut bench = Bench::new(json!({ "write": "upsert" }));
    let part = |text: &str| TestRecord::value(text).with_key("a");
    let conflict = ItemFault::new(
        ItemTarget::id("a"),
        409,
        "version_conflict_engine_exception",
        "no",
    );
    bench.store.faults().push_item(conflict.times(2));
    bench.write_and_settle(&[
        part("{\"x\":1,\"o\":{\"p\":1}}"),
        part("{\"y\":2,\"o\":{\"q\":2}}"),
    ]);
    assert_eq!(ended(&bench), ["stored"; 2]);
    assert_eq!(bench.errors.get("item_conflict"), Some(&2));
    let document = bench.store.document(INDEX, "a").expect("stored").json();
    assert_eq!(document, json!({ "x": 1, "y": 2, "o": { "p": 1, "q": 2 } }));
}

#[test]
fn an_alias_is_insisted_on_where_it_is_asked_for() {
    let mut bench = Bench::new(json!({ "require_alias": true }));
    bench.write(&records(5));
    bench.poll_until("a reason", |bench| {
        bench
            .unavailable()
            .is_some_and(|reason| reason.contains("require_alias"))
    });
    bench.store.put_alias(INDEX, Some("visits-000001"));
    bench.settle();
    assert_eq!(bench.store.documents("visits-000001").len(), 5);
}

#[test]
fn routing_and_ids_of_the_server_reach_the_store() {
    let mut bench = Bench::new(json!({ "routing": "field:/id" }));
    bench.write_and_settle(&records(1));
    let bulk = &bench.store.observations().bulks()[0];
    assert_eq!(bulk.operations[0].routing.as_deref(), Some("id0"));

    let mut bench =
        Bench::new(json!({ "id": "auto", "allow_duplicates": true, "batch": { "age": "0s" } }));
    bench.store.faults().set_standing(Some(BulkFault::Latency {
        before_apply: Duration::from_millis(1),
        before_answer: Duration::from_millis(1),
    }));
    bench.write_and_settle(&records(50));
    assert_eq!((bench.count("stored"), bench.stored_documents()), (50, 50));
}
