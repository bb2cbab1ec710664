//! What is sent again, and what waits with it.

use super::*;

#[test]
fn case_3_only_the_refused_items_are_sent_again() {
    let mut scheduler = scheduler(limits());
    offer_many(&mut scheduler, 50);
    let now = Instant::now();
    let flight = scheduler.launch(now).expect("a flight");
    let busy = [3, 17, 40];
    let outcome = answer(&flight, |operation| match busy.contains(&operation.seq) {
        true => (429, "es_rejected_execution_exception"),
        false => (201, ""),
    });
    scheduler.land(flight, outcome, now);
    assert_eq!(scheduler.take_settlements().len(), 47);
    let next = scheduler.next_launch(now).expect("a retry");
    let again = scheduler.launch(next).expect("a retry");
    assert_eq!(seqs(&again), busy);
    assert_eq!(
        scheduler.take_errors(),
        BTreeMap::from([("item_overload", 3)])
    );
}

#[test]
fn case_12_the_items_status_wins() {
    let mut scheduler = scheduler(limits());
    offer_many(&mut scheduler, 2);
    let mut first = true;
    let (ended, requests) = drive(&mut scheduler, Instant::now(), |flight, _| {
        let fails = std::mem::take(&mut first);
        answer(flight, |operation| {
            if fails && operation.seq == 1 {
                (500, "odd_exception")
            } else {
                (201, "")
            }
        })
    });
    assert_eq!((ended.get(&1), requests), (Some(&Verdict::Stored), 2));
}

#[test]
fn what_is_sent_again_waits_for_itself_alone() {
    let mut scheduler = scheduler(limits());
    let mut now = Instant::now();
    scheduler.offer([sized_operation(0, "long refused", Some(1), 0, now)]);
    let busy = (429, "es_rejected_execution_exception");
    for _ in 0..BACKOFF_STEPS {
        let flight = scheduler.launch(now).expect("another try");
        let outcome = answer(&flight, |_| busy);
        scheduler.land(flight, outcome, now);
        now = scheduler.next_launch(now).expect("another try");
    }
    scheduler.offer([
        sized_operation(1, "refused once", Some(1), 0, now),
        sized_operation(2, "good", Some(1), 0, now),
    ]);
    let flight = scheduler.launch(now).expect("all three");
    assert_eq!(seqs(&flight), [0, 1, 2]);
    let outcome = answer(&flight, |operation| match operation.seq {
        2 => (201, ""),
        _ => busy,
    });
    scheduler.land(flight, outcome, now);
    let first_pause_max = Duration::from_millis(100);
    let again = scheduler.launch(now + first_pause_max);
    let again = again.expect("one refusal is a pause of at most 100 ms, whatever else was refused");
    assert!(seqs(&again).contains(&1), "{:?}", seqs(&again));
}
