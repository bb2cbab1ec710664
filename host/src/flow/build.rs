//! Wires a flow from what the topology says.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_plugin_api::host::{HostService, host_handle};
use weir_plugin_api::{HostHandle, log_level};

use super::alone::Alone;
use super::input::Input;
use super::transform::Factory;
use super::{
    Flow, Ledger, Outbox, Poison, Receiver, Refusal, SinkNode, Slots, Target, TransformNode,
};
use crate::clock::Clock;
use crate::metrics::TaskCounters;
use crate::plugin::{CallError, Catalog, Creation};
use crate::status::{CallMonitor, NodeLabel};
use crate::topology::{NodeRef, Pipeline, Sink, SinkKind, Transform};

/// What a flow is made of besides the topology.
pub struct FlowParts<'a> {
    pub task: u32,
    pub catalog: Arc<Catalog>,
    pub outbox: Box<dyn Outbox>,
    pub clock: Clock,
    pub monitor: Arc<CallMonitor>,
    pub counters: &'a mut TaskCounters,
    /// Records that are known to be at fault, with the reason.
    pub poison: BTreeMap<Poison, Refusal>,
    /// Outputs for Kafka leave one at a time: one of them was refused.
    pub outputs_leave_alone: bool,
    /// Records, dead letters and offsets leave in transactions (I4).
    pub is_transactional: bool,
    /// How a sink delivers: as the topology says, or into a test's hands.
    pub target: &'a dyn Fn(&Sink, HostHandle) -> Result<Target, CallError>,
}

/// What the plugins of a node log, with who says it.
struct NodeService {
    pipeline: String,
    node: String,
    task: u32,
    clock: Clock,
}

impl HostService for NodeService {
    fn log(&self, level: u32, message: &str) {
        let Self {
            pipeline,
            node,
            task,
            ..
        } = self;
        match level {
            log_level::ERROR => {
                tracing::error!(event = "plugin_log", pipeline, node, task, "{message}")
            }
            log_level::WARN => {
                tracing::warn!(event = "plugin_log", pipeline, node, task, "{message}")
            }
            log_level::INFO => {
                tracing::info!(event = "plugin_log", pipeline, node, task, "{message}")
            }
            _ => tracing::debug!(event = "plugin_log", pipeline, node, task, "{message}"),
        }
    }

    fn clock_ms(&self) -> i64 {
        self.clock.now_ms()
    }
}

/// Names for the watchdog, in the order in which a flow numbers its calls: transforms, then sinks.
pub fn node_labels(pipeline: &Pipeline) -> Vec<NodeLabel> {
    let transforms = pipeline
        .transforms
        .iter()
        .map(|node| NodeLabel::new(&node.name, &node.plugin));
    let sinks = pipeline.sinks.iter().map(|node| match &node.kind {
        SinkKind::Kafka { .. } => NodeLabel::new(&node.name, "kafka"),
        SinkKind::Plugin { plugin, .. } => NodeLabel::new(&node.name, plugin),
    });
    transforms.chain(sinks).collect()
}

/// The target that the topology names.
pub fn plugin_or_kafka(
    catalog: &Catalog,
    pipeline: &Pipeline,
    task: u32,
    sink: &Sink,
    host: HostHandle,
) -> Result<Target, CallError> {
    match &sink.kind {
        SinkKind::Kafka { topic, .. } => Ok(Target::Kafka {
            topic: topic.clone(),
        }),
        SinkKind::Plugin { plugin, config, .. } => {
            let creation = Creation {
                host,
                pipeline: &pipeline.name,
                node: &sink.name,
                task,
            };
            let instance = catalog.create_sink(plugin, config, &creation)?;
            Ok(Target::Plugin(Box::new(super::sink::PluginSink::new(
                plugin, instance,
            ))))
        }
    }
}

