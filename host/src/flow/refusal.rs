//! Records that cannot be processed, and the dead letters made of them (CONTRACT.md section 5).

use weir_plugin_api::Record;

use super::ledger::Maker;

/// Longest `exception.message`, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Longest `exception.stacktrace`, in bytes.
const TRACE_BYTES_MAX: usize = 4096;

/// Where a record was refused, in Kafka Connect's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A transform refused it.
    Transformation,
    /// A sink's target refused it.
    TaskPut,
    /// Kafka refused it.
    KafkaProduce,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Transformation => "TRANSFORMATION",
            Stage::TaskPut => "TASK_PUT",
            Stage::KafkaProduce => "KAFKA_PRODUCE",
        }
    }
}

/// Why a record was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub stage: Stage,
    /// Name of the node that refused it.
    pub node: String,
    /// Name of the plugin; `kafka` for Kafka itself.
    pub class: String,
    /// Stable dotted code.
    pub code: String,
    pub message: String,
    /// The chain of causes, or empty.
    pub detail: String,
}

/// Where the record came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Source {
        topic: String,
        partition: i32,
        offset: i64,
    },
    /// Derived from many by this node.
    Derived { node: String, key: String },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Source {
                topic,
                partition,
                offset,
            } => write!(f, "{topic}-{partition}@{offset}"),
            Origin::Derived { node, key } => {
                write!(f, "a record of node `{node}` with key `{key}`")
            }
        }
    }
}

/// Key of a derived record, as an error message shows it.
pub fn shown_key(record: &Record<'_>) -> String {
    let key = record.key.get().unwrap_or_default();
    String::from_utf8_lossy(&key[..key.len().min(256)]).into_owned()
}

fn truncated(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The ten headers of Kafka Connect, and one of ours for derived records.
pub fn headers(
    pipeline: &str,
    task: u32,
    origin: &Origin,
    refusal: &Refusal,
) -> Vec<(&'static str, String)> {
    let (topic, partition, offset) = match origin {
        Origin::Source {
            topic,
            partition,
            offset,
        } => (topic.clone(), partition.to_string(), offset.to_string()),
        Origin::Derived { node, .. } => (node.clone(), "-1".to_owned(), "-1".to_owned()),
    };
    let trace = if refusal.detail.is_empty() {
        &refusal.message
    } else {
        &refusal.detail
    };
    let mut headers = vec![
        ("__connect.errors.topic", topic),
        ("__connect.errors.partition", partition),
        ("__connect.errors.offset", offset),
        ("__connect.errors.connector.name", pipeline.to_owned()),
        ("__connect.errors.task.id", task.to_string()),
        ("__connect.errors.stage", refusal.stage.as_str().to_owned()),
        ("__connect.errors.class.name", refusal.class.clone()),
        (
            "__connect.errors.exception.class.name",
            refusal.code.clone(),
        ),
        (
            "__connect.errors.exception.message",
            truncated(&refusal.message, MESSAGE_BYTES_MAX).to_owned(),
        ),
        (
            "__connect.errors.exception.stacktrace",
            truncated(trace, TRACE_BYTES_MAX).to_owned(),
        ),
    ];
    if matches!(origin, Origin::Derived { .. }) {
        headers.push(("weir.errors.derived", "true".to_owned()));
    }
    headers
}

impl Maker {
    pub(super) fn transform(self) -> Option<usize> {
        match self {
            Maker::Source => None,
            Maker::Transform(index) => Some(index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(message: &str, detail: &str) -> Refusal {
        Refusal {
            stage: Stage::Transformation,
            node: "reduced".into(),
            class: "reduce-visit".into(),
            code: "reduce_visit.id".into(),
            message: message.into(),
            detail: detail.into(),
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let origin = Origin::Source {
            topic: "t".into(),
            partition: 1,
            offset: 2,
        };
        let headers = headers(
            "p",
            0,
            &origin,
            &refusal(&"ä".repeat(700), &"€".repeat(2000)),
        );
        assert_eq!(headers.len(), 10);
        assert_eq!(headers[8].1.len(), 1024);
        assert_eq!(headers[9].1.len(), 4095);
        assert_eq!(headers[2], ("__connect.errors.offset", "2".to_owned()));
    }

    #[test]
    fn a_derived_record_names_its_node() {
        let origin = Origin::Derived {
            node: "latency".into(),
            key: "k".into(),
        };
        let headers = headers("p", 0, &origin, &refusal("too old", ""));
        assert_eq!(headers[0].1, "latency");
        assert_eq!((headers[1].1.as_str(), headers[2].1.as_str()), ("-1", "-1"));
        assert_eq!(headers[9].1, "too old");
        assert_eq!(headers[10], ("weir.errors.derived", "true".to_owned()));
    }
}
