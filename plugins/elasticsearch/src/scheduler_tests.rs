use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::*;
use crate::bulk_answer::read_items;
use crate::outcome::Doubt;
use crate::pace::BACKOFF_STEPS;
use crate::refusal::code;
use crate::testing::{create, delete, operation, sized_operation, upsert};

pub(super) const SEED: u64 = 20_260_101;

pub(super) fn limits() -> Limits {
    Limits {
        batch_records: 100,
        batch_bytes: 1 << 20,
        batch_age: Duration::from_millis(200),
        max_in_flight: 4,
        max_rejections: 100,
        on_conflict: ConflictPolicy::Supersede,
    }
}

fn scheduler(limits: Limits) -> Scheduler {
    println!("seed {SEED}");
    let mut scheduler = Scheduler::new(limits, fastrand::Rng::with_seed(SEED));
    scheduler.set_flushing(true);
    scheduler
}

pub(super) fn answer(flight: &Flight, item: impl Fn(&Operation) -> (u16, &'static str)) -> Outcome {
    let item = |operation: &Operation| {
        let (status, error_type) = item(operation);
        let error =
            (!error_type.is_empty()).then(|| json!({ "type": error_type, "reason": "because" }));
        json!({ operation.action.name(): { "_id": operation.id, "status": status, "error": error } })
    };
    let items: Vec<Value> = flight.front().iter().map(item).collect();
    let body = json!({ "items": items }).to_string();
    Outcome::Answered(read_items(body.as_bytes(), flight.front()).expect("a fitting answer"))
}

fn stored(flight: &Flight) -> Outcome {
    answer(flight, |_| (201, ""))
}

fn seqs(flight: &Flight) -> Vec<u64> {
    flight
        .front()
        .iter()
        .map(|operation| operation.seq)
        .collect()
}

/// Runs to the end of all work on a clock that jumps from launch to launch; answers what ended how and the requests.
fn drive(
    scheduler: &mut Scheduler,
    mut now: Instant,
    mut serve: impl FnMut(&Flight, Instant) -> Outcome,
) -> (HashMap<u64, Verdict>, usize) {
    let (mut ended, mut requests) = (HashMap::new(), 0);
    loop {
        while let Some(flight) = scheduler.launch(now) {
            requests += 1;
            assert!(requests < 10_000, "no end in sight");
            let outcome = serve(&flight, now);
            scheduler.land(flight, outcome, now);
        }
        for settlement in scheduler.take_settlements() {
            assert!(
                ended.insert(settlement.seq, settlement.verdict).is_none(),
                "settled twice"
            );
        }
        match scheduler.next_launch(now) {
            Some(next) => now = now.max(next),
            None => break,
        }
    }
    assert!(scheduler.lanes.is_empty() && scheduler.ready_bytes == 0 && scheduler.in_flight == 0);
    (ended, requests)
}

pub(super) fn rejected_code(verdict: &Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Rejected(refusal, _) => Some(refusal.code),
        Verdict::Stored | Verdict::Superseded => None,
    }
}

fn offer_many(scheduler: &mut Scheduler, count: u64) {
    scheduler.offer((0..count).map(|seq| operation(seq, &format!("id{seq}"), Some(1))));
}

#[test]
fn a_bulk_is_closed_by_records_bytes_age_or_flush() {
    let mut scheduler = scheduler(limits());
    scheduler.set_flushing(false);
    let start = Instant::now();
    scheduler
        .offer((0..99).map(|seq| sized_operation(seq, &format!("id{seq}"), Some(1), 0, start)));
    assert!(scheduler.launch(start).is_none());
    assert_eq!(
        scheduler.next_launch(start),
        Some(start + limits().batch_age)
    );
    scheduler.offer([sized_operation(99, "id99", Some(1), 0, start)]);
    let by_records = scheduler.launch(start).expect("full");
    assert_eq!(by_records.front().len(), 100);
    scheduler.offer(
        (100..104).map(|seq| sized_operation(seq, &format!("id{seq}"), Some(1), 300_000, start)),
    );
    let by_bytes = scheduler.launch(start).expect("full");
    assert_eq!(by_bytes.front().len(), 3);
    assert!(scheduler.launch(start).is_none());
    assert_eq!(
        scheduler
            .launch(start + limits().batch_age)
            .map(|flight| seqs(&flight)),
        Some(vec![103])
    );
    scheduler.offer([sized_operation(104, "id104", Some(1), 0, start)]);
    scheduler.set_flushing(true);
    assert_eq!(
        scheduler.launch(start).map(|flight| seqs(&flight)),
        Some(vec![104])
    );
}

