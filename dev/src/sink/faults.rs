//! Random faults of the store, one after the other, until they are stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use weir_document_store::{
    Authentication, BulkFault, DocumentStore, ItemFault, ItemTarget, ItemsChange, Operation,
};

/// A record that no index takes says this in its document.
pub const POISON: &str = "\"poison\"";
/// A record that no request takes says this.
pub const REQUEST_POISON: &str = "\"request_poison\"";
/// Between two faults up to this many bulks get through, so that the run ends.
const GOOD_BULKS_MAX: u64 = 60;
/// How often it is looked whether the run has ended.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Faults that meet one request after the other. More would only measure how long the sink's pauses grow.
const QUEUED_MAX: usize = 2;
/// How long a fault stands that ends by itself.
const STANDING: Duration = Duration::from_millis(20);

/// The fault that never ends: a poisoned document is refused by itself, or refuses its whole request if it says so.
pub fn poison(store: &DocumentStore) {
    for (word, whole_request) in [(REQUEST_POISON, true), (POISON, false)] {
        let poisoned =
            move |operation: &Operation| String::from_utf8_lossy(&operation.source).contains(word);
        let target = ItemTarget::matching(poisoned);
        let fault = match whole_request {
            true => {
                let error_type = "action_request_validation_exception";
                ItemFault::new(target, 400, error_type, "no").whole_request()
            }
            false => ItemFault::new(target, 400, "document_parsing_exception", "no"),
        };
        store.faults().push_item(fault);
    }
}

/// Makes faults until `stopped`, and leaves the store sound. Answers how many.
pub fn torment(store: &DocumentStore, seed: u64, stopped: &AtomicBool) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut faults = 0;
    while !stopped.load(Ordering::Relaxed) {
        for _ in 0..random.usize(1..=QUEUED_MAX) {
            one(store, &mut random);
            faults += 1;
        }
        wait_until_met(store, stopped);
        let good = store.observations().received() + random.u64(1..=GOOD_BULKS_MAX);
        let came = || store.observations().wait_for_bulks(good, LOOK_EVERY);
        while !came() && !stopped.load(Ordering::Relaxed) {}
    }
    faults
}

fn wait_until_met(store: &DocumentStore, stopped: &AtomicBool) {
    while store.faults().queued() > 0 && !stopped.load(Ordering::Relaxed) {
        let next = store.observations().received() + 1;
        store.observations().wait_for_bulks(next, LOOK_EVERY);
    }
}

fn one(store: &DocumentStore, random: &mut fastrand::Rng) {
    match random.u8(0..18) {
        0 => store.faults().push(BulkFault::too_many_requests(0)),
        1 => store.faults().push(BulkFault::ResetBeforeApply),
        2 => store.faults().push(BulkFault::ResetAfterApply),
        3 => store.faults().push(BulkFault::BlackHole),
        4 => store.faults().push(BulkFault::BlackHoleAfterApply),
        5 => {
            let keep_bytes = random.usize(0..400);
            store.faults().push(BulkFault::TruncatedBody { keep_bytes });
        }
        6 => {
            let keep_bytes = random.usize(0..400);
            store.faults().push(BulkFault::TruncatedJson { keep_bytes });
        }
        7 => store.faults().push(BulkFault::Items(ItemsChange::Fewer(1))),
        8 => store.faults().push(BulkFault::Items(ItemsChange::Reversed)),
        9 => store.faults().push(BulkFault::html_bad_gateway()),
        10 => store
            .faults()
            .push(BulkFault::error(413, "too_large", "no")),
        11 => store
            .faults()
            .push(BulkFault::error(400, "parse_exception", "no")),
        12 => store.faults().push(BulkFault::error(500, "odd", "no")),
        13 => items(store, random, 429, "es_rejected_execution_exception"),
        14 => items(store, random, 403, "cluster_block_exception"),
        15 => items(store, random, 503, "unavailable_shards_exception"),
        16 => {
            let token = "nobody has it".to_owned();
            store.set_authentication(Authentication::Bearer { token });
            thread::sleep(STANDING);
            store.set_authentication(Authentication::None);
        }
        _ => {
            store.stop_listening();
            thread::sleep(STANDING);
            // Only a foreign process could have taken the port meanwhile; then the run reports what is missing.
            let _ = store.listen_again();
        }
    }
}

/// Some operations are refused once each; poisoned ones are refused by their own fault before.
fn items(store: &DocumentStore, random: &mut fastrand::Rng, status: u16, error_type: &str) {
    let fault = ItemFault::new(ItemTarget::Any, status, error_type, "busy");
    store.faults().push_item(fault.times(random.usize(1..50)));
}
