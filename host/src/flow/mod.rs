//! One task's records on their way: source batches in, through the transforms, to the sinks; what is settled, what may
//! be committed. It knows neither consumers nor threads: `task` drives it with Kafka, `weir test` with files.
//!
//! The path reads top to bottom: [`Flow::push`] -> [`Flow::advance`] (sinks first, then the most downstream transform that
//! can run) -> [`Flow::poll_sinks`] / [`Flow::flush`] (verdicts) -> [`Flow::committable`].

mod build;
mod input;
mod ledger;
mod outbox;
mod refusal;
mod sink;
mod slots;
#[cfg(test)]
mod tests;
mod transform;
mod watermark;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_plugin_api::host::{Arena, CallScope, Collected, OwnedBatch, collect, collect_from};
use weir_plugin_api::{Batch, Failure, Output, Record, SEQ_DERIVED, SLOT_ALL, TimerRequest};

pub use build::{FlowParts, build, node_labels, plugin_or_kafka};
pub use ledger::{Ledger, SettledCounts, mark};
pub use outbox::{Outbox, Producers};
pub use refusal::{Origin, Refusal, Stage};
pub use sink::{SinkNode, Target};
pub use slots::{SlotKey, Slots};
pub use transform::TransformNode;
pub use watermark::{PartitionTime, TimeRules};

use crate::clock::Clock;
use crate::kafka::DeliveryFailure;
use crate::metrics::{NodeIndex, TaskCounters};
use crate::plugin::{CallError, CallErrorKind, TransformInstance};
use crate::status::{CallMonitor, TaskState};
use crate::topology::{OnError, Policy, Scope};
use ledger::Maker;
use refusal::{headers, shown_key};
use sink::Verdict;
use transform::UNEXPLAINED_PANICS_MAX;

/// Records that may wait at the entrance of a node before the nodes above it are held back.
pub const INPUT_RECORDS_MAX: usize = 8_192;
/// Records of a task that may be unsettled at once: 2 s of 250,000 records/s, 12 MB of ledger.
pub const UNSETTLED_RECORDS_MAX: usize = 500_000;
/// Timers that transforms may wait for at once (I9): each is looked at in every turn, and 100,000 take a millisecond.
pub const TIMERS_MAX: usize = 100_000;
/// A call that lasted this long ends the round: the task polls, flushes and commits before the next.
pub const SLOW_CALL: Duration = Duration::from_millis(100);
/// Wait before a sink that asked for a retry without a time is offered records again.
const SINK_RETRY_WAIT: Duration = Duration::from_millis(100);
/// Wait between two tries to put a dead letter into a full producer queue.
const DEAD_LETTER_RETRY_WAIT: Duration = Duration::from_millis(50);

