//! What the sink counts and measures, between two reports to the host.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_plugin_sdk::{Settle, SinkMetric};

use crate::distribution::Distribution;

/// Request durations that wait for the next report; polls come every 100 ms, so only a host that stands still meets it.
const DURATIONS_MAX: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Numbers {
    /// Counters since the last report.
    counts: BTreeMap<(SinkMetric, &'static str), u64>,
    durations: Vec<Duration>,
    /// Operations of each request.
    pub(crate) request_operations: Distribution,
    /// From a record's acceptance to its first request.
    pub(crate) queue_wait_ms: Distribution,
    /// From a record's timestamp to its end as stored.
    pub(crate) lag_ms: Distribution,
    /// Their last values.
    gauges: BTreeMap<(SinkMetric, &'static str), u64>,
    /// Whether each node works.
    targets: Vec<(String, bool)>,
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers {
            counts: BTreeMap::new(),
            durations: Vec::new(),
            request_operations: Distribution::of_operations(SinkMetric::RequestOperations),
            queue_wait_ms: Distribution::of_times_ms(SinkMetric::QueueWaitMs),
            lag_ms: Distribution::of_times_ms(SinkMetric::LagMs),
            gauges: BTreeMap::new(),
            targets: Vec::new(),
        }
    }
}

impl Numbers {
    pub(crate) fn add(&mut self, metric: SinkMetric, label: &'static str, count: u64) {
        *self.counts.entry((metric, label)).or_default() += count;
    }

    pub(crate) fn observe(&mut self, duration: Duration) {
        if self.durations.len() < DURATIONS_MAX {
            self.durations.push(duration);
        }
    }

    pub(crate) fn set(&mut self, metric: SinkMetric, label: &'static str, value: u64) {
        self.gauges.insert((metric, label), value);
    }

    pub(crate) fn set_targets(&mut self, targets: Vec<(String, bool)>) {
        self.targets = targets;
    }

    /// Takes over what `other` has gathered, and leaves it empty.
    pub(crate) fn absorb(&mut self, other: &mut Numbers) {
        for ((metric, label), count) in std::mem::take(&mut other.counts) {
            self.add(metric, label, count);
        }
        for duration in other.durations.drain(..) {
            self.observe(duration);
        }
        self.request_operations
            .absorb(&mut other.request_operations);
        self.queue_wait_ms.absorb(&mut other.queue_wait_ms);
        self.lag_ms.absorb(&mut other.lag_ms);
        self.gauges.append(&mut other.gauges);
        if !other.targets.is_empty() {
            self.targets = std::mem::take(&mut other.targets);
        }
    }

    /// Tells the host.
    pub(crate) fn report(self, out: &mut Settle<'_>) {
        for ((metric, label), count) in self.counts {
            out.number(metric, label, count);
        }
        for duration in self.durations {
            let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
            out.number(SinkMetric::RequestDurationUs, "", duration_us);
        }
        for distribution in [&self.request_operations, &self.queue_wait_ms, &self.lag_ms] {
            distribution.report(out);
        }
        for ((metric, label), value) in self.gauges {
            out.number(metric, label, value);
        }
        for (target, works) in self.targets {
            out.number(SinkMetric::TargetUp, &target, works.into());
        }
    }

    #[cfg(test)]
    pub(crate) fn count(&self, metric: SinkMetric, label: &str) -> u64 {
        let found = self
            .counts
            .iter()
            .find(|((known, name), _)| *known == metric && *name == label);
        found.map_or(0, |(_, count)| *count)
    }

    #[cfg(test)]
    pub(crate) fn gauge(&self, metric: SinkMetric, label: &'static str) -> Option<u64> {
        self.gauges.get(&(metric, label)).copied()
    }
}

/// Whole milliseconds.
pub(crate) fn to_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
