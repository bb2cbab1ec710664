//! Visits at a steady rate, straight to the broker: real rows, bad ones included, each made distinct.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::client::{Kafka, Row};
use crate::scene::sample_rows;

/// How often a slice of the load is sent.
const SLICE: Duration = Duration::from_millis(50);

/// Writes until `stop`, then waits for every acknowledgement; gives the number of visits.
pub fn write(kafka: &Kafka, topic: &str, per_second: u32, stop: &AtomicBool) -> Result<u64> {
    let sample = sample_rows()?;
    let mut rows = sample.iter().cycle();
    let writer = kafka.writer()?;
    let began = Instant::now();
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        // By the clock and not by slices: what an outage held up is made up for.
        let due = began.elapsed().as_millis() * u128::from(per_second) / 1_000;
        while u128::from(written) < due {
            let row = rows.next().context("the sample is empty")?;
            writer.send(topic, &distinct(row, written))?;
            written += 1;
        }
        // The pace of the load.
        thread::sleep(SLICE);
    }
    writer.flush()?;
    Ok(written)
}

/// The row with `number` at the end of its visit's id, where it has one as text. The others are bad, and are told apart
/// by their offsets.
fn distinct(row: &Row, number: u64) -> Row {
    let mut row = row.clone();
    if let Some(value) = &mut row.value
        && let Some(end) = end_of_id(value)
    {
        let suffix = format!("-{number}");
        value.splice(end..end, suffix.into_bytes());
    }
    row
}

/// Where the text of the field `visit_id` ends.
fn end_of_id(value: &[u8]) -> Option<usize> {
    const FIELD: &[u8] = b"\"visit_id\": \"";
    let at = value.windows(FIELD.len()).position(|part| part == FIELD)?;
    let begin = at + FIELD.len();
    let length = value.get(begin..)?.iter().position(|&b| b == b'"')?;
    // An empty id is a bad one, and stays so.
    (length > 0).then_some(begin + length)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::judge::{Verdict, verdict};

    #[test]
    fn good_rows_become_distinct_and_bad_ones_stay_bad() {
        let rows = sample_rows().expect("the sample");
        let mut ids = BTreeSet::new();
        let (mut good, mut bad) = (0, 0);
        for (number, row) in (0..).zip(rows.iter().chain(&rows)) {
            match verdict(distinct(row, number).value.as_deref()) {
                Verdict::Good(visit) => {
                    good += 1;
                    ids.insert(visit.id);
                }
                Verdict::Bad(_) => bad += 1,
                Verdict::Either => panic!("row {number} is neither"),
            }
        }
        assert_eq!((good, bad), (2 * 4_852, 2 * 148));
        assert_eq!(ids.len(), good);
    }
}
