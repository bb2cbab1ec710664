use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::*;

const FIELDS: [&str; 6] = [
    "visit_id",
    "event_time",
    "user_id",
    "keep_private",
    "page",
    "context",
];

fn moment() -> Timestamp {
    Timestamp::from_second(1_717_200_000).expect("a moment of 2024")
}

fn rows(seed: u64, count: usize) -> Vec<Row> {
    let mut visits = Visits::new(seed, OPEN_VISITS);
    (0..count).map(|_| visits.next_row(moment())).collect()
}

#[test]
fn a_seed_decides_the_rows() {
    assert_eq!(rows(7, 2_000), rows(7, 2_000));
    assert_ne!(rows(7, 100), rows(8, 100));
}

#[test]
fn the_shares_are_those_of_the_real_rows() {
    let seed = 20_240_601;
    println!("seed {seed}");
    let rows = rows(seed, 100_000);
    let share = |count: usize| count as f64 / rows.len() as f64;
    let cut_off = rows.iter().filter(|row| row.value == CUT_OFF).count();
    assert!((0.006..0.014).contains(&share(cut_off)), "{cut_off}");
    let parsed: Vec<Value> = rows
        .iter()
        .filter_map(|row| serde_json::from_str(&row.value).ok())
        .collect();
    assert_eq!(parsed.len() + cut_off, rows.len());
    let nulls = |field: &str| parsed.iter().filter(|visit| visit[field].is_null()).count();
    for field in FIELDS {
        let count = nulls(field);
        assert!((0.006..0.03).contains(&share(count)), "{field} {count}");
    }
    let empty = |visit: &&Value| FIELDS.iter().all(|field| visit[*field].is_null());
    let empty = parsed.iter().filter(empty).count();
    assert!((0.005..0.016).contains(&share(empty)), "{empty}");
    let twice = rows
        .windows(2)
        .filter(|pair| pair[0] == pair[1] && pair[0].key.is_some())
        .count();
    assert!((0.004..0.009).contains(&share(twice)), "{twice}");
}

#[test]
fn a_row_has_the_fields_of_the_real_rows_in_their_order() {
    let value = &rows(1, 1)[0].value;
    let positions: Vec<Option<usize>> = FIELDS
        .iter()
        .map(|field| value.find(&format!("\"{field}\": ")))
        .collect();
    assert!(positions.iter().all(Option::is_some), "{value}");
    assert!(positions.is_sorted(), "{value}");
    assert!(
        value.contains("\"event_time\": \"2024-06-01T00:00:00+00:00\", "),
        "{value}"
    );
    let parsed: Value = serde_json::from_str(value).expect("JSON");
    let technical = parsed["context"]["technical"]
        .as_object()
        .expect("technical");
    assert_eq!(technical.len(), 5);
    assert!((300..550).contains(&value.len()), "{}", value.len());
}

#[test]
fn the_key_is_the_visit_id_and_a_visit_comes_back() {
    let rows = rows(3, 20_000);
    let mut users: HashMap<String, HashSet<String>> = HashMap::new();
    for row in &rows {
        let id = serde_json::from_str::<Value>(&row.value)
            .ok()
            .and_then(|visit| Some(visit["visit_id"].as_str()?.to_owned()));
        assert_eq!(row.key, id);
        if let Some(id) = id {
            let visit: Value = serde_json::from_str(&row.value).expect("JSON");
            users
                .entry(id)
                .or_default()
                .insert(visit["context"]["user"]["login"].to_string());
        }
    }
    let constant = users.values().filter(|logins| logins.len() == 1).count();
    assert!(constant * 100 > users.len() * 98);
    assert!(rows.len() / users.len() >= 5, "{} visits", users.len());
}

#[test]
fn uuids_are_of_version_4() {
    let uuid = text::uuid(&mut fastrand::Rng::with_seed(5));
    assert_eq!(uuid.len(), 36);
    assert_eq!(&uuid[14..15], "4");
    assert!("89ab".contains(&uuid[19..20]));
}

/// Made by `weir-demo rows --count 400 --seed 3 --open-visits 40 --start 2024-06-01T00:00:00Z`.
#[test]
fn the_committed_sample_is_what_the_generator_makes() {
    let sample = include_str!("../../sample/visits.jsonl");
    let mut visits = Visits::new(3, 40);
    for (second, line) in sample.lines().enumerate() {
        let now = Timestamp::from_second(1_717_200_000 + second as i64).expect("a moment");
        assert_eq!(visits.next_row(now).value, line, "line {}", second + 1);
    }
    assert_eq!(sample.lines().count(), 400);
    assert!(sample.lines().any(|line| line == CUT_OFF));
    assert!(
        sample
            .lines()
            .any(|line| line.contains("\"visit_id\": null"))
    );
}
