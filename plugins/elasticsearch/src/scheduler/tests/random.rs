//! Everything at once.

use super::*;

/// A server of random faults: whatever it answers, each record ends exactly once, the documents are right, and no
/// document is ever in two requests.
#[test]
fn case_60_random_faults_change_nothing_about_the_result() {
    for round in 0..40 {
        let seed = SEED + round;
        println!("seed {seed}");
        // Lanes are hashes: in half of the rounds different documents share one.
        let lanes = if round % 4 < 2 { u32::MAX } else { 7 };
        random_faults(seed, round % 2 == 0, lanes);
    }
}

const RANDOM_RECORDS: u64 = 400;

fn random_faults(seed: u64, versioned: bool, lanes: u32) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut scheduler = Scheduler::new(
        Limits {
            batch_records: 16,
            ..limits()
        },
        random.fork(),
    );
    scheduler.set_flushing(true);
    let mut now = Instant::now();
    let is_poison = |seq: u64| seq % 50 == 7;
    let mut documents: HashMap<Option<Vec<u8>>, u64> = HashMap::new();
    let mut expected: HashMap<String, u64> = HashMap::new();
    let (mut offered, mut ended) = (0, HashMap::new());
    let mut airborne: Vec<Flight> = Vec::new();
    let mut turns = 0;
    while (ended.len() as u64) < RANDOM_RECORDS {
        turns += 1;
        assert!(
            turns < 20_000,
            "stuck at {} of {RANDOM_RECORDS}",
            ended.len()
        );
        let until = (offered + random.u64(0..30)).min(RANDOM_RECORDS);
        for seq in offered..until {
            let id = format!("id{}", random.u8(0..40));
            let mut operation = sized_operation(seq, &id, versioned.then_some(seq), 0, now);
            operation.lane %= lanes;
            scheduler.offer([operation]);
            if !is_poison(seq) {
                expected.insert(id, seq);
            }
        }
        offered = until;
        while let Some(flight) = scheduler.launch(now) {
            airborne.push(flight);
        }
        assert_lanes_are_exclusive(&airborne);
        while airborne.len() > random.usize(0..4) {
            let flight = airborne.swap_remove(random.usize(0..airborne.len()));
            let outcome = random_outcome(&flight, &mut documents, &mut random, is_poison);
            scheduler.land(flight, outcome, now);
        }
        for settlement in scheduler.take_settlements() {
            let rejected = rejected_code(&settlement.verdict).is_some();
            assert_eq!(rejected, is_poison(settlement.seq), "{settlement:?}");
            assert!(ended.insert(settlement.seq, ()).is_none(), "settled twice");
        }
        let next = scheduler.next_launch(now).unwrap_or(now);
        now = next.max(now + Duration::from_millis(1));
    }
    let expected: HashMap<Option<Vec<u8>>, u64> = expected
        .into_iter()
        .map(|(id, seq)| (Some(id.into_bytes()), seq))
        .collect();
    assert_eq!(documents, expected);
    assert!(scheduler.lanes.is_empty());
}

fn assert_lanes_are_exclusive(airborne: &[Flight]) {
    let mut owners: HashMap<Option<&[u8]>, u32> = HashMap::new();
    for flight in airborne {
        for operation in flight.front() {
            let owner = *owners.entry(operation.id()).or_insert(flight.number);
            assert_eq!(
                owner,
                flight.number,
                "{} is in two requests",
                operation.name()
            );
        }
    }
}

fn random_outcome(
    flight: &Flight,
    documents: &mut HashMap<Option<Vec<u8>>, u64>,
    random: &mut fastrand::Rng,
    is_poison: impl Fn(u64) -> bool,
) -> Outcome {
    match random.u8(0..14) {
        0 => return Outcome::NotSent("refused".into()),
        1 => return Outcome::Overload(Some(Duration::from_secs(1)), "429".into()),
        2 => return Outcome::Unknown(Doubt::Reset, "reset before anything was applied".into()),
        3 => return Outcome::Systemic("401".into()),
        4 if flight.front().len() > 1 => return Outcome::TooLarge("413".into()),
        _ => {}
    }
    // Half of the poison refuses its whole request, the rest its own item.
    if flight
        .front()
        .iter()
        .any(|operation| is_poison(operation.seq) && operation.seq % 100 == 7)
    {
        return Outcome::BadRequest("400".into());
    }
    let mut statuses = HashMap::new();
    for operation in flight.front() {
        let id = operation.id().map(<[u8]>::to_vec);
        let current = documents.get(&id).copied();
        let status = if is_poison(operation.seq) {
            (400, "mapper_parsing_exception")
        } else if random.u8(0..8) == 0 {
            (429, "es_rejected_execution_exception")
        } else if operation.versioned && current.is_some_and(|current| current >= operation.seq) {
            (409, "version_conflict_engine_exception")
        } else {
            documents.insert(id, operation.seq);
            (200, "")
        };
        statuses.insert(operation.seq, status);
    }
    if random.u8(0..6) == 0 {
        return Outcome::Unknown(Doubt::Timeout, "applied, but the answer was lost".into());
    }
    answer(flight, |operation| {
        statuses.get(&operation.seq).copied().unwrap_or((201, ""))
    })
}
