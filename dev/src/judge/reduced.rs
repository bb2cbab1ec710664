//! The reduced topic and the dead letters of `reduce-visits`, recomputed from the visits topic.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use crate::client::{Record, Timestamp};

use super::dead_letters::{DeadLetterRules, check_dead_letter, coordinates};
use super::report::Report;
use super::visit::{Verdict, Visit, verdict};

/// What the run was allowed to do with a record that it met twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Each output exactly once, in order per key.
    ExactlyOnce,
    /// Outputs and dead letters may repeat from some record on (after a crash).
    AtLeastOnce,
}

/// Everything that the judgement needs, as it lies in the topics.
#[derive(Debug)]
pub struct ReduceCase<'a> {
    pub source: &'a BTreeMap<i32, Vec<Record>>,
    pub reduced: &'a BTreeMap<i32, Vec<Record>>,
    pub dead_letters: &'a [Record],
    pub pipeline: &'a str,
    pub plugin: &'a str,
    pub delivery: Delivery,
}

type Headers = Vec<(String, Option<Vec<u8>>)>;
/// What a reduced record keeps of its input.
type Lane = (Option<Vec<u8>>, Headers);

/// The outputs of one key, in the order of their topic.
#[derive(Debug, Default)]
struct Outputs {
    visits: VecDeque<Visit>,
}

impl ReduceCase<'_> {
    /// Compares every source record with what became of it, and everything written with its source.
    pub fn judge(&self) -> Report {
        let mut report = Report::default();
        let letters = self.letters_by_source(&mut report);
        let mut expected: BTreeMap<(i32, Lane), Vec<Option<Visit>>> = BTreeMap::new();
        let (mut good, mut bad) = (0, 0);
        for record in self.source.values().flatten() {
            let is_dead = letters.contains(&(record.partition, record.offset));
            let place = place(record);
            let visit = match (verdict(record.value.as_deref()), is_dead) {
                (Verdict::Good(visit), false) => Some(visit),
                (Verdict::Either, false) => None,
                (Verdict::Good(_), true) => {
                    report.differ(format!("{place} is good and lies in the dead letters"));
                    continue;
                }
                (Verdict::Bad(why), false) => {
                    report.differ(format!("{place} is bad ({why}) and has no dead letter"));
                    continue;
                }
                (Verdict::Bad(_) | Verdict::Either, true) => {
                    bad += 1;
                    continue;
                }
            };
            good += 1;
            let lane = (record.key.clone(), record.headers.clone());
            expected
                .entry((record.partition, lane))
                .or_default()
                .push(visit);
        }
        report.count("good rows", good);
        report.count("bad rows", bad);
        let outputs = self.outputs(&mut report);
        compare(expected, outputs, self.delivery, &mut report);
        report
    }

    /// The source records that have a dead letter; compares each letter with its record.
    fn letters_by_source(&self, report: &mut Report) -> BTreeSet<(i32, i64)> {
        let source: BTreeMap<(i32, i64), &Record> = self
            .source
            .values()
            .flatten()
            .map(|r| ((r.partition, r.offset), r))
            .collect();
        let rules = DeadLetterRules {
            pipeline: self.pipeline,
            stage: "TRANSFORMATION",
            plugin: Some(self.plugin),
        };
        let mut letters = BTreeSet::new();
        for letter in self.dead_letters {
            let named = coordinates(letter).map(|(_, partition, offset)| (partition, offset));
            let Some((coordinates, record)) =
                named.and_then(|c| source.get(&c).map(|record| (c, record)))
            else {
                report.differ(format!("{} names no source record", place(letter)));
                continue;
            };
            check_dead_letter(letter, record, &rules, report);
            if !letters.insert(coordinates) && self.delivery == Delivery::ExactlyOnce {
                report.differ(format!("{} has two dead letters", place(record)));
            }
        }
        report.count("dead letters", self.dead_letters.len());
        letters
    }

    /// The reduced records by what they keep of their input, each checked for its form.
    fn outputs(&self, report: &mut Report) -> BTreeMap<Lane, Outputs> {
        let first_append_ms = self
            .source
            .values()
            .flatten()
            .filter_map(|r| match r.timestamp {
                Timestamp::Append(ms) => Some(ms),
                _ => None,
            })
            .min();
        let mut outputs: BTreeMap<Lane, Outputs> = BTreeMap::new();
        let mut count = 0;
        for record in self.reduced.values().flatten() {
            count += 1;
            match read_reduced(record, first_append_ms) {
                Ok(visit) => {
                    let lane = (record.key.clone(), record.headers.clone());
                    outputs.entry(lane).or_default().visits.push_back(visit);
                }
                Err(problem) => report.differ(format!("{}: {problem}", place(record))),
            }
        }
        report.count("reduced records", count);
        outputs
    }
}

fn place(record: &Record) -> String {
    format!("{}-{}@{}", record.topic, record.partition, record.offset)
}

