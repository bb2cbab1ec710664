//! Dates as the search API takes and gives them.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde_json::Value;

/// Milliseconds since the Unix epoch of a date field's or a query bound's value: RFC 3339 text, a date and time or a
/// date alone (taken as UTC), milliseconds as a number or as text.
pub(crate) fn parse_ms(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => parse_text_ms(text),
        _ => None,
    }
}

fn parse_text_ms(text: &str) -> Option<i64> {
    if let Ok(milliseconds) = text.parse::<i64>()
        && text.len() > 4
    {
        return Some(milliseconds);
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.as_millisecond());
    }
    let civil = text
        .parse::<DateTime>()
        .ok()
        .or_else(|| text.parse::<Date>().ok().map(DateTime::from))?;
    Some(
        civil
            .to_zoned(TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_millisecond(),
    )
}

/// A query bound: what [`parse_ms`] takes, or `now`, `now-10m`, `now+1h` (units s, m, h, d).
pub(crate) fn parse_bound_ms(value: &Value, now_ms: i64) -> Option<i64> {
    let Some(offset) = value.as_str().and_then(|text| text.strip_prefix("now")) else {
        return parse_ms(value);
    };
    if offset.is_empty() {
        return Some(now_ms);
    }
    let (sign, amount) = match offset.split_at_checked(1)? {
        ("-", amount) => (-1, amount),
        ("+", amount) => (1, amount),
        _ => return None,
    };
    now_ms.checked_add(parse_duration_ms(amount)?.checked_mul(sign)?)
}

/// `500ms`, `10s`, `1m`, `2h`, `1d` in milliseconds.
pub(crate) fn parse_duration_ms(text: &str) -> Option<i64> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (amount, unit) = text.split_at_checked(digits)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    amount.parse::<i64>().ok()?.checked_mul(unit_ms)
}

/// `2024-09-10T13:37:00.000Z`, the default form of a bucket's key.
pub(crate) fn format_ms(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds)
        .map(|timestamp| format!("{timestamp:.3}"))
        .unwrap_or_else(|_| milliseconds.to_string())
}

pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}
