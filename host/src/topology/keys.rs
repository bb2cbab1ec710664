//! The one declaration of every key of the topology file.
//!
//! The second stage reads values only through these declarations, so bounds, defaults, the list
//! behind "did you mean" and the reference page all follow from here.

use super::model::{Delivery, OnGap, Policy};

/// What happens when a key is absent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Absent {
    /// The file is refused.
    Required,
    /// This text is read instead.
    Default(&'static str),
    /// What the reference says then happens.
    Optional(&'static str),
}

/// A key whose value is read as `K` says.
#[derive(Debug)]
pub(super) struct Key<K> {
    pub name: &'static str,
    pub kind: K,
    pub absent: Absent,
    /// What it does, as full sentences.
    pub doc: &'static str,
}

/// A key of any kind, as the reference and the unknown-key check see it.
pub(super) trait Declared: Sync {
    fn name(&self) -> &'static str;
    fn kind(&self) -> String;
    fn absent(&self) -> Absent;
    fn doc(&self) -> &'static str;
}

impl<K: Kind> Declared for Key<K> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn kind(&self) -> String {
        self.kind.describe()
    }
    fn absent(&self) -> Absent {
        self.absent
    }
    fn doc(&self) -> &'static str {
        self.doc
    }
}

/// What a key takes.
pub(super) trait Kind: Sync {
    /// In words, for the reference.
    fn describe(&self) -> String;
}

/// A duration within bounds, both included, written as the file writes durations.
#[derive(Debug)]
pub(super) struct Period {
    pub min: &'static str,
    pub max: &'static str,
}

impl Kind for Period {
    fn describe(&self) -> String {
        format!("duration, {} to {}", self.min, self.max)
    }
}

/// A whole number within bounds, both included.
#[derive(Debug)]
pub(super) struct Whole {
    pub min: u32,
    pub max: u32,
}

impl Kind for Whole {
    fn describe(&self) -> String {
        match self.min == self.max {
            true => format!("`{}`", self.min),
            false => format!("integer, {} to {}", self.min, self.max),
        }
    }
}

/// One of some words, each with its meaning.
#[derive(Debug)]
pub(super) struct OneOf<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Sync> Kind for OneOf<T> {
    fn describe(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(word, _)| format!("`{word}`")).collect();
        words.join(" or ")
    }
}

/// Every other shape; the field is how the reference calls it.
#[derive(Debug)]
pub(super) struct Shape(pub &'static str);

impl Kind for Shape {
    fn describe(&self) -> String {
        self.0.to_owned()
    }
}

/// The keys of one mapping.
pub(super) struct Block {
    /// What the mapping is, as an error says it: "a pipeline".
    pub noun: &'static str,
    /// Where it stands: `pipelines.<pipeline>`.
    pub path: &'static str,
    pub keys: &'static [&'static dyn Declared],
}

const TEXT: Shape = Shape("text");
const TEXTS: Shape = Shape("list of texts");
const PROPERTIES: Shape = Shape("librdkafka properties");

pub(super) static VERSION: Key<Whole> = Key {
    name: "version",
    kind: Whole { min: 1, max: 1 },
    absent: Absent::Required,
    doc: "Version of the file format.",
};
pub(super) static PLUGINS: Key<Shape> = Key {
    name: "plugins",
    kind: TEXTS,
    absent: Absent::Optional("no plugins"),
    doc: "Folders searched for plugin libraries (`*.so` directly in them), relative to the file.",
};
pub(super) static KAFKA: Key<Shape> = Key {
    name: "kafka",
    kind: PROPERTIES,
    absent: Absent::Optional("Weir's defaults"),
    doc: "Properties for every Kafka client, with `consumer:` and `producer:` blocks for those of one side.",
};
pub(super) static HTTP: Key<Shape> = Key {
    name: "http",
    kind: Shape("mapping"),
    absent: Absent::Optional("127.0.0.1:8083 or the next free port"),
    doc: "Where health, readiness and metrics are served.",
};
pub(super) static PIPELINES: Key<Shape> = Key {
    name: "pipelines",
    kind: Shape("mapping of names to pipelines"),
    absent: Absent::Required,
    doc: "The pipelines. One host process runs one of them.",
};
pub(super) static CLOCK: Key<Shape> = Key {
    name: "clock",
    kind: Shape("RFC 3339 time or unix milliseconds"),
    absent: Absent::Optional("the real clock"),
    doc: "Where the wall clock stands in a pipeline test (`weir test` only).",
};

