//! Operations on one document: their order, and one request at a time.

use super::*;

#[test]
fn case_26_without_versions_a_successor_waits_for_its_predecessor() {
    let mut scheduler = scheduler(limits());
    scheduler.offer([
        operation(0, "a", None),
        operation(1, "b", None),
        operation(2, "a", None),
        operation(3, "a", None),
    ]);
    let now = Instant::now();
    let flight = scheduler.launch(now).expect("a flight");
    assert_eq!(seqs(&flight), [0, 1]);
    assert!(scheduler.launch(now).is_none());
    let outcome = answer(&flight, |operation| {
        if operation.seq == 0 {
            (429, "busy")
        } else {
            (201, "")
        }
    });
    scheduler.land(flight, outcome, now);
    let mut sent = Vec::new();
    drive(&mut scheduler, now, |flight, _| {
        sent.push(seqs(flight));
        stored(flight)
    });
    assert_eq!(sent, [[0], [2], [3]]);
}

#[test]
fn versioned_operations_of_one_document_ride_together_in_order() {
    let mut scheduler = scheduler(limits());
    scheduler.offer([
        operation(0, "a", Some(1)),
        operation(1, "b", Some(1)),
        operation(2, "a", Some(2)),
    ]);
    let flight = scheduler.launch(Instant::now()).expect("a flight");
    assert_eq!(seqs(&flight), [0, 1, 2]);
    scheduler.offer([operation(3, "a", Some(3)), operation(4, "c", Some(1))]);
    let now = Instant::now();
    let other = scheduler.launch(now).expect("a flight");
    assert_eq!(
        seqs(&other),
        [4],
        "case 27: never two flights with one document"
    );
}

#[test]
fn a_document_that_is_sent_again_takes_its_other_versions_along() {
    let mut scheduler = scheduler(limits());
    scheduler.offer([
        operation(0, "a", Some(1)),
        operation(1, "b", Some(1)),
        operation(2, "a", Some(2)),
        operation(3, "c", Some(1)),
    ]);
    let now = Instant::now();
    let whole = scheduler.launch(now).expect("a flight");
    scheduler.land(whole, Outcome::TooLarge("413".into()), now);
    let half = scheduler.launch(now).expect("a half");
    assert_eq!(seqs(&half), [0, 1]);
    let outcome = answer(&half, |operation| match operation.seq {
        0 => (429, "es_rejected_execution_exception"),
        _ => (201, ""),
    });
    scheduler.land(half, outcome, now);
    let rest = scheduler.launch(now).expect("what does not wait");
    assert_eq!(seqs(&rest), [3]);
    let later = scheduler.next_launch(now).expect("a retry");
    let retry = scheduler.launch(later).expect("a retry");
    assert_eq!(seqs(&retry), [0, 2]);
}