#[test]
fn flights_are_bounded() {
    let mut scheduler = scheduler(limits());
    offer_many(&mut scheduler, 1_000);
    let now = Instant::now();
    let flights: Vec<Flight> = std::iter::from_fn(|| scheduler.launch(now)).collect();
    assert_eq!(flights.len(), limits().max_in_flight);
    assert_eq!(scheduler.next_launch(now), None);
}

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
fn case_14_bodies_shrink_until_they_fit_and_order_is_kept() {
    let mut scheduler = scheduler(limits());
    let now = Instant::now();
    scheduler
        .offer((0..10).map(|seq| sized_operation(seq, &format!("id{seq}"), Some(1), 90_000, now)));
    let mut order = Vec::new();
    let mut refusals = 0;
    let (ended, _) = drive(&mut scheduler, now, |flight, _| {
        if flight.body_bytes() > 200_000 {
            refusals += 1;
            return Outcome::TooLarge("413".into());
        }
        order.extend(seqs(flight));
        stored(flight)
    });
    assert_eq!(ended.len(), 10);
    assert_eq!(order, (0..10).collect::<Vec<u64>>());
    assert!(refusals <= 4, "{refusals}");
    scheduler
        .offer((10..20).map(|seq| sized_operation(seq, &format!("id{seq}"), Some(1), 90_000, now)));
    let first = scheduler
        .launch(now + limits().batch_age)
        .expect("a flight");
    assert!(first.body_bytes() <= 250_000, "later bodies start smaller");
}

#[test]
fn a_size_that_was_refused_comes_back_after_many_good_bulks() {
    let mut scheduler = scheduler(limits());
    let now = Instant::now();
    let large = |seq| sized_operation(seq, &format!("id{seq}"), Some(1), 300_000, now);
    scheduler.offer([large(0), large(1), large(2)]);
    let mut first = true;
    drive(&mut scheduler, now, |flight, _| {
        if std::mem::take(&mut first) {
            return Outcome::TooLarge("413".into());
        }
        stored(flight)
    });
    for seq in 3..300 {
        scheduler.offer([sized_operation(seq, "small", Some(seq), 0, now)]);
        drive(&mut scheduler, now, |flight, _| stored(flight));
    }
    scheduler.offer([large(300), large(301), large(302)]);
    let flight = scheduler.launch(now).expect("a flight");
    assert!(
        flight.front().len() > 1,
        "at half the refused size one fits"
    );
}

#[test]
fn case_15_a_document_above_the_servers_limit_is_rejected_alone() {
    let mut scheduler = scheduler(limits());
    let now = Instant::now();
    let padding = |seq| if seq == 2 { 300_000 } else { 10 };
    scheduler.offer(
        (0..5).map(|seq| sized_operation(seq, &format!("id{seq}"), Some(1), padding(seq), now)),
    );
    let (ended, _) = drive(&mut scheduler, now, |flight, _| {
        match flight.body_bytes() > 200_000 {
            true => Outcome::TooLarge("413".into()),
            false => stored(flight),
        }
    });
    let codes: HashMap<u64, &str> = ended
        .iter()
        .filter_map(|(seq, how)| Some((*seq, rejected_code(how)?)))
        .collect();
    assert_eq!(
        (ended.len(), codes),
        (5, HashMap::from([(2, code::PAYLOAD_TOO_LARGE)]))
    );
}

#[test]
fn case_16_repeated_resets_of_large_bodies_lead_to_smaller_ones() {
    let mut scheduler = scheduler(limits());
    let now = Instant::now();
    scheduler
        .offer((0..10).map(|seq| sized_operation(seq, &format!("id{seq}"), Some(1), 90_000, now)));
    let (ended, _) = drive(&mut scheduler, now, |flight, _| {
        match flight.body_bytes() > 200_000 {
            true => Outcome::Unknown(Doubt::Reset, "reset".into()),
            false => stored(flight),
        }
    });
    assert_eq!(
        ended
            .values()
            .filter(|verdict| **verdict == Verdict::Stored)
            .count(),
        10
    );
}

