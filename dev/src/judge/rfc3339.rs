//! RFC 3339 date-times to whole unix seconds, by the grammar of section 5.6 of the RFC.

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateTime {
    /// Seconds since the Unix epoch, the fraction floored.
    Seconds(i64),
    /// The contract leaves the answer open: a leap second, the year 0, or a moment outside the
    /// years 1 to 9999 that only the offset leads to.
    Open,
    Malformed,
}

/// Reads one date-time (`T`, `t` or a space between date and time; `Z`, `z` or any offset).
pub fn parse(text: &str) -> DateTime {
    read(&mut Cursor(text.as_bytes())).unwrap_or(DateTime::Malformed)
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn one_of(&mut self, set: &[u8]) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        set.contains(&first).then(|| {
            self.0 = rest;
            first
        })
    }

    fn digit(&mut self) -> Option<i64> {
        self.one_of(b"0123456789").map(|d| i64::from(d - b'0'))
    }

    fn number(&mut self, digits: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let mut value = 0;
        for _ in 0..digits {
            value = value * 10 + self.digit()?;
        }
        range.contains(&value).then_some(value)
    }
}

fn read(cursor: &mut Cursor<'_>) -> Option<DateTime> {
    let year = cursor.number(4, 0..=9999)?;
    cursor.one_of(b"-")?;
    let month = cursor.number(2, 1..=12)?;
    cursor.one_of(b"-")?;
    let day = cursor.number(2, 1..=days_in_month(year, month))?;
    cursor.one_of(b"Tt ")?;
    let hour = cursor.number(2, 0..=23)?;
    cursor.one_of(b":")?;
    let minute = cursor.number(2, 0..=59)?;
    cursor.one_of(b":")?;
    let second = cursor.number(2, 0..=60)?;
    if cursor.one_of(b".").is_some() {
        cursor.digit()?;
        while cursor.digit().is_some() {}
    }
    let offset_s = offset(cursor)?;
    if !cursor.0.is_empty() {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second
        - offset_s;
    let open = second == 60 || year == 0 || !in_years_1_to_9999(seconds);
    Some(if open {
        DateTime::Open
    } else {
        DateTime::Seconds(seconds)
    })
}

/// Seconds east of Greenwich.
fn offset(cursor: &mut Cursor<'_>) -> Option<i64> {
    let sign = match cursor.one_of(b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return Some(0),
    };
    let hours = cursor.number(2, 0..=23)?;
    cursor.one_of(b":")?;
    let minutes = cursor.number(2, 0..=59)?;
    Some(sign * (hours * 3_600 + minutes * 60))
}

/// Whether unix seconds lie within the years 1 to 9999.
pub fn in_years_1_to_9999(seconds: i64) -> bool {
    let first = days_since_epoch(1, 1, 1) * 86_400;
    let end = days_since_epoch(10_000, 1, 1) * 86_400;
    (first..end).contains(&seconds)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, counted plainly.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    // Leap days in the years 1 to y.
    let leap_days = |y: i64| y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400);
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    let months: i64 = (1..month).map(|m| days_in_month(year, m)).sum();
    years + months + day - 1
}

/// The inverse, for the text of a window's start: `2024-09-10T13:37:00+00:00`.
pub fn format_seconds(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400);
    let in_day = seconds.rem_euclid(86_400);
    // At or before the right year on both sides of 1970.
    let mut year = 1970 + days.div_euclid(366).min(days.div_euclid(365));
    while days_since_epoch(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut day = days - days_since_epoch(year, 1, 1);
    let mut month = 1;
    while day >= days_in_month(year, month) {
        day -= days_in_month(year, month);
        month += 1;
    }
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}+00:00",
        day + 1,
        in_day / 3_600,
        in_day / 60 % 60,
        in_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        // By `date -u -d TEXT +%s`.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-06-01T00:00:00+00:00", 1_717_200_000),
            ("2024-06-01 02:00:00.999+02:00", 1_717_200_000),
            ("2024-02-29t23:59:59z", 1_709_251_199),
            ("1969-12-31T23:59:59.5Z", -1),
            ("2024-06-01T00:00:00-05:30", 1_717_219_800),
            ("0001-01-01T00:00:00Z", -62_135_596_800),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(parse(text), DateTime::Seconds(seconds), "{text}");
        }
    }

    #[test]
    fn malformed_texts() {
        for text in [
            "",
            "2024-06-01",
            "2024-06-01T00:00:00",
            "2024-06-01T00:00Z",
            "2024-06-01T00:00:00.Z",
            "2024-06-01T00:00:00+0000",
            "2024-06-01T00:00:00+24:00",
            "2024-06-01T24:00:00Z",
            "2024-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-06-01T00:00:00Zx",
            " 2024-06-01T00:00:00Z",
            "2024-06-01_00:00:00Z",
            "1717200000",
        ] {
            assert_eq!(parse(text), DateTime::Malformed, "{text:?}");
        }
    }

    #[test]
    fn open_questions() {
        for text in [
            "2016-12-31T23:59:60Z",
            "0000-06-01T00:00:00Z",
            "9999-12-31T23:59:59-01:00",
            "0001-01-01T00:00:00+01:00",
        ] {
            assert_eq!(parse(text), DateTime::Open, "{text}");
        }
    }

    #[test]
    fn formatting_is_the_inverse() {
        let mut seconds = -62_135_596_800_i64;
        while in_years_1_to_9999(seconds) {
            let text = format_seconds(seconds);
            assert_eq!(parse(&text), DateTime::Seconds(seconds), "{text}");
            // A prime step over every kind of year, month and hour.
            seconds += 86_400 * 97 + 3_607;
        }
    }
}