/// The whole file.
pub(super) static FILE: Block = Block {
    noun: "the topology file",
    path: "",
    keys: &[&VERSION, &PLUGINS, &KAFKA, &HTTP, &PIPELINES],
};
/// The `pipeline.yaml` of a pipeline test.
pub(super) static TEST_FILE: Block = Block {
    noun: "a pipeline test",
    path: "",
    keys: &[&VERSION, &CLOCK, &PLUGINS, &KAFKA, &HTTP, &PIPELINES],
};

pub(super) static LISTEN: Key<Shape> = Key {
    name: "listen",
    kind: Shape("`IP:PORT` or `off`"),
    absent: Absent::Optional("127.0.0.1:8083 or the next free port"),
    doc: "The address to listen on. A set port that is taken refuses the start. Port 0 takes any free port.",
};

pub(super) static HTTP_BLOCK: Block = Block {
    noun: "`http`",
    path: "http",
    keys: &[&LISTEN],
};

pub(super) static DELIVERY: Key<OneOf<Delivery>> = Key {
    name: "delivery",
    kind: OneOf(&[
        ("exactly_once", Delivery::ExactlyOnce),
        ("at_least_once", Delivery::AtLeastOnce),
    ]),
    absent: Absent::Default("exactly_once"),
    doc: "What a crash may do to Kafka outputs, dead letters, state and offsets: nothing, or repeat some.",
};
pub(super) static TASKS: Key<Whole> = Key {
    name: "tasks",
    // A task is a thread with a consumer and a producer of its own; more than the cores of the
    // largest machines gain nothing.
    kind: Whole { min: 1, max: 256 },
    absent: Absent::Default("1"),
    doc: "Threads in this host, each with a share of the partitions.",
};
pub(super) static TASK_RESTARTS: Key<Whole> = Key {
    name: "task_restarts",
    // The waits between double from 1 s to 1 min: 8 are about five minutes of trying.
    kind: Whole { min: 0, max: 1_000 },
    absent: Absent::Default("8"),
    doc: "How often in a row a task that breaks starts anew before the host gives up with exit code 1.",
};
pub(super) static CHECKPOINT_INTERVAL: Key<Period> = Key {
    name: "checkpoint_interval",
    kind: Period {
        min: "10ms",
        max: "1h",
    },
    absent: Absent::Default("1s"),
    doc: "How often offsets and state are committed. A transaction is committed after a sixth of `transaction.timeout.ms` at the latest.",
};
pub(super) static SHUTDOWN_TIMEOUT: Key<Period> = Key {
    name: "shutdown_timeout",
    kind: Period {
        min: "0s",
        max: "1h",
    },
    absent: Absent::Default("30s"),
    doc: "How long the host may drain after SIGTERM.",
};
pub(super) static ON_ERROR: Key<Shape> = Key {
    name: "on_error",
    kind: Shape("mapping"),
    absent: Absent::Optional("`{policy: fail}`"),
    doc: "What happens to a record that a transform, a sink or Kafka refuses.",
};
pub(super) static SOURCES: Key<Shape> = Key {
    name: "sources",
    kind: Shape("mapping of names to sources"),
    absent: Absent::Required,
    doc: "What the pipeline reads.",
};
pub(super) static TRANSFORMS: Key<Shape> = Key {
    name: "transforms",
    kind: Shape("mapping of names to transforms"),
    absent: Absent::Optional("no transform"),
    doc: "Plugins that make records of records.",
};
pub(super) static SINKS: Key<Shape> = Key {
    name: "sinks",
    kind: Shape("mapping of names to sinks"),
    absent: Absent::Required,
    doc: "Where the pipeline writes.",
};

