//! Sources, transforms and sinks, each for itself; how they hang together is `graph.rs`.

use std::collections::BTreeMap;

use super::context::{Context, Located, Place};
use super::fields::Fields;
use super::plugin_config;
use super::plugin_use;
use crate::topology::codes;
use crate::topology::kafka::{Layer, combine};
use crate::topology::keys;
use crate::topology::model::{CreateTopic, KafkaProperties, OnGap, PluginConfig, SinkKind, Source};
use crate::topology::plugins::{Describe, PluginKind};
use crate::topology::raw::Raw;
use crate::topology::words::quoted;

/// Longest name Kafka allows for a topic, in characters.
const TOPIC_CHARS_MAX: usize = 249;

/// Longest consumer group, in bytes: Kafka writes it as a string of 16-bit length into its own
/// topic's key, and nobody needs a tenth of that.
const GROUP_BYTES_MAX: usize = 255;

/// A text with its place.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub text: String,
    pub place: Place,
}

pub(super) struct SourceDraft {
    pub name: Named,
    pub source: Source,
    pub topics: Vec<Named>,
    pub layer: Layer,
}

pub(super) struct TransformDraft {
    pub name: Named,
    pub plugin: String,
    pub from: Vec<Named>,
    pub config: PluginConfig,
    pub describe: Describe,
}

pub(super) struct SinkDraft {
    pub name: Named,
    /// Where the sink's type stands.
    pub kind_place: Place,
    pub from: Vec<Named>,
    pub kind: SinkKind,
    /// For Kafka: where the topic stands, and the sink's own properties.
    pub topic_place: Option<Place>,
    pub layer: Layer,
}

fn name(at: &Located) -> Named {
    Named {
        text: at.key.clone(),
        place: at.key_place(),
    }
}

/// Reads a source of the pipeline named `pipeline`; `top` is the file's `kafka:`.
pub(super) fn source(
    cx: &Context,
    at: &Located,
    pipeline: &str,
    top: &Layer,
) -> Option<SourceDraft> {
    let fields = Fields::open(cx, at.clone(), &keys::SOURCE)?;
    fields.word(&keys::SOURCE_TYPE);
    let topics = source_topics(cx, &fields);
    let group = match fields.text(&keys::GROUP) {
        Some((group, place)) => {
            if group.text.is_empty() || group.text.len() > GROUP_BYTES_MAX {
                let message = format!("A consumer group has 1 to {GROUP_BYTES_MAX} bytes.");
                cx.note(
                    codes::OUT_OF_RANGE,
                    &place.place(),
                    message,
                    "Choose a name of that length, or remove `group`.",
                );
            }
            group.text
        }
        None => format!("weir-{pipeline}"),
    };
    let layer = fields
        .find(&keys::SOURCE_KAFKA)
        .map(|at| Layer::read(cx, &at))
        .unwrap_or_default();
    let source = Source {
        name: at.key.clone(),
        topics: topics.iter().map(|topic| topic.text.clone()).collect(),
        group,
        max_disorder: fields.period(&keys::MAX_DISORDER),
        idle_grace: fields.period(&keys::IDLE_GRACE),
        max_future: fields.period(&keys::MAX_FUTURE),
        on_gap: fields.word(&keys::ON_GAP).unwrap_or(OnGap::Fail),
        kafka: combine([top, &layer]),
    };
    Some(SourceDraft {
        name: name(at),
        source,
        topics,
        layer,
    })
}

fn source_topics(cx: &Context, fields: &Fields) -> Vec<Named> {
    let mut topics: Vec<Named> = Vec::new();
    for (topic, at) in fields.texts(&keys::TOPICS) {
        check_topic(cx, &topic.text, &at.place());
        if topics.iter().any(|earlier| earlier.text == topic.text) {
            let message = format!("The topic {} stands twice.", quoted(&topic.text));
            cx.note(
                codes::DUPLICATE_TOPIC,
                &at.place(),
                message,
                "Remove one of the two.",
            );
        } else {
            topics.push(Named {
                text: topic.text,
                place: at.place(),
            });
        }
    }
    topics
}

/// Notes a name that Kafka does not allow for a topic (its own rule: `Topic.validate`).
pub(super) fn check_topic(cx: &Context, topic: &str, place: &Place) {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let cause = if topic.is_empty() {
        "is empty".to_owned()
    } else if matches!(topic, "." | "..") {
        "is not allowed".to_owned()
    } else if topic.chars().count() > TOPIC_CHARS_MAX {
        format!("is longer than {TOPIC_CHARS_MAX} characters")
    } else if let Some(wrong) = topic.chars().find(|c| !legal(*c)) {
        format!("holds {}", quoted(&wrong.to_string()))
    } else {
        return;
    };
    let message = format!("The topic name {} {cause}.", quoted(topic));
    let help = "Kafka allows ASCII letters, digits, `.`, `_` and `-`, at most 249; patterns are not supported.";
    cx.note(codes::TOPIC_NAME, place, message, help);
}

/// Reads a transform.
pub(super) fn transform(cx: &Context, at: &Located) -> Option<TransformDraft> {
    let fields = Fields::open(cx, at.clone(), &keys::TRANSFORM)?;
    let from = from(cx, &fields);
    let config = fields.find(&keys::CONFIG);
    let (kind, kind_at) = fields.text(&keys::TRANSFORM_TYPE)?;
    let known = plugin_use::check(cx, &kind.text, PluginKind::Transform, &kind_at);
    let (config, describe) = options(cx, known, &kind.text, at, config.as_ref());
    Some(TransformDraft {
        name: name(at),
        plugin: kind.text,
        from,
        config,
        describe,
    })
}

