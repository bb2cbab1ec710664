//! The window documents of `visits-sla`, recomputed from the reduced topic.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::client::{Document, Record};

use super::percentile::percentile;
use super::report::Report;
use super::rfc3339::format_seconds;

/// Beyond so many distinct values the plugin may answer from a sketch.
const EXACT_DISTINCT_VALUES: usize = 2_048;
/// In a sketch: the widest rank error that the plugin's own research allows, with margin.
const SKETCH_RANK_ERROR: f64 = 0.005;
/// The last start time that counts: 9999-12-31T23:59:59.999Z.
const LAST_START_MS: f64 = 253_402_300_799_999.0;

/// The options of `latency-window` that the documents depend on.
#[derive(Debug, Clone)]
pub struct WindowRules {
    pub size_s: i64,
    pub percentiles: Vec<f64>,
    pub epoch: i64,
    /// Dots go into objects.
    pub start_field: String,
}

impl WindowRules {
    /// The plugin's defaults with another window size.
    pub fn of_size_s(size_s: i64) -> WindowRules {
        WindowRules {
            size_s,
            percentiles: vec![50.0, 75.0, 90.0, 99.0],
            epoch: 0,
            start_field: "start_processing_time_unix_ms".to_owned(),
        }
    }
}

/// Everything that the judgement needs.
#[derive(Debug)]
pub struct WindowCase<'a> {
    pub reduced: &'a BTreeMap<i32, Vec<Record>>,
    /// By document id.
    pub documents: &'a BTreeMap<String, Document>,
    pub rules: &'a WindowRules,
}

impl WindowCase<'_> {
    /// Compares every document with the window that it stands for, and the other way round.
    pub fn judge(&self) -> Report {
        let mut report = Report::default();
        let mut windows: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut bad = 0;
        for record in self.reduced.values().flatten() {
            match self.latency(record) {
                Some((window_s, latency_ms)) => windows
                    .entry(timestamp_text(window_s))
                    .or_default()
                    .push(latency_ms),
                None => bad += 1,
            }
        }
        report.count("windows", windows.len());
        report.count("records in windows", windows.values().map(Vec::len).sum());
        report.count("bad records", bad);
        for (id, latencies) in &mut windows {
            latencies.sort_unstable_by(f64::total_cmp);
            match self.documents.get(id) {
                Some(document) => self.compare(document, latencies, &mut report),
                None => report.differ(format!("window {id}: no document")),
            }
        }
        for id in self
            .documents
            .keys()
            .filter(|id| !windows.contains_key(*id))
        {
            report.differ(format!("document {id}: no record lies in that window"));
        }
        report
    }

    /// Start of the window in unix seconds, and the latency; `None` for a bad record.
    fn latency(&self, record: &Record) -> Option<(i64, f64)> {
        let append_ms = record.timestamp.ms()?;
        let value: Value = serde_json::from_slice(record.value.as_deref()?).ok()?;
        let start = self
            .rules
            .start_field
            .split('.')
            .try_fold(&value, |value, name| value.as_object()?.get(name))?;
        let start_ms = start.as_f64()?;
        if !(0.0..=LAST_START_MS).contains(&start_ms) {
            return None;
        }
        let size_ms = self.rules.size_s * 1_000;
        let window_s = append_ms.div_euclid(size_ms) * self.rules.size_s;
        // Both are far below 2^53.
        #[allow(clippy::cast_precision_loss)]
        Some((window_s, append_ms as f64 - start_ms))
    }

    fn compare(&self, document: &Document, sorted: &[f64], report: &mut Report) {
        let id = &document.id;
        let mut differ = |what: String| report.differ(format!("document {id}: {what}"));
        let fields = self.expected_fields(id, sorted);
        let count = i64::try_from(sorted.len()).unwrap_or(i64::MAX);
        let version = (self.rules.epoch << 40) + count;
        if document.version != version {
            differ(format!("version {}, not {version}", document.version));
        }
        let Some(source) = document.source.as_object() else {
            differ(format!("{} is no object", document.source));
            return;
        };
        for name in source.keys().filter(|name| !fields.contains_key(*name)) {
            differ(format!("a field {name:?} that the contract does not know"));
        }
        for (name, wanted) in &fields {
            let found = source.get(name);
            if !found.is_some_and(|found| wanted.matches(found, sorted)) {
                differ(format!("{name} is {found:?}, not {wanted:?}"));
            }
        }
    }

    fn expected_fields(&self, id: &str, sorted: &[f64]) -> BTreeMap<String, Expected> {
        let mut fields = BTreeMap::from([
            ("@timestamp".to_owned(), Expected::Text(id.to_owned())),
            ("count".to_owned(), Expected::Integer(sorted.len())),
        ]);
        for (name, value) in [("min", sorted.first()), ("max", sorted.last())] {
            if let Some(&value) = value {
                fields.insert(name.to_owned(), Expected::Decimal(value));
            }
        }
        let mut distinct = sorted.to_vec();
        distinct.dedup();
        let is_exact = distinct.len() <= EXACT_DISTINCT_VALUES;
        for &p in &self.rules.percentiles {
            let Some(value) = percentile(sorted, p) else {
                continue;
            };
            let expected = if is_exact {
                Expected::Decimal(value)
            } else {
                Expected::Rank(p)
            };
            fields.insert(field_name(p), expected);
        }
        fields
    }
}

/// The text of a window's start, which is also the document's id and the record's key.
pub fn timestamp_text(window_s: i64) -> String {
    format_seconds(window_s)
}

fn field_name(p: f64) -> String {
    format!("p{p}").replace('.', "_")
}

#[derive(Debug)]
enum Expected {
    Text(String),
    Integer(usize),
    /// Bit for bit, and written with a decimal point.
    Decimal(f64),
    /// The percentile of a sketch: only its rank is bounded.
    Rank(f64),
}

impl Expected {
    fn matches(&self, found: &Value, sorted: &[f64]) -> bool {
        match self {
            Expected::Text(text) => found.as_str() == Some(text),
            Expected::Integer(number) => found
                .as_u64()
                .is_some_and(|n| usize::try_from(n) == Ok(*number)),
            // `is_f64` is false for a number that was written without a point.
            Expected::Decimal(number) => found.is_f64() && found.as_f64() == Some(*number),
            Expected::Rank(p) => found
                .as_f64()
                .is_some_and(|n| found.is_f64() && rank_error(sorted, *p, n) <= SKETCH_RANK_ERROR),
        }
    }
}

/// The distance in fractions of n-1 from the position asked for to those that `answer` could hold.
fn rank_error(sorted: &[f64], p: f64, answer: f64) -> f64 {
    let below = sorted.partition_point(|&v| v < answer);
    let up_to = sorted.partition_point(|&v| v <= answer);
    #[allow(clippy::cast_precision_loss)]
    let (below, up_to, last) = (below as f64, up_to as f64, sorted.len() as f64 - 1.0);
    let position = last * (p / 100.0);
    let (low, high) = (below - 1.0, up_to);
    let distance = (low - position).max(position - high).max(0.0);
    distance / last.max(1.0)
}

#[cfg(test)]
#[path = "windows_tests.rs"]
mod tests;
