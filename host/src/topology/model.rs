//! The resolved topology: what the file means. Everything in it is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::diagnostic::Report;
use super::mask::MASK;
use super::plugins::{Describe, Scope};

/// A whole file.
#[derive(Clone, Debug)]
pub struct Topology {
    /// The file as the user named it.
    pub path: PathBuf,
    /// Absolute folders to search for plugin libraries, in the order of the file.
    pub plugin_dirs: Vec<PathBuf>,
    /// Where to serve HTTP.
    pub http: HttpListen,
    /// The pipelines in the order of the file; at least one.
    pub pipelines: Vec<Pipeline>,
    /// Where the clock of a pipeline test stands, in unix milliseconds.
    pub clock_ms: Option<i64>,
    /// Texts that must not be printed, for scrubbing logs.
    pub secrets: Secrets,
    /// What was accepted but is probably not meant.
    pub warnings: Report,
}

impl Topology {
    /// The pipeline of this name.
    pub fn pipeline(&self, name: &str) -> Option<&Pipeline> {
        self.pipelines.iter().find(|pipeline| pipeline.name == name)
    }
}

/// Where to serve HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpListen {
    /// Nothing was said: 127.0.0.1:8083 or the next free port.
    Unset,
    /// Nowhere.
    Off,
    /// Exactly here.
    Address(SocketAddr),
}

impl std::str::FromStr for HttpListen {
    type Err = String;

    /// Reads `off` or `IP:PORT`; `localhost` stands for 127.0.0.1.
    ///
    /// # Errors
    /// One sentence that names the text.
    fn from_str(text: &str) -> Result<HttpListen, String> {
        if text == "off" {
            return Ok(HttpListen::Off);
        }
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        numeric
            .parse()
            .map(HttpListen::Address)
            .map_err(|_| format!("`{text}` is neither `off` nor an address `IP:PORT`."))
    }
}

/// Secret texts. Debug shows their number only.
#[derive(Clone, Default, PartialEq)]
pub struct Secrets(pub(super) Vec<String>);

impl Deref for Secrets {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// What a crash may do to Kafka outputs, dead letters, state and offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing.
    ExactlyOnce,
    /// Repeat some.
    AtLeastOnce,
}

impl Delivery {
    /// The word used in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Delivery::ExactlyOnce => "exactly_once",
            Delivery::AtLeastOnce => "at_least_once",
        }
    }
}

/// One pipeline.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Its name.
    pub name: String,
    /// What a crash may do; a default that a sink cannot keep is already downgraded here.
    pub delivery: Delivery,
    /// Whether the file says `delivery:`.
    pub delivery_is_explicit: bool,
    /// Threads in this host, at least 1.
    pub tasks: u32,
    /// How often in a row a task that breaks starts anew before the host gives up.
    pub task_restarts: u32,
    /// How often offsets and state are committed.
    pub checkpoint_interval: Duration,
    /// How long a drain may take.
    pub shutdown_timeout: Duration,
    /// What happens to a refused record.
    pub on_error: OnError,
    /// Properties of the clients that belong to no source or sink: dead letters, checkpoints and,
    /// under exactly once, the task's one producer. They follow the first source, whose cluster
    /// keeps the offsets.
    pub kafka: KafkaProperties,
    /// In the order of the file; at least one.
    pub sources: Vec<Source>,
    /// In topological order: a transform stands behind everything it reads from.
    pub transforms: Vec<Transform>,
    /// In the order of the file; at least one.
    pub sinks: Vec<Sink>,
}

impl Pipeline {
    /// The widest scope of its plugins.
    pub fn scope(&self) -> Scope {
        let transforms = self
            .transforms
            .iter()
            .map(|transform| transform.describe.scope);
        let sinks = self.sinks.iter().filter_map(|sink| match &sink.kind {
            SinkKind::Kafka { .. } => None,
            SinkKind::Plugin { describe, .. } => Some(describe.scope),
        });
        transforms.chain(sinks).max().unwrap_or(Scope::Record)
    }

    /// Some transform keeps state between records.
    pub fn is_stateful(&self) -> bool {
        let mut scopes = self.transforms.iter().map(|node| node.describe.scope);
        scopes.any(|scope| scope != Scope::Record)
    }

    /// I1, I4: offsets are committed at aligned cuts: with state, and wherever records leave in transactions. Else the
    /// contiguous settled prefix is committed.
    pub fn commits_cuts(&self) -> bool {
        self.delivery == Delivery::ExactlyOnce || self.is_stateful()
    }

    /// Topics that its records leave for: outputs and dead letters.
    pub fn output_topics(&self) -> BTreeSet<&str> {
        let sinks = self.sinks.iter().filter_map(|sink| match &sink.kind {
            SinkKind::Kafka { topic, .. } => Some(topic.as_str()),
            SinkKind::Plugin { .. } => None,
        });
        let has_dead_letters = self.on_error.policy == Policy::DeadLetter;
        let dead_letters = has_dead_letters.then_some(self.on_error.topic.as_str());
        sinks.chain(dead_letters).collect()
    }

    /// The name of the node.
    pub fn node_name(&self, node: NodeRef) -> &str {
        match node {
            NodeRef::Source(at) => self.sources.get(at).map_or("", |source| &source.name),
            NodeRef::Transform(at) => self.transforms.get(at).map_or("", |node| &node.name),
        }
    }
}

