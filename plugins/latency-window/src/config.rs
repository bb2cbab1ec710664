use std::time::Duration;

use weir_plugin_sdk::{DurationSetting, Errors, JsonSchema};

use crate::start_field::START_FIELD_PARTS_MAX;
use crate::windows::WINDOWS_PER_SLOT_MAX;

/// A year: a longer window is more likely a mistake in the unit.
const SIZE_MAX: Duration = Duration::from_secs(366 * 86_400);

/// More than anyone reads; each is a field of every document.
const PERCENTILES_MAX: usize = 64;

/// Versions are `epoch * 2^40 + count`, and Elasticsearch takes versions below 2^63.
const EPOCH_MAX: u64 = (1 << 23) - 1;

/// Settings of `latency-window`.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LatencyWindowConfig {
    /// Length of a window, in whole seconds. Windows follow each other without gap or overlap and are aligned to the
    /// Unix epoch: with `1m` they start at full minutes.
    pub size: DurationSetting,
    /// The percentiles of each document, from 0 to 100. 50 becomes the field `p50`, 99.9 becomes `p99_9`. They are
    /// interpolated as numpy does by default, and exact up to 2,048 distinct latencies in a window.
    pub percentiles: Vec<f64>,
    /// Where a record carries the moment at which its processing started: a number, unix milliseconds, perhaps with a
    /// fraction. Dots go into objects: `visit.started_ms`.
    pub start_field: String,
    /// How long after its end a window still takes records. Such a record makes the window's document anew, with the
    /// same id and a higher version. A record that is later still is refused.
    pub allowed_lateness: DurationSetting,
    /// Raise it by one to replace documents by ones that count less, after the input was deleted or repaired: the
    /// document version is `epoch * 2^40 + count`.
    pub epoch: u64,
    /// What a closed window becomes. With `sketch` this is stage one of two: any number of hosts and tasks measure, each the
    /// partitions it has, and emit for each partition and window a mergeable sketch. Write them to a Kafka topic.
    pub emit: Emit,
    /// Stage two: the input consists of the sketches of stage one, and becomes the documents that one host would have
    /// made. Give it the same `size` and `allowed_lateness`. It measures nothing, so `start_field` is not used.
    pub merge: bool,
}

/// What a closed window becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// A JSON document with the percentiles.
    Document,
    /// A mergeable state, for a second stage.
    Sketch,
}

impl Default for LatencyWindowConfig {
    fn default() -> Self {
        LatencyWindowConfig {
            size: DurationSetting(Duration::from_secs(60)),
            percentiles: vec![50.0, 75.0, 90.0, 99.0],
            start_field: "start_processing_time_unix_ms".to_owned(),
            allowed_lateness: DurationSetting(Duration::from_secs(300)),
            epoch: 0,
            emit: Emit::Document,
            merge: false,
        }
    }
}

impl LatencyWindowConfig {
    pub(crate) fn validate(&self, errors: &mut Errors) {
        let size = self.size.0;
        errors.check(
            size >= Duration::from_secs(1) && size.subsec_nanos() == 0 && size <= SIZE_MAX,
            "size",
            "is no number of whole seconds from 1s to 8784h; write for example `1m`",
        );
        // Half of the windows for late records leaves the other half for those still open.
        errors.check(
            self.allowed_lateness.0 <= size * (WINDOWS_PER_SLOT_MAX as u32 / 2),
            "allowed_lateness",
            format!(
                "would keep over {} windows; choose less, or a larger `size`",
                WINDOWS_PER_SLOT_MAX / 2
            ),
        );
        self.validate_percentiles(errors);
        let parts = self.start_field.split('.').count();
        errors.check(
            parts <= START_FIELD_PARTS_MAX
                && self.start_field.split('.').all(|part| !part.is_empty()),
            "start_field",
            format!("is no path of 1 to {START_FIELD_PARTS_MAX} names with single dots between"),
        );
        errors.check(
            self.epoch <= EPOCH_MAX,
            "epoch",
            format!("is above {EPOCH_MAX}, the largest"),
        );
        errors.check(
            !(self.merge && self.emit == Emit::Sketch),
            "merge",
            "`merge: true` reads sketches and cannot emit them; leave `emit` out here, and set it in stage one",
        );
    }

    fn validate_percentiles(&self, errors: &mut Errors) {
        errors.check(
            (1..=PERCENTILES_MAX).contains(&self.percentiles.len()),
            "percentiles",
            format!(
                "has {} entries; 1 to {PERCENTILES_MAX} are possible",
                self.percentiles.len()
            ),
        );
        for (index, percentile) in self.percentiles.iter().enumerate() {
            let path = format!("percentiles.{index}");
            errors.check(
                (0.0..=100.0).contains(percentile),
                &path,
                format!("{percentile} is not between 0 and 100"),
            );
            let earlier = self.percentiles.iter().take(index);
            errors.check(
                !earlier.into_iter().any(|other| other == percentile),
                &path,
                format!("{percentile} stands twice"),
            );
        }
    }
}
