//! Expected lines against what came out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::capture::Output;
use super::lines::ExpectedLine;

/// Matches anything.
const ANYTHING: &str = "*";
/// Differences shown of one test.
const SHOWN_MAX: usize = 20;

/// One sentence for each difference, sink by sink, in order.
pub fn differences(expected: &[ExpectedLine], outputs: &[Output]) -> Vec<String> {
    let sinks: BTreeSet<&str> = expected
        .iter()
        .map(|line| line.sink.as_str())
        .chain(outputs.iter().map(|output| output.sink.as_str()))
        .collect();
    let mut found = Vec::new();
    for sink in sinks {
        let expected: Vec<&ExpectedLine> =
            expected.iter().filter(|line| line.sink == sink).collect();
        let outputs: Vec<&Output> = outputs
            .iter()
            .filter(|output| output.sink == sink)
            .collect();
        for (index, (line, output)) in expected.iter().zip(&outputs).enumerate() {
            for what in difference(line, output) {
                found.push(format!("{sink}[{index}]: {what}"));
            }
        }
        for (index, output) in outputs.iter().enumerate().skip(expected.len()) {
            found.push(format!(
                "{sink}[{index}]: not expected: {}",
                rendered(output)
            ));
        }
        for (index, line) in expected.iter().enumerate().skip(outputs.len()) {
            let value = line
                .value
                .as_ref()
                .map(Value::to_string)
                .unwrap_or_default();
            found.push(format!(
                "{sink}[{index}]: expected, but did not come: {value}"
            ));
        }
    }
    if found.len() > SHOWN_MAX {
        let more = found.len() - SHOWN_MAX;
        found.truncate(SHOWN_MAX);
        found.push(format!("and {more} more"));
    }
    found
}

fn difference(line: &ExpectedLine, output: &Output) -> Vec<String> {
    let mut found = Vec::new();
    let check = |what: &str, expected: &Value, actual: Option<&[u8]>| {
        (!bytes_match(expected, actual))
            .then(|| format!("{what}: expected {expected}, got {}", shown(actual)))
    };
    found.extend(
        line.key
            .as_ref()
            .and_then(|key| check("key", key, output.key.as_deref())),
    );
    found.extend(
        line.value
            .as_ref()
            .and_then(|value| check("value", value, output.value.as_deref())),
    );
    for (name, expected) in line.headers.iter().flatten() {
        match output.headers.iter().rev().find(|(known, _)| known == name) {
            Some((_, actual)) => found.extend(check(
                &format!("header `{name}`"),
                expected,
                actual.as_deref(),
            )),
            None => found.push(format!("header `{name}` is missing")),
        }
    }
    found
}

/// A text is compared byte by byte, null with Kafka's null, anything else as JSON.
fn bytes_match(expected: &Value, actual: Option<&[u8]>) -> bool {
    match (expected, actual) {
        (Value::String(text), _) if text == ANYTHING => true,
        (Value::Null, actual) => actual.is_none(),
        (_, None) => false,
        (Value::String(text), Some(actual)) => text.as_bytes() == actual,
        (expected, Some(actual)) => serde_json::from_slice::<Value>(actual)
            .is_ok_and(|actual| json_matches(expected, &actual)),
    }
}

fn json_matches(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::String(text), _) if text == ANYTHING => true,
        (Value::Object(expected), Value::Object(actual)) => {
            expected.len() == actual.len()
                && expected.iter().all(|(name, value)| {
                    actual
                        .get(name)
                        .is_some_and(|actual| json_matches(value, actual))
                })
        }
        (Value::Array(expected), Value::Array(actual)) => {
            expected.len() == actual.len()
                && expected.iter().zip(actual).all(|(a, b)| json_matches(a, b))
        }
        (expected, actual) => expected == actual,
    }
}

fn shown(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(
        || "null".to_owned(),
        |bytes| String::from_utf8_lossy(bytes).into_owned(),
    )
}

/// A JSON object or array stands as itself, anything else as text.
fn value_of(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else {
        return Value::Null;
    };
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => value,
        _ => Value::String(String::from_utf8_lossy(bytes).into_owned()),
    }
}

fn rendered(output: &Output) -> String {
    let mut line = Map::new();
    line.insert("sink".to_owned(), json!(output.sink));
    line.insert("key".to_owned(), value_of(output.key.as_deref()));
    line.insert("value".to_owned(), value_of(output.value.as_deref()));
    if !output.headers.is_empty() {
        let headers: BTreeMap<&str, Value> = output
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value_of(value.as_deref())))
            .collect();
        line.insert("headers".to_owned(), json!(headers));
    }
    Value::Object(line).to_string()
}

/// The file `--update` writes.
pub fn render(outputs: &[Output]) -> String {
    outputs
        .iter()
        .map(|output| rendered(output) + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(value: &str) -> Output {
        Output {
            sink: "out".into(),
            key: Some(b"k".to_vec()),
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    fn expected(line: &str) -> ExpectedLine {
        serde_json::from_str(line).expect("a line")
    }

    #[test]
    fn a_star_matches_anything_and_what_is_left_out_is_not_compared() {
        let outputs = [output(r#"{"id":"a","at":17}"#)];
        for line in [
            r#"{"sink":"out","value":{"id":"a","at":"*"}}"#,
            r#"{"sink":"out","key":"k"}"#,
            r#"{"sink":"out","value":"*"}"#,
        ] {
            assert_eq!(
                differences(&[expected(line)], &outputs),
                Vec::<String>::new(),
                "{line}"
            );
        }
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let lines = [
            expected(r#"{"sink":"out","key":"j","value":{"id":"b"}}"#),
            expected(r#"{"sink":"gone","value":"x"}"#),
        ];
        let found = differences(&lines, &[output(r#"{"id":"a"}"#), output("extra")]);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].starts_with("gone[0]: expected, but did not come"));
        assert!(found[1].starts_with("out[0]: key: expected \"j\", got k"));
        assert!(found[2].starts_with("out[0]: value"));
        assert!(found[3].starts_with("out[1]: not expected"));
    }

    #[test]
    fn null_is_not_the_empty_text() {
        assert!(bytes_match(&Value::Null, None));
        assert!(!bytes_match(&Value::Null, Some(b"")));
        assert!(!bytes_match(&json!(""), None));
        assert!(bytes_match(&json!(""), Some(b"")));
    }
}
