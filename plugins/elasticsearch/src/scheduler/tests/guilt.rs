//! Which operation a failure is blamed on, and on what evidence.

use super::*;

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
fn an_answer_of_its_own_clears_an_operation_of_refused_requests() {
    let mut scheduler = scheduler(limits());
    offer_many(&mut scheduler, 2);
    let mut alone = 0;
    let (ended, _) = drive(&mut scheduler, Instant::now(), |flight, _| {
        match seqs(flight).as_slice() {
            [0] => alone += 1,
            [1] => return stored(flight),
            _ => return Outcome::BadRequest("400".into()),
        }
        match alone {
            1 | 2 | 4 => Outcome::BadRequest("400".into()),
            3 => answer(flight, |_| (503, "unavailable_shards_exception")),
            _ => stored(flight),
        }
    });
    assert_eq!(ended.get(&0), Some(&Verdict::Stored));
    assert_eq!(alone, 5, "a third refusal did not convict it");
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
