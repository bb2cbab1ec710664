//! numpy's default percentile (linear interpolation), bit for bit.

/// The `p`th percentile (0 to 100) of `sorted`, ascending; `None` for no values.
///
/// numpy/lib/_function_base_impl.py, `_lerp`: position (n-1)·p/100, and of two neighbours a and b
/// a + d·t below the middle, b - d·(1-t) from it on.
pub fn percentile(sorted: &[f64], p: f64) -> Option<f64> {
    let (&last, rest) = sorted.split_last()?;
    // Counts stay far below 2^53, so these conversions are exact.
    #[allow(clippy::cast_precision_loss)]
    let position = rest.len() as f64 * (p / 100.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let below = position.floor() as usize;
    let (Some(&a), Some(&b)) = (sorted.get(below), sorted.get(below + 1)) else {
        return Some(last);
    };
    let t = position - position.floor();
    let d = b - a;
    Some(if t < 0.5 {
        a + d * t
    } else {
        b - d * (1.0 - t)
    })
}

#[cfg(test)]
mod tests {
    use super::percentile;

    /// Values printed by numpy 2.4.6: `numpy.percentile(values, [50, 75, 90, 99])`.
    #[test]
    fn the_results_are_numpys() {
        let cases: [(&[f64], [f64; 4]); 4] = [
            (&[768.0], [768.0, 768.0, 768.0, 768.0]),
            (&[436.0, 768.0], [602.0, 685.0, 734.8, 764.68]),
            (&[1.0, 2.0, 3.0, 4.0], [2.5, 3.25, 3.7, 3.9699999999999998]),
            (
                &[-5.0, 0.0, 7.0, 7.0, 11.0, 1000.0],
                [7.0, 10.0, 505.5, 950.550_000_000_000_2],
            ),
        ];
        for (values, expected) in cases {
            for (p, wanted) in [50.0, 75.0, 90.0, 99.0].into_iter().zip(expected) {
                assert_eq!(percentile(values, p), Some(wanted), "p{p} of {values:?}");
            }
        }
        assert_eq!(percentile(&[], 50.0), None);
    }
}
