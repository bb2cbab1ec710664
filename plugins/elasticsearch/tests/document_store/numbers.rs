//! What `/metrics` is told. That every record accepted has ended or is pending is checked by the bench itself, at every
//! report of every test.

use serde_json::json;
use weir_document_store::{BulkFault, Gate, ItemFault, ItemTarget, ItemsChange, Settings};
use weir_plugin_sdk::api::sink_metric;

use crate::bench::{Bench, record, records};

#[test]
fn the_account_of_many_outcomes_balances() {
    let mut bench = Bench::new(json!({ "batch": { "records": 10, "age": "0s" } }));
    for (id, status, error_type, times) in [
        ("id3", 400, "document_parsing_exception", None),
        ("id5", 429, "es_rejected_execution_exception", Some(2)),
        ("id7", 418, "teapot_exception", None),
    ] {
        let mut fault = ItemFault::new(ItemTarget::id(id), status, error_type, "no");
        fault.times = times;
        bench.store.faults().push_item(fault);
    }
    let mut input = records(40);
    input.push(record("nameless", 1));
    input[40].key = None;
    input.extend(records(10));
    bench.write_and_settle(&input);
    let items = |outcome| bench.number(sink_metric::ITEMS, outcome);
    assert_eq!(bench.number(sink_metric::RECORDS_ACCEPTED, ""), 51);
    assert_eq!(bench.number(sink_metric::PENDING_RECORDS, ""), 0);
    let ended = ["stored", "superseded", "rejected", "invalid", "retried"].map(items);
    assert_eq!(ended, [38, 8, 4, 1, 2]);
    let errors = |error_type| bench.number(sink_metric::ITEM_ERRORS, error_type);
    let types = [
        "document_parsing_exception",
        "es_rejected_execution_exception",
        "version_conflict_engine_exception",
        "other",
    ];
    assert_eq!(types.map(errors), [2, 2, 8, 2]);
    assert_eq!(bench.total(sink_metric::ITEM_ERRORS), 14);
}

#[test]
fn the_account_balances_while_records_are_pending() {
    let gate = Gate::closed();
    let mut bench =
        Bench::new(json!({ "batch": { "records": 10, "age": "0s" }, "max_in_flight": 2 }));
    let held = BulkFault::HoldBeforeAnswer(gate.clone());
    bench.store.faults().extend([BulkFault::None, held]);
    bench.write(&records(20));
    bench.poll_until("half of the verdicts", |bench| bench.ended.len() == 10);
    assert_eq!(bench.number(sink_metric::RECORDS_ACCEPTED, ""), 20);
    assert_eq!(bench.number(sink_metric::PENDING_RECORDS, ""), 10);
    assert_eq!(bench.number(sink_metric::REQUESTS_IN_FLIGHT, ""), 1);
    gate.open();
    bench.settle();
    assert_eq!(bench.number(sink_metric::ITEMS, "stored"), 20);
}

#[test]
fn bulks_waits_and_lags_are_distributions() {
    const NOW_MS: i64 = 1_717_200_000_000;
    let mut bench = Bench::new(json!({ "batch": { "records": 20, "age": "1h" } }));
    bench.sink.set_clock_ms(NOW_MS);
    let age_ms = |n: usize| if n < 30 { 200_000 } else { -500 };
    let input = records(40).into_iter().enumerate();
    let mut input: Vec<_> = input
        .map(|(n, record)| record.at(NOW_MS - age_ms(n)))
        .collect();
    input[39].timestamp_ms = None;
    bench.write_and_settle(&input);
    // Each of both full bulks has 20 operations, and no other number of them is a bulk's.
    assert_eq!(bench.number(sink_metric::REQUEST_OPERATIONS, "20"), 2);
    assert_eq!(bench.total(sink_metric::REQUEST_OPERATIONS), 2);
    assert_eq!(bench.number(sink_metric::REQUEST_OPERATIONS, "sum"), 40);
    assert_eq!(
        bench.total(sink_metric::QUEUE_WAIT_MS),
        40,
        "one for each record"
    );
    // 200 s old, or from the future, which is no age; a record without timestamp has none.
    assert_eq!(bench.number(sink_metric::LAG_MS, "300000"), 30);
    assert_eq!(bench.total(sink_metric::LAG_MS), 39);
    let sum_ms = bench.number(sink_metric::LAG_MS, "sum");
    assert!((6_000_000..6_600_000).contains(&sum_ms), "{sum_ms}");
    bench.write_and_settle(&input);
    assert_eq!(
        bench.total(sink_metric::LAG_MS),
        39,
        "superseded is not stored"
    );
    assert_eq!(bench.total(sink_metric::QUEUE_WAIT_MS), 80);
}

#[test]
fn a_wait_is_counted_once_however_often_a_record_is_sent() {
    let mut bench = Bench::new(json!({ "max_in_flight": 1 }));
    bench
        .store
        .faults()
        .extend([BulkFault::ResetBeforeApply, BulkFault::too_many_requests(0)]);
    let busy = ItemFault::new(ItemTarget::Any, 503, "unavailable_shards_exception", "no");
    bench.store.faults().push_item(busy.times(3));
    bench.write_and_settle(&records(10));
    assert_eq!(bench.total(sink_metric::QUEUE_WAIT_MS), 10);
    let sent = bench.number(sink_metric::OPERATIONS, "index");
    assert_eq!(sent, bench.number(sink_metric::REQUEST_OPERATIONS, "sum"));
    assert_eq!(sent, 33);
    let requests = |class| bench.number(sink_metric::REQUESTS, class);
    assert_eq!(["unknown", "overload"].map(requests), [1, 1]);
    assert_eq!(requests("answered"), bench.total(sink_metric::REQUESTS) - 2);
}