pub(super) static PIPELINE: Block = Block {
    noun: "a pipeline",
    path: "pipelines.<pipeline>",
    keys: &[
        &DELIVERY,
        &TASKS,
        &TASK_RESTARTS,
        &CHECKPOINT_INTERVAL,
        &SHUTDOWN_TIMEOUT,
        &ON_ERROR,
        &SOURCES,
        &TRANSFORMS,
        &SINKS,
    ],
};

pub(super) static POLICY: Key<OneOf<Policy>> = Key {
    name: "policy",
    kind: OneOf(&[
        ("fail", Policy::Fail),
        ("dead_letter", Policy::DeadLetter),
        ("skip", Policy::Skip),
    ]),
    absent: Absent::Default("fail"),
    doc: "Stop the host, write the record to the dead letter topic, or count it and go on.",
};
pub(super) static DEAD_LETTER_TOPIC: Key<Shape> = Key {
    name: "topic",
    kind: TEXT,
    absent: Absent::Optional("`<pipeline>.dlq`"),
    doc: "The dead letter topic.",
};
pub(super) static RETRY_TIMEOUT: Key<Period> = Key {
    name: "retry_timeout",
    kind: Period {
        min: "0s",
        max: "168h",
    },
    absent: Absent::Optional("retries go on without end"),
    doc: "How long a retryable error is retried before the policy applies.",
};

pub(super) static ON_ERROR_BLOCK: Block = Block {
    noun: "`on_error`",
    path: "pipelines.<pipeline>.on_error",
    keys: &[&POLICY, &DEAD_LETTER_TOPIC, &RETRY_TIMEOUT],
};

pub(super) static SOURCE_TYPE: Key<OneOf<()>> = Key {
    name: "type",
    kind: OneOf(&[("kafka", ())]),
    absent: Absent::Required,
    doc: "Kafka is the only kind of source.",
};
pub(super) static TOPICS: Key<Shape> = Key {
    name: "topics",
    kind: TEXTS,
    absent: Absent::Required,
    doc: "The topics to read.",
};
pub(super) static GROUP: Key<Shape> = Key {
    name: "group",
    kind: TEXT,
    absent: Absent::Optional("`weir-<pipeline>`"),
    doc: "The consumer group.",
};
pub(super) static MAX_DISORDER: Key<Period> = Key {
    name: "max_disorder",
    kind: Period {
        min: "0s",
        max: "24h",
    },
    absent: Absent::Default("0s"),
    doc: "How far a record's timestamp may lie behind a partition's newest before it counts as late.",
};
pub(super) static IDLE_GRACE: Key<Period> = Key {
    name: "idle_grace",
    kind: Period {
        min: "0s",
        max: "24h",
    },
    absent: Absent::Default("5s"),
    doc: "How far the watermark stays behind the clock while a partition is read to its end.",
};
pub(super) static MAX_FUTURE: Key<Period> = Key {
    name: "max_future",
    kind: Period {
        min: "0s",
        max: "24h",
    },
    absent: Absent::Default("1m"),
    doc: "How far a record's timestamp may lie ahead of the host's clock before the record counts as bad.",
};
pub(super) static ON_GAP: Key<OneOf<OnGap>> = Key {
    name: "on_gap",
    kind: OneOf(&[("fail", OnGap::Fail), ("skip", OnGap::Skip)]),
    absent: Absent::Default("fail"),
    doc: "What to do when retention deleted records before they were read.",
};
pub(super) static SOURCE_KAFKA: Key<Shape> = Key {
    name: "kafka",
    kind: PROPERTIES,
    absent: Absent::Optional("the file's `kafka`"),
    doc: "Properties for this source's clients; they win over the file's.",
};

pub(super) static SOURCE: Block = Block {
    noun: "a source",
    path: "pipelines.<pipeline>.sources.<source>",
    keys: &[
        &SOURCE_TYPE,
        &TOPICS,
        &GROUP,
        &MAX_DISORDER,
        &IDLE_GRACE,
        &MAX_FUTURE,
        &ON_GAP,
        &SOURCE_KAFKA,
    ],
};

