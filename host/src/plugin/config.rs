//! What a plugin says about a configuration.

use serde_json::Value;
use weir_plugin_api as api;
use weir_plugin_api::{PluginDeclRef, PluginError};

use super::instance::one_line;

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// JSON pointer to the setting, empty for the whole.
    pub path: String,
    /// One sentence.
    pub message: String,
}

/// What a sink found out about its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFinding {
    /// Nothing can be written until it is repaired.
    pub is_error: bool,
    /// One sentence of cause.
    pub message: String,
    /// One sentence of cure.
    pub help: String,
}

/// Whose records a result depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// One record.
    Record,
    /// The records of one partition.
    Partition,
    /// The records of all partitions.
    Pipeline,
}

impl Scope {
    /// The word used in files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Record => "record",
            Scope::Partition => "partition",
            Scope::Pipeline => "pipeline",
        }
    }
}

/// What writing a record again does to a sink's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Nothing.
    Idempotent,
    /// It may stand there twice.
    Duplicates,
}

/// What a plugin is under one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// `Record` for a sink.
    pub scope: Scope,
    /// Wants watermarks and timers.
    pub timers: bool,
    /// `Idempotent` for a transform.
    pub replay: Replay,
}

/// The JSON Schema, as the plugin gives it.
pub(super) fn schema(plugin: PluginDeclRef) -> Result<Value, String> {
    let text = plugin.config_schema()().into_result().map_err(said)?;
    serde_json::from_str(&text).map_err(|error| format!("its schema is no JSON ({error})"))
}

/// Every error that the plugin finds.
pub(super) fn validate(plugin: PluginDeclRef, config: &Value) -> Result<Vec<ConfigError>, String> {
    let json = config.to_string();
    let errors = plugin.validate()(json.as_str().into())
        .into_result()
        .map_err(said)?;
    let errors = errors.iter().map(|error| ConfigError {
        path: pointer(error.path.as_str()),
        message: error.message.to_string(),
    });
    Ok(errors.collect())
}

/// A path that is no pointer is taken as a name.
fn pointer(path: &str) -> String {
    if path.is_empty() || path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

/// What the plugin says of a configuration that it found no error in.
pub(super) fn describe(plugin: PluginDeclRef, config: &Value) -> Result<Description, String> {
    let json = config.to_string();
    let description = plugin.describe()(json.as_str().into())
        .into_result()
        .map_err(said)?;
    let is_sink = plugin.kind() == api::plugin_kind::SINK;
    let scope = match description.scope {
        _ if is_sink => Scope::Record,
        api::scope::RECORD => Scope::Record,
        api::scope::PARTITION => Scope::Partition,
        api::scope::PIPELINE => Scope::Pipeline,
        other => {
            return Err(format!(
                "it answered the scope {other}, and this host knows 1 to 3"
            ));
        }
    };
    let replay = match description.replay {
        _ if !is_sink => Replay::Idempotent,
        api::replay::IDEMPOTENT => Replay::Idempotent,
        api::replay::DUPLICATES => Replay::Duplicates,
        other => {
            return Err(format!(
                "it answered the replay {other}, and this host knows 1 and 2"
            ));
        }
    };
    Ok(Description {
        scope,
        timers: description.timers != 0,
        replay,
    })
}

/// What a sink finds out about its target.
pub(super) fn check_target(
    plugin: PluginDeclRef,
    config: &Value,
) -> Result<Vec<TargetFinding>, String> {
    let json = config.to_string();
    let findings = plugin.check_target()(json.as_str().into())
        .into_result()
        .map_err(said)?;
    let findings = findings.iter().map(|finding| TargetFinding {
        is_error: finding.severity == api::severity::ERROR,
        message: one_line(&finding.message),
        help: one_line(&finding.help),
    });
    Ok(findings.collect())
}

fn said(error: PluginError) -> String {
    let message = one_line(&error.message);
    if error.kind == api::error_kind::PANIC {
        format!("it panicked: {message}")
    } else {
        message
    }
}
