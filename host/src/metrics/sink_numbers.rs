//! What a sink plugin reports of itself beside verdicts and errors.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_plugin_api::sink_metric;

use super::catalogue::{
    Metric, SINK_BLOCKED, SINK_IN_FLIGHT, SINK_ITEM_ERRORS, SINK_ITEMS, SINK_LAG,
    SINK_OLDEST_PENDING, SINK_OPERATIONS, SINK_PAUSED, SINK_PENDING, SINK_QUEUE_WAIT,
    SINK_RECORDS_ACCEPTED, SINK_REQUEST_BYTES, SINK_REQUEST_OPERATIONS, SINK_REQUESTS, SINK_SPLITS,
    SINK_TARGET_UP,
};
use super::{Buckets, DurationHistogram, MAX_SINK_ERROR_CLASSES, MetricKind, OTHER_ERROR_CLASS};

/// The metrics with their number in the plugin ABI and what divides a value into the metric's unit.
const METRICS: [(u32, Metric, f64); 16] = [
    (sink_metric::RECORDS_ACCEPTED, SINK_RECORDS_ACCEPTED, 1.0),
    (sink_metric::ITEMS, SINK_ITEMS, 1.0),
    (sink_metric::ITEM_ERRORS, SINK_ITEM_ERRORS, 1.0),
    (sink_metric::OPERATIONS, SINK_OPERATIONS, 1.0),
    (sink_metric::REQUESTS, SINK_REQUESTS, 1.0),
    (sink_metric::REQUEST_BYTES, SINK_REQUEST_BYTES, 1.0),
    (sink_metric::SPLITS, SINK_SPLITS, 1.0),
    (sink_metric::PENDING_RECORDS, SINK_PENDING, 1.0),
    (sink_metric::REQUESTS_IN_FLIGHT, SINK_IN_FLIGHT, 1.0),
    (sink_metric::BLOCKED_RECORDS, SINK_BLOCKED, 1.0),
    (sink_metric::OLDEST_PENDING_MS, SINK_OLDEST_PENDING, 1_000.0),
    (sink_metric::TARGET_UP, SINK_TARGET_UP, 1.0),
    (sink_metric::PAUSED, SINK_PAUSED, 1.0),
    (
        sink_metric::REQUEST_OPERATIONS,
        SINK_REQUEST_OPERATIONS,
        1.0,
    ),
    (sink_metric::QUEUE_WAIT_MS, SINK_QUEUE_WAIT, 1_000.0),
    (sink_metric::LAG_MS, SINK_LAG, 1_000.0),
];