#[test]
fn case_18_a_bisect_finds_the_one_guilty_operation() {
    for guilty in [0, 1, 31, 63] {
        let mut scheduler = scheduler(limits());
        offer_many(&mut scheduler, 64);
        let (ended, requests) = drive(&mut scheduler, Instant::now(), |flight, _| {
            if seqs(flight).contains(&guilty) {
                Outcome::BadRequest("400".into())
            } else {
                stored(flight)
            }
        });
        assert_eq!(ended.len(), 64);
        for (seq, verdict) in &ended {
            assert_eq!(
                rejected_code(verdict),
                (*seq == guilty).then_some(code::REQUEST_INVALID),
                "{seq}"
            );
        }
        let to_the_guilty_one = 1 + 2 * 6;
        let to_be_sure = 2;
        assert!(
            requests <= to_the_guilty_one + to_be_sure,
            "{requests} requests"
        );
    }
}

#[test]
fn a_server_that_refuses_every_request_convicts_nobody() {
    let mut scheduler = scheduler(limits());
    offer_many(&mut scheduler, 8);
    let start = Instant::now();
    let repaired_at = start + Duration::from_secs(600);
    let mut refused = 0;
    let (ended, _) = drive(&mut scheduler, start, |flight, now| {
        if now >= repaired_at {
            return stored(flight);
        }
        refused += 1;
        Outcome::BadRequest("contains unrecognized parameter".into())
    });
    assert_eq!(
        ended
            .values()
            .filter(|verdict| **verdict == Verdict::Stored)
            .count(),
        8
    );
    assert!(
        refused < 100,
        "{refused} requests in ten minutes of refusals"
    );
}

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
fn a_conflict_supersedes_only_what_has_a_version() {
    let mut scheduler = scheduler(limits());
    scheduler.offer([operation(0, "a", Some(1)), operation(1, "b", None)]);
    let mut conflicts = 0;
    let (ended, _) = drive(&mut scheduler, Instant::now(), |flight, _| {
        conflicts += 1;
        match conflicts {
            1 => answer(flight, |_| (409, "version_conflict_engine_exception")),
            _ => stored(flight),
        }
    });
    assert_eq!(
        ended,
        HashMap::from([(0, Verdict::Superseded), (1, Verdict::Stored)])
    );
}

#[test]
fn an_unexplained_failure_is_the_documents_own_only_while_others_get_through() {
    let start = Instant::now();
    let mut lonely = scheduler(limits());
    offer_many(&mut lonely, 1);
    let mut failures = 0;
    let (ended, _) = drive(&mut lonely, start, |flight, _| {
        failures += 1;
        if failures > 100 {
            stored(flight)
        } else {
            answer(flight, |_| (500, "null_pointer_exception"))
        }
    });
    assert_eq!(
        ended.get(&0),
        Some(&Verdict::Stored),
        "nobody else got through, so it is not convicted"
    );

    let mut busy = scheduler(limits());
    let mut next_seq = 1;
    let mut now = start;
    busy.offer([sized_operation(0, "poison", Some(1), 0, now)]);
    let verdict = loop {
        busy.offer([sized_operation(
            next_seq,
            &format!("id{next_seq}"),
            Some(1),
            0,
            now,
        )]);
        next_seq += 1;
        while let Some(flight) = busy.launch(now) {
            let outcome = answer(&flight, |operation| {
                if operation.seq == 0 {
                    (500, "odd")
                } else {
                    (201, "")
                }
            });
            busy.land(flight, outcome, now);
        }
        if let Some(end) = busy
            .take_settlements()
            .into_iter()
            .find(|settlement| settlement.seq == 0)
        {
            break end.verdict;
        }
        assert!(next_seq < 1_000);
        now += Duration::from_secs(30);
    };
    assert_eq!(rejected_code(&verdict), Some(code::SERVER_FAULT));
    assert_eq!(next_seq - 1, u64::from(FAULTS_MAX));
}