/// What happens to a refused record.
#[derive(Clone, Debug, PartialEq)]
pub struct OnError {
    /// Stop, keep or count.
    pub policy: Policy,
    /// The dead letter topic, used under [`Policy::DeadLetter`].
    pub topic: String,
    /// How long a retryable error is retried; None for without end.
    pub retry_timeout: Option<Duration>,
}

/// Connect's three answers to a refused record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Stop the host.
    Fail,
    /// Write it to the dead letter topic.
    DeadLetter,
    /// Count it and go on.
    Skip,
}

/// What to do when retention deleted records before they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    /// Stop.
    Fail,
    /// Count them and go on.
    Skip,
}

/// A Kafka source.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, unique in the pipeline.
    pub name: String,
    /// At least one legal topic name, none twice.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// How late a record may be within a partition.
    pub max_disorder: Duration,
    /// How far the watermark of a fully read partition stays behind the clock.
    pub idle_grace: Duration,
    /// How far in the future a timestamp may lie.
    pub max_future: Duration,
    /// What to do about a gap.
    pub on_gap: OnGap,
    /// Properties of its clients.
    pub kafka: KafkaProperties,
}

/// A node that others read from: an index into the pipeline's sources or transforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeRef {
    /// Index into [`Pipeline::sources`].
    Source(usize),
    /// Index into [`Pipeline::transforms`].
    Transform(usize),
}

/// A transform plugin in its place.
#[derive(Clone, Debug)]
pub struct Transform {
    /// Its name, unique in the pipeline.
    pub name: String,
    /// The plugin's name.
    pub plugin: String,
    /// What it reads from; at least one.
    pub from: Vec<NodeRef>,
    /// Its options.
    pub config: PluginConfig,
    /// What the plugin says about itself under these options.
    pub describe: Describe,
}

/// A sink.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Its name, unique in the pipeline.
    pub name: String,
    /// What it reads from; at least one.
    pub from: Vec<NodeRef>,
    /// Kafka or a plugin.
    pub kind: SinkKind,
}

/// Where a sink writes.
#[derive(Clone, Debug)]
pub enum SinkKind {
    /// A Kafka topic.
    Kafka {
        /// The topic.
        topic: String,
        /// How it is created when absent.
        create: CreateTopic,
        /// Properties of its clients.
        kafka: KafkaProperties,
    },
    /// A sink plugin.
    Plugin {
        /// The plugin's name.
        plugin: String,
        /// Its options.
        config: PluginConfig,
        /// What the plugin says about itself under these options.
        describe: Describe,
    },
}

/// How a topic is created when it is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreateTopic {
    /// None: as many as the source's topic.
    pub partitions: Option<u32>,
    /// None: the broker's default.
    pub replication_factor: Option<u16>,
    /// Kafka's topic configuration.
    pub config: BTreeMap<String, String>,
}

/// librdkafka properties, layered, one map for each side. Debug hides secret values.
#[derive(Clone, Default, PartialEq)]
pub struct KafkaProperties {
    /// For consumers; every key is one that consumers know.
    pub consumer: BTreeMap<String, String>,
    /// For producers; every key is one that producers know.
    pub producer: BTreeMap<String, String>,
    /// Keys whose value must not be printed.
    pub(super) secret_keys: BTreeSet<String>,
}

impl KafkaProperties {
    /// Whether the broker moves partitions between consumers (KIP-848), not the consumers among themselves.
    pub(crate) fn is_grouped_by_broker(&self) -> bool {
        self.consumer.get("group.protocol").map(String::as_str) == Some("consumer")
    }

    /// The property as it may be printed.
    fn shown<'a>(&'a self, map: &'a BTreeMap<String, String>) -> BTreeMap<&'a str, &'a str> {
        map.iter()
            .map(|(key, value)| {
                let secret = self.secret_keys.contains(key);
                (key.as_str(), if secret { MASK } else { value.as_str() })
            })
            .collect()
    }
}

impl fmt::Debug for KafkaProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaProperties")
            .field("consumer", &self.shown(&self.consumer))
            .field("producer", &self.shown(&self.producer))
            .finish()
    }
}

/// A plugin's options as JSON. Dereferences to the value for the plugin; Debug and Display hide
/// the secrets.
#[derive(Clone, PartialEq)]
pub struct PluginConfig {
    value: Value,
    /// JSON pointers of the values that must not be printed.
    secret_pointers: BTreeSet<String>,
}

impl PluginConfig {
    pub(super) fn new(value: Value, secret_pointers: BTreeSet<String>) -> PluginConfig {
        PluginConfig {
            value,
            secret_pointers,
        }
    }

    /// The options with every secret masked, for answers that people see.
    pub fn redacted(&self) -> Value {
        let mut shown = self.value.clone();
        for pointer in &self.secret_pointers {
            if let Some(secret) = shown.pointer_mut(pointer) {
                *secret = Value::from(MASK);
            }
        }
        shown
    }
}

impl Deref for PluginConfig {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

impl fmt::Debug for PluginConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.redacted())
    }
}

impl fmt::Display for PluginConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.redacted())
    }
}