/// In place of a `seq` that is not to be settled; no record has it.
const NOBODY: u64 = SEQ_DERIVED;

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
    /// One record of those in flight is at fault and it is not known which: start anew, one record at a time.
    #[error("{code}: {message}; going back to find the record")]
    Isolate { code: String, message: String },
    /// A stateful transform panicked at this record alone: start anew and refuse it there.
    #[error(
        "plugin.panic: the transform `{node}` panicked at {topic}-{partition}@{offset}: {message}"
    )]
    Poisoned {
        node: String,
        topic: String,
        partition: i32,
        offset: i64,
        message: String,
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

/// A record that made a stateful transform panic, to be refused at that transform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Poison {
    pub node: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
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
    /// Produced to sinks of type `kafka` and not yet flushed; [`NOBODY`] where the record's place stays open for good.
    unflushed: Vec<u64>,
    /// Dead letters not yet flushed; as above.
    unflushed_dead_letters: Vec<u64>,
    /// Transforms below this index run no more: one of them met the record at which `on_error: fail` ends the host.
    closed_below: usize,
    /// (transform, slot, id) -> when.
    timers: BTreeMap<(usize, u32, u64), i64>,
    poison: BTreeMap<Poison, String>,
    /// A stateful commit that waits for derived records: (offsets, first seq that does not matter).
    cut: Option<(Vec<i64>, u64)>,
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
        if let Some(judge) = judge {
            for (at, record) in batch.records().iter().enumerate() {
                let Some(refusal) = judge(record.timestamp_ms) else {
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

    /// Moves records on until nothing can be done or a call has taken long.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn advance(&mut self, counters: &mut TaskCounters) -> Result<Advance, FlowError> {
        loop {
            for index in 0..self.sinks.len() {
                self.drain_into_sink(index)?;
            }
            let now = Instant::now();
            // The most downstream first, so that nothing piles up between the nodes.
            let runnable = (0..self.transforms.len())
                .rev()
                .find(|index| self.can_run(*index, now));
            let Some(index) = runnable else {
                return Ok(Advance::Idle);
            };
            let ran = self.run_transform(index, counters);
            if matches!(ran, Err(FlowError::Refused { .. })) {
                self.closed_below = self.closed_below.max(index + 1);
            }
            if ran? == Advance::Yielded {
                for index in 0..self.sinks.len() {
                    self.drain_into_sink(index)?;
                }
                return Ok(Advance::Yielded);
            }
        }
    }

    fn can_run(&self, index: usize, now: Instant) -> bool {
        let node = &self.transforms[index];
        let room = |receiver: &Receiver| self.waiting(*receiver) < INPUT_RECORDS_MAX;
        index >= self.closed_below && node.next(now).is_some() && node.receivers.iter().all(room)
    }

    /// One call of a transform, and everything that follows from it.
    fn run_transform(
        &mut self,
        index: usize,
        counters: &mut TaskCounters,
    ) -> Result<Advance, FlowError> {
        let began = Instant::now();
        let Some((input, range)) = self.transforms[index].next(began) else {
            return Ok(Advance::Idle);
        };
        if let Some((seq, refusal)) = self.poisoned(index, &input, range.start) {
            self.transforms[index].input.consume(1);
            return self.refuse(seq, &refusal).map(|()| {
                self.ledger.done(seq);
                Advance::Idle
            });
        }
        let range = self.up_to_poison(index, &input, range);
        let scope = CallScope {
            slots: self.slots.names(),
            now_ms: self.clock.now_ms(),
            yield_flag: self.monitor.yield_flag(),
        };
        let instance = &mut self.transforms[index].instance;
        self.monitor.begin(index);
        let (processed, collected) = collect(
            &input,
            range.clone(),
            scope,
            Arena::default(),
            |batch, out| instance.process(batch, out),
        );
        self.monitor.end();
        let took = began.elapsed();
        counters[self.transform_counters[index]]
            .call_durations
            .observe(took);
        let error = processed.error;
        if let Some(error) = error
            .as_ref()
            .filter(|error| error.kind == CallErrorKind::Panic)
        {
            drop(collected);
            self.recover_from_panic(index, &input, range.len(), range.start, error)?;
            return Ok(Advance::Yielded);
        }
        let records = processed.consumed.min(range.len());
        let (records, collected, refused) =
            self.stop_before_refused(index, &input, &range, records, collected);
        self.transforms[index].input.consume(records);
        self.take_outputs(index, collected)?;
        self.consume_inputs(index, &input, range.start..range.start + records);
        if let Some((seq, refusal)) = refused {
            self.refuse(seq, &refusal)?;
        }
        match error {
            Some(error) if error.kind == CallErrorKind::Retryable => {
                if records > 0 {
                    // It is another record that fails now: its `retry_timeout` begins.
                    self.transforms[index].retry = None;
                }
                self.retry_or_refuse(index, &input, range.start + records, &error)?;
                Ok(Advance::Yielded)
            }
            Some(error) => Err(broken(&self.transforms[index].name, &error)),
            None => {
                self.transforms[index].retry = None;
                let cut_short = records < range.len();
                Ok(if cut_short || took >= SLOW_CALL {
                    Advance::Yielded
                } else {
                    Advance::Idle
                })
            }
        }
    }

    /// Under `on_error: fail` nothing of the first refused record and those behind it moves on: what stands before it is
    /// delivered and committed, up to exactly there. Records derived from many move on all the same: the state that
    /// they came from holds them no more.
    fn stop_before_refused(
        &self,
        index: usize,
        input: &OwnedBatch,
        range: &Range<usize>,
        records: usize,
        mut collected: Collected,
    ) -> (usize, Collected, Option<(u64, Refusal)>) {
        if self.on_error.policy != Policy::Fail || collected.failures.is_empty() {
            return (records, collected, None);
        }
        let consumed = input.records().get(range.clone()).unwrap_or_default();
        let consumed = consumed.get(..records).unwrap_or_default();
        let refused = consumed.iter().enumerate().find_map(|(at, record)| {
            let mut failures = collected.failures.iter();
            failures
                .find(|failure| failure.seq == record.seq)
                .map(|failure| (at, failure))
        });
        let Some((before, failure)) = refused else {
            return (records, collected, None);
        };
        let (seq, refusal) = (failure.seq, self.transform_refusal(index, failure));
        // Outputs may stand in any order, inputs derived from one record may share its number.
        let kept: BTreeSet<u64> = consumed[..before].iter().map(|record| record.seq).collect();
        collected
            .batch
            .retain(|record| record.seq == SEQ_DERIVED || kept.contains(&record.seq));
        collected.failures.clear();
        collected.timers.clear();
        (before, collected, Some((seq, refusal)))
    }

    /// The range as far as the first record at which this transform is known to panic.
    fn up_to_poison(&self, index: usize, batch: &OwnedBatch, range: Range<usize>) -> Range<usize> {
        if self.poison.is_empty() {
            return range;
        }
        let poisoned =
            (range.start..range.end).find(|at| self.poisoned(index, batch, *at).is_some());
        range.start..poisoned.unwrap_or(range.end)
    }

    fn poisoned(&self, index: usize, batch: &OwnedBatch, at: usize) -> Option<(u64, Refusal)> {
        if self.poison.is_empty() {
            return None;
        }
        let record = batch.records().get(at)?;
        let key = self.slots.key(record.slot)?;
        let node = &self.transforms[index];
        let poison = Poison {
            node: node.name.clone(),
            topic: key.topic.clone(),
            partition: key.partition,
            offset: record.offset,
        };
        let message = self.poison.get(&poison)?;
        Some((record.seq, panic_refusal(node, message)))
    }

    fn consume_inputs(&mut self, index: usize, input: &OwnedBatch, range: Range<usize>) {
        let stateful = self.transforms[index].is_stateful();
        for record in input.records().get(range).unwrap_or_default() {
            if stateful {
                self.ledger.mark(record.seq, mark::ABSORBED);
            }
            self.ledger.done(record.seq);
        }
    }

    /// Sends what a call emitted to the node's receivers and refuses what it refused.
    fn take_outputs(&mut self, index: usize, collected: Collected) -> Result<(), FlowError> {
        let Collected {
            mut batch,
            failures,
            timers,
        } = collected;
        self.take_timers(index, &timers)?;
        let receivers = self.transforms[index].receivers.clone();
        let targets = u32::try_from(receivers.len()).unwrap_or(u32::MAX);
        let mut derived = Vec::new();
        for (position, record) in batch.records().iter().enumerate() {
            match record.seq {
                SEQ_DERIVED => derived.push(u32::try_from(position).unwrap_or(u32::MAX)),
                seq => self.ledger.add(seq, targets),
            }
        }
        let first_derived = (!derived.is_empty()).then(|| {
            let first = self.ledger.open_derived(index, derived, targets);
            batch.number_derived(first);
            first
        });
        if !batch.is_empty() {
            let batch = Rc::new(batch);
            if let Some(first) = first_derived {
                self.ledger.attach(first, &batch);
            }
            self.send(&receivers, &batch, 0..batch.len());
        }
        for failure in failures {
            let refusal = self.transform_refusal(index, &failure);
            self.refuse(failure.seq, &refusal)?;
        }
        Ok(())
    }

    fn transform_refusal(&self, index: usize, failure: &Failure) -> Refusal {
        Refusal {
            stage: Stage::Transformation,
            node: self.transforms[index].name.clone(),
            class: self.transforms[index].plugin.clone(),
            code: failure.code.to_string(),
            message: failure.message.to_string(),
            detail: failure.detail.to_string(),
        }
    }

    fn take_timers(&mut self, index: usize, timers: &[TimerRequest]) -> Result<(), FlowError> {
        for timer in timers {
            self.timers
                .insert((index, timer.slot, timer.id), timer.at_ms);
        }
        if self.timers.len() <= TIMERS_MAX {
            return Ok(());
        }
        Err(FlowError::Broken {
            code: "plugin.protocol.timers".into(),
            message: format!(
                "node `{}` asks for more than {TIMERS_MAX} timers at once; set one for each window, not for each record",
                self.transforms[index].name
            ),
        })
    }

    /// Waits and tries again, or, past `retry_timeout`, gives the record at the front to `on_error`.
    fn retry_or_refuse(
        &mut self,
        index: usize,
        input: &OwnedBatch,
        at: usize,
        error: &CallError,
    ) -> Result<(), FlowError> {
        let node = &mut self.transforms[index];
        let failing_for = node.retry_later(error, Instant::now());
        if self
            .on_error
            .retry_timeout
            .is_none_or(|limit| failing_for < limit)
        {
            tracing::warn!(event = "transform_retries", node = node.name, reason = %error.message);
            return Ok(());
        }
        node.retry = None;
        let Some(seq) = input.records().get(at).map(|record| record.seq) else {
            return Ok(());
        };
        let refusal = Refusal {
            stage: Stage::Transformation,
            node: node.name.clone(),
            class: node.plugin.clone(),
            code: "transform.retry_timeout".into(),
            message: format!(
                "still failing after on_error.retry_timeout: {}",
                error.message
            ),
            detail: String::new(),
        };
        node.input.consume(1);
        self.refuse(seq, &refusal)?;
        self.ledger.done(seq);
        Ok(())
    }

    /// Drops the instance. A stateless one is made anew and its records are given one at a time, until the one that
    /// panics alone is refused. A stateful one has lost its state: the task goes back.
    fn recover_from_panic(
        &mut self,
        index: usize,
        input: &OwnedBatch,
        given: usize,
        at: usize,
        error: &CallError,
    ) -> Result<(), FlowError> {
        let node = &mut self.transforms[index];
        let message = error.message.clone();
        tracing::error!(
            event = "plugin_panicked",
            node = node.name,
            plugin = node.plugin,
            message
        );
        let Some(first) = input.records().get(at) else {
            return Ok(());
        };
        if node.is_stateful() {
            let key = (given == 1).then(|| self.slots.key(first.slot)).flatten();
            return Err(match key {
                Some(key) => FlowError::Poisoned {
                    node: node.name.clone(),
                    topic: key.topic.clone(),
                    partition: key.partition,
                    offset: first.offset,
                    message,
                },
                None => FlowError::Isolate {
                    code: "plugin.panic".into(),
                    message,
                },
            });
        }
        node.instance = (node.factory)().map_err(|error| broken(&node.name, &error))?;
        node.retry = None;
        if given == 1 {
            let (seq, refusal) = (first.seq, panic_refusal(node, &message));
            node.input.consume(1);
            node.unexplained_panics = 0;
            self.refuse(seq, &refusal)?;
            self.ledger.done(seq);
            return Ok(());
        }
        node.unexplained_panics += 1;
        if node.unexplained_panics >= UNEXPLAINED_PANICS_MAX {
            return Err(broken(&node.name, error));
        }
        let last = input
            .records()
            .get(at + given - 1)
            .map_or(first.seq, |record| record.seq);
        node.isolate_below = node.isolate_below.max(last + 1);
        Ok(())
    }

    /// Applies `on_error` to a record. Under `fail` its entry stays open, so that nothing at or after it is committed.
    fn refuse(&mut self, seq: u64, refusal: &Refusal) -> Result<(), FlowError> {
        let Some(known) = self.ledger.get(seq) else {
            return Ok(());
        };
        let batch = known.batch.clone();
        let record = batch
            .as_ref()
            .and_then(|batch| batch.records().get(known.position));
        let origin = match (known.maker.transform(), self.slots.key(known.slot)) {
            (None, Some(key)) => Origin::Source {
                topic: key.topic.clone(),
                partition: key.partition,
                offset: known.offset,
            },
            (made_by, _) => Origin::Derived {
                node: made_by
                    .and_then(|index| self.transforms.get(index))
                    .map(|node| node.name.clone())
                    .unwrap_or_default(),
                key: record.map(shown_key).unwrap_or_default(),
            },
        };
        match self.on_error.policy {
            Policy::Fail => Err(FlowError::Refused {
                code: refusal.code.clone(),
                origin,
                node: refusal.node.clone(),
                message: refusal.message.clone(),
            }),
            Policy::Skip => {
                tracing::debug!(event = "record_skipped", node = refusal.node, code = refusal.code, %origin, message = refusal.message);
                self.ledger.mark(seq, mark::SKIPPED);
                Ok(())
            }
            Policy::DeadLetter => match record {
                Some(record) => self.dead_letter(seq, record, &origin, refusal),
                None => Err(FlowError::Isolate {
                    code: refusal.code.clone(),
                    message: refusal.message.clone(),
                }),
            },
        }
    }

    /// I2: the record stays pending until the dead letter is acknowledged.
    fn dead_letter(
        &mut self,
        seq: u64,
        record: &Record<'_>,
        origin: &Origin,
        refusal: &Refusal,
    ) -> Result<(), FlowError> {
        let headers = headers(&self.pipeline, self.task, origin, refusal);
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let record = Record { seq, ..*record };
        while !self
            .outbox
            .dead_letter(&self.on_error.topic, &record, &headers)
        {
            // The producer's queue is full: Kafka is away or slow. Waiting here holds back this task alone.
            self.outbox.flush(DEAD_LETTER_RETRY_WAIT);
            self.check_outbox()?;
        }
        tracing::debug!(event = "record_dead_lettered", node = refusal.node, code = refusal.code, %origin, message = refusal.message);
        self.ledger.add(seq, 1);
        self.ledger.mark(seq, mark::DEAD_LETTERED);
        self.ledger.release_bytes(seq);
        self.unflushed_dead_letters.push(seq);
        Ok(())
    }

    fn check_outbox(&self) -> Result<(), FlowError> {
        match self.outbox.fatal_error() {
            Some(message) => Err(FlowError::Broken {
                code: "kafka.producer_fatal".into(),
                message,
            }),
            None => Ok(()),
        }
    }

    fn drain_into_sink(&mut self, index: usize) -> Result<(), FlowError> {
        let now = Instant::now();
        let node = &mut self.sinks[index];
        if node.retry_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        node.retry_at = None;
        while let Some((batch, range)) = self.sinks[index].input.front() {
            let taken = self.offer(index, &batch, range.clone(), now)?;
            let node = &mut self.sinks[index];
            if taken < range.len() {
                // Full since the first moment at which it took nothing.
                node.full_since = if taken > 0 {
                    None
                } else {
                    node.full_since.or(Some(now))
                };
                return Ok(());
            }
            node.full_since = None;
        }
        self.sinks[index].full_since = None;
        Ok(())
    }

    /// Offers a sink the front of its input; answers how many records it took.
    fn offer(
        &mut self,
        index: usize,
        batch: &Rc<OwnedBatch>,
        range: Range<usize>,
        now: Instant,
    ) -> Result<usize, FlowError> {
        let node = &mut self.sinks[index];
        match &mut node.target {
            Target::Kafka { topic } => {
                let records = batch.records().get(range).unwrap_or_default();
                let taken = self.outbox.produce(&node.name, topic, records);
                let records = records.get(..taken).unwrap_or(records);
                node.input.consume(records.len());
                self.unflushed
                    .extend(records.iter().map(|record| record.seq));
                // What the client refuses by itself shows at once, while the originals are still here.
                let refused = self.take_failures();
                for record in records {
                    self.ledger.release_bytes(record.seq);
                }
                refused.map(|()| records.len())
            }
            Target::Plugin(sink) => {
                let scope = CallScope {
                    slots: self.slots.names(),
                    now_ms: self.clock.now_ms(),
                    yield_flag: self.monitor.yield_flag(),
                };
                self.monitor.begin(self.transforms.len() + index);
                let (taken, error) = sink.write(batch, range, scope);
                self.monitor.end();
                node.input.consume(taken);
                match error {
                    None => Ok(taken),
                    Some(error) if error.kind == CallErrorKind::Retryable => {
                        node.retry_at = Some(now + error.retry_after.unwrap_or(SINK_RETRY_WAIT));
                        Ok(taken)
                    }
                    Some(error) => Err(broken(&node.name, &error)),
                }
            }
        }
    }

    /// Takes the verdicts that sinks have ready.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn poll_sinks(&mut self, counters: &mut TaskCounters) -> Result<(), FlowError> {
        self.visit_plugin_sinks(counters, |sink| {
            sink.poll().map(|verdicts| (true, verdicts))
        })
        .map(|_| ())
    }

    fn visit_plugin_sinks(
        &mut self,
        counters: &mut TaskCounters,
        mut visit: impl FnMut(&mut sink::PluginSink) -> Result<(bool, Vec<Verdict>), CallError>,
    ) -> Result<bool, FlowError> {
        let mut all_done = true;
        for index in 0..self.sinks.len() {
            let node = &mut self.sinks[index];
            let Target::Plugin(sink) = &mut node.target else {
                continue;
            };
            self.monitor.begin(self.transforms.len() + index);
            let answer = visit(sink);
            self.monitor.end();
            let (done, verdicts) = answer.map_err(|error| broken(&node.name, &error))?;
            all_done &= done && sink.open() == 0;
            for (class, count) in sink.take_errors() {
                counters[self.sink_counters[index]].add_sink_errors(&class, count);
            }
            let (name, class) = (node.name.clone(), sink.plugin.clone());
            for verdict in verdicts {
                self.take_verdict(&name, &class, verdict)?;
            }
        }
        Ok(all_done)
    }

    fn take_verdict(&mut self, node: &str, class: &str, verdict: Verdict) -> Result<(), FlowError> {
        let seq = match verdict {
            Verdict::Settled(seq) => {
                self.ledger.mark(seq, mark::DELIVERED);
                seq
            }
            Verdict::Rejected(seq, rejection) => {
                let refusal = Refusal {
                    stage: Stage::TaskPut,
                    node: node.to_owned(),
                    class: class.to_owned(),
                    code: rejection.code.into_string(),
                    message: rejection.message.into_string(),
                    detail: rejection.detail.into_string(),
                };
                self.refuse(seq, &refusal)?;
                seq
            }
        };
        self.ledger.done(seq);
        Ok(())
    }

    /// Settles what Kafka has taken: waits at most `wait` for it (twice that where refused records become dead letters);
    /// answers whether nothing is on its way there.
    ///
    /// # Errors
    /// See [`FlowError`]. What was delivered is settled all the same, and a record whose refusal is the error stays
    /// open, so that a commit after it goes exactly as far as that record.
    pub fn flush_outbox(&mut self, wait: Duration) -> Result<bool, FlowError> {
        // Two rounds at most: the first may make dead letters, of which none makes another.
        while !self.unflushed.is_empty() || !self.unflushed_dead_letters.is_empty() {
            let (produced, letters) = (self.unflushed.len(), self.unflushed_dead_letters.len());
            let flushed = self.outbox.flush(wait);
            let refused = self.take_failures();
            if flushed {
                // Of a record that was refused above this says nothing: outcomes have a precedence.
                for seq in self.unflushed.drain(..produced) {
                    self.ledger.mark(seq, mark::DELIVERED);
                    self.ledger.done_without_bytes(seq);
                }
                for seq in self.unflushed_dead_letters.drain(..letters) {
                    self.ledger.done_without_bytes(seq);
                }
            }
            refused?;
            self.check_outbox()?;
            if !flushed {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives to `on_error` what Kafka or its client has refused.
    fn take_failures(&mut self) -> Result<(), FlowError> {
        let failures = self.outbox.take_failures();
        if failures.is_empty() {
            return Ok(());
        }
        let alone = self.alone_in_flight();
        let mut answer = Ok(());
        for failure in failures {
            let taken = self.take_delivery_failure(&failure, alone);
            if taken.is_err() {
                self.keep_open(&failure);
            }
            answer = answer.and(taken);
        }
        answer
    }

    /// The record of everything that is on its way to Kafka, if it is only one.
    fn alone_in_flight(&self) -> Option<u64> {
        let mut in_flight = self.unflushed.iter().chain(&self.unflushed_dead_letters);
        let first = *in_flight.next()?;
        in_flight.all(|seq| *seq == first).then_some(first)
    }

    fn is_dead_letter(&self, failure: &DeliveryFailure) -> bool {
        self.on_error.policy == Policy::DeadLetter && failure.topic == self.on_error.topic
    }

    /// The place of a refused output whose record nothing became of is never settled (I1).
    fn keep_open(&mut self, failure: &DeliveryFailure) {
        let places = match self.is_dead_letter(failure) {
            true => &mut self.unflushed_dead_letters,
            false => &mut self.unflushed,
        };
        if let Some(place) = places.iter_mut().find(|seq| **seq == failure.seq) {
            *place = NOBODY;
        }
    }

    fn take_delivery_failure(
        &mut self,
        failure: &DeliveryFailure,
        alone: Option<u64>,
    ) -> Result<(), FlowError> {
        let message = format!(
            "Kafka refused a record for the topic `{}`: {}",
            failure.topic, failure.code
        );
        let Some(code) = failure.records_fault() else {
            return Err(FlowError::Broken {
                code: "kafka.produce".into(),
                message,
            });
        };
        // A broker refuses a whole batch for one record of it. Who is at fault shows when each travels alone. Records
        // derived from many cannot be had one at a time.
        let is_derived = self
            .ledger
            .get(failure.seq)
            .is_some_and(|known| known.maker != Maker::Source);
        if !failure.is_local && !is_derived && alone != Some(failure.seq) {
            return Err(FlowError::Isolate {
                code: code.into(),
                message,
            });
        }
        let refusal = Refusal {
            stage: Stage::KafkaProduce,
            node: failure.topic.clone(),
            class: "kafka".into(),
            code: code.into(),
            message,
            detail: String::new(),
        };
        if self.is_dead_letter(failure) {
            // A dead letter that cannot be written leaves no place for the record.
            let policy = std::mem::replace(&mut self.on_error.policy, Policy::Fail);
            let answer = self.refuse(failure.seq, &refusal);
            self.on_error.policy = policy;
            return answer;
        }
        self.refuse(failure.seq, &refusal)
    }

    /// After [`FlowError::Refused`]: moves on what stands before the refused record, as far as it goes without waiting.
    pub fn finish_before_refused(&mut self, counters: &mut TaskCounters) {
        // Each further refusal closes one transform more.
        for _ in 0..=self.transforms.len() {
            match self.advance(counters) {
                Err(FlowError::Refused { .. }) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Finishes everything that was given, at most for `wait` a step; true when all of it is settled.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn flush(
        &mut self,
        wait: Duration,
        counters: &mut TaskCounters,
    ) -> Result<bool, FlowError> {
        let sinks_done = self.visit_plugin_sinks(counters, |sink| sink.flush(wait))?;
        let outbox_done = self.flush_outbox(wait)?;
        let waiting = self.sinks.iter().any(|node| !node.input.is_empty());
        Ok(sinks_done && outbox_done && !waiting && self.transforms_are_idle())
    }

    /// Tells transforms that event time has passed; each sees its watermark rise only.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn pass_watermark(
        &mut self,
        slot: u32,
        at_ms: i64,
        counters: &mut TaskCounters,
    ) -> Result<(), FlowError> {
        for index in 0..self.transforms.len() {
            let node = &mut self.transforms[index];
            let wanted = node.timers && ((node.scope == Scope::Pipeline) == (slot == SLOT_ALL));
            if !wanted
                || node
                    .watermarks
                    .get(&slot)
                    .is_some_and(|given| at_ms <= *given)
            {
                continue;
            }
            node.watermarks.insert(slot, at_ms);
            self.call_for_time(index, counters, |instance, batch, out| {
                instance.on_watermark(batch, slot, at_ms, out)
            })?;
        }
        Ok(())
    }

    /// Calls the timers that are due.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn fire_timers(&mut self, counters: &mut TaskCounters) -> Result<(), FlowError> {
        if self.timers.is_empty() {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        let due: Vec<(usize, u32, u64)> = self
            .timers
            .iter()
            .filter(|(_, at_ms)| **at_ms <= now_ms)
            .map(|(timer, _)| *timer)
            .collect();
        for timer in due {
            self.timers.remove(&timer);
            let (index, slot, id) = timer;
            self.call_for_time(index, counters, |instance, batch, out| {
                instance.on_timer(batch, slot, id, now_ms, out)
            })?;
        }
        Ok(())
    }

    fn call_for_time(
        &mut self,
        index: usize,
        counters: &mut TaskCounters,
        call: impl for<'b> FnOnce(
            &mut TransformInstance,
            &Batch<'b>,
            &mut Output<'b>,
        ) -> Result<(), CallError>,
    ) -> Result<(), FlowError> {
        let began = Instant::now();
        let scope = CallScope {
            slots: self.slots.names(),
            now_ms: self.clock.now_ms(),
            yield_flag: self.monitor.yield_flag(),
        };
        let instance = &mut self.transforms[index].instance;
        self.monitor.begin(index);
        let (answer, collected) = collect_from(None, scope, Arena::default(), |batch, out| {
            call(instance, batch, out)
        });
        self.monitor.end();
        counters[self.transform_counters[index]]
            .call_durations
            .observe(began.elapsed());
        answer.map_err(|error| broken(&self.transforms[index].name, &error))?;
        self.take_outputs(index, collected)
    }

    /// When the next timer is due, unix milliseconds.
    pub fn next_timer_ms(&self) -> Option<i64> {
        self.timers.values().min().copied()
    }

    /// I1: for each slot the offset up to which everything derived is durable. `next` holds, by slot, the next offset to
    /// read. Stateless: the contiguous settled prefix. With state that is not checkpointed: an aligned cut of what the
    /// transforms still hold, taken once everything derived before it is settled.
    ///
    /// # Errors
    /// A transform that cannot say what it holds.
    pub fn committable(&mut self, next: &[i64]) -> Result<Vec<i64>, FlowError> {
        let mut offsets = next.to_vec();
        self.ledger.lower_to_unsettled(&mut offsets);
        if !self.transforms.iter().any(TransformNode::is_stateful) {
            return Ok(offsets);
        }
        let (cut, barrier) = match self.cut.take() {
            Some(cut) => cut,
            None => (self.held(offsets.clone())?, self.ledger.next_seq()),
        };
        if self.ledger.has_open_derived_below(barrier) {
            self.cut = Some((cut, barrier));
            // Nothing new may be committed: the offsets below the cut were committed with the cut before.
            return Ok(vec![i64::MIN; next.len()]);
        }
        Ok(offsets
            .iter()
            .zip(cut.iter().chain(std::iter::repeat(&i64::MIN)))
            .map(|(a, b)| *a.min(b))
            .collect())
    }

    fn held(&self, mut offsets: Vec<i64>) -> Result<Vec<i64>, FlowError> {
        for node in self.transforms.iter().filter(|node| node.is_stateful()) {
            for (slot, offset) in (0u32..).zip(offsets.iter_mut()) {
                let held = node
                    .instance
                    .held(slot)
                    .map_err(|error| broken(&node.name, &error))?;
                *offset = held.map_or(*offset, |held| held.min(*offset));
            }
        }
        Ok(offsets)
    }

    /// The slot is no longer this task's; everything of it is settled.
    pub fn release(&mut self, slot: u32) -> Result<(), FlowError> {
        self.cut = None;
        self.timers.retain(|(_, of, _), _| *of != slot);
        for node in self.transforms.iter_mut().filter(|node| node.is_stateful()) {
            node.watermarks.remove(&slot);
            node.instance
                .release(slot)
                .map_err(|error| broken(&node.name, &error))?;
        }
        Ok(())
    }

    /// Makes the transforms anew whose state spans partitions; nothing of it is left, every slot is released. Event
    /// time never falls inside an instance, and partitions that come back are read from before its watermark.
    ///
    /// # Errors
    /// A plugin that cannot make its instance.
    pub fn renew(&mut self) -> Result<(), FlowError> {
        let spans = |node: &TransformNode| node.scope == Scope::Pipeline;
        self.cut = None;
        self.timers
            .retain(|(index, ..), _| !spans(&self.transforms[*index]));
        for node in self.transforms.iter_mut().filter(|node| spans(node)) {
            let fresh = (node.factory)().map_err(|error| broken(&node.name, &error))?;
            node.watermarks.clear();
            stop_transform(&node.name, std::mem::replace(&mut node.instance, fresh));
        }
        Ok(())
    }

    /// Source records not settled.
    pub fn pending(&self) -> u64 {
        self.ledger.pending()
    }

    /// Adds what was settled since the last call.
    pub fn count_settled(&mut self, counters: &mut TaskCounters) {
        let SettledCounts { source, derived } = self.ledger.take_counts();
        for (outcome, records) in source {
            counters.settle(outcome, records);
        }
        for (transform, outcome, records) in derived {
            counters[self.transform_counters[transform]]
                .derived
                .add(outcome, records);
        }
    }

    /// Since when a sink takes nothing though something waits for it.
    pub fn sink_full_since(&self) -> Option<Instant> {
        self.sinks.iter().filter_map(|node| node.full_since).min()
    }

    /// True while something waits for a sink to take it.
    pub fn waits_for_sink(&self) -> bool {
        self.sinks.iter().any(|node| !node.input.is_empty())
    }

    /// True when the ledger is full of records that the next flush of the producer may settle.
    pub fn wants_flush(&self) -> bool {
        self.ledger.kept() >= UNSETTLED_RECORDS_MAX && !self.unflushed.is_empty()
    }

    /// True while something is on its way to Kafka, as far as is known.
    pub fn has_unflushed(&self) -> bool {
        !self.unflushed.is_empty() || !self.unflushed_dead_letters.is_empty()
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

fn panic_refusal(node: &TransformNode, message: &str) -> Refusal {
    Refusal {
        stage: Stage::Transformation,
        node: node.name.clone(),
        class: node.plugin.clone(),
        code: "plugin.panic".into(),
        message: format!("the plugin panicked at this record: {message}"),
        detail: String::new(),
    }
}
