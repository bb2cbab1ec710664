//! One pipeline: its own keys, its nodes, and what becomes of them.

use std::time::Duration;

use super::context::{Context, Located, Place};
use super::fields::Fields;
use super::graph::{self, Graph};
use super::nodes::{self, Named, SinkDraft, SourceDraft, TransformDraft};
use super::{delivery, note_empty};
use crate::topology::codes;
use crate::topology::kafka::{Layer, combine};
use crate::topology::keys;
use crate::topology::model::{Delivery, OnError, Pipeline, Policy, Sink, SinkKind, Transform};
use crate::topology::words::quoted;

/// Longest name of a pipeline or node. `__weir.<pipeline>.checkpoints` must stay a legal topic,
/// and a metric label readable.
const NAME_CHARS_MAX: usize = 64;

/// Most nodes of one pipeline. One thread runs them all for every batch, and the checks of the
/// graph may take the square of their number.
const NODES_MAX: usize = 256;

/// A pipeline whose parts are read and whose whole is not checked yet.
pub(super) struct PipelineDraft {
    pub name: Named,
    pub delivery: Delivery,
    /// Where `delivery:` stands, if it does.
    pub delivery_place: Option<Place>,
    pub tasks: u32,
    pub tasks_place: Place,
    pub task_restarts: u32,
    pub checkpoint_interval: Duration,
    pub shutdown_timeout: Duration,
    pub on_error: OnError,
    pub dead_letter_place: Place,
    pub sources: Vec<SourceDraft>,
    pub transforms: Vec<TransformDraft>,
    pub sinks: Vec<SinkDraft>,
}

/// Reads every pipeline of the file.
pub(super) fn read_all(cx: &Context, fields: &Fields, top: &Layer) -> Vec<PipelineDraft> {
    let Some(at) = fields.find(&keys::PIPELINES) else {
        return Vec::new();
    };
    let entries = cx.mapping(&at, "a mapping of names to pipelines");
    if entries.is_some_and(<[_]>::is_empty) {
        let help = "Declare at least one pipeline with `sources` and `sinks`.";
        note_empty(
            cx,
            &at,
            codes::NO_PIPELINES,
            "The file declares no pipeline.",
            help,
        );
    }
    let pipelines = entries
        .unwrap_or_default()
        .iter()
        .map(|entry| at.entry(entry));
    pipelines.filter_map(|at| read(cx, &at, top)).collect()
}

fn read(cx: &Context, at: &Located, top: &Layer) -> Option<PipelineDraft> {
    check_name(cx, at, "pipeline");
    let fields = Fields::open(cx, at.clone(), &keys::PIPELINE)?;
    let pipeline = at.key.as_str();
    let (on_error, dead_letter_place) = on_error(cx, &fields, pipeline);
    let sources = nodes_of(cx, &fields, &keys::SOURCES, "source");
    let transforms = nodes_of(cx, &fields, &keys::TRANSFORMS, "transform");
    let sinks = nodes_of(cx, &fields, &keys::SINKS, "sink");
    let nodes = sources.len() + transforms.len() + sinks.len();
    if nodes > NODES_MAX {
        let message = format!("The pipeline has {nodes} nodes, and {NODES_MAX} is the most.");
        let help = "Split it into several pipelines with topics between them.";
        cx.note(codes::OUT_OF_RANGE, &at.key_place(), message, help);
        return None;
    }
    let delivery_at = fields.find(&keys::DELIVERY);
    let draft = PipelineDraft {
        name: Named {
            text: pipeline.to_owned(),
            place: at.key_place(),
        },
        delivery: fields
            .word(&keys::DELIVERY)
            .unwrap_or(Delivery::ExactlyOnce),
        delivery_place: delivery_at.map(|at| at.place()),
        tasks: fields.whole(&keys::TASKS),
        tasks_place: fields
            .find(&keys::TASKS)
            .map_or_else(|| at.key_place(), |at| at.place()),
        task_restarts: fields.whole(&keys::TASK_RESTARTS),
        checkpoint_interval: fields.period(&keys::CHECKPOINT_INTERVAL),
        shutdown_timeout: fields.period(&keys::SHUTDOWN_TIMEOUT),
        on_error,
        dead_letter_place,
        sources: sources
            .iter()
            .filter_map(|at| nodes::source(cx, at, pipeline, top))
            .collect(),
        transforms: transforms
            .iter()
            .filter_map(|at| nodes::transform(cx, at))
            .collect(),
        sinks: sinks
            .iter()
            .filter_map(|at| nodes::sink(cx, at, top))
            .collect(),
    };
    graph::check_names(cx, &[&sources, &transforms, &sinks]);
    let declared = [&sources, &transforms, &sinks].map(|nodes| {
        nodes
            .iter()
            .map(|node| node.key.clone())
            .collect::<Vec<_>>()
    });
    graph::check_edges(cx, &draft, &declared);
    Some(draft)
}

