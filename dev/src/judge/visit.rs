//! One input row: what `reduce-visit` has to make of it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::rfc3339::{self, DateTime};

/// What a good row is reduced to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Visit {
    pub id: String,
    /// Unix seconds.
    pub event_time: i64,
}

/// The judgement on one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Good(Visit),
    /// Belongs into the dead letters, for this reason.
    Bad(&'static str),
    /// The contract allows both.
    Either,
}

/// Nesting beyond this may be refused or passed.
const CERTAIN_DEPTH: usize = 128;

/// Judges the value of one record of the visits topic.
pub fn verdict(value: Option<&[u8]>) -> Verdict {
    let Some(bytes) = value else {
        return Verdict::Bad("null value");
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Verdict::Bad("invalid UTF-8");
    };
    if text.starts_with('\u{feff}') || depth(text) > CERTAIN_DEPTH {
        return Verdict::Either;
    }
    let members = match serde_json::from_str::<Members>(text) {
        Ok(members) => members,
        // serde_json refuses lone surrogates, which may stand in an ignored field.
        Err(_) if has_surrogate_escape(text) => return Verdict::Either,
        Err(_) => return Verdict::Bad("no JSON object"),
    };
    if members.has_duplicates() {
        return Verdict::Either;
    }
    let Some(id) = members.get("visit_id").and_then(id) else {
        return Verdict::Bad("visit_id");
    };
    match members
        .get("event_time")
        .map_or(DateTime::Malformed, event_time)
    {
        DateTime::Seconds(event_time) => Verdict::Good(Visit { id, event_time }),
        DateTime::Open => Verdict::Either,
        DateTime::Malformed => Verdict::Bad("event_time"),
    }
}

fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        // Larger integers and everything with a fraction or an exponent come as f64.
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

fn event_time(value: &Value) -> DateTime {
    match value {
        Value::String(text) => rfc3339::parse(text),
        Value::Number(number) => number
            .as_i64()
            .filter(|&seconds| rfc3339::in_years_1_to_9999(seconds))
            .map_or(DateTime::Malformed, DateTime::Seconds),
        _ => DateTime::Malformed,
    }
}

/// The members of a JSON object in their order, duplicates included.
struct Members(Vec<(String, Value)>);

impl Members {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, v)| v)
    }

    fn has_duplicates(&self) -> bool {
        let mut names: Vec<&str> = self.0.iter().map(|(key, _)| key.as_str()).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair.first() == pair.last())
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    members.push(entry);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The deepest nesting of brackets outside strings.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn has_surrogate_escape(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    [
        "\\ud8", "\\ud9", "\\uda", "\\udb", "\\udc", "\\udd", "\\ude", "\\udf",
    ]
    .iter()
    .any(|escape| lower.contains(escape))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Verdict {
        verdict(Some(text.as_bytes()))
    }

    fn good(id: &str, event_time: i64) -> Verdict {
        Verdict::Good(Visit {
            id: id.to_owned(),
            event_time,
        })
    }

    #[test]
    fn good_rows() {
        let row = r#"{"visit_id":"a","event_time":"2024-06-01T00:00:00Z","x":[{"y":null}]}"#;
        assert_eq!(judged(row), good("a", 1_717_200_000));
        let numbers = r#" {"event_time":-5,"visit_id":18446744073709551615} "#;
        assert_eq!(judged(numbers), good("18446744073709551615", -5));
        assert_eq!(judged(r#"{"visit_id":-7,"event_time":0}"#), good("-7", 0));
    }

    #[test]
    fn bad_rows() {
        assert_eq!(verdict(None), Verdict::Bad("null value"));
        let mut bytes = br#"{"visit_id":"a","event_time":0,"x":""#.to_vec();
        bytes.extend_from_slice(b"\xff\"}");
        assert_eq!(verdict(Some(&bytes)), Verdict::Bad("invalid UTF-8"));
        for (text, reason) in [
            ("", "no JSON object"),
            ("[]", "no JSON object"),
            ("{\"visit_id\":\"a\",\"event_time\":", "no JSON object"),
            ("{\"visit_id\":\"a\",\"event_time\":0} x", "no JSON object"),
            (r#"{"visit_id":null,"event_time":0}"#, "visit_id"),
            (r#"{"visit_id":"","event_time":0}"#, "visit_id"),
            (r#"{"visit_id":1.0,"event_time":0}"#, "visit_id"),
            (
                r#"{"visit_id":18446744073709551616,"event_time":0}"#,
                "visit_id",
            ),
            (r#"{"visit_id":true,"event_time":0}"#, "visit_id"),
            (r#"{"event_time":0}"#, "visit_id"),
            (r#"{"visit_id":"a"}"#, "event_time"),
            (r#"{"visit_id":"a","event_time":null}"#, "event_time"),
            (
                r#"{"visit_id":"a","event_time":1717200000000}"#,
                "event_time",
            ),
            (r#"{"visit_id":"a","event_time":1.5}"#, "event_time"),
            (r#"{"visit_id":"a","event_time":1e3}"#, "event_time"),
            (r#"{"visit_id":"a","event_time":"0"}"#, "event_time"),
            (r#"{"visit_id":"a","event_time":{}}"#, "event_time"),
        ] {
            assert_eq!(judged(text), Verdict::Bad(reason), "{text}");
        }
    }

    #[test]
    fn open_rows() {
        let deep = format!(
            r#"{{"visit_id":"a","event_time":0,"x":{}{}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        );
        for text in [
            "\u{feff}{\"visit_id\":\"a\",\"event_time\":0}",
            r#"{"visit_id":"a","visit_id":"b","event_time":0}"#,
            r#"{"visit_id":"a","event_time":0,"x":"\ud800"}"#,
            r#"{"visit_id":"a","event_time":"2016-12-31T23:59:60Z"}"#,
            &deep,
        ] {
            assert_eq!(judged(text), Verdict::Either, "{text}");
        }
    }

    #[test]
    fn brackets_in_strings_are_no_nesting() {
        assert_eq!(depth(r#"{"a":"[[[\"[[","b":[1]}"#), 2);
    }
}
