//! Servers that are away, busy or silent.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;
use weir_document_store::{
    BulkFault, DocumentStore, Gate, ItemFault, ItemTarget, Operation, Settings,
};
use weir_plugin_sdk::Flush;
use weir_plugin_sdk::api::sink_metric;

use crate::bench::{Bench, DEADLINE, INDEX, config, record, records, sink};

fn store() -> DocumentStore {
    DocumentStore::start(Settings::default()).expect("a store")
}

/// An address where nobody listens.
fn dead_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

#[test]
fn case_4_retry_after_is_kept() {
    let mut bench = Bench::new(json!({ "max_in_flight": 1 }));
    bench.store.faults().push(BulkFault::too_many_requests(1));
    bench.write_and_settle(&records(10));
    let bulks = bench.store.observations().bulks();
    let [first, second] = bulks.as_slice() else {
        panic!("{} requests", bulks.len())
    };
    assert!(second.received_at - first.received_at >= Duration::from_secs(1));
    assert_eq!(
        (bench.count("stored"), bench.errors.get("overload")),
        (10, Some(&1))
    );
}

#[test]
fn case_5_a_busy_server_fills_the_buffer_and_no_more() {
    let mut bench =
        Bench::new(json!({ "batch": { "records": 10, "age": "10ms" }, "max_in_flight": 2 }));
    bench.store.faults().set_standing(Some(BulkFault::error(
        429,
        "es_rejected_execution_exception",
        "full",
    )));
    let input = records(100);
    let (accepted, _) = bench.sink.write(&input).expect("a write");
    assert_eq!(
        accepted, 30,
        "three bulks: two for the flights, one that is gathered"
    );
    for refusals in 4..8 {
        bench.poll_until("another refusal", |bench| {
            bench.store.observations().received() >= refusals
        });
        assert_eq!(bench.sink.write(&input[accepted..]).expect("a write").0, 0);
        assert_eq!(bench.number(sink_metric::RECORDS_ACCEPTED, ""), 30);
        assert_eq!(bench.number(sink_metric::PENDING_RECORDS, ""), 30);
        assert_eq!(bench.number(sink_metric::PAUSED, "overload"), 1);
        assert!(bench.ended.is_empty());
    }
    bench.store.faults().clear();
    bench.write_and_settle(&input[accepted..]);
    assert_eq!(
        (bench.count("stored"), bench.stored_documents()),
        (100, 100)
    );
}

#[test]
fn case_6_a_dead_node_costs_nothing_but_an_attempt() {
    let store = store();
    let sink = sink(config(&[dead_url(), store.url(), dead_url()], json!({})));
    let mut bench = Bench::of(store, sink);
    bench.write_and_settle(&records(100));
    assert_eq!(bench.count("stored"), 100);
    assert!(bench.errors.is_empty(), "{:?}", bench.errors);
    assert!(bench.unavailable().is_none());
}

#[test]
fn a_failed_tls_handshake_sends_nothing_and_costs_an_attempt() {
    let store = store();
    let tls = store.url().replace("http:", "https:");
    let sink = sink(config(&[tls, store.url()], json!({ "max_in_flight": 1 })));
    let mut bench = Bench::of(store, sink);
    bench.write_and_settle(&records(10));
    assert_eq!(bench.count("stored"), 10);
    assert!(bench.errors.is_empty(), "{:?}", bench.errors);
}

#[test]
fn case_7_everything_away_then_back_loses_nothing() {
    let mut bench = Bench::new(json!({}));
    bench.write_and_settle(&records(50));
    bench.store.stop_listening();
    let later: Vec<_> = records(150).split_off(50);
    bench.write(&later);
    bench.poll_until("an outage", |bench| bench.unavailable().is_some());
    let reason = bench.unavailable().expect("a reason");
    assert!(reason.contains("127.0.0.1"), "{reason}");
    bench.store.listen_again().expect("the same port");
    bench.settle();
    assert_eq!(
        (bench.count("stored"), bench.stored_documents()),
        (150, 150)
    );
    let log = bench.sink.log();
    assert!(
        log.iter()
            .any(|(_, line)| line.contains("takes no documents now")),
        "{log:?}"
    );
    assert!(
        log.iter()
            .any(|(_, line)| line.contains("takes documents again")),
        "{log:?}"
    );
}

#[test]
fn case_7_nobody_there_at_start_is_waited_for() {
    let store = store();
    store.stop_listening();
    let sink = sink(config(&[store.url()], json!({})));
    let mut bench = Bench::of(store, sink);
    bench.write(&records(20));
    bench.poll_until("an outage", |bench| bench.unavailable().is_some());
    bench.store.listen_again().expect("the same port");
    bench.settle();
    assert_eq!(bench.stored_documents(), 20);
}

#[test]
fn case_8_a_silent_node_is_left_for_another() {
    let silent = store();
    silent.faults().set_standing(Some(BulkFault::BlackHole));
    let store = store();
    let sink = sink(config(
        &[silent.url(), store.url()],
        json!({ "request_timeout": "300ms" }),
    ));
    let mut bench = Bench::of(store, sink);
    bench.write_and_settle(&records(20));
    assert_eq!((bench.count("stored"), bench.stored_documents()), (20, 20));
    assert!(silent.observations().received() >= 1);
    assert!(silent.documents(INDEX).is_empty());
}

#[test]
fn case_38_and_39_a_sink_in_its_longest_pause_stops_at_once() {
    let mut bench = Bench::new(json!({}));
    bench
        .store
        .faults()
        .set_standing(Some(BulkFault::too_many_requests(300)));
    bench.write(&records(20));
    bench.poll_until("the pause", |bench| bench.unavailable().is_some());
    // The pause is five minutes long.
    stops(&mut bench);
    assert_eq!(bench.store.observations().received(), 1);
    assert!(bench.ended.is_empty(), "what was not stored has no verdict");
}

