//! What is counted.

use super::*;

#[test]
fn what_is_counted_balances_at_every_step() {
    let mut scheduler = scheduler(limits());
    let mut totals = Numbers::default();
    let now = Instant::now();
    let ended = |totals: &Numbers| -> u64 {
        let outcomes = ["stored", "superseded", "already_there", "gone", "rejected"];
        outcomes
            .map(|outcome| totals.count(SinkMetric::Items, outcome))
            .iter()
            .sum()
    };
    for round in 0..10_u64 {
        scheduler.offer((0..20).map(|n| operation(round * 20 + n, &format!("id{n}"), Some(round))));
        while let Some(flight) = scheduler.launch(now + Duration::from_secs(60 * round)) {
            let outcome = answer(&flight, |operation| match operation.seq % 5 {
                0 => (409, CONFLICT),
                1 => (400, "mapper_parsing_exception"),
                2 if operation.retries == 0 => (429, "busy"),
                _ => (201, ""),
            });
            scheduler.land(flight, outcome, now + Duration::from_secs(60 * round));
        }
        let mut numbers = scheduler.take_numbers(now);
        totals.absorb(&mut numbers);
        let pending = totals.gauge(SinkMetric::PendingRecords, "");
        assert_eq!(pending, Some((round + 1) * 20 - ended(&totals)));
        let accepted = totals.count(SinkMetric::RecordsAccepted, "");
        assert_eq!(accepted, (round + 1) * 20);
    }
    assert_eq!(totals.count(SinkMetric::Items, "superseded"), 40);
    assert_eq!(totals.count(SinkMetric::Items, "rejected"), 40);
    let sent = totals.count(SinkMetric::Operations, "index");
    assert_eq!(
        sent,
        ended(&totals) + totals.count(SinkMetric::Items, "retried")
    );
}

#[test]
fn a_record_has_waited_when_it_is_sent_first_and_not_again() {
    let mut scheduler = scheduler(limits());
    let now = Instant::now();
    let mut refused = Vec::new();
    for seq in 0..2 {
        scheduler.offer([operation(seq, &format!("id{seq}"), Some(1))]);
        refused.extend(scheduler.launch(now + Duration::from_secs(1)));
    }
    for flight in refused {
        let outcome = answer(&flight, |_| (429, "es_rejected_execution_exception"));
        scheduler.land(flight, outcome, now);
    }
    let joined = scheduler.launch(now + Duration::from_secs(60));
    let joined = joined.expect("both are due");
    assert_eq!(seqs(&joined), [0, 1]);
    assert_eq!(scheduler.numbers.queue_wait_ms.count(), 2);
    assert_eq!(scheduler.numbers.request_operations.count(), 3);
}
