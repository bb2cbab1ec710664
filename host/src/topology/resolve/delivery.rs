//! Rules that span several nodes: delivery, tasks, topics, consumer groups and clusters.

use std::collections::{BTreeMap, BTreeSet};

use super::context::{Context, Place};
use super::fields::Fields;
use super::nodes::{Named, SinkDraft};
use super::pipeline::PipelineDraft;
use crate::topology::codes;
use crate::topology::kafka::catalogue::Side;
use crate::topology::kafka::{Layer, OF_CLASSIC_PROTOCOL, Setting};
use crate::topology::keys;
use crate::topology::mask::MASK;
use crate::topology::model::{Delivery, KafkaProperties, Policy, SinkKind};
use crate::topology::plugins::{Replay, Scope};
use crate::topology::words::{listed, quoted};

const BOOTSTRAP: &str = "bootstrap.servers";

/// The delivery that the pipeline's sinks can keep (invariant I4): an explicit wish that they
/// cannot is refused, the default gives way.
pub(super) fn settle(cx: &Context, draft: &PipelineDraft) -> Delivery {
    let repeats = |sink: &&SinkDraft| match &sink.kind {
        SinkKind::Plugin { describe, .. } => describe.replay == Replay::Duplicates,
        SinkKind::Kafka { .. } => false,
    };
    let mut delivery = draft.delivery;
    for sink in draft.sinks.iter().filter(repeats) {
        let name = quoted(&sink.name.text);
        match (draft.delivery, &draft.delivery_place) {
            (Delivery::AtLeastOnce, _) => {}
            (Delivery::ExactlyOnce, Some(_)) => cx.note(
                codes::EXACTLY_ONCE_SINK,
                &sink.kind_place,
                format!("The sink {name} repeats records after a crash, and `delivery: exactly_once` is asked for."),
                "Write `delivery: at_least_once`, or configure the sink so that a replay is idempotent.",
            ),
            (Delivery::ExactlyOnce, None) => {
                delivery = Delivery::AtLeastOnce;
                cx.note(
                    codes::DELIVERY_DOWNGRADED,
                    &sink.kind_place,
                    format!("The sink {name} repeats records after a crash, so this pipeline delivers at least once."),
                    "Write `delivery: at_least_once` to say that this is meant.",
                );
            }
        }
    }
    delivery
}

/// Checks a pipeline as a whole; `base` are the properties of its own clients.
pub(super) fn check_pipeline(
    cx: &Context,
    draft: &PipelineDraft,
    delivery: Delivery,
    top: &Layer,
    base: &KafkaProperties,
) {
    check_tasks(cx, draft);
    check_stateful_chain(cx, draft);
    check_loops(cx, draft);
    check_dead_letters(cx, draft, base);
    check_idempotence(cx, base, top, draft);
    check_session(cx, draft, top);
    check_group_protocol(cx, draft, top);
    if delivery == Delivery::ExactlyOnce {
        check_isolation(cx, draft, top);
        check_one_producer(cx, draft, base);
        check_transaction_time(cx, draft, base, top);
    }
}

/// I7: pipeline scope means one active task.
fn check_tasks(cx: &Context, draft: &PipelineDraft) {
    if draft.tasks <= 1 {
        return;
    }
    let transforms = draft
        .transforms
        .iter()
        .map(|node| (&node.name, node.describe.scope));
    let sinks = draft.sinks.iter().filter_map(|sink| match &sink.kind {
        SinkKind::Plugin { describe, .. } => Some((&sink.name, describe.scope)),
        SinkKind::Kafka { .. } => None,
    });
    let wide = transforms
        .chain(sinks)
        .find(|(_, scope)| *scope == Scope::Pipeline);
    if let Some((name, _)) = wide {
        let message = format!(
            "`tasks` is {}, and the result of {} needs every partition in one task.",
            draft.tasks,
            quoted(&name.text)
        );
        let help = "Write `tasks: 1`, or use two stages: a pipeline with `emit: sketch` and any number \
                    of tasks, and behind it one with `merge: true` and one task.";
        cx.note(
            codes::PIPELINE_SCOPE_TASKS,
            &draft.tasks_place,
            message,
            help,
        );
    }
}

