//! The bulk request's text: action lines and sources in, operations out.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// Longest document id that Elasticsearch takes, in bytes of UTF-8.
pub const ID_MAX_BYTES: usize = 512;

/// What an action line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Index,
    Create,
    Delete,
    /// Merges `doc` into the document; with `doc_as_upsert` it becomes the document where none is.
    Update,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Update => "update",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        match name {
            "index" => Some(Self::Index),
            "create" => Some(Self::Create),
            "delete" => Some(Self::Delete),
            "update" => Some(Self::Update),
            _ => None,
        }
    }
}

/// Who counts a document's versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionType {
    Internal,
    /// Stored only above the current version.
    External,
    /// Stored at or above the current version.
    ExternalGte,
}

impl VersionType {
    fn parse(name: &str) -> Result<Self, ApiError> {
        match name {
            "internal" => Ok(Self::Internal),
            "external" | "external_gt" => Ok(Self::External),
            "external_gte" => Ok(Self::ExternalGte),
            other => Err(ApiError::illegal_argument(format!(
                "No version type match [{other}]"
            ))),
        }
    }
}

/// One operation of a bulk request, as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    pub action: Action,
    pub index: String,
    /// `None` where the server is to make one.
    pub id: Option<String>,
    pub version: Option<i64>,
    pub version_type: VersionType,
    /// Taken and without effect: there is one shard.
    pub routing: Option<String>,
    /// The source line without its newline; empty for `delete`.
    pub source: Bytes,
}

/// Reads a whole bulk body. A malformed line, a missing index or an id that is too long refuses all of it, as the
/// server does; nothing has been applied then.
pub(crate) fn parse(body: &Bytes, default_index: Option<&str>) -> Result<Vec<Operation>, ApiError> {
    if body.is_empty() {
        return Err(ApiError::new(
            400,
            "parse_exception",
            "request body is required",
        ));
    }
    if body.last() != Some(&b'\n') {
        return Err(ApiError::illegal_argument(
            "The bulk request must be terminated by a newline [\\n]",
        ));
    }
    let mut operations = Vec::new();
    let mut lines = Lines::new(body);
    while let Some((number, line)) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let mut operation = parse_action(&line, number, default_index)?;
        if operation.action != Action::Delete {
            let (_, source) = lines.next().ok_or_else(|| {
                ApiError::illegal_argument("The bulk request must be terminated by a newline [\\n]")
            })?;
            operation.source = source;
        }
        operations.push(operation);
    }
    let failures = validation_failures(&operations);
    if failures.is_empty() {
        Ok(operations)
    } else {
        Err(ApiError::validation(&failures))
    }
}

/// The body's lines with their numbers from 1, borrowed from the same buffer.
struct Lines<'a> {
    body: &'a Bytes,
    at: usize,
    number: usize,
}

