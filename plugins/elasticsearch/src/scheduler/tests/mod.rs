//! The scheduler without network and clock, one file for each rule.

mod account;
mod bulks;
mod guilt;
mod lanes;
mod outages;
mod random;
mod retries;
mod sizes;
mod storms;
mod verdicts;

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::*;
use crate::bulk_answer::read_items;
use crate::outcome::Doubt;
use crate::pace::BACKOFF_STEPS;
use crate::refusal::code;
use crate::testing::{create, delete, operation, sized_operation, upsert};

const SEED: u64 = 20_260_101;

fn limits() -> Limits {
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

fn answer(flight: &Flight, item: impl Fn(&Operation) -> (u16, &'static str)) -> Outcome {
    let item = |operation: &Operation| {
        let (status, error_type) = item(operation);
        let error =
            (!error_type.is_empty()).then(|| json!({ "type": error_type, "reason": "because" }));
        json!({ operation.action.name(): { "_id": operation.id().map(String::from_utf8_lossy), "status": status, "error": error } })
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

fn rejected_code(verdict: &Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Rejected(rejection) => Some(rejection.0.code),
        Verdict::Stored | Verdict::Superseded => None,
    }
}

fn offer_many(scheduler: &mut Scheduler, count: u64) {
    scheduler.offer((0..count).map(|seq| operation(seq, &format!("id{seq}"), Some(1))));
}

const CONFLICT: &str = "version_conflict_engine_exception";
