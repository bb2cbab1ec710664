//! What a sink plugin reports of itself beside verdicts and errors.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_plugin_api::sink_metric;

use super::catalogue::{
    Metric, SINK_BLOCKED, SINK_IN_FLIGHT, SINK_ITEMS, SINK_OLDEST_PENDING, SINK_OPERATIONS,
    SINK_PENDING, SINK_REQUEST_BYTES, SINK_REQUESTS, SINK_SPLITS, SINK_TARGET_UP,
};
use super::{DurationHistogram, MAX_SINK_ERROR_CLASSES, MetricKind};

/// The metrics with their number in the plugin ABI and what divides a value into the metric's unit.
const METRICS: [(u32, Metric, f64); 10] = [
    (sink_metric::ITEMS, SINK_ITEMS, 1.0),
    (sink_metric::OPERATIONS, SINK_OPERATIONS, 1.0),
    (sink_metric::REQUESTS, SINK_REQUESTS, 1.0),
    (sink_metric::REQUEST_BYTES, SINK_REQUEST_BYTES, 1.0),
    (sink_metric::SPLITS, SINK_SPLITS, 1.0),
    (sink_metric::PENDING_RECORDS, SINK_PENDING, 1.0),
    (sink_metric::REQUESTS_IN_FLIGHT, SINK_IN_FLIGHT, 1.0),
    (sink_metric::BLOCKED_RECORDS, SINK_BLOCKED, 1.0),
    (sink_metric::OLDEST_PENDING_MS, SINK_OLDEST_PENDING, 1_000.0),
    (sink_metric::TARGET_UP, SINK_TARGET_UP, 1.0),
];

/// The numbers of one sink. Labels come from plugins, so each metric keeps [`MAX_SINK_ERROR_CLASSES`] of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkNumbers {
    values: BTreeMap<(u32, String), u64>,
    /// How long requests took.
    pub request_durations: DurationHistogram,
}

impl SinkNumbers {
    /// Takes one number as the plugin reported it; one of an unknown metric is passed over.
    pub fn take(&mut self, metric: u32, label: &str, value: u64) {
        if metric == sink_metric::REQUEST_DURATION_US {
            self.request_durations.observe(Duration::from_micros(value));
            return;
        }
        let Some((_, declared, _)) = METRICS.iter().find(|(number, ..)| *number == metric) else {
            return;
        };
        let labels = self.values.keys().filter(|(known, _)| *known == metric);
        let key = (metric, label.to_owned());
        if !self.values.contains_key(&key) && labels.count() >= MAX_SINK_ERROR_CLASSES {
            return;
        }
        let kept = self.values.entry(key).or_default();
        *kept = match declared.kind {
            MetricKind::Counter => kept.saturating_add(value),
            MetricKind::Gauge | MetricKind::Histogram => value,
        };
    }

    /// Forgets what was true of an instance that is gone; counters stay.
    pub fn reset_gauges(&mut self) {
        let is_counter = |metric: u32| {
            let declared = METRICS.iter().find(|(number, ..)| *number == metric);
            declared.is_some_and(|(_, declared, _)| declared.kind == MetricKind::Counter)
        };
        self.values.retain(|(metric, _), _| is_counter(*metric));
    }

    /// Every metric with the labels and values that this sink has of it, in the metric's unit.
    pub(super) fn families(&self) -> impl Iterator<Item = (Metric, Vec<(&str, f64)>)> {
        METRICS.iter().map(|(number, metric, scale)| {
            let values = self.values.iter().filter(|((known, _), _)| known == number);
            let values = values.map(|((_, label), value)| (label.as_str(), *value as f64 / scale));
            (*metric, values.collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(numbers: &SinkNumbers, metric: &str, label: &str) -> Option<f64> {
        let mut families = numbers.families();
        let (_, values) = families.find(|(declared, _)| declared.name == metric)?;
        let found = values.iter().find(|(known, _)| *known == label)?;
        Some(found.1)
    }

    #[test]
    fn counters_add_up_and_gauges_are_replaced() {
        let mut numbers = SinkNumbers::default();
        for _ in 0..2 {
            numbers.take(sink_metric::ITEMS, "stored", 5);
            numbers.take(sink_metric::OLDEST_PENDING_MS, "", 2_500);
            numbers.take(sink_metric::REQUEST_DURATION_US, "", 3_000);
            numbers.take(4_000, "unknown", 1);
        }
        assert_eq!(
            value(&numbers, "weir_sink_items_total", "stored"),
            Some(10.0)
        );
        assert_eq!(
            value(&numbers, "weir_sink_oldest_pending_seconds", ""),
            Some(2.5)
        );
        assert_eq!(numbers.request_durations.count(), 2);
        numbers.reset_gauges();
        assert_eq!(
            value(&numbers, "weir_sink_oldest_pending_seconds", ""),
            None
        );
        assert_eq!(
            value(&numbers, "weir_sink_items_total", "stored"),
            Some(10.0)
        );
    }

    #[test]
    fn labels_are_bounded() {
        let mut numbers = SinkNumbers::default();
        for label in 0..1_000 {
            numbers.take(sink_metric::ITEMS, &label.to_string(), 1);
        }
        assert_eq!(numbers.values.len(), MAX_SINK_ERROR_CLASSES);
    }
}
