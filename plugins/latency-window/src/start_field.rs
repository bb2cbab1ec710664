//! Reads the start time out of a record's value.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Deep enough for any record that people design.
pub const START_FIELD_PARTS_MAX: usize = 16;

/// Last millisecond of the year 9999: start times and append times lie from 0 to here.
pub const UNIX_MS_MAX: i64 = 253_402_300_799_999;

/// Why a value has no start time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStart {
    #[error("the value is null; a JSON object with `{path}` is needed")]
    NullValue { path: String },
    #[error("the value is not UTF-8; JSON is always UTF-8")]
    NotUtf8,
    #[error("the value is no JSON: {reason}")]
    NotJson { reason: String },
    #[error("`{path}` is missing")]
    Missing { path: String },
    #[error("`{path}` is {found}; it must be a number, unix milliseconds")]
    NotANumber { path: String, found: &'static str },
    #[error("`{path}` is outside 0 to {UNIX_MS_MAX} unix milliseconds")]
    OutOfRange { path: String },
}

impl BadStart {
    /// Stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            BadStart::NullValue { .. } => "latency-window.null_value",
            BadStart::NotUtf8 => "latency-window.not_utf8",
            BadStart::NotJson { .. } => "latency-window.not_json",
            BadStart::Missing { .. } => "latency-window.start_missing",
            BadStart::NotANumber { .. } => "latency-window.start_not_a_number",
            BadStart::OutOfRange { .. } => "latency-window.start_out_of_range",
        }
    }
}

/// A start time in unix milliseconds, with the very number that was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    Whole(i64),
    Fractional(f64),
}

impl Start {
    /// Milliseconds from the start to `end_ms`. Whole numbers are subtracted as such; both lie below 2^48, so that the
    /// result is exact in a double. A fraction makes it a subtraction of doubles, as in any language.
    pub fn latency_ms(self, end_ms: i64) -> f64 {
        match self {
            Start::Whole(start_ms) => (end_ms - start_ms) as f64,
            Start::Fractional(start_ms) => end_ms as f64 - start_ms,
        }
    }
}

/// A path into a JSON object.
#[derive(Clone, Debug)]
pub struct StartField {
    parts: Vec<String>,
}

impl StartField {
    /// `path` has dots between names.
    pub fn new(path: &str) -> Self {
        StartField {
            parts: path.split('.').map(str::to_owned).collect(),
        }
    }

    /// The whole value must be UTF-8 and JSON. Of a name that stands twice the last counts.
    pub fn read(&self, value: Option<&[u8]>) -> Result<Start, BadStart> {
        let value = value.ok_or_else(|| BadStart::NullValue { path: self.path() })?;
        // Over the whole value: serde_json leaves the strings that it skips unchecked.
        let mut json = simdutf8::basic::from_utf8(value).map_err(|_| BadStart::NotUtf8)?;
        for part in &self.parts {
            let member = member(json, part).map_err(|error| BadStart::NotJson {
                reason: error.to_string(),
            })?;
            json = member.ok_or_else(|| BadStart::Missing { path: self.path() })?;
        }
        self.number(json)
    }

    /// `json` is one valid JSON value.
    fn number(&self, json: &str) -> Result<Start, BadStart> {
        let start = match json.as_bytes().first() {
            Some(b'-' | b'0'..=b'9') if json.contains(['.', 'e', 'E']) => {
                // Not by serde_json, which may miss the last bit.
                json.parse()
                    .ok()
                    .filter(|ms| (0.0..=UNIX_MS_MAX as f64).contains(ms))
                    .map(Start::Fractional)
            }
            Some(b'-' | b'0'..=b'9') => json
                .parse()
                .ok()
                .filter(|ms| (0..=UNIX_MS_MAX).contains(ms))
                .map(Start::Whole),
            first => {
                return Err(BadStart::NotANumber {
                    path: self.path(),
                    found: name_of(first),
                });
            }
        };
        start.ok_or_else(|| BadStart::OutOfRange { path: self.path() })
    }

    #[cold]
    fn path(&self) -> String {
        self.parts.join(".")
    }
}

fn name_of(first: Option<&u8>) -> &'static str {
    match first {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'n') => "null",
        _ => "a boolean",
    }
}

/// JSON text of the member `name`; `None` if it is missing or `json` is no object.
fn member<'a>(json: &'a str, name: &str) -> Result<Option<&'a str>, serde_json::Error> {
    if !json.trim_ascii_start().starts_with('{') {
        return serde_json::from_str::<IgnoredAny>(json).map(|_| None);
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let member = deserializer.deserialize_map(Member { name })?;
    deserializer.end().map(|()| member)
}