fn receivers(pipeline: &Pipeline, node: NodeRef) -> Vec<Receiver> {
    let transforms = pipeline
        .transforms
        .iter()
        .enumerate()
        .filter(|(_, reader)| reader.from.contains(&node));
    let sinks = pipeline
        .sinks
        .iter()
        .enumerate()
        .filter(|(_, reader)| reader.from.contains(&node));
    let transforms = transforms.map(|(index, _)| Receiver::Transform(index));
    transforms
        .chain(sinks.map(|(index, _)| Receiver::Sink(index)))
        .collect()
}

/// One way leads through the transforms: every record behind another is as far as that one or less. Sinks may be many.
fn is_chain(pipeline: &Pipeline) -> bool {
    let feeds_one = |node: NodeRef| {
        let receivers = receivers(pipeline, node);
        let is_sink = |receiver: &Receiver| matches!(receiver, Receiver::Sink(_));
        receivers.len() <= 1 || receivers.iter().all(is_sink)
    };
    let sources = (0..pipeline.sources.len()).map(NodeRef::Source);
    let transforms = (0..pipeline.transforms.len()).map(NodeRef::Transform);
    sources.chain(transforms).all(feeds_one)
}

fn factory(
    catalog: &Arc<Catalog>,
    pipeline: &str,
    task: u32,
    node: &Transform,
    host: HostHandle,
) -> Factory {
    let catalog = Arc::clone(catalog);
    let (pipeline, name, plugin) = (pipeline.to_owned(), node.name.clone(), node.plugin.clone());
    let config: serde_json::Value = (*node.config).clone();
    Box::new(move || {
        let creation = Creation {
            host,
            pipeline: &pipeline,
            node: &name,
            task,
        };
        catalog.create_transform(&plugin, &config, &creation)
    })
}

/// Makes the instances and wires them.
///
/// # Errors
/// A plugin that cannot make its instance.
pub fn build(pipeline: &Pipeline, parts: FlowParts<'_>) -> Result<Flow, CallError> {
    let FlowParts {
        task,
        catalog,
        outbox,
        clock,
        monitor,
        counters,
        poison,
        outputs_leave_alone,
        is_transactional,
        target,
    } = parts;
    let service = |node: &str| {
        host_handle(NodeService {
            pipeline: pipeline.name.clone(),
            node: node.to_owned(),
            task,
            clock,
        })
    };
    let mut transforms = Vec::with_capacity(pipeline.transforms.len());
    for (index, node) in pipeline.transforms.iter().enumerate() {
        let factory = factory(&catalog, &pipeline.name, task, node, service(&node.name));
        transforms.push(TransformNode {
            name: node.name.clone(),
            plugin: node.plugin.clone(),
            scope: node.describe.scope,
            timers: node.describe.timers,
            receivers: receivers(pipeline, NodeRef::Transform(index)),
            input: Input::default(),
            instance: factory()?,
            factory,
            retry: None,
            isolate_below: 0,
            unexplained_panics: 0,
            watermarks: BTreeMap::new(),
        });
    }
    let mut sinks = Vec::with_capacity(pipeline.sinks.len());
    for sink in &pipeline.sinks {
        sinks.push(SinkNode::new(
            &sink.name,
            target(sink, service(&sink.name))?,
        ));
    }
    Ok(Flow {
        pipeline: pipeline.name.clone(),
        task,
        on_error: pipeline.on_error.clone(),
        clock,
        monitor,
        source_receivers: (0..pipeline.sources.len())
            .map(|at| receivers(pipeline, NodeRef::Source(at)))
            .collect(),
        transform_counters: transforms
            .iter()
            .map(|node| counters.node(&node.name))
            .collect(),
        sink_counters: sinks.iter().map(|node| counters.node(&node.name)).collect(),
        transforms,
        sinks,
        outbox,
        ledger: Ledger::new(),
        slots: Slots::default(),
        unflushed: Vec::new(),
        unflushed_dead_letters: Vec::new(),
        closed_below: 0,
        timers: BTreeMap::new(),
        poison,
        alone: Alone::new(outputs_leave_alone),
        delivers_together: pipeline.commits_cuts() && !is_chain(pipeline),
        state_changed: false,
        is_transactional,
    })
}
