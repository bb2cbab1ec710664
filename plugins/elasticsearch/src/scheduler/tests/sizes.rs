//! Bodies and documents that are too large, or said to be.

use super::*;

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