struct Member<'n> {
    name: &'n str,
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<&'de str>, A::Error> {
        let mut member = None;
        while let Some(found) = map.next_key_seed(IsName(self.name))? {
            if found {
                member = Some(map.next_value::<&RawValue>()?.get());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(member)
    }
}

/// Compares a name after its escapes are resolved.
struct IsName<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsName<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, value: &str) -> Result<Start, &'static str> {
        StartField::new(path)
            .read(Some(value.as_bytes()))
            .map_err(|bad| bad.code())
    }

    #[test]
    fn numbers_are_read_exactly() {
        for (value, start) in [
            (r#"{"t":0}"#, Start::Whole(0)),
            (r#"{"t":-0}"#, Start::Whole(0)),
            (
                r#" {"x":{"t":1},"t":1732280000123} "#,
                Start::Whole(1_732_280_000_123),
            ),
            (r#"{"t":253402300799999}"#, Start::Whole(UNIX_MS_MAX)),
            (
                r#"{"t":1732280000123.456}"#,
                Start::Fractional(1_732_280_000_123.456),
            ),
            (r#"{"t":1.7e12}"#, Start::Fractional(1.7e12)),
            (r#"{"t":0.1}"#, Start::Fractional(0.1)),
            (r#"{"\u0074":7}"#, Start::Whole(7)),
            (r#"{"t":1,"t":2}"#, Start::Whole(2)),
        ] {
            assert_eq!(read("t", value), Ok(start), "{value}");
        }
        assert_eq!(
            read("a.b.c", r#"{"a":{"b":{"c":5,"d":1e999}}}"#),
            Ok(Start::Whole(5))
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for (value, code) in [
            (r#"{"t":-1}"#, "latency-window.start_out_of_range"),
            (
                r#"{"t":253402300800000}"#,
                "latency-window.start_out_of_range",
            ),
            (
                r#"{"t":99999999999999999999}"#,
                "latency-window.start_out_of_range",
            ),
            (
                r#"{"t":253402300799999.5}"#,
                "latency-window.start_out_of_range",
            ),
            (r#"{"t":-0.001}"#, "latency-window.start_out_of_range"),
            (r#"{"t":1e400}"#, "latency-window.start_out_of_range"),
            (r#"{"t":"1"}"#, "latency-window.start_not_a_number"),
            (r#"{"t":null}"#, "latency-window.start_not_a_number"),
            (r#"{"t":true}"#, "latency-window.start_not_a_number"),
            (r#"{"t":[1]}"#, "latency-window.start_not_a_number"),
            (r#"{"t":{}}"#, "latency-window.start_not_a_number"),
            (r#"{"T":1}"#, "latency-window.start_missing"),
            ("[1]", "latency-window.start_missing"),
            ("7", "latency-window.start_missing"),
            (r#"{"t":1"#, "latency-window.not_json"),
            (r#"{"t":1}}"#, "latency-window.not_json"),
            (r#"{"t":1,"u":tru}"#, "latency-window.not_json"),
            (r#"{"t":NaN}"#, "latency-window.not_json"),
            ("[1", "latency-window.not_json"),
            ("", "latency-window.not_json"),
        ] {
            assert_eq!(read("t", value), Err(code), "{value}");
        }
        assert_eq!(
            read("a.b", r#"{"a":5}"#),
            Err("latency-window.start_missing")
        );
        assert_eq!(
            read("a.b", r#"{"a":{"b":1},"a":{}}"#),
            Err("latency-window.start_missing")
        );
        let not_utf8 = StartField::new("t").read(Some(b"{\"t\":1,\"u\":\"\xFF\"}"));
        assert_eq!(not_utf8, Err(BadStart::NotUtf8));
        let null = StartField::new("a.t").read(None).expect_err("null");
        assert!(null.to_string().contains("a.t"));
    }

    #[test]
    fn latencies_are_plain_differences() {
        assert_eq!(Start::Whole(10).latency_ms(7), -3.0);
        assert_eq!(
            Start::Whole(0).latency_ms(UNIX_MS_MAX),
            253_402_300_799_999.0
        );
        let fractional = Start::Fractional(1_732_280_000_123.456).latency_ms(1_732_280_000_200);
        assert_eq!(fractional, 1_732_280_000_200.0 - 1_732_280_000_123.456);
    }
}
