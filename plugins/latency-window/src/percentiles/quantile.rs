use tdigest::TDigest;

use super::{Sample, Summary};

/// The answers numpy gives for the counted values; `None` without a value.
///
/// `counted` is sorted and holds each value once.
pub(super) fn exact(counted: &[(Sample, u64)], percentiles: &[f64]) -> Option<Summary> {
    let (min, max) = (counted.first()?.0.value(), counted.last()?.0.value());
    // For each value, how many samples stand at or below it.
    let ends: Vec<u64> = counted
        .iter()
        .scan(0, |total, (_, count)| {
            *total += count;
            Some(*total)
        })
        .collect();
    let count = *ends.last()?;
    let sample_at = |rank: u64| {
        let index = ends.partition_point(|end| *end <= rank);
        counted.get(index).map_or(max, |(sample, _)| sample.value())
    };
    let percentiles = percentiles
        .iter()
        .map(|percentile| linear(sample_at, count, *percentile))
        .collect();
    Some(Summary {
        percentiles,
        count,
        min,
        max,
    })
}

/// numpy's method `linear` (`_quantile` and `_lerp` in numpy/lib/_function_base_impl.py of numpy 2.4), operation by
/// operation, since the results must have the same bits.
fn linear(sample_at: impl Fn(u64) -> f64, count: u64, percentile: f64) -> f64 {
    let last = count.saturating_sub(1);
    let position = last as f64 * (percentile / 100.0);
    if position >= last as f64 {
        return sample_at(last);
    }
    let below = position.floor();
    let t = position - below;
    let a = sample_at(below as u64);
    let b = sample_at(below as u64 + 1);
    let d = b - a;
    if t < 0.5 {
        a + d * t
    } else {
        b - d * (1.0 - t)
    }
}

/// A known value at a rank position (0 to count - 1).
#[derive(Clone, Copy)]
struct Point {
    position: f64,
    value: f64,
}

/// Percentiles of a digest, by linear interpolation between the ranks of its centroids; `None` without a centroid.
///
/// Not by the digest's own `quantiles`: version 1.0.1 sorts centroids of one mean by weight, and then starts to climb
/// towards the next mean too early. With 99.3 % of all values at 10 and the rest at 10,000 it answers 1,349 for p99.
/// Here a run of centroids with one mean is a flat mass from its first rank to its last; a lone one sits at its centre.
pub(super) fn estimated(digest: &TDigest, percentiles: &[f64]) -> Option<Summary> {
    let (min, max) = (digest.min()?, digest.max()?);
    let last = digest.count() - 1.0;
    let points = points(digest, min, max, last);
    let percentiles = percentiles
        .iter()
        .map(|percentile| {
            let position = last * (percentile / 100.0);
            let next = points.partition_point(|point| point.position <= position);
            match (
                next.checked_sub(1).and_then(|index| points.get(index)),
                points.get(next),
            ) {
                (Some(below), Some(above)) => between(*below, *above, position),
                (None, _) => min,
                (_, None) => max,
            }
        })
        .collect();
    Some(Summary {
        percentiles,
        count: digest.count() as u64,
        min,
        max,
    })
}

/// Positions rise; values do too.
fn points(digest: &TDigest, min: f64, max: f64, last: f64) -> Vec<Point> {
    let mut points = vec![Point {
        position: 0.0,
        value: min,
    }];
    let mut first_rank = 0.0;
    for run in digest.centroids().chunk_by(|a, b| a.mean() == b.mean()) {
        let weight: f64 = run.iter().map(|centroid| centroid.weight()).sum();
        let last_rank = first_rank + weight - 1.0;
        // Rounding in the digest may carry a mean past the extremes by a bit.
        let value = run
            .first()
            .map_or(min, |centroid| centroid.mean())
            .clamp(min, max);
        if run.len() > 1 {
            points.push(Point {
                position: first_rank,
                value,
            });
            points.push(Point {
                position: last_rank,
                value,
            });
        } else {
            points.push(Point {
                position: (first_rank + last_rank) / 2.0,
                value,
            });
        }
        first_rank += weight;
    }
    points.push(Point {
        position: last,
        value: max,
    });
    points
}

fn between(below: Point, above: Point, position: f64) -> f64 {
    let t = (position - below.position) / (above.position - below.position);
    (below.value + (above.value - below.value) * t).clamp(below.value, above.value)
}