/// I3: state is kept, moved and restored by source partition, and a record derived from many has none.
fn check_stateful_chain(cx: &Context, draft: &PipelineDraft) {
    let find = |name: &str| draft.transforms.iter().find(|node| node.name.text == name);
    for node in &draft.transforms {
        if node.describe.scope == Scope::Record {
            continue;
        }
        let mut seen = BTreeSet::new();
        let mut above: Vec<&str> = node.from.iter().map(|from| from.text.as_str()).collect();
        while let Some(name) = above.pop() {
            let Some(upstream) = find(name).filter(|_| seen.insert(name)) else {
                continue;
            };
            if upstream.describe.scope != Scope::Record && upstream.name.text != node.name.text {
                let message = format!(
                    "{} keeps state by source partition, and what {} derives from many records belongs to none.",
                    quoted(&node.name.text),
                    quoted(&upstream.name.text)
                );
                let help = "Write what the first one derives to a Kafka topic and read it in a second pipeline.";
                cx.note(codes::STATEFUL_CHAIN, &node.name.place, message, help);
                break;
            }
            above.extend(upstream.from.iter().map(|from| from.text.as_str()));
        }
    }
}

fn cluster(properties: &BTreeMap<String, String>) -> Option<&str> {
    properties.get(BOOTSTRAP).map(String::as_str)
}

fn check_loops(cx: &Context, draft: &PipelineDraft) {
    for sink in &draft.sinks {
        let (SinkKind::Kafka { topic, kafka, .. }, Some(place)) = (&sink.kind, &sink.topic_place)
        else {
            continue;
        };
        let source = draft.sources.iter().find(|draft| {
            draft.source.topics.contains(topic)
                && cluster(&draft.source.kafka.consumer) == cluster(&kafka.producer)
        });
        if let Some(source) = source {
            let message = format!(
                "The sink writes {}, which the source {} of the same pipeline reads.",
                quoted(topic),
                quoted(&source.name.text)
            );
            cx.note(
                codes::TOPIC_LOOP,
                place,
                message,
                "Write to another topic; every record would come round for ever.",
            );
        }
    }
}

fn check_dead_letters(cx: &Context, draft: &PipelineDraft, base: &KafkaProperties) {
    let topic = &draft.on_error.topic;
    if draft.on_error.policy != Policy::DeadLetter {
        return;
    }
    let read = draft.sources.iter().find(|node| {
        node.source.topics.contains(topic)
            && cluster(&node.source.kafka.consumer) == cluster(&base.producer)
    });
    let written = draft.sinks.iter().find(|node| match &node.kind {
        SinkKind::Kafka {
            topic: sink, kafka, ..
        } => sink == topic && cluster(&kafka.producer) == cluster(&base.producer),
        SinkKind::Plugin { .. } => false,
    });
    let (noun, name) = match (read, written) {
        (Some(source), _) => ("source", &source.name.text),
        (None, Some(sink)) => ("sink", &sink.name.text),
        (None, None) => return,
    };
    let message = format!(
        "Dead letters go to {}, which is also the topic of the {noun} {}.",
        quoted(topic),
        quoted(name)
    );
    let help = "Name a topic of its own; the default is the pipeline's name with `.dlq`.";
    cx.note(
        codes::DEAD_LETTER_TOPIC,
        &draft.dead_letter_place,
        message,
        help,
    );
}

/// What librdkafka demands of an idempotent producer, said before it says so at the start.
fn check_idempotence(cx: &Context, base: &KafkaProperties, top: &Layer, draft: &PipelineDraft) {
    let layers = draft
        .sources
        .first()
        .map(|source| &source.layer)
        .into_iter()
        .chain([top]);
    let own = layers.map(|layer| (layer, base));
    let sinks = draft.sinks.iter().filter_map(|sink| match &sink.kind {
        SinkKind::Kafka { kafka, .. } => Some((&sink.layer, kafka)),
        SinkKind::Plugin { .. } => None,
    });
    for (layer, properties) in own.chain(sinks) {
        if properties
            .producer
            .get("enable.idempotence")
            .map(String::as_str)
            != Some("true")
        {
            continue;
        }
        for (name, fits, need) in IDEMPOTENCE {
            let Some(setting) = layer.find(name) else {
                continue;
            };
            let in_force = properties.producer.get(*name) == Some(&setting.value);
            if in_force && !fits(&setting.value) {
                let message =
                    format!("`{name}` must be {need} while `enable.idempotence` is true.");
                let help = format!(
                    "Remove `{name}`, or set `enable.idempotence: false` and lose the order and uniqueness of retries."
                );
                cx.note(codes::KAFKA_CONFLICT, &setting.place, message, help);
            }
        }
    }
}

