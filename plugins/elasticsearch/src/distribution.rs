//! How often a quantity fell into which bucket, between two reports.

use weir_plugin_sdk::{Settle, SinkMetric};

/// Upper bounds of operations in a request; `batch.records` is 1,000 unless configured otherwise, 50,000 at most.
const OPERATIONS: &[u64] = &[
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000,
];
/// Upper bounds in milliseconds of times that an outage stretches: from a quick bulk to a day.
const TIMES_MS: &[u64] = &[
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000,
    3_600_000, 14_400_000, 86_400_000,
];
const BUCKETS_MAX: usize = 19;

#[derive(Debug)]
pub(crate) struct Distribution {
    metric: SinkMetric,
    /// Rising; one bucket more takes what is above the last.
    bounds: &'static [u64],
    counts: [u64; BUCKETS_MAX],
    sum: u64,
}

impl Distribution {
    pub(crate) fn of_operations(metric: SinkMetric) -> Self {
        Distribution::new(metric, OPERATIONS)
    }

    pub(crate) fn of_times_ms(metric: SinkMetric) -> Self {
        Distribution::new(metric, TIMES_MS)
    }

    fn new(metric: SinkMetric, bounds: &'static [u64]) -> Self {
        Distribution {
            metric,
            bounds,
            counts: [0; BUCKETS_MAX],
            sum: 0,
        }
    }

    pub(crate) fn observe(&mut self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(value);
    }

    /// Takes over what `other`, of the same bounds, has gathered, and leaves it empty.
    pub(crate) fn absorb(&mut self, other: &mut Distribution) {
        for (count, more) in self.counts.iter_mut().zip(&mut other.counts) {
            *count += std::mem::take(more);
        }
        self.sum = self.sum.saturating_add(std::mem::take(&mut other.sum));
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Tells the host, if there is anything to tell.
    pub(crate) fn report(&self, out: &mut Settle<'_>) {
        if self.count() > 0 {
            let bounds = self.bounds.iter().copied().map(Some).chain([None]);
            out.buckets(
                self.metric,
                bounds.zip(self.counts.iter().copied()),
                self.sum,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_has_a_bucket_and_belongs_to_it() {
        for bounds in [OPERATIONS, TIMES_MS] {
            assert!(bounds.len() < BUCKETS_MAX && bounds.is_sorted());
            let mut distribution = Distribution::new(SinkMetric::LagMs, bounds);
            for (bucket, bound) in bounds.iter().enumerate() {
                distribution.observe(*bound);
                distribution.observe(bound + 1);
                assert!(distribution.counts[bucket] > 0 && distribution.counts[bucket + 1] == 1);
            }
            distribution.observe(u64::MAX);
            assert_eq!(distribution.count(), 2 * bounds.len() as u64 + 1);
            assert_eq!(distribution.sum, u64::MAX);
        }
    }

    #[test]
    fn what_is_absorbed_moves() {
        let mut all = Distribution::of_times_ms(SinkMetric::LagMs);
        let mut part = Distribution::of_times_ms(SinkMetric::LagMs);
        part.observe(7);
        for _ in 0..2 {
            all.absorb(&mut part);
            assert_eq!((all.count(), all.sum, part.count()), (1, 7, 0));
        }
    }
}