impl<'a> Lines<'a> {
    fn new(body: &'a Bytes) -> Self {
        Self {
            body,
            at: 0,
            number: 0,
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = (usize, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.body.get(self.at..)?;
        let length = rest.iter().position(|byte| *byte == b'\n')?;
        let mut line = self.body.slice(self.at..self.at + length);
        if line.last() == Some(&b'\r') {
            line.truncate(length - 1);
        }
        self.at += length + 1;
        self.number += 1;
        Some((self.number, line))
    }
}

fn parse_action(
    line: &[u8],
    number: usize,
    default_index: Option<&str>,
) -> Result<Operation, ApiError> {
    let value: Value = serde_json::from_slice(line)
        .map_err(|error| ApiError::new(400, "x_content_parse_exception", error.to_string()))?;
    let malformed = |expected: &str| {
        ApiError::illegal_argument(format!(
            "Malformed action/metadata line [{number}], expected {expected}"
        ))
    };
    let Value::Object(line) = value else {
        return Err(malformed("START_OBJECT"));
    };
    let mut entries = line.into_iter();
    let (Some((name, metadata)), None) = (entries.next(), entries.next()) else {
        return Err(malformed("exactly one action"));
    };
    let action = Action::parse(&name).ok_or_else(|| {
        malformed(&format!(
            "field [create], [delete], [index] or [update] but found [{name}]"
        ))
    })?;
    let Value::Object(metadata) = metadata else {
        return Err(malformed("START_OBJECT"));
    };
    parse_metadata(action, &metadata, number, default_index)
}

fn parse_metadata(
    action: Action,
    metadata: &Map<String, Value>,
    number: usize,
    default_index: Option<&str>,
) -> Result<Operation, ApiError> {
    let mut operation = Operation {
        action,
        index: default_index.unwrap_or_default().to_owned(),
        id: None,
        version: None,
        version_type: VersionType::Internal,
        routing: None,
        source: Bytes::new(),
    };
    for (name, value) in metadata {
        match name.as_str() {
            "_index" => operation.index = text(name, value, number)?,
            "_id" => operation.id = Some(text(name, value, number)?),
            "version" | "_version" => operation.version = Some(integer(name, value, number)?),
            "version_type" | "_version_type" => {
                operation.version_type = VersionType::parse(&text(name, value, number)?)?;
            }
            "routing" => operation.routing = Some(text(name, value, number)?),
            // Taken and without effect here: no pipelines, no mapping.
            "pipeline"
            | "require_alias"
            | "require_data_stream"
            | "dynamic_templates"
            | "if_seq_no"
            | "if_primary_term"
            | "retry_on_conflict"
            | "list_executed_pipelines" => {}
            other => {
                return Err(ApiError::illegal_argument(format!(
                    "Action/metadata line [{number}] contains an unknown parameter [{other}]"
                )));
            }
        }
    }
    let versioned = operation.version.is_some() || operation.version_type != VersionType::Internal;
    if action == Action::Update && versioned {
        return Err(ApiError::illegal_argument(
            "Update requests do not support versioning. Please use `if_seq_no` and `if_primary_term` instead",
        ));
    }
    Ok(operation)
}

fn text(name: &str, value: &Value, number: usize) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(ApiError::illegal_argument(format!(
            "Malformed action/metadata line [{number}], expected a simple value for field [{name}]"
        ))),
    }
}

fn integer(name: &str, value: &Value, number: usize) -> Result<i64, ApiError> {
    let parsed = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| {
        ApiError::illegal_argument(format!(
            "Malformed action/metadata line [{number}], [{name}] is no integer of 64 bits"
        ))
    })
}

fn validation_failures(operations: &[Operation]) -> Vec<String> {
    let mut failures = Vec::new();
    if operations.is_empty() {
        failures.push("no requests added".to_owned());
    }
    for operation in operations {
        validate(operation, &mut failures);
    }
    failures
}

fn validate(operation: &Operation, failures: &mut Vec<String>) {
    if operation.index.is_empty() {
        failures.push("index is missing".to_owned());
    }
    match &operation.id {
        Some(id) if id.len() > ID_MAX_BYTES => failures.push(format!(
            "id [{id}] is too long, must be no longer than {ID_MAX_BYTES} bytes but was: {}",
            id.len()
        )),
        None if matches!(operation.action, Action::Delete | Action::Update) => {
            failures.push("id is missing".to_owned());
        }
        _ => {}
    }
    match (operation.version_type, operation.version) {
        (VersionType::Internal, Some(_)) => failures.push(
            "internal versioning can not be used for optimistic concurrency control. Please use \
             `if_seq_no` and `if_primary_term` instead"
                .to_owned(),
        ),
        (VersionType::Internal, None) => {}
        (_, Some(version)) if version >= 0 => {
            if operation.action == Action::Create {
                failures.push(
                    "create operations only support internal versioning. use index instead"
                        .to_owned(),
                );
            } else if operation.id.is_none() {
                failures.push("an id must be provided if version type or value are set".to_owned());
            }
        }
        (version_type, version) => failures.push(format!(
            "illegal version value [{}] for version type [{version_type:?}]",
            version.unwrap_or(-3)
        )),
    }
}