/// librdkafka refuses a consumer whose session outlives its longest pause between polls.
fn check_session(cx: &Context, draft: &PipelineDraft, top: &Layer) {
    for source in &draft.sources {
        let consumer = &source.source.kafka.consumer;
        let names = ["session.timeout.ms", "max.poll.interval.ms"];
        note_above(cx, consumer, names, [&source.layer, top]);
    }
}

/// Under KIP-848 the broker decides what these properties decide otherwise, and librdkafka refuses them.
fn check_group_protocol(cx: &Context, draft: &PipelineDraft, top: &Layer) {
    for source in &draft.sources {
        if !source.source.kafka.is_grouped_by_broker() {
            continue;
        }
        for name in OF_CLASSIC_PROTOCOL {
            if let Some(setting) = source.layer.find(name).or(top.find(name)) {
                let message = format!("`{name}` cannot be set with `group.protocol: consumer`.");
                let help = "Remove it; under this protocol the broker's configuration decides it.";
                cx.note(codes::KAFKA_CONFLICT, &setting.place, message, help);
            }
        }
    }
}

/// librdkafka refuses a transactional producer whose records may outlive their transaction.
fn check_transaction_time(
    cx: &Context,
    draft: &PipelineDraft,
    base: &KafkaProperties,
    top: &Layer,
) {
    let empty = Layer::default();
    let source = draft.sources.first().map_or(&empty, |source| &source.layer);
    let names = ["delivery.timeout.ms", "transaction.timeout.ms"];
    note_above(cx, &base.producer, names, [source, top]);
}

/// Notes that the first property, where it is in force, is larger than the second.
fn note_above(
    cx: &Context,
    properties: &BTreeMap<String, String>,
    [smaller, larger]: [&str; 2],
    layers: [&Layer; 2],
) {
    let number = |name: &str| properties.get(name)?.parse::<i64>().ok();
    let (Some(below), Some(above)) = (number(smaller), number(larger)) else {
        return;
    };
    let setting = layers
        .iter()
        .find_map(|layer| layer.find(smaller).or(layer.find(larger)));
    if let (true, Some(setting)) = (below > above, setting) {
        let message = format!("`{smaller}` of {below} is larger than `{larger}` of {above}.");
        let help = format!("Lower `{smaller}` or raise `{larger}`; librdkafka wants this order.");
        cx.note(codes::KAFKA_CONFLICT, &setting.place, message, help);
    }
}

type Fits = fn(&str) -> bool;

/// Property, whether a value fits, and what is needed (librdkafka's INTRODUCTION.md,
/// "Idempotent Producer").
const IDEMPOTENCE: &[(&str, Fits, &str)] = &[
    ("acks", |value| matches!(value, "all" | "-1"), "`all`"),
    (
        "max.in.flight",
        |value| value.parse::<u32>().is_ok_and(|n| n <= 5),
        "at most 5",
    ),
    (
        "retries",
        |value| value.parse::<u32>().is_ok_and(|n| n > 0),
        "above 0",
    ),
    ("queuing.strategy", |value| value == "fifo", "`fifo`"),
];

fn check_isolation(cx: &Context, draft: &PipelineDraft, top: &Layer) {
    let sources = draft.sources.iter().map(|source| &source.layer);
    for layer in sources.chain([top]) {
        if let Some(setting) = layer.find("isolation.level") {
            cx.note(
                codes::KAFKA_OWNED,
                &setting.place,
                "The host itself sets `isolation.level` under exactly once.",
                "Remove it; the host reads committed records only. With `delivery: at_least_once` it may be set.",
            );
        }
    }
}