#[test]
fn a_flight_that_always_fails_does_not_keep_others_from_being_sent() {
    for bad in ["reset", "400", "500"] {
        let mut scheduler = scheduler(limits());
        let start = Instant::now();
        scheduler.offer([sized_operation(0, "bad", Some(1), 0, start)]);
        let (mut now, mut stored_others, mut bad_requests, mut offered) = (start, 0, 0, 1);
        while now < start + Duration::from_secs(60) {
            if scheduler.ready.is_empty() {
                scheduler.offer([sized_operation(
                    offered,
                    &format!("id{offered}"),
                    Some(1),
                    0,
                    now,
                )]);
                offered += 1;
            }
            while let Some(flight) = scheduler.launch(now) {
                let is_bad = seqs(&flight).contains(&0);
                bad_requests += u64::from(is_bad);
                stored_others += u64::from(!is_bad);
                let outcome = match (is_bad, bad) {
                    (false, _) => stored(&flight),
                    (true, "reset") => Outcome::Unknown(Doubt::Reset, "reset".into()),
                    (true, "400") => Outcome::BadRequest("400".into()),
                    (true, _) => Outcome::Unknown(Doubt::ServerFault, "500".into()),
                };
                scheduler.land(flight, outcome, now);
            }
            now += Duration::from_millis(10);
        }
        assert!(
            stored_others > 5_000,
            "{bad}: {stored_others} others in 6,000 steps"
        );
        assert!(bad_requests < 40, "{bad}: {bad_requests}");
        let convicted = scheduler.take_settlements().iter().any(|end| end.seq == 0);
        assert_eq!(convicted, bad != "reset", "{bad}");
    }
}

#[test]
fn a_request_that_fails_with_500_is_split_until_the_cause_stands_alone() {
    let mut scheduler = scheduler(limits());
    let now = Instant::now();
    scheduler.offer((0..16).map(|seq| operation(seq, &format!("id{seq}"), Some(1))));
    let mut stored_seqs = HashSet::new();
    for (round, steady) in (0..2_000).zip(16..) {
        let now = now + Duration::from_secs(30 * round);
        while let Some(flight) = scheduler.launch(now) {
            if seqs(&flight).contains(&5) {
                scheduler.land(
                    flight,
                    Outcome::Unknown(Doubt::ServerFault, "500".into()),
                    now,
                );
            } else {
                stored_seqs.extend(seqs(&flight));
                let outcome = stored(&flight);
                scheduler.land(flight, outcome, now);
            }
        }
        scheduler.offer([sized_operation(steady, "steady", Some(steady), 0, now)]);
        if let Some(end) = scheduler
            .take_settlements()
            .into_iter()
            .find(|settlement| settlement.seq == 5)
        {
            assert_eq!(rejected_code(&end.verdict), Some(code::SERVER_FAULT));
            assert!(
                (0..16)
                    .filter(|seq| *seq != 5)
                    .all(|seq| stored_seqs.contains(&seq))
            );
            return;
        }
    }
    panic!("operation 5 was never isolated");
}

const CONFLICT: &str = "version_conflict_engine_exception";

#[test]
fn case_46_a_document_that_is_there_is_not_created_again() {
    for (on_conflict, doubted, expected) in [
        (ConflictPolicy::Supersede, false, None),
        (ConflictPolicy::Reject, false, Some(code::DOCUMENT_EXISTS)),
        (ConflictPolicy::Reject, true, None),
    ] {
        let mut scheduler = scheduler(Limits {
            on_conflict,
            ..limits()
        });
        scheduler.offer([create(0, "a")]);
        let mut lost_answer = doubted;
        let (ended, _) = drive(
            &mut scheduler,
            Instant::now(),
            |flight, _| match std::mem::take(&mut lost_answer) {
                true => Outcome::Unknown(Doubt::Timeout, "timeout".into()),
                false => answer(flight, |_| (409, CONFLICT)),
            },
        );
        let verdict = ended.get(&0).expect("a verdict");
        assert_eq!(
            rejected_code(verdict),
            expected,
            "{on_conflict:?} {doubted}"
        );
        assert!(expected.is_some() || *verdict == Verdict::Superseded);
    }
}

