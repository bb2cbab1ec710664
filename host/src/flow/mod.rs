//! One task's records on their way: source batches in, through the transforms, to the sinks; what is settled, what may
//! be committed. It knows neither consumers nor threads: `task` drives it with Kafka, `weir test` with files.
//!
//! The path reads top to bottom: [`Flow::push`] -> [`Flow::advance`] (sinks first, then the most downstream transform that
//! can run) -> [`Flow::poll_sinks`] / [`Flow::flush`] (verdicts) -> [`Flow::cut`] or [`Flow::settled_prefix`].

mod advance;
mod alone;
mod build;
mod handed_over;
mod input;
mod ledger;
mod outbox;
mod refusal;
mod refuse;
mod rewind;
mod settle;
mod sink;
mod slots;
mod state;
#[cfg(test)]
mod tests;
mod time;
mod transform;
mod watermark;

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use alone::Alone;
use weir_plugin_api::host::OwnedBatch;

pub use build::{FlowParts, build, node_labels, plugin_or_kafka};
pub use handed_over::SEQ_CHECKPOINT;
pub use ledger::{Ledger, SettledCounts, mark};
pub use outbox::{Outbox, Producers, SharedProducers};
pub use refusal::{Origin, Refusal, Stage};
pub use sink::{SinkNode, Target};
pub use slots::{SlotKey, Slots};
pub use state::NodeState;
pub use transform::TransformNode;
pub use watermark::{PartitionTime, TimeRules};

use crate::clock::Clock;
use crate::metrics::NodeIndex;
use crate::plugin::{CallError, TransformInstance};
use crate::status::{CallMonitor, TaskState};
use crate::topology::OnError;

/// Records of a task that may be unsettled at once: 2 s of 250,000 records/s, 12 MB of ledger.
pub const UNSETTLED_RECORDS_MAX: usize = 500_000;

/// Who receives a node's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    Transform(usize),
    Sink(usize),
}

/// Why the flow cannot go on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FlowError {
    /// `on_error: fail` met a refused record: the host ends.
    #[error(
        "{code}: {origin} was refused by node `{node}`: {message}; correct the record or set `on_error`"
    )]
    Refused {
        code: String,
        origin: Origin,
        node: String,
        message: String,
    },
    /// The instance or the target is beyond use: the task starts anew from its committed offsets.
    #[error("{code}: {message}")]
    Broken { code: String, message: String },
    /// Kafka ended the transaction, through no fault of the task's: start anew from the committed offsets.
    #[error("{code}: {message}")]
    Lost { code: String, message: String },
    /// One record of those in flight is at fault and it is not known which: start anew, one record at a time.
    #[error("{code}: {message}; going back to find the record")]
    Isolate { code: String, message: String },
    /// As above, of those that transforms have derived from many: start anew, one output at a time.
    #[error("{code}: {message}; going back to find the output")]
    IsolateOutputs { code: String, message: String },
    /// This record alone is at fault, and what it did cannot be taken back here: start anew and refuse it there.
    #[error("{}: {poison}: {}", refusal.code, refusal.message)]
    Poisoned {
        poison: Poison,
        refusal: Box<Refusal>,
    },
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// Nothing can be done until something arrives, a sink takes, or a wait is over.
    Idle,
    /// A call took long or was cut short: poll, flush and commit, then go on.
    Yielded,
}

/// A record that is to be refused because of what it did before: it made a stateful transform panic, or it broke the
/// transaction it was produced in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Poison {
    /// One of a source.
    Record {
        /// The transform that refuses it; `None`: it is refused before any node has it.
        node: Option<String>,
        topic: String,
        partition: i32,
        offset: i64,
    },
    /// One derived from many, on its way to this sink.
    Output {
        sink: String,
        /// Of key and value.
        hash: u64,
    },
}

impl Poison {
    pub fn is_output(&self) -> bool {
        matches!(self, Poison::Output { .. })
    }
}

impl std::fmt::Display for Poison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Poison::Record {
                topic,
                partition,
                offset,
                ..
            } => write!(f, "{topic}-{partition}@{offset}"),
            Poison::Output { sink, .. } => write!(f, "an output for the sink `{sink}`"),
        }
    }
}

pub struct Flow {
    pipeline: String,
    task: u32,
    on_error: OnError,
    clock: Clock,
    monitor: Arc<CallMonitor>,
    /// Who receives the records of each source.
    source_receivers: Vec<Vec<Receiver>>,
    /// In topological order.
    transforms: Vec<TransformNode>,
    sinks: Vec<SinkNode>,
    outbox: Box<dyn Outbox>,
    ledger: Ledger,
    slots: Slots,
    /// Where the transforms' and the sinks' counts stand.
    transform_counters: Vec<NodeIndex>,
    sink_counters: Vec<NodeIndex>,
    /// Produced to sinks of type `kafka` and not yet flushed; `NOBODY` where the record's place stays open for good.
    unflushed: Vec<u64>,
    /// Dead letters not yet flushed; as above.
    unflushed_dead_letters: Vec<u64>,
    /// Transforms below this index run no more: one of them met the record at which `on_error: fail` ends the host.
    closed_below: usize,
    /// (transform, slot, id) -> when.
    timers: BTreeMap<(usize, u32, u64), i64>,
    poison: BTreeMap<Poison, Refusal>,
    alone: Alone,
    /// Records leave only when no transform has any left: several ways lead through the graph, and a cut is aligned only
    /// where they are equally far.
    delivers_together: bool,
    /// Transforms took or derived something since this was last asked.
    state_changed: bool,
    /// What Kafka has refused ends a transaction, so that it cannot be refused here (I4).
    is_transactional: bool,
}

