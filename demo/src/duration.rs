//! Durations as the topology file writes them.

use std::time::Duration;

use crate::error::DemoError;

/// Reads `500ms`, `10s`, `1m` or `2h`.
pub fn parse(text: &str) -> Result<Duration, DemoError> {
    let malformed = || DemoError::Duration {
        text: text.to_owned(),
    };
    let digits = text
        .find(|character: char| !character.is_ascii_digit())
        .ok_or_else(malformed)?;
    let (amount, unit) = text.split_at(digits);
    let amount: u64 = amount.parse().map_err(|_| malformed())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(malformed()),
    };
    amount
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_units_are_read_and_nothing_else() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1m", 60_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(
                parse(text).expect(text),
                Duration::from_millis(milliseconds)
            );
        }
        for text in [
            "",
            "10",
            "s",
            "10 s",
            "1.5s",
            "-1s",
            "10d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