/// Reads a sink; `top` is the file's `kafka:`.
pub(super) fn sink(cx: &Context, at: &Located, top: &Layer) -> Option<SinkDraft> {
    let entries = cx.mapping(at, "a mapping")?;
    let kind = entries
        .iter()
        .find(|entry| entry.key == keys::SINK_TYPE.name)
        .map(|entry| at.entry(entry));
    let kind = kind.and_then(|kind| cx.scalar(&kind, "text"));
    let is_kafka = kind.is_some_and(|kind| kind.text == plugin_use::BUILT_IN);
    let block = if is_kafka {
        &keys::KAFKA_SINK
    } else {
        &keys::PLUGIN_SINK
    };
    let fields = Fields::open(cx, at.clone(), block)?;
    let from = from(cx, &fields);
    if is_kafka {
        return kafka_sink(cx, at, &fields, from, top);
    }
    let config = fields.find(&keys::CONFIG);
    let (kind, kind_at) = fields.text(&keys::SINK_TYPE)?;
    let known = plugin_use::check(cx, &kind.text, PluginKind::Sink, &kind_at);
    let (config, describe) = options(cx, known, &kind.text, at, config.as_ref());
    Some(SinkDraft {
        name: name(at),
        kind_place: kind_at.place(),
        from,
        kind: SinkKind::Plugin {
            plugin: kind.text,
            config,
            describe,
        },
        topic_place: None,
        layer: Layer::default(),
    })
}

fn options(
    cx: &Context,
    known: bool,
    plugin: &str,
    at: &Located,
    config: Option<&Located>,
) -> (PluginConfig, Describe) {
    match known {
        true => plugin_config::resolve(cx, plugin, at, config),
        // Nobody can say whether the options of an unknown plugin are right.
        false => (
            PluginConfig::new(serde_json::json!({}), Default::default()),
            plugin_config::UNDESCRIBED,
        ),
    }
}

fn kafka_sink(
    cx: &Context,
    at: &Located,
    fields: &Fields,
    from: Vec<Named>,
    top: &Layer,
) -> Option<SinkDraft> {
    let kind_place = fields.find(&keys::SINK_TYPE)?.place();
    let layer = fields
        .find(&keys::SINK_KAFKA)
        .map(|at| Layer::read(cx, &at))
        .unwrap_or_default();
    let create = fields
        .find(&keys::CREATE)
        .map(|at| create_topic(cx, at))
        .unwrap_or_default();
    let topic = fields.text(&keys::TOPIC).map(|(topic, at)| {
        check_topic(cx, &topic.text, &at.place());
        Named {
            text: topic.text,
            place: at.place(),
        }
    });
    let kafka: KafkaProperties = combine([top, &layer]);
    let (topic, topic_place) = match topic {
        Some(topic) => (topic.text, Some(topic.place)),
        None => (String::new(), None),
    };
    Some(SinkDraft {
        name: name(at),
        kind_place,
        from,
        kind: SinkKind::Kafka {
            topic,
            create,
            kafka,
        },
        topic_place,
        layer,
    })
}

fn create_topic(cx: &Context, at: Located) -> CreateTopic {
    let Some(fields) = Fields::open(cx, at, &keys::CREATE_BLOCK) else {
        return CreateTopic::default();
    };
    let entries = fields.entries(&keys::TOPIC_CONFIG);
    let config: BTreeMap<String, String> = entries
        .iter()
        .filter_map(|entry| Some((entry.key.clone(), cx.scalar(entry, "a value")?.text)))
        .collect();
    CreateTopic {
        partitions: fields.optional_whole(&keys::PARTITIONS),
        replication_factor: fields
            .optional_whole(&keys::REPLICATION_FACTOR)
            .and_then(|replicas| u16::try_from(replicas).ok()),
        config,
    }
}

/// `from` as written: a name or a list of names, none twice.
fn from(cx: &Context, fields: &Fields) -> Vec<Named> {
    let Some(at) = fields.find(&keys::FROM) else {
        return Vec::new();
    };
    let items: Vec<Located> = match &at.node.value {
        Raw::Sequence(items) => items
            .iter()
            .enumerate()
            .map(|(index, node)| at.item(index, node))
            .collect(),
        _ => vec![at.clone()],
    };
    if items.is_empty() {
        let help = "Name the source or transform to read from.";
        cx.note(
            codes::EMPTY_LIST,
            &at.place(),
            "`from` is an empty list.",
            help,
        );
    }
    let mut names: Vec<Named> = Vec::new();
    for item in items {
        let Some(scalar) = cx.scalar(&item, "a name or a list of names") else {
            continue;
        };
        if names.iter().any(|earlier| earlier.text == scalar.text) {
            let message = format!("`from` names {} twice.", quoted(&scalar.text));
            cx.note(
                codes::DUPLICATE_FROM,
                &item.place(),
                message,
                "Remove one of the two; every record comes once.",
            );
            continue;
        }
        names.push(Named {
            text: scalar.text,
            place: item.place(),
        });
    }
    names
}