/// I4: one producer per task, on the cluster that keeps the offsets, with idempotence.
fn check_one_producer(cx: &Context, draft: &PipelineDraft, base: &KafkaProperties) {
    if base.producer.get("enable.idempotence").map(String::as_str) == Some("false") {
        note_exactly_once(
            cx,
            &draft.name.place,
            "Exactly once needs `enable.idempotence`, and the properties of this pipeline turn it off.".into(),
        );
    }
    for source in draft.sources.iter().skip(1) {
        if cluster(&source.source.kafka.consumer) != cluster(&base.consumer) {
            let place = source
                .layer
                .find(BOOTSTRAP)
                .map_or(&source.name.place, |setting| &setting.place);
            let message = format!(
                "The source {} reads from another cluster than the first source.",
                quoted(&source.name.text)
            );
            note_exactly_once(cx, place, message);
        }
    }
    for sink in &draft.sinks {
        let SinkKind::Kafka { kafka, .. } = &sink.kind else {
            continue;
        };
        if cluster(&kafka.producer) != cluster(&base.producer) {
            let place = sink
                .layer
                .find(BOOTSTRAP)
                .map_or(&sink.name.place, |setting| &setting.place);
            let message = format!(
                "The sink {} writes to another cluster than the source reads from.",
                quoted(&sink.name.text)
            );
            note_exactly_once(cx, place, message);
        }
        for setting in sink
            .layer
            .settings
            .iter()
            .filter(|setting| differs(setting, base))
        {
            let value = if setting.secret {
                MASK.to_owned()
            } else {
                quoted(&setting.value)
            };
            let message = format!(
                "The sink {} asks for `{}` of {value}, and the task has one producer for all its outputs.",
                quoted(&sink.name.text),
                setting.property.name
            );
            note_exactly_once(cx, &setting.place, message);
        }
    }
}

/// Whether a sink's property would need a producer of its own; another cluster is said apart.
fn differs(setting: &Setting, base: &KafkaProperties) -> bool {
    setting.side != Side::Consumer
        && setting.property.name != BOOTSTRAP
        && base.producer.get(setting.property.name) != Some(&setting.value)
}

fn note_exactly_once(cx: &Context, place: &Place, message: String) {
    let help = "Write `delivery: at_least_once` for this pipeline, or remove the property.";
    cx.note(codes::KAFKA_EXACTLY_ONCE, place, message, help);
}

/// Two sources that read one topic in one group would each get half of its partitions.
pub(super) fn check_groups(cx: &Context, drafts: &[PipelineDraft]) {
    let all: Vec<_> = drafts
        .iter()
        .flat_map(|draft| draft.sources.iter().map(move |source| (draft, source)))
        .collect();
    for (index, (pipeline, source)) in all.iter().enumerate() {
        for (other_pipeline, other) in all.iter().take(index) {
            let same_group = source.source.group == other.source.group
                && cluster(&source.source.kafka.consumer) == cluster(&other.source.kafka.consumer);
            let shared: Option<&Named> = source
                .topics
                .iter()
                .find(|topic| same_group && other.source.topics.contains(&topic.text));
            let Some(topic) = shared else { continue };
            let message = format!(
                "The sources {} and {} read {} in the consumer group {}, and each would get a part of it.",
                quoted(&format!("{}.{}", other_pipeline.name.text, other.name.text)),
                quoted(&format!("{}.{}", pipeline.name.text, source.name.text)),
                quoted(&topic.text),
                quoted(&source.source.group)
            );
            let help = "Give one of them a `group` of its own; to share the work of one pipeline use `tasks`.";
            cx.note(codes::SHARED_GROUP, &topic.place, message, help);
        }
    }
}

/// Every client needs to know a broker.
pub(super) fn check_bootstrap(cx: &Context, fields: &Fields, drafts: &[PipelineDraft]) {
    let mut lacking = Vec::new();
    for draft in drafts {
        let sources = draft
            .sources
            .iter()
            .map(|node| (&node.name, cluster(&node.source.kafka.consumer)));
        let sinks = draft.sinks.iter().filter_map(|node| match &node.kind {
            SinkKind::Kafka { kafka, .. } => Some((&node.name, cluster(&kafka.producer))),
            SinkKind::Plugin { .. } => None,
        });
        let without = sources
            .chain(sinks)
            .filter(|(_, servers)| servers.is_none_or(str::is_empty));
        lacking.extend(without.map(|(name, _)| format!("{}.{}", draft.name.text, name.text)));
    }
    if lacking.is_empty() {
        return;
    }
    let at = fields
        .find(&keys::KAFKA)
        .or_else(|| fields.find(&keys::PIPELINES));
    let place = at.map_or_else(|| fields.at.key_place(), |at| at.key_place());
    let message = format!(
        "No `bootstrap.servers` is set for {}.",
        listed(lacking.iter().map(String::as_str), "and")
    );
    let help = "Add `bootstrap.servers: \"host:9092\"` under `kafka:` at the top of the file.";
    cx.note(codes::KAFKA_BOOTSTRAP, &place, message, help);
}
