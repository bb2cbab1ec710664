//! When a bulk is closed, and how many fly at once.

use super::*;

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
