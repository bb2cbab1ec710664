//! Times as RFC 3339 writes them, and nothing else.
//!
//! By hand since the date crates also read what the contract calls bad: an hour without minutes, an offset without a
//! colon, a comma before the fraction, a zone name in brackets.

/// Unix seconds of an RFC 3339 `date-time` (section 5.6), floored to the whole second.
///
/// The separator is `T`, `t` or a space, the zone `Z`, `z` or an offset. `None` for anything else, for days that the
/// month does not have, and for the leap second, which unix time does not count.
pub fn unix_seconds(text: &[u8]) -> Option<i64> {
    let (date_time, rest) = text.split_first_chunk::<19>()?;
    #[rustfmt::skip]
    let [y0, y1, y2, y3, b'-', n0, n1, b'-', d0, d1, b'T' | b't' | b' ', h0, h1, b':', m0, m1, b':', s0, s1] = *date_time
    else {
        return None;
    };
    let year = number([y0, y1])? * 100 + number([y2, y3])?;
    let month = number([n0, n1]).filter(|month| (1..=12).contains(month))?;
    let day = number([d0, d1]).filter(|day| (1..=days_in_month(year, month)).contains(day))?;
    let hour = number([h0, h1]).filter(|hour| *hour < 24)?;
    let minute = number([m0, m1]).filter(|minute| *minute < 60)?;
    let second = number([s0, s1]).filter(|second| *second < 60)?;
    let offset_seconds = offset_seconds(without_fraction(rest)?)?;
    // The fraction counts forward from the second also before 1970, so leaving it out is the floor.
    let seconds_of_day = hour * 3_600 + minute * 60 + second;
    Some(days_since_1970(year, month, day) * 86_400 + seconds_of_day - offset_seconds)
}

fn without_fraction(rest: &[u8]) -> Option<&[u8]> {
    let Some(fraction) = rest.strip_prefix(b".") else {
        return Some(rest);
    };
    let digits = fraction
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    fraction.get(digits..).filter(|_| digits > 0)
}

fn offset_seconds(zone: &[u8]) -> Option<i64> {
    match *zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let hours = number([h0, h1]).filter(|hours| *hours < 24)?;
            let minutes = number([m0, m1]).filter(|minutes| *minutes < 60)?;
            let seconds = hours * 3_600 + minutes * 60;
            Some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn number([tens, ones]: [u8; 2]) -> Option<i64> {
    let both = tens.is_ascii_digit() && ones.is_ascii_digit();
    both.then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days in the proleptic Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `days_from_civil`): years start in March, so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::unix_seconds;

    fn seconds(text: &str) -> Option<i64> {
        unix_seconds(text.as_bytes())
    }

    #[test]
    fn every_form_of_rfc_3339_is_read() {
        for (text, expected) in [
            ("2024-06-01T00:00:00+00:00", 1_717_200_000),
            ("2024-06-01T00:00:00Z", 1_717_200_000),
            ("2024-06-01t00:00:00z", 1_717_200_000),
            ("2024-06-01 00:00:00-00:00", 1_717_200_000),
            ("2024-06-01T02:30:00+02:30", 1_717_200_000),
            ("2024-05-31T00:01:00-23:59", 1_717_200_000),
            ("2024-06-01T00:00:00.999999999999Z", 1_717_200_000),
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.5Z", -1),
            ("1969-12-31T23:59:59.000Z", -1),
            ("0001-01-01T00:00:00Z", -62_135_596_800),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
            ("2024-02-29T12:00:00Z", 1_709_208_000),
            ("2000-02-29T00:00:00Z", 951_782_400),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "2024-06-01",
            "2024-06-01T00:00:00",
            "2024-06-01T00:00Z",
            "2024-06-01T00:00:00.Z",
            "2024-06-01T00:00:00,5Z",
            "2024-06-01T00:00:00+0000",
            "2024-06-01T00:00:00+00",
            "2024-06-01T00:00:00+24:00",
            "2024-06-01T00:00:00+00:60",
            "2024-06-01T00:00:00Z ",
            " 2024-06-01T00:00:00Z",
            "2024-06-01T00:00:00[UTC]",
            "2024-06-01T00:00:00ZZ",
            "2024-06-01_00:00:00Z",
            "2024-06-01T24:00:00Z",
            "2024-06-01T00:60:00Z",
            "2024-06-01T23:59:60Z",
            "2024-00-01T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-06-00T00:00:00Z",
            "2024-06-31T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "+2024-06-01T00:00:00Z",
            "12024-06-01T00:00:00Z",
            "2024-W22-6T00:00:00Z",
            "２024-06-01T00:00:00Z",
            "1717200000",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn agrees_with_a_calendar_library() {
        let mut rng = fastrand::Rng::with_seed(3);
        println!("seed 3");
        for _ in 0..200_000 {
            let expected = rng.i64(-62_135_596_800..=253_402_207_200);
            let time = jiff::Timestamp::from_second(expected)
                .expect("in range")
                .to_string();
            assert_eq!(seconds(&time), Some(expected), "{time}");
        }
    }
}
