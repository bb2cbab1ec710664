//! An index that rejects everything.

use super::*;

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