#[test]
fn case_28_and_31_a_delete_ends_whether_or_not_it_found_something() {
    let mut scheduler = scheduler(limits());
    scheduler.offer([
        delete(0, "a", Some(5)),
        delete(1, "b", Some(5)),
        delete(2, "c", Some(5)),
        delete(3, "d", None),
    ]);
    let (ended, _) = drive(&mut scheduler, Instant::now(), |flight, _| {
        answer(flight, |operation| match operation.seq {
            0 => (200, ""),
            1 => (404, ""),
            2 => (409, CONFLICT),
            _ => (404, "index_not_found_exception"),
        })
    });
    let expected = [
        (0, Verdict::Stored),
        (1, Verdict::Stored),
        (2, Verdict::Superseded),
        (3, Verdict::Stored),
    ];
    assert_eq!(ended, HashMap::from(expected));
}

#[test]
fn case_48_an_upsert_that_meets_other_writers_is_tried_again_but_not_for_ever() {
    for (conflicts, expected) in [(3, None), (u64::MAX, Some(code::CONFLICT))] {
        let mut scheduler = scheduler(limits());
        let start = Instant::now();
        scheduler.offer([upsert(0, "contended")]);
        let mut met = 0;
        let (mut now, mut seq) = (start, 1);
        let verdict = loop {
            scheduler.offer([sized_operation(seq, "steady", Some(seq), 0, now)]);
            seq += 1;
            while let Some(flight) = scheduler.launch(now) {
                met += u64::from(seqs(&flight).contains(&0));
                let outcome = answer(&flight, |operation| {
                    match operation.seq == 0 && met <= conflicts {
                        true => (409, CONFLICT),
                        false => (200, ""),
                    }
                });
                scheduler.land(flight, outcome, now);
            }
            let settlements = scheduler.take_settlements();
            if let Some(end) = settlements
                .into_iter()
                .find(|settlement| settlement.seq == 0)
            {
                break end.verdict;
            }
            assert!(seq < 1_000);
            now += Duration::from_secs(30);
        };
        assert_eq!(rejected_code(&verdict), expected);
    }
}