/// The stop has ended the sink's thread, and did not only give up waiting for it.
fn stops(bench: &mut Bench) {
    bench.sink.stop().expect("a stop");
    let after = bench.sink.poll().expect_err("no sink any more");
    assert!(after.contains("was stopped"), "{after}");
}

#[test]
fn case_39_a_sink_whose_nodes_are_away_stops_at_once() {
    let mut bench = Bench::of(store(), sink(config(&[dead_url()], json!({}))));
    bench.write(&records(20));
    bench.poll_until("the pause", |bench| bench.unavailable().is_some());
    stops(&mut bench);
}

#[test]
fn a_sink_that_is_dropped_in_the_middle_of_a_request_ends() {
    let mut bench = Bench::new(json!({}));
    bench
        .store
        .faults()
        .set_standing(Some(BulkFault::BlackHole));
    bench.write(&records(20));
    bench.poll_until("the request", |bench| {
        bench.store.observations().received() >= 1
    });
    stops(&mut bench);
}

/// The old owner's request is still inside the server when the new owner has written on: its document stays.
#[test]
fn case_36_a_request_of_an_old_owner_cannot_undo_the_new_ones_write() {
    let gate = Gate::closed();
    let mut old = Bench::new(json!({}));
    old.store
        .faults()
        .push(BulkFault::HoldBeforeApply(gate.clone()));
    old.write(&[record("a", 1), record("late", 1)]);
    old.poll_until("the held request", |bench| {
        bench.store.faults().queued() == 0
    });
    let new_sink = sink(config(&[old.store.url()], json!({})));
    drop(old.sink);
    let mut new = Bench::of(old.store, new_sink);
    new.write_and_settle(&[record("a", 1), record("a", 2)]);
    gate.open();
    let ran = new.store.wait_for_documents(INDEX, DEADLINE, |documents| {
        documents.iter().any(|document| document.id == "late")
    });
    assert!(ran, "the late request runs");
    assert_eq!(new.version_of("a"), Some(2));
}

#[test]
fn case_37_a_flush_that_is_cut_short_settles_what_is_done_and_the_rest_is_written_again() {
    let gate = Gate::closed();
    let mut old =
        Bench::new(json!({ "batch": { "records": 10, "age": "10ms" }, "max_in_flight": 2 }));
    old.store
        .faults()
        .push(BulkFault::HoldBeforeAnswer(gate.clone()));
    let input = records(20);
    old.write(&input);
    old.poll_until("half of the verdicts", |bench| bench.ended.len() == 10);
    assert_eq!(old.sink.flush(50).expect("a flush"), Flush::Pending);
    assert_eq!(old.count("stored"), 10, "the rest has no verdict");
    let new_sink = sink(config(&[old.store.url()], json!({})));
    drop(old.sink);
    let mut new = Bench::of(old.store, new_sink);
    new.write_and_settle(&input);
    assert_eq!((new.count("superseded"), new.stored_documents()), (20, 20));
    gate.open();
}

/// Below the buffer's limit: what is stuck holds nobody else. A full buffer paces everybody, as case 5 shows.
#[test]
fn case_42_a_stuck_partition_does_not_hold_the_other() {
    let mut bench = Bench::new(json!({ "id": "coordinates" }));
    let of_partition_0 = |operation: &Operation| {
        operation
            .id
            .as_deref()
            .is_some_and(|id| id.starts_with("topic+0+"))
    };
    bench.store.faults().push_item(ItemFault::new(
        ItemTarget::matching(of_partition_0),
        503,
        "unavailable_shards_exception",
        "away",
    ));
    let stuck: Vec<_> = records(50);
    let free: Vec<_> = records(50)
        .into_iter()
        .map(|record| record.slot(1))
        .collect();
    bench.write(&stuck);
    bench.write(&free);
    bench.poll_until("the other partition's verdicts", |bench| {
        bench.ended.len() == 50
    });
    assert!(bench.ended.keys().all(|seq| *seq > 50));
    bench.store.faults().clear();
    bench.settle();
    assert_eq!(
        (bench.count("stored"), bench.stored_documents()),
        (100, 100)
    );
}

#[test]
fn a_document_that_is_refused_for_ever_keeps_nothing_else_waiting() {
    const RECORDS: usize = 2_000;
    const BULK_RECORDS: usize = 100;
    let mut bench = Bench::new(json!({
        "batch": { "records": BULK_RECORDS, "age": "10ms" }, "max_in_flight": 2,
    }));
    let blocked = ItemTarget::id("id7");
    let fault = ItemFault::new(blocked, 403, "cluster_block_exception", "read-only");
    bench.store.faults().push_item(fault);
    let input = records(RECORDS);
    let (first, rest) = input.split_at(BULK_RECORDS);
    bench.write(first);
    bench.poll_until("all of the first bulk but one", |bench| {
        bench.ended.len() == BULK_RECORDS - 1
    });
    // Whichever body meets it, the retry of one document or a full bulk: the bulks after it are no single documents.
    let too_large = BulkFault::error(413, "too_large", "no");
    bench.store.faults().push(too_large);
    let refused = bench.store.observations().received();
    bench.write(rest);
    bench.poll_until("everything but the blocked one", |bench| {
        bench.ended.len() == RECORDS - 1
    });
    let requests = bench.store.observations().received() - refused;
    assert!(requests < (RECORDS / 4) as u64, "{requests} requests");
    assert_eq!(bench.ended.get(&8), None);
    bench.store.faults().clear();
    bench.settle();
    assert_eq!(bench.count("stored"), RECORDS);
}