/// The nodes of one kind; a pipeline without any source or sink is noted.
fn nodes_of<'a>(
    cx: &Context<'a>,
    fields: &Fields<'_, 'a>,
    key: &keys::Key<keys::Shape>,
    noun: &str,
) -> Vec<Located<'a>> {
    let nodes = fields.entries(key);
    let code = match noun {
        "source" => Some(codes::NO_SOURCES),
        "sink" => Some(codes::NO_SINKS),
        _ => None,
    };
    if let (true, Some(code), Some(at)) = (nodes.is_empty(), code, fields.find(key)) {
        // Anything but an empty mapping has been noted already.
        if cx.is_empty_mapping(&at) {
            let help = format!("Declare at least one {noun} under `{}`.", key.name);
            note_empty(
                cx,
                &at,
                code,
                &format!("The pipeline has no {noun}."),
                &help,
            );
        }
    }
    for node in &nodes {
        check_name(cx, node, noun);
    }
    nodes
}

fn check_name(cx: &Context, at: &Located, noun: &str) {
    let first = at
        .key
        .starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest = at
        .key
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'));
    if first && rest && at.key.chars().count() <= NAME_CHARS_MAX {
        return;
    }
    let message = format!("{} is no name for a {noun}.", quoted(&at.key));
    let help = format!(
        "Use a-z, 0-9, `_` and `-`, a letter or digit first, at most {NAME_CHARS_MAX} characters."
    );
    cx.note(codes::BAD_NAME, &at.key_place(), message, help);
}

fn on_error(cx: &Context, fields: &Fields, pipeline: &str) -> (OnError, Place) {
    let default_topic = format!("{pipeline}.dlq");
    let at = fields.find(&keys::ON_ERROR);
    let place = at
        .as_ref()
        .map_or_else(|| fields.at.key_place(), Located::key_place);
    let Some(block) = at.and_then(|at| Fields::open(cx, at, &keys::ON_ERROR_BLOCK)) else {
        let on_error = OnError {
            policy: Policy::Fail,
            topic: default_topic,
            retry_timeout: None,
        };
        return (on_error, place);
    };
    let policy = block.word(&keys::POLICY).unwrap_or(Policy::Fail);
    let topic = block.text(&keys::DEAD_LETTER_TOPIC);
    if let Some((topic, at)) = &topic {
        nodes::check_topic(cx, &topic.text, &at.place());
        if policy != Policy::DeadLetter {
            let message = "`topic` has no effect, because the policy is not `dead_letter`.";
            let help = "Write `policy: dead_letter`, or remove `topic`.";
            cx.note(codes::UNUSED_SETTING, &at.key_place(), message, help);
        }
    }
    let place = topic.as_ref().map_or(place, |(_, at)| at.place());
    let on_error = OnError {
        policy,
        topic: topic.map_or(default_topic, |(topic, _)| topic.text),
        retry_timeout: block.optional_period(&keys::RETRY_TIMEOUT),
    };
    (on_error, place)
}

impl PipelineDraft {
    /// The plugins it names.
    pub(super) fn plugins(&self) -> Vec<String> {
        let transforms = self
            .transforms
            .iter()
            .map(|transform| transform.plugin.clone());
        let sinks = self.sinks.iter().filter_map(|sink| match &sink.kind {
            SinkKind::Plugin { plugin, .. } => Some(plugin.clone()),
            SinkKind::Kafka { .. } => None,
        });
        transforms.chain(sinks).collect()
    }

    /// The pipeline with its rules checked; None if its nodes form no graph.
    pub(super) fn finish(self, cx: &Context, top: &Layer) -> Option<Pipeline> {
        let delivery = delivery::settle(cx, &self);
        let empty = Layer::default();
        let first_source = self.sources.first().map_or(&empty, |source| &source.layer);
        let kafka = combine([top, first_source]);
        delivery::check_pipeline(cx, &self, delivery, top, &kafka);
        let Graph { order, nodes } = graph::order(&self)?;
        let resolve = |from: Vec<Named>| -> Option<Vec<_>> {
            from.iter()
                .map(|name| nodes.get(&name.text).copied())
                .collect()
        };
        let mut drafts: Vec<Option<TransformDraft>> =
            self.transforms.into_iter().map(Some).collect();
        let ordered = order
            .into_iter()
            .filter_map(|at| drafts.get_mut(at)?.take());
        let transforms = ordered
            .map(|draft| {
                let from = resolve(draft.from)?;
                let TransformDraft {
                    name,
                    plugin,
                    config,
                    describe,
                    ..
                } = draft;
                Some(Transform {
                    name: name.text,
                    plugin,
                    from,
                    config,
                    describe,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        let sinks = self
            .sinks
            .into_iter()
            .map(|draft| {
                Some(Sink {
                    name: draft.name.text,
                    from: resolve(draft.from)?,
                    kind: draft.kind,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Pipeline {
            name: self.name.text,
            delivery,
            delivery_is_explicit: self.delivery_place.is_some(),
            tasks: self.tasks,
            task_restarts: self.task_restarts,
            checkpoint_interval: self.checkpoint_interval,
            shutdown_timeout: self.shutdown_timeout,
            on_error: self.on_error,
            kafka,
            sources: self.sources.into_iter().map(|draft| draft.source).collect(),
            transforms,
            sinks,
        })
    }
}