#[test]
fn case_24_and_25_a_storm_of_rejections_stops_until_the_index_is_repaired() {
    let mut scheduler = scheduler(Limits {
        max_rejections: 10,
        ..limits()
    });
    offer_many(&mut scheduler, 200);
    let start = Instant::now();
    let repaired_at = start + Duration::from_secs(600);
    let mut seen_reason = String::new();
    let mut now = start;
    let mut ended = HashMap::new();
    while let Some(next) = scheduler.next_launch(now) {
        now = now.max(next);
        while let Some(flight) = scheduler.launch(now) {
            let outcome = match now >= repaired_at {
                true => stored(&flight),
                false => answer(&flight, |_| (400, "illegal_argument_exception")),
            };
            scheduler.land(flight, outcome, now);
        }
        for settlement in scheduler.take_settlements() {
            ended.insert(settlement.seq, settlement.verdict);
        }
        if let Some(reason) = scheduler.unavailable() {
            seen_reason = reason.to_owned();
        }
    }
    let rejected = ended
        .values()
        .filter(|verdict| rejected_code(verdict).is_some())
        .count();
    assert_eq!((rejected, ended.len()), (10, 200));
    assert!(
        seen_reason.contains("index `index` rejected"),
        "{seen_reason}"
    );
    assert_eq!(scheduler.unavailable(), None);
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
fn overload_halves_the_flights() {
    let mut scheduler = scheduler(limits());
    offer_many(&mut scheduler, 1_000);
    let now = Instant::now();
    let flights: Vec<Flight> = std::iter::from_fn(|| scheduler.launch(now)).collect();
    assert_eq!(flights.len(), 4);
    for flight in flights {
        scheduler.land(flight, Outcome::Overload(None, "429".into()), now);
    }
    let later = now + Duration::from_secs(60);
    let probe = scheduler.launch(later).expect("a probe");
    let outcome = stored(&probe);
    scheduler.land(probe, outcome, later);
    let flights = std::iter::from_fn(|| scheduler.launch(later)).count();
    assert_eq!(flights, 2, "one answer has not brought a third back");
}

#[test]
fn a_refused_operation_that_everything_waits_behind_is_found_too() {
    let mut scheduler = scheduler(limits());
    let start = Instant::now();
    scheduler.offer([operation(0, "a", None)]);
    drive(&mut scheduler, start, |flight, _| stored(flight));
    scheduler.offer((1..5).map(|seq| operation(seq, "a", None)));
    let (ended, requests) = drive(&mut scheduler, start, |flight, _| {
        match seqs(flight).contains(&1) {
            true => Outcome::BadRequest("400".into()),
            false => stored(flight),
        }
    });
    let codes: Vec<Option<&str>> = (1..5)
        .map(|seq| ended.get(&seq).and_then(rejected_code))
        .collect();
    assert_eq!(codes, [Some(code::REQUEST_INVALID), None, None, None]);
    assert!(
        requests <= 3 + 1 + FAULTS_MAX as usize,
        "{requests} requests"
    );
}

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
fn a_small_body_that_is_refused_is_halved_and_others_stay_large() {
    let mut scheduler = scheduler(limits());
    offer_many(&mut scheduler, 4);
    let mut now = Instant::now();
    let flight = scheduler.launch(now).expect("a flight");
    scheduler.land(flight, Outcome::TooLarge("413".into()), now);
    let mut sent = Vec::new();
    drive(&mut scheduler, now, |flight, _| {
        sent.push(seqs(flight));
        stored(flight)
    });
    assert_eq!(sent, [[0, 1], [2, 3]]);
    scheduler.offer((4..104).map(|seq| operation(seq, &format!("id{seq}"), Some(1))));
    now = Instant::now().max(now);
    let flight = scheduler.launch(now).expect("a flight");
    assert_eq!(flight.front().len(), limits().batch_records);
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
fn two_guilty_operations_that_are_all_there_is_are_found() {
    let mut scheduler = scheduler(limits());
    let start = Instant::now();
    scheduler.offer([operation(0, "good", Some(1))]);
    drive(&mut scheduler, start, |flight, _| stored(flight));
    scheduler.offer([operation(1, "bad", Some(1)), operation(2, "worse", Some(1))]);
    let (ended, _) = drive(&mut scheduler, start, |_, _| {
        Outcome::BadRequest("400".into())
    });
    let codes = [1, 2].map(|seq| ended.get(&seq).and_then(rejected_code));
    assert_eq!(codes, [Some(code::REQUEST_INVALID); 2]);
}

#[test]
fn a_body_that_takes_longer_than_the_timeout_is_halved() {
    let mut scheduler = scheduler(limits());
    offer_many(&mut scheduler, 16);
    let (ended, _) = drive(&mut scheduler, Instant::now(), |flight, _| {
        match flight.front().len() > 4 {
            true => Outcome::Unknown(Doubt::Timeout, "operation timed out".into()),
            false => stored(flight),
        }
    });
    assert_eq!(ended.len(), 16);
}

#[test]
fn a_document_is_not_too_large_where_larger_bodies_were_taken() {
    let mut scheduler = scheduler(limits());
    offer_many(&mut scheduler, 50);
    let now = Instant::now();
    drive(&mut scheduler, now, |flight, _| stored(flight));
    scheduler.offer([sized_operation(50, "small", Some(1), 0, now)]);
    let mut refusals = 0;
    let (ended, _) = drive(&mut scheduler, now, |flight, _| {
        refusals += 1;
        match refusals <= 3 {
            true => Outcome::TooLarge("413".into()),
            false => stored(flight),
        }
    });
    assert_eq!(ended.get(&50), Some(&Verdict::Stored));
}

#[test]
fn two_refusals_by_chance_convict_nobody() {
    let mut scheduler = scheduler(limits());
    let start = Instant::now();
    scheduler.offer([sized_operation(0, "unlucky", Some(1), 0, start)]);
    let mut refusals = 0;
    let (mut now, mut seq) = (start, 1);
    let verdict = loop {
        while let Some(flight) = scheduler.launch(now) {
            let unlucky = seqs(&flight) == [0] && refusals < 2;
            refusals += u32::from(unlucky);
            let outcome = match unlucky {
                true => Outcome::BadRequest("400".into()),
                false => stored(&flight),
            };
            scheduler.land(flight, outcome, now);
        }
        scheduler.offer([sized_operation(seq, &format!("id{seq}"), Some(1), 0, now)]);
        seq += 1;
        now += Duration::from_secs(1);
        let settlements = scheduler.take_settlements();
        if let Some(end) = settlements.into_iter().find(|end| end.seq == 0) {
            break end.verdict;
        }
        assert!(seq < 1_000);
    };
    assert_eq!((verdict, refusals), (Verdict::Stored, 2));
}
