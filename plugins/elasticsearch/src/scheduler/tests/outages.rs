//! A target that takes nothing, or not everything.

use super::*;

#[test]
fn case_19_and_21_what_is_no_documents_fault_waits_for_ever() {
    for failing in ["request", "item"] {
        let mut scheduler = scheduler(limits());
        offer_many(&mut scheduler, 8);
        let start = Instant::now();
        let repaired_at = start + Duration::from_secs(3_600);
        let mut requests = 0;
        let (ended, _) = drive(&mut scheduler, start, |flight, now| {
            requests += 1;
            match (now >= repaired_at, failing) {
                (true, _) => stored(flight),
                (false, "request") => Outcome::Systemic("status 401".into()),
                (false, _) => answer(flight, |_| (403, "cluster_block_exception")),
            }
        });
        assert_eq!(
            ended
                .values()
                .filter(|verdict| **verdict == Verdict::Stored)
                .count(),
            8,
            "{failing}"
        );
        assert!(
            requests < 1_000,
            "{requests} requests in an hour of refusals"
        );
    }
}

#[test]
fn an_outage_is_probed_by_one_flight_at_a_time_and_has_a_reason() {
    let mut scheduler = scheduler(limits());
    offer_many(&mut scheduler, 1_000);
    let now = Instant::now();
    let flights: Vec<Flight> = std::iter::from_fn(|| scheduler.launch(now)).collect();
    for flight in flights {
        scheduler.land(flight, Outcome::NotSent("refused".into()), now);
    }
    assert_eq!(scheduler.unavailable(), Some("refused"));
    let next = scheduler.next_launch(now).expect("a probe");
    let probe = scheduler.launch(next).expect("a probe");
    assert!(scheduler.launch(next).is_none());
    let outcome = stored(&probe);
    scheduler.land(probe, outcome, next);
    assert_eq!(scheduler.unavailable(), None);
    assert_eq!(
        std::iter::from_fn(|| scheduler.launch(next)).count(),
        limits().max_in_flight
    );
}

#[test]
fn case_20_what_is_blocked_keeps_nobody_else_from_being_stored() {
    let mut scheduler = scheduler(limits());
    let start = Instant::now();
    let granted_at = start + Duration::from_secs(600);
    let of = |seq, index: &str| Operation {
        index: index.into(),
        ..operation(seq, &format!("id{seq}"), Some(1))
    };
    scheduler.offer((0..20).map(|seq| of(seq, if seq % 2 == 0 { "open" } else { "closed" })));
    let mut stored_at = HashMap::new();
    let refused = |operation: &Operation, now| &*operation.index == "closed" && now < granted_at;
    let (ended, _) = drive(&mut scheduler, start, |flight, now| {
        let passed = flight
            .front()
            .iter()
            .filter(|operation| !refused(operation, now));
        stored_at.extend(passed.map(|operation| (operation.seq, now)));
        answer(flight, |operation| match refused(operation, now) {
            true => (403, "security_exception"),
            false => (201, ""),
        })
    });
    assert!(ended.len() == 20 && ended.values().all(|verdict| *verdict == Verdict::Stored));
    for (seq, at) in stored_at {
        assert_eq!(at >= granted_at, seq % 2 == 1, "{seq}");
    }
}

#[test]
fn a_blocked_document_is_no_outage_while_others_are_stored() {
    let mut scheduler = scheduler(limits());
    let blocked = (403, "cluster_block_exception");
    scheduler.offer([operation(0, "blocked", Some(1))]);
    let mut now = Instant::now();
    let flight = scheduler.launch(now).expect("a flight");
    let outcome = answer(&flight, |_| blocked);
    scheduler.land(flight, outcome, now);
    assert!(
        scheduler.unavailable().is_some(),
        "nothing was stored so far"
    );
    for seq in 1..100 {
        now = scheduler.next_launch(now).expect("another try").max(now);
        scheduler.offer([sized_operation(seq, &format!("id{seq}"), Some(1), 0, now)]);
        let flight = scheduler.launch(now).expect("both");
        let outcome = answer(&flight, |operation| match operation.seq {
            0 => blocked,
            _ => (201, ""),
        });
        scheduler.land(flight, outcome, now);
        now = scheduler.next_launch(now).expect("another try").max(now);
        let alone = scheduler.launch(now).expect("the blocked one");
        assert_eq!(seqs(&alone), [0]);
        let outcome = answer(&alone, |_| blocked);
        scheduler.land(alone, outcome, now);
        assert_eq!(scheduler.pace.not_before(), None, "{seq}");
    }
}

#[test]
fn case_5_ten_minutes_of_429_keep_everything_and_ask_seldom() {
    const OUTAGE: Duration = Duration::from_secs(600);
    for whole in [true, false] {
        let mut scheduler = scheduler(limits());
        offer_many(&mut scheduler, 500);
        let start = Instant::now();
        let mut now = start;
        let (mut requests, mut longest_pause) = (0, Duration::ZERO);
        while now < start + OUTAGE {
            let flights: Vec<Flight> = std::iter::from_fn(|| scheduler.launch(now)).collect();
            assert!(requests == 0 || flights.len() <= 1, "one probe at a time");
            for flight in flights {
                requests += 1;
                assert!(requests < 100, "{requests} requests");
                let outcome = match whole {
                    true => Outcome::Overload(None, "429".into()),
                    false => answer(&flight, |_| (429, "es_rejected_execution_exception")),
                };
                scheduler.land(flight, outcome, now);
            }
            let numbers = scheduler.take_numbers(now);
            let pending = numbers.gauge(SinkMetric::PendingRecords, "");
            assert_eq!(pending, Some(500), "nothing is given up");
            let class = if whole { "overload" } else { "item_overload" };
            assert_eq!(numbers.gauge(SinkMetric::Paused, class), Some(1));
            assert!(scheduler.unavailable().is_some() && scheduler.settlements.is_empty());
            let held: usize = scheduler
                .waiting
                .iter()
                .map(|flight| flight.front().len())
                .sum();
            assert_eq!(held + scheduler.ready.len(), 500, "held once each");
            let next = scheduler.next_launch(now).expect("another try");
            longest_pause = longest_pause.max(next.saturating_duration_since(now));
            now = now.max(next);
        }
        let probe_within = Duration::from_secs(30);
        assert!(longest_pause <= probe_within, "{longest_pause:?}");
        let (ended, _) = drive(&mut scheduler, now, |flight, at| {
            assert!(at <= now + 2 * probe_within, "back soon after its end");
            stored(flight)
        });
        assert_eq!(ended.len(), 500);
    }
}
