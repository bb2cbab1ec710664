//! What the topology asks of plugins, without knowing how they are loaded.

use std::path::PathBuf;

/// Where a plugin may stand in a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginKind {
    /// Makes records of records.
    Transform,
    /// Writes records to a target.
    Sink,
}

impl PluginKind {
    /// The word used in files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            PluginKind::Transform => "transform",
            PluginKind::Sink => "sink",
        }
    }
}

/// What stands behind a plugin name.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// One usable library offers it.
    Known {
        /// Transform or sink.
        kind: PluginKind,
    },
    /// The library that offers it was refused.
    Refused {
        /// The library.
        file: PathBuf,
        /// One sentence that names both sides.
        reason: String,
    },
    /// Several libraries offer it.
    Duplicate {
        /// The libraries.
        files: Vec<PathBuf>,
    },
    /// No library offers it.
    Missing,
}

/// A library, or a set of libraries, that cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub struct UnusableFile {
    /// The library; several if they offer one name.
    pub files: Vec<PathBuf>,
    /// The plugin names it would offer; empty if the file did not say.
    pub names: Vec<String>,
    /// One sentence of cause.
    pub reason: String,
}

/// A fault that the plugin itself found in its configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfigError {
    /// JSON pointer to the option; empty for the configuration as a whole.
    pub path: String,
    /// One sentence of cause, and of cure if the plugin knows one.
    pub message: String,
}

/// What a plugin's result depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// On one record alone.
    Record,
    /// On the records of one partition.
    Partition,
    /// On every partition of the pipeline.
    Pipeline,
}

/// What writing a record again does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Nothing.
    Idempotent,
    /// It makes a second copy.
    Duplicates,
}

/// What a plugin says about itself under one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Describe {
    /// What its result depends on.
    pub scope: Scope,
    /// Whether it wants timers.
    pub timers: bool,
    /// For sinks: what a replay does.
    pub replay: Replay,
}

/// The plugins found in the folders of a topology.
pub trait Plugins {
    /// What stands behind a name.
    fn find(&self, name: &str) -> Found;

    /// The names of the usable plugins of one kind, sorted.
    fn names(&self, kind: PluginKind) -> Vec<String>;

    /// Every library that cannot be used, in a stable order.
    fn unusable(&self) -> Vec<UnusableFile>;

    /// The JSON Schema of a plugin's configuration; None if it has none.
    fn schema(&self, name: &str) -> Option<serde_json::Value>;

    /// Every fault the plugin finds in a configuration.
    fn validate(&self, name: &str, config: &serde_json::Value) -> Vec<PluginConfigError>;

    /// What the plugin is under a configuration that [`Plugins::validate`] accepted.
    ///
    /// # Errors
    /// The faults that keep the plugin from saying so.
    fn describe(
        &self,
        name: &str,
        config: &serde_json::Value,
    ) -> Result<Describe, Vec<PluginConfigError>>;
}
