//! What a conflict, a creation and a delete end as.

use super::*;

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