/// The numbers of one sink. Labels come from plugins, so each metric keeps [`MAX_SINK_ERROR_CLASSES`] of them; what a
/// counter has beyond is counted as [`OTHER_ERROR_CLASS`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkNumbers {
    /// A histogram has one value for each of its buckets, and its sum.
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
        let Some(kind) = kind_of(metric) else {
            return;
        };
        let Some(label) = self.kept_label(metric, kind, label) else {
            return;
        };
        let kept = self.values.entry((metric, label.to_owned())).or_default();
        *kept = match kind {
            MetricKind::Counter | MetricKind::Histogram => kept.saturating_add(value),
            MetricKind::Gauge => value,
        };
    }

    /// Under which label a number is kept, if it is.
    fn kept_label<'l>(&self, metric: u32, kind: MetricKind, label: &'l str) -> Option<&'l str> {
        if kind == MetricKind::Histogram && !is_bucket(label) {
            return None;
        }
        let mut labels = self.values.keys().filter(|(known, _)| *known == metric);
        if labels.clone().count() < MAX_SINK_ERROR_CLASSES
            || labels.any(|(_, known)| known == label)
        {
            return Some(label);
        }
        (kind == MetricKind::Counter).then_some(OTHER_ERROR_CLASS)
    }

    /// Forgets what was true of an instance that is gone; counters and histograms stay.
    pub fn reset_gauges(&mut self) {
        self.values
            .retain(|(metric, _), _| kind_of(*metric) != Some(MetricKind::Gauge));
    }

    /// Every counter and gauge with the labels and values that this sink has of it, in the metric's unit.
    pub(super) fn families(&self) -> impl Iterator<Item = (Metric, Vec<(&str, f64)>)> {
        let plain = METRICS
            .iter()
            .filter(|(_, metric, _)| metric.kind != MetricKind::Histogram);
        plain.map(|(number, metric, scale)| {
            let values = self.values_of(*number);
            let values = values.map(|(label, value)| (label, value as f64 / scale));
            (*metric, values.collect())
        })
    }

    /// Every histogram that this sink has observed anything for, in the metric's unit.
    pub(super) fn histograms(&self) -> impl Iterator<Item = (Metric, Buckets)> {
        let histograms = METRICS
            .iter()
            .filter(|(_, metric, _)| metric.kind == MetricKind::Histogram);
        histograms.filter_map(|(number, metric, scale)| {
            let (mut each, mut above, mut sum) = (Vec::new(), 0, 0);
            for (label, value) in self.values_of(*number) {
                match (label, label.parse::<u64>()) {
                    (sink_metric::BUCKET_SUM, _) => sum = value,
                    (_, Ok(bound)) => each.push((bound as f64 / scale, value)),
                    (_, Err(_)) => above = value,
                }
            }
            each.sort_by(|(left, _), (right, _)| left.total_cmp(right));
            each.push((f64::INFINITY, above));
            let buckets = Buckets {
                sum: sum as f64 / scale,
                each,
            };
            (buckets.count() > 0).then_some((*metric, buckets))
        })
    }

    fn values_of(&self, metric: u32) -> impl Iterator<Item = (&str, u64)> {
        let values = self
            .values
            .iter()
            .filter(move |((known, _), _)| *known == metric);
        values.map(|((_, label), value)| (label.as_str(), *value))
    }
}

fn kind_of(metric: u32) -> Option<MetricKind> {
    let declared = METRICS.iter().find(|(number, ..)| *number == metric);
    declared.map(|(_, declared, _)| declared.kind)
}

fn is_bucket(label: &str) -> bool {
    matches!(label, sink_metric::BUCKET_INF | sink_metric::BUCKET_SUM)
        || label.parse::<u64>().is_ok()
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
        assert_eq!(numbers.values.len(), MAX_SINK_ERROR_CLASSES + 1);
        let beyond = 1_000.0 - MAX_SINK_ERROR_CLASSES as f64;
        let other = value(&numbers, "weir_sink_items_total", OTHER_ERROR_CLASS);
        assert_eq!(other, Some(beyond), "none is lost");
        for node in 0..1_000 {
            numbers.take(sink_metric::TARGET_UP, &node.to_string(), 1);
        }
        assert_eq!(numbers.values.len(), 2 * MAX_SINK_ERROR_CLASSES + 1);
    }

    #[test]
    fn a_histogram_is_put_together_from_its_buckets() {
        let mut numbers = SinkNumbers::default();
        assert_eq!(numbers.histograms().count(), 0);
        for _ in 0..2 {
            for (label, value) in [("1000", 3), ("20", 1), ("inf", 2), ("sum", 500), ("x", 9)] {
                numbers.take(sink_metric::QUEUE_WAIT_MS, label, value);
            }
        }
        numbers.reset_gauges();
        let found: Vec<(Metric, Buckets)> = numbers.histograms().collect();
        let [(metric, buckets)] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(metric.name, "weir_sink_queue_wait_seconds");
        assert_eq!(buckets.each, [(0.02, 2), (1.0, 6), (f64::INFINITY, 4)]);
        assert_eq!((buckets.sum, buckets.count()), (1.0, 12));
        assert_eq!(value(&numbers, "weir_sink_queue_wait_seconds", "20"), None);
    }
}
