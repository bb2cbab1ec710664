//! Prometheus durations, the form of `interval` and `for` in Grafana's files: `1m`, `90s`, `1h30m`.

/// Units from the largest to the smallest, with their length in milliseconds. Prometheus counts a year as 365 days.
const UNITS_MS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Milliseconds of a Prometheus duration. `None` for anything Grafana would refuse: no unit (`120`), a fraction, a repeated unit, units
/// that do not descend, an empty text. `0` alone is allowed.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut units, mut total_ms) = (text, UNITS_MS.as_slice(), 0_i64);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let name_len = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (name, next) = after.split_at(name_len);
        let position = units.iter().position(|(unit, _)| *unit == name)?;
        let (_, unit_ms) = units.get(position)?;
        total_ms = total_ms.checked_add(number.parse::<i64>().ok()?.checked_mul(*unit_ms)?)?;
        units = units.get(position + 1..)?;
        rest = next;
    }
    (!text.is_empty()).then_some(total_ms)
}

#[cfg(test)]
mod tests {
    use super::parse_duration_ms;

    #[test]
    fn takes_what_prometheus_takes() {
        let cases = [
            ("1m", 60_000),
            ("2m", 120_000),
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("1m500ms", 60_500),
            ("0", 0),
            ("1d", 86_400_000),
        ];
        for (text, ms) in cases {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn refuses_what_prometheus_refuses() {
        for text in [
            "",
            "120",
            "m",
            "1.5m",
            "-1m",
            "1m1m",
            "1s1m",
            "2 minutes",
            "1m ",
            "99999999999999999999y",
            "9999999999y",
        ] {
            assert_eq!(parse_duration_ms(text), None, "{text}");
        }
    }
}
