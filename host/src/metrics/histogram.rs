//! Distributions in buckets.

use std::time::Duration;

/// Upper bounds of the buckets, in milliseconds; one more bucket takes what is above the last.
///
/// From 1 ms, below which a call is not worth a figure, to 4 min, where the watchdog speaks.
pub const BUCKET_BOUNDS_MS: [u64; 16] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 240_000,
];

/// How often a duration fell into each bucket, with the sum of all durations.
///
/// Plain numbers: the thread that measures owns it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DurationHistogram {
    buckets: [u64; BUCKET_BOUNDS_MS.len()],
    above: u64,
    sum_ns: u64,
}

impl DurationHistogram {
    /// Counts one duration into the first bucket whose bound is not below it.
    pub fn observe(&mut self, duration: Duration) {
        let bucket = BUCKET_BOUNDS_MS
            .iter()
            .zip(&mut self.buckets)
            .find(|(bound_ms, _)| duration <= Duration::from_millis(**bound_ms))
            .map_or(&mut self.above, |(_, count)| count);
        *bucket += 1;
        // 584 years of calls fit; beyond that the sum stands still and is not wrong by a wrap.
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns = self.sum_ns.saturating_add(nanoseconds);
    }

    /// The number of durations counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum::<u64>() + self.above
    }

    /// As the exposition writes it, in seconds.
    pub fn buckets_seconds(&self) -> Buckets {
        let bounds = BUCKET_BOUNDS_MS
            .iter()
            .map(|bound_ms| Duration::from_millis(*bound_ms).as_secs_f64());
        let counts = self.buckets.iter().copied().chain([self.above]);
        Buckets {
            sum: Duration::from_nanos(self.sum_ns).as_secs_f64(),
            each: bounds.chain([f64::INFINITY]).zip(counts).collect(),
        }
    }
}

/// A distribution in its metric's unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// The sum of all observations.
    pub sum: f64,
    /// `(upper bound, count in this bucket alone)`, rising; the last bound is infinity, which the exposition writes as
    /// `+Inf`.
    pub each: Vec<(f64, u64)>,
}

impl Buckets {
    /// The number of observations.
    pub fn count(&self) -> u64 {
        self.each.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let mut histogram = DurationHistogram::default();
        histogram.observe(Duration::from_millis(5));
        histogram.observe(Duration::from_nanos(5_000_001));
        let buckets = histogram.buckets_seconds().each;
        assert_eq!(buckets[1], (0.005, 1));
        assert_eq!(buckets[2], (0.010, 1));
    }

    #[test]
    fn what_is_above_every_bound_is_counted_too() {
        let mut histogram = DurationHistogram::default();
        histogram.observe(Duration::from_secs(241));
        histogram.observe(Duration::ZERO);
        let buckets = histogram.buckets_seconds();
        assert_eq!((histogram.count(), buckets.count()), (2, 2));
        assert_eq!(buckets.each.last(), Some(&(f64::INFINITY, 1)));
        assert_eq!(buckets.each[0], (0.001, 1));
        assert!((buckets.sum - 241.0).abs() < 1e-9);
    }
}