impl Flow {
    pub fn slots(&mut self) -> &mut Slots {
        &mut self.slots
    }

    /// Takes a batch of one slot. `number` is told the first `seq` and makes the batch. With `keep_bytes` the originals
    /// stay until everything of them is settled. `judge` sees each timestamp and may refuse its record.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn push(
        &mut self,
        source: usize,
        slot: u32,
        offsets: impl Iterator<Item = i64>,
        keep_bytes: bool,
        number: impl FnOnce(u64) -> OwnedBatch,
        judge: Option<&mut dyn FnMut(i64) -> Option<Refusal>>,
    ) -> Result<(), FlowError> {
        let receivers = self
            .source_receivers
            .get(source)
            .cloned()
            .unwrap_or_default();
        let targets = u32::try_from(receivers.len()).unwrap_or(u32::MAX);
        let first = self.ledger.open_source(slot, offsets, targets, keep_bytes);
        let batch = Rc::new(number(first));
        self.ledger.attach(first, &batch);
        let mut begin = 0;
        if judge.is_some() || !self.poison.is_empty() {
            let mut judge = judge;
            for (at, record) in batch.records().iter().enumerate() {
                let timestamp_ms = record.timestamp_ms;
                let refusal = judge.as_mut().and_then(|judge| judge(timestamp_ms));
                let Some(refusal) = refusal.or_else(|| self.poisoned_at(None, record)) else {
                    continue;
                };
                self.send(&receivers, &batch, begin..at);
                begin = at + 1;
                self.refuse(record.seq, &refusal)?;
                (0..targets).for_each(|_| self.ledger.done(record.seq));
            }
        }
        self.send(&receivers, &batch, begin..batch.len());
        Ok(())
    }

    fn send(&mut self, receivers: &[Receiver], batch: &Rc<OwnedBatch>, range: Range<usize>) {
        for receiver in receivers {
            let input = match receiver {
                Receiver::Transform(index) => &mut self.transforms[*index].input,
                Receiver::Sink(index) => &mut self.sinks[*index].input,
            };
            input.push(batch, range.clone());
        }
    }

    /// True when what transforms emit waits until all of them are done with what they have.
    pub fn delivers_together(&self) -> bool {
        self.delivers_together
    }

    /// Whether a transform's state may have changed since the last call.
    pub fn take_state_changed(&mut self) -> bool {
        std::mem::take(&mut self.state_changed)
    }

    /// Slots numbered so far.
    pub fn slot_count(&self) -> usize {
        self.slots.count()
    }

    /// True when the next source batch may come.
    pub fn wants_input(&self) -> bool {
        let room = |receiver: &Receiver| self.waiting(*receiver) == 0;
        self.ledger.kept() < UNSETTLED_RECORDS_MAX
            && self.source_receivers.iter().flatten().all(room)
    }

    fn waiting(&self, receiver: Receiver) -> usize {
        match receiver {
            Receiver::Transform(index) => self.transforms[index].input.len(),
            Receiver::Sink(index) => self.sinks[index].input.len(),
        }
    }

    /// True when every record given has passed every transform.
    pub fn transforms_are_idle(&self) -> bool {
        self.transforms.iter().all(|node| node.input.is_empty())
    }

    /// Source records not settled.
    pub fn pending(&self) -> u64 {
        self.ledger.pending()
    }

    /// Since when a sink takes nothing though something waits for it.
    pub fn sink_full_since(&self) -> Option<Instant> {
        self.sinks.iter().filter_map(|node| node.full_since).min()
    }

    /// True while something waits for a sink to take it.
    pub fn waits_for_sink(&self) -> bool {
        self.sinks.iter().any(|node| !node.input.is_empty())
    }

    /// When a transform that asked for a retry is called again.
    pub fn next_retry(&self) -> Option<Instant> {
        let waiting = self.transforms.iter().filter(|node| !node.input.is_empty());
        waiting
            .filter_map(|node| Some(node.retry.as_ref()?.at))
            .min()
    }

    /// What keeps records from moving on, for `/readyz`.
    pub fn trouble(&self) -> Option<TaskState> {
        let waiting = self.transforms.iter().filter(|node| !node.input.is_empty());
        let retrying = waiting.into_iter().find_map(|node| {
            let retry = node.retry.as_ref()?;
            Some(TaskState::Retrying {
                node: node.name.clone(),
                reason: retry.reason.clone(),
            })
        });
        retrying.or_else(|| {
            self.sinks.iter().find_map(|node| match &node.target {
                Target::Plugin(sink) => {
                    sink.unavailable().map(|reason| TaskState::SinkUnavailable {
                        node: node.name.clone(),
                        reason: reason.to_owned(),
                    })
                }
                Target::Kafka { .. } => None,
            })
        })
    }

    /// Last calls to the plugins.
    pub fn stop(self) {
        for node in self.transforms {
            stop_transform(&node.name, node.instance);
        }
        for node in self.sinks {
            if let Target::Plugin(sink) = node.target {
                sink.stop();
            }
        }
    }
}

fn stop_transform(node: &str, instance: TransformInstance) {
    if let Err(error) = instance.stop() {
        tracing::warn!(event = "plugin_stop_failed", node, reason = %error);
    }
}

fn broken(node: &str, error: &CallError) -> FlowError {
    FlowError::Broken {
        code: error.code.clone(),
        message: format!("node `{node}`: {}", error.message),
    }
}
