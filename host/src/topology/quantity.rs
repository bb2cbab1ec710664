//! Durations as the file writes them: a whole number and a unit, `500ms 10s 1m 2h`, or a plain `0`;
//! the plugin SDK reads them in the same way.

use std::time::Duration;

/// Units with their length in milliseconds.
const UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Reads a duration; None for anything else and for what milliseconds in 64 bits cannot hold.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim_start_matches(' ');
    let number: u64 = number.parse().ok()?;
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_millis(number.checked_mul(*millis)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_number_with_a_unit_and_nothing_else() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("0s"), Some(Duration::ZERO));
        assert_eq!(duration("2h"), Some(Duration::from_secs(7200)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        assert_eq!(duration("1 s"), Some(Duration::from_secs(1)));
        for wrong in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "1d",
            "+1s",
            "18446744073709551615h",
            "١s",
        ] {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
    }
}
