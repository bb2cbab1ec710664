//! Answers that cannot be believed, and bodies that are too large.

use std::time::Duration;

use serde_json::json;
use weir_document_store::{
    BulkFault, Gate, ItemFault, ItemTarget, ItemsChange, OversizeAnswer, Settings,
};
use weir_plugin_sdk::testing::TestRecord;

use crate::bench::{Bench, DEADLINE, INDEX, config, record, records, sink};

/// One flight, so that the scripted fault meets all records; what was applied is superseded by its repetition.
fn applied_but_doubted(fault: BulkFault) -> Bench {
    let mut bench = Bench::new(json!({ "max_in_flight": 1, "request_timeout": "500ms" }));
    bench.store.faults().push(fault);
    bench.write_and_settle(&records(30));
    assert_eq!(bench.stored_documents(), 30);
    assert_eq!(bench.errors.get("unknown"), Some(&1));
    bench
}

#[test]
fn case_9_a_reset_after_the_body_was_applied_doubles_nothing() {
    let bench = applied_but_doubted(BulkFault::ResetAfterApply);
    assert_eq!(bench.count("superseded"), 30);
}

#[test]
fn case_10_a_truncated_answer_settles_nothing() {
    for fault in [
        BulkFault::TruncatedJson { keep_bytes: 200 },
        BulkFault::TruncatedBody { keep_bytes: 200 },
    ] {
        let bench = applied_but_doubted(fault);
        assert_eq!(bench.count("superseded"), 30);
    }
}

#[test]
fn case_11_items_that_are_not_ours_settle_nothing() {
    for change in [
        ItemsChange::Fewer(1),
        ItemsChange::More(1),
        ItemsChange::Reversed,
        ItemsChange::ForeignIds("x"),
        ItemsChange::ForeignAction("create"),
    ] {
        let bench = applied_but_doubted(BulkFault::Items(change));
        assert_eq!(bench.count("superseded"), 30, "{change:?}");
    }
}

#[test]
fn case_12_the_items_status_wins_over_the_errors_flag() {
    let mut bench = Bench::new(json!({ "max_in_flight": 1 }));
    bench
        .store
        .faults()
        .push(BulkFault::Items(ItemsChange::ErrorsFlag(false)));
    bench
        .store
        .faults()
        .push_item(ItemFault::new(ItemTarget::id("id4"), 500, "odd_exception", "no").times(1));
    bench.write_and_settle(&records(10));
    assert_eq!(
        (bench.count("stored"), bench.errors.get("item_fault")),
        (10, Some(&1))
    );
}

#[test]
fn case_13_a_proxys_page_is_retried_and_not_repeated() {
    let mut bench = Bench::new(json!({}));
    bench
        .store
        .faults()
        .set_standing(Some(BulkFault::html_bad_gateway()));
    bench.write(&records(10));
    bench.poll_until("an outage", |bench| bench.unavailable().is_some());
    let text = format!("{:?} {:?}", bench.unavailable(), bench.sink.log());
    assert!(text.contains("502") && !text.contains("html"), "{text}");
    bench.store.faults().clear();
    bench.settle();
    assert_eq!(bench.count("stored"), 10);
}

/// 200 documents of 10 KB in bulks of up to 1 MB, at a server that takes 100 KB.
fn oversize(answer: OversizeAnswer) -> Bench {
    let settings = Settings {
        body_max_bytes: 200_000,
        oversize_answer: answer,
        ..Settings::default()
    };
    let changes = json!({ "max_in_flight": 1, "batch": { "bytes": "1MiB", "age": "10ms" } });
    let mut bench = Bench::with_store(settings, changes);
    let large = |number| {
        TestRecord::value(json!({ "version": number, "text": "x".repeat(10_000) }).to_string())
            .with_key(format!("id{}", number % 50))
            .offset(number)
    };
    let input: Vec<TestRecord> = (0..200).map(large).collect();
    bench.write_and_settle(&input);
    for key in 0..50 {
        assert_eq!(bench.version_of(&format!("id{key}")), Some(150 + key));
    }
    bench
}

#[test]
fn case_14_bodies_above_the_servers_limit_are_split() {
    let bench = oversize(OversizeAnswer::Status413);
    assert_eq!(bench.count("stored"), 200);
    let refusals = bench.errors.get("too_large").copied().unwrap_or_default();
    assert!(
        (1..=4).contains(&refusals),
        "{refusals}: later bulks start smaller"
    );
}

#[test]
fn case_16_resets_in_place_of_413_lead_to_smaller_bodies_too() {
    let bench = oversize(OversizeAnswer::Reset);
    assert_eq!(bench.count("stored") + bench.count("superseded"), 200);
}

#[test]
fn case_26b_a_late_first_attempt_cannot_undo_a_newer_version() {
    let gate = Gate::closed();
    let mut versioned = Bench::new(json!({ "request_timeout": "300ms", "max_in_flight": 1 }));
    let plain_changes = json!({ "request_timeout": "300ms", "version": "none", "index": "plain" });
    let plain_sink = sink(config(&[versioned.store.url()], plain_changes));
    versioned
        .store
        .faults()
        .push(BulkFault::HoldBeforeApply(gate.clone()));
    versioned.write(&[record("a", 1)]);
    versioned.poll_until("the held request", |bench| {
        bench.store.faults().queued() == 0
    });
    versioned.settle();
    versioned.write_and_settle(&[record("a", 2)]);

    let mut plain = Bench::of(versioned.store, plain_sink);
    plain
        .store
        .faults()
        .push(BulkFault::HoldBeforeApply(gate.clone()));
    plain.write_and_settle(&[record("a", 1)]);
    plain.write_and_settle(&[record("a", 2)]);
    gate.open();
    let back = plain
        .store
        .wait_for_documents("plain", DEADLINE, |documents| {
            documents
                .first()
                .is_some_and(|document| document.json()["version"] == 1)
        });
    assert!(
        back,
        "without versions the late attempt wins, as the documentation says"
    );
    assert_eq!(
        plain
            .store
            .document(INDEX, "a")
            .map(|document| document.version),
        Some(2)
    );
}

#[test]
fn case_58_an_answer_that_trickles_ends_at_the_timeout() {
    let slow = BulkFault::SlowBody {
        piece_bytes: 1,
        pause: Duration::from_millis(100),
    };
    let bench = applied_but_doubted(slow);
    assert_eq!(bench.count("superseded"), 30);
}