/// Reads a reduced value, which has exactly the keys of the contract.
fn read_reduced(record: &Record, first_append_ms: Option<i64>) -> Result<Visit, String> {
    let bytes = record.value.as_deref().ok_or("a null value")?;
    let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("no JSON: {e}"))?;
    let keys = |value: &Value| -> Vec<String> {
        value.as_object().map_or(Vec::new(), |object| {
            let mut names: Vec<String> = object.keys().cloned().collect();
            names.sort_unstable();
            names
        })
    };
    let visit = value.get("visit").ok_or("no visit")?;
    if keys(&value) != ["start_processing_time_unix_ms", "visit"]
        || keys(visit) != ["event_time", "id"]
    {
        return Err(format!("other keys than the contract's: {value}"));
    }
    let start_ms = value
        .get("start_processing_time_unix_ms")
        .and_then(Value::as_i64);
    let start_ms = start_ms.ok_or_else(|| format!("the start time is no integer: {value}"))?;
    if first_append_ms.is_some_and(|first| start_ms < first) {
        return Err(format!(
            "started at {start_ms}, before any source record was appended"
        ));
    }
    if let Timestamp::Append(append_ms) = record.timestamp
        && start_ms > append_ms
    {
        return Err(format!(
            "started at {start_ms}, after its append at {append_ms}"
        ));
    }
    Ok(Visit {
        id: visit
            .get("id")
            .and_then(Value::as_str)
            .ok_or("id is no text")?
            .to_owned(),
        event_time: visit
            .get("event_time")
            .and_then(Value::as_i64)
            .ok_or("event_time is no integer")?,
    })
}

/// Finds every expected output, in order where the contract promises order.
fn compare(
    expected: BTreeMap<(i32, Lane), Vec<Option<Visit>>>,
    mut outputs: BTreeMap<Lane, Outputs>,
    delivery: Delivery,
    report: &mut Report,
) {
    let mut by_lane: BTreeMap<Lane, Vec<Vec<Option<Visit>>>> = BTreeMap::new();
    for ((_, lane), visits) in expected {
        by_lane.entry(lane).or_default().push(visits);
    }
    for (lane, sequences) in by_lane {
        let found: Vec<Visit> = outputs
            .remove(&lane)
            .map_or(Vec::new(), |outputs| outputs.visits.into());
        let name = lane_name(&lane);
        check_counts(&name, &sequences, &found, delivery, report);
        // A null key has no order; one key in two partitions has none between them.
        if lane.0.is_some() {
            for sequence in &sequences {
                if !is_subsequence(sequence, &found) {
                    report.differ(format!("{name}: not in the order of the source"));
                }
            }
        }
    }
    for (lane, outputs) in outputs {
        let first = outputs.visits.front();
        report.differ(format!(
            "{}: from no source record, {first:?}",
            lane_name(&lane)
        ));
    }
}

fn lane_name((key, headers): &Lane) -> String {
    let key = key.as_deref().map(String::from_utf8_lossy);
    match headers.len() {
        0 => format!("reduced key {key:?}"),
        number => format!("reduced key {key:?} with {number} headers"),
    }
}

/// Every expected visit is there, none more often than delivery allows, and no other.
fn check_counts(
    name: &str,
    sequences: &[Vec<Option<Visit>>],
    found: &[Visit],
    delivery: Delivery,
    report: &mut Report,
) {
    let open = sequences.iter().flatten().filter(|v| v.is_none()).count();
    let mut balance: BTreeMap<&Visit, (usize, usize)> = BTreeMap::new();
    for visit in sequences.iter().flatten().flatten() {
        balance.entry(visit).or_default().0 += 1;
    }
    for visit in found {
        balance.entry(visit).or_default().1 += 1;
    }
    let rows = sequences.iter().map(Vec::len).sum::<usize>();
    if found.len() < rows {
        report.differ(format!("{name}: {} records of {rows} rows", found.len()));
    }
    let mut surplus = 0;
    for (visit, (wanted, there)) in balance {
        let repeats_are_fine = delivery == Delivery::AtLeastOnce && wanted > 0;
        report.count("lost", wanted.saturating_sub(there));
        if there < wanted {
            report.differ(format!(
                "{name}: {visit:?} is there {there} times, not {wanted}"
            ));
        } else if there > wanted && !repeats_are_fine {
            surplus += there - wanted;
            if surplus > open {
                report.count("doubled", there - wanted);
                report.differ(format!(
                    "{name}: {visit:?} is there {there} times, not {wanted}"
                ));
            }
        }
    }
}

/// Whether `wanted` can be read in `found` from left to right; an open row takes any one.
fn is_subsequence(wanted: &[Option<Visit>], found: &[Visit]) -> bool {
    let mut found = found.iter();
    wanted.iter().all(|visit| match visit {
        Some(visit) => found.any(|other| other == visit),
        // It may stand anywhere: the counts look after it.
        None => true,
    })
}

#[cfg(test)]
#[path = "reduced_tests.rs"]
mod tests;