pub(super) static TRANSFORM_TYPE: Key<Shape> = Key {
    name: "type",
    kind: Shape("name of a transform plugin"),
    absent: Absent::Required,
    doc: "The plugin. `weir plugins` lists those found.",
};
pub(super) static FROM: Key<Shape> = Key {
    name: "from",
    kind: Shape("name or list of names"),
    absent: Absent::Required,
    doc: "The sources and transforms of the same pipeline whose records come in.",
};
pub(super) static CONFIG: Key<Shape> = Key {
    name: "config",
    kind: Shape("mapping"),
    absent: Absent::Optional("`{}`"),
    doc: "The plugin's own options. `weir plugins NAME --schema` prints their schema.",
};

pub(super) static TRANSFORM: Block = Block {
    noun: "a transform",
    path: "pipelines.<pipeline>.transforms.<transform>",
    keys: &[&TRANSFORM_TYPE, &FROM, &CONFIG],
};

pub(super) static SINK_TYPE: Key<Shape> = Key {
    name: "type",
    kind: Shape("`kafka` or name of a sink plugin"),
    absent: Absent::Required,
    doc: "Kafka, or the plugin. `weir plugins` lists those found.",
};
pub(super) static TOPIC: Key<Shape> = Key {
    name: "topic",
    kind: TEXT,
    absent: Absent::Required,
    doc: "The topic to write.",
};
pub(super) static CREATE: Key<Shape> = Key {
    name: "create",
    kind: Shape("mapping"),
    absent: Absent::Optional("partitions as the source, the broker's replication"),
    doc: "How the topic is created when it is absent.",
};
pub(super) static SINK_KAFKA: Key<Shape> = Key {
    name: "kafka",
    kind: PROPERTIES,
    absent: Absent::Optional("the file's `kafka`"),
    doc: "Properties for this sink's clients; they win over the file's.",
};

pub(super) static KAFKA_SINK: Block = Block {
    noun: "a sink of type `kafka`",
    path: "pipelines.<pipeline>.sinks.<sink> (kafka)",
    keys: &[&SINK_TYPE, &FROM, &TOPIC, &CREATE, &SINK_KAFKA],
};
pub(super) static PLUGIN_SINK: Block = Block {
    noun: "a sink plugin",
    path: "pipelines.<pipeline>.sinks.<sink> (plugin)",
    keys: &[&SINK_TYPE, &FROM, &CONFIG],
};

pub(super) static PARTITIONS: Key<Whole> = Key {
    name: "partitions",
    // Beyond this one broker cannot serve a topic well; Kafka itself has no bound.
    kind: Whole {
        min: 1,
        max: 10_000,
    },
    absent: Absent::Optional("as many as the source's topic"),
    doc: "Number of partitions.",
};
pub(super) static REPLICATION_FACTOR: Key<Whole> = Key {
    name: "replication_factor",
    kind: Whole {
        min: 1,
        max: 32_767,
    },
    absent: Absent::Optional("the broker's default"),
    doc: "Number of replicas of each partition.",
};
pub(super) static TOPIC_CONFIG: Key<Shape> = Key {
    name: "config",
    kind: Shape("Kafka's topic configuration"),
    absent: Absent::Optional("the broker's defaults"),
    doc: "For example `message.timestamp.type: LogAppendTime`. The broker checks names and values.",
};

pub(super) static CREATE_BLOCK: Block = Block {
    noun: "`create`",
    path: "pipelines.<pipeline>.sinks.<sink>.create",
    keys: &[&PARTITIONS, &REPLICATION_FACTOR, &TOPIC_CONFIG],
};

/// Every mapping in the order of the reference.
pub(super) static BLOCKS: &[&Block] = &[
    &TEST_FILE,
    &HTTP_BLOCK,
    &PIPELINE,
    &ON_ERROR_BLOCK,
    &SOURCE,
    &TRANSFORM,
    &KAFKA_SINK,
    &PLUGIN_SINK,
    &CREATE_BLOCK,
];