#[test]
fn a_pause_has_a_class_while_it_lasts() {
    for (fault, class) in [
        (BulkFault::html_bad_gateway(), "unknown"),
        (BulkFault::error(429, "full", "full"), "overload"),
        (
            BulkFault::error(400, "parse_exception", "no"),
            "bad_request",
        ),
        (
            BulkFault::error(401, "security_exception", "no"),
            "systemic",
        ),
    ] {
        let mut bench = Bench::new(json!({}));
        bench.store.faults().set_standing(Some(fault));
        bench.write(&[record("a", 1)]);
        pauses_for(bench, class);
    }
    for (status, class) in [(503, "item_overload"), (403, "item_systemic")] {
        let mut bench = Bench::new(json!({}));
        let fault = ItemFault::new(ItemTarget::Any, status, "odd_exception", "no");
        bench.store.faults().push_item(fault);
        bench.write(&[record("a", 1)]);
        pauses_for(bench, class);
    }
    let mut bench = Bench::new(json!({ "max_rejections": 1 }));
    let fault = ItemFault::new(ItemTarget::Any, 400, "mapper_exception", "no");
    bench.store.faults().push_item(fault);
    bench.write(&records(2));
    pauses_for(bench, "storm");
    let mut bench = Bench::new(json!({}));
    bench.store.stop_listening();
    bench.write(&[record("a", 1)]);
    bench.poll_until("a pause", |bench| {
        bench.number(sink_metric::PAUSED, "not_sent") == 1
    });
    let node = bench.store.url();
    assert_eq!(bench.number(sink_metric::TARGET_UP, &node), 0);
    bench.store.listen_again().expect("the same port");
    bench.settle();
    bench.poll_until("the end", |bench| bench.total(sink_metric::PAUSED) == 0);
    assert_eq!(bench.number(sink_metric::TARGET_UP, &node), 1);
}

fn pauses_for(mut bench: Bench, class: &str) {
    bench.poll_until(class, |bench| bench.number(sink_metric::PAUSED, class) == 1);
    assert_eq!(
        bench.total(sink_metric::PAUSED),
        1,
        "{class}: one reason at a time"
    );
    assert!(bench.unavailable().is_some());
    bench.store.faults().clear();
    bench.settle();
    bench.poll_until("the end", |bench| bench.total(sink_metric::PAUSED) == 0);
}

#[test]
fn splits_and_bytes_are_counted() {
    let settings = Settings {
        body_max_bytes: 40_000,
        ..Settings::default()
    };
    let mut bench = Bench::with_store(settings, json!({ "max_in_flight": 1, "gzip": true }));
    bench.write_and_settle(&records(1_000));
    assert_eq!(
        bench.number(sink_metric::SPLITS, "too_large"),
        bench.number(sink_metric::REQUESTS, "too_large")
    );
    assert!(bench.number(sink_metric::SPLITS, "too_large") > 0);
    let [raw, sent] = ["raw", "sent"].map(|label| bench.number(sink_metric::REQUEST_BYTES, label));
    assert!(sent > 0 && sent < raw / 2, "{sent} of {raw}");

    let mut bench = Bench::new(json!({ "max_in_flight": 1 }));
    let fault = ItemFault::new(ItemTarget::id("id3"), 400, "request_exception", "no");
    bench.store.faults().push_item(fault.whole_request());
    bench.write_and_settle(&records(8));
    assert_eq!(
        bench.number(sink_metric::SPLITS, "bad_request"),
        3,
        "8, 4, 2"
    );
}

#[test]
fn the_failure_store_and_blocked_records_are_seen() {
    let mut bench = Bench::new(json!({ "max_in_flight": 1 }));
    let used = ItemsChange::FailureStore("used");
    bench.store.faults().push(BulkFault::Items(used));
    bench.write_and_settle(&records(3));
    assert_eq!(bench.number(sink_metric::ITEM_ERRORS, "failure_store"), 3);
    assert_eq!(bench.number(sink_metric::ITEMS, "rejected"), 3);

    let gate = Gate::closed();
    let mut bench = Bench::new(json!({ "version": "none" }));
    let held = BulkFault::HoldBeforeAnswer(gate.clone());
    bench.store.faults().push(held);
    bench.write(&[record("a", 1), record("a", 2), record("a", 3)]);
    bench.poll_until("two behind the first", |bench| {
        bench.number(sink_metric::BLOCKED_RECORDS, "") == 2
    });
    bench.poll_until("an age", |bench| {
        bench.number(sink_metric::OLDEST_PENDING_MS, "") > 0
    });
    gate.open();
    bench.settle();
    assert_eq!(bench.number(sink_metric::BLOCKED_RECORDS, ""), 0);
    assert_eq!(bench.number(sink_metric::OLDEST_PENDING_MS, ""), 0);
}
