//! The two JSON-lines files of a test.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::TestError;
use crate::topology::Pipeline;

/// Largest file that is read: golden tests are small.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A record to feed, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct InputRecord {
    /// Index of the source in the pipeline.
    pub source: usize,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// `value`: a text stands for its bytes, null for Kafka's null, anything else for its JSON text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputLine {
    source: Option<String>,
    topic: Option<String>,
    #[serde(default)]
    partition: i32,
    offset: Option<i64>,
    timestamp_ms: Option<i64>,
    #[serde(default)]
    key: Value,
    value: Option<Value>,
    value_base64: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
}

/// What must come out. What a line leaves out is not compared.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedLine {
    /// Name of the sink, or `dlq`.
    pub sink: String,
    #[serde(default, deserialize_with = "present")]
    pub key: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub value: Option<Value>,
    pub headers: Option<BTreeMap<String, Value>>,
}

/// Tells `null` from absent.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn read_lines<T: DeserializeOwned>(file: &Path) -> Result<Vec<(usize, T)>, TestError> {
    let shown = || file.display().to_string();
    let failed = |cause| TestError::File {
        file: shown(),
        cause,
    };
    if std::fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
        let cause = std::io::Error::other(format!("larger than {FILE_BYTES_MAX} bytes"));
        return Err(failed(cause));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let parsed = serde_json::from_str(line).map_err(|error| TestError::Line {
            file: shown(),
            line: index + 1,
            message: error.to_string(),
        })?;
        lines.push((index + 1, parsed));
    }
    Ok(lines)
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.as_bytes().to_vec()),
        other => Some(other.to_string().into_bytes()),
    }
}

pub fn read_input(file: &Path, pipeline: &Pipeline) -> Result<Vec<InputRecord>, TestError> {
    let mut next_offset: BTreeMap<(usize, String, i32), i64> = BTreeMap::new();
    let mut records = Vec::new();
    for (number, line) in read_lines::<InputLine>(file)? {
        let failed = |message: String| TestError::Line {
            file: file.display().to_string(),
            line: number,
            message,
        };
        let source = match &line.source {
            None => 0,
            Some(name) => pipeline
                .sources
                .iter()
                .position(|source| source.name == *name)
                .ok_or_else(|| failed(format!("the pipeline has no source `{name}`")))?,
        };
        let topics = pipeline
            .sources
            .get(source)
            .map(|source| source.topics.as_slice())
            .unwrap_or_default();
        let topic = line
            .topic
            .clone()
            .or_else(|| topics.first().cloned())
            .unwrap_or_default();
        if !topics.contains(&topic) {
            return Err(failed(format!(
                "the source does not read the topic `{topic}`"
            )));
        }
        let value = match (&line.value, &line.value_base64) {
            (Some(_), Some(_)) => {
                return Err(failed(
                    "give `value` or `value_base64`, not both".to_owned(),
                ));
            }
            (Some(value), None) => bytes(value),
            (None, Some(text)) => Some(
                decode_base64(text)
                    .ok_or_else(|| failed("`value_base64` is no base64".to_owned()))?,
            ),
            (None, None) => None,
        };
        let next = next_offset
            .entry((source, topic.clone(), line.partition))
            .or_insert(0);
        let offset = line.offset.unwrap_or(*next);
        if offset < *next {
            return Err(failed(format!(
                "the offset {offset} does not rise in its partition"
            )));
        }
        *next = offset + 1;
        records.push(InputRecord {
            source,
            topic,
            partition: line.partition,
            offset,
            timestamp_ms: line.timestamp_ms,
            key: bytes(&line.key),
            value,
            headers: line
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), bytes(value)))
                .collect(),
        });
    }
    Ok(records)
}

pub fn read_expected(file: &Path) -> Result<Vec<ExpectedLine>, TestError> {
    Ok(read_lines(file)?
        .into_iter()
        .map(|(_, line)| line)
        .collect())
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}
