//! One turn of a task's loop, top to bottom: rebalances, read, transform and write, verdicts, event time, commit.

mod checkpoints;
mod commit;
mod cut;
mod leftovers;
mod membership;
mod read;

use std::cell::RefCell;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use weir_plugin_api::SLOT_ALL;

use super::election::{self, Election};
use super::limits::{
    BATCH_RECORDS_MAX, FULL_LONG_AFTER, FULL_LONG_WAIT, FULL_WAIT, IDLE_WAIT, LONG_WAIT,
    QUICK_TURN, SINK_POLL_INTERVAL,
};
use super::reader::Reader;
use super::{Memory, TaskContext, TaskEnd, TaskError};
use crate::clock::Clock;
use crate::flow::{self, Advance, Flow, FlowError, FlowParts, Producers, SharedProducers};
use crate::kafka::TransactionError;
use crate::kill_point::kill_point;
use crate::metrics::TaskMeter;
use crate::status::{Role, TaskState};
use crate::topology::{Delivery, Scope};
use checkpoints::Checkpoints;
use cut::Cuts;
use read::Found;

struct Task<'a> {
    context: &'a TaskContext,
    meter: &'a mut TaskMeter,
    memory: &'a mut Memory,
    flow: Flow,
    readers: Vec<Reader>,
    /// Some transform follows event time.
    is_timed: bool,
    /// The pipeline needs every partition in one host, and this is how it is this one (I7).
    election: Option<Election>,
    /// The pipeline's watermark that transforms were given last; never goes back, but for a rewind.
    watermark_ms: Option<i64>,
    /// When partitions that were added were last looked for.
    sought_at: Instant,
    checkpoints: Option<Checkpoints>,
    /// Size of the next read: from one, since nothing is known of the plugins' speed.
    batch_records: usize,
    /// Where the next read begins, so that every partition has its turn.
    next_reading: usize,
    committed_at: Instant,
    polled_at: Instant,
    /// The last commit could not settle the producer.
    is_kafka_slow: bool,
    producers: SharedProducers,
    /// Offsets are committed at aligned cuts, not as a settled prefix.
    commits_cuts: bool,
    cuts: Cuts,
}

/// Runs from the committed offsets until the drain.
pub fn run(
    context: &TaskContext,
    meter: &mut TaskMeter,
    memory: &mut Memory,
) -> Result<TaskEnd, TaskError> {
    let Elected::Active(election) = elect(context, memory)? else {
        return Ok(TaskEnd::Drained);
    };
    let mut task = Task::start(context, meter, memory, election)?;
    let ended = task.work();
    if ended.is_err() {
        task.abort_at_end();
    }
    if !task.commits_cuts {
        task.flow.count_settled(&mut task.meter.counters);
    }
    task.flow.stop();
    ended
}

/// I4: one name for each task; it is the process's own unless the instance has one, so that nothing but a task's own
/// successor, or a second host of the same instance, fences it. I7: one name for the active host, whichever it is.
fn transactional_id(context: &TaskContext) -> Option<String> {
    let TaskContext {
        pipeline, process, ..
    } = context;
    let owner = context.instance.as_ref().unwrap_or(process);
    let id = match pipeline.scope() {
        Scope::Pipeline => format!("weir.{}.active", pipeline.name),
        Scope::Record | Scope::Partition => {
            format!("weir.{}.{owner}.{}", pipeline.name, context.task)
        }
    };
    (pipeline.delivery == Delivery::ExactlyOnce).then_some(id)
}

/// Whether the task is to work.
enum Elected {
    Active(Option<Election>),
    Draining,
}

/// I7: where the result needs every partition, one host works and the others stand by.
fn elect(context: &TaskContext, memory: &mut Memory) -> Result<Elected, TaskError> {
    if context.pipeline.scope() != Scope::Pipeline {
        return Ok(Elected::Active(None));
    }
    let election = Election::join(context)?;
    let won = election.win(context, || memory.note_ready(context, Role::Standby))?;
    Ok(match won {
        election::Elected::Active => Elected::Active(Some(election)),
        election::Elected::Draining => Elected::Draining,
    })
}

impl<'a> Task<'a> {
    fn start(
        context: &'a TaskContext,
        meter: &'a mut TaskMeter,
        memory: &'a mut Memory,
        election: Option<Election>,
    ) -> Result<Self, TaskError> {
        let pipeline = &context.pipeline;
        let transactional_id = transactional_id(context);
        let is_successor = std::mem::replace(&mut memory.has_run, true)
            || context.instance.is_some()
            || pipeline.scope() == Scope::Pipeline;
        let producers = Producers::new(pipeline, transactional_id.as_deref())?;
        let producers: SharedProducers = Rc::new(RefCell::new(producers));
        let parts = FlowParts {
            task: context.task,
            catalog: context.catalog.clone(),
            outbox: Box::new(Rc::clone(&producers)),
            clock: Clock::System,
            monitor: context.monitor.clone(),
            counters: &mut meter.counters,
            poison: memory.poison.clone(),
            outputs_leave_alone: memory.outputs_leave_alone.is_some(),
            is_transactional: transactional_id.is_some(),
            target: &|sink, host| {
                flow::plugin_or_kafka(&context.catalog, pipeline, context.task, sink, host)
            },
        };
        let flow = flow::build(pipeline, parts)?;
        let is_timed = pipeline.transforms.iter().any(|node| node.describe.timers);
        let mut readers = Vec::with_capacity(pipeline.sources.len());
        for index in 0..pipeline.sources.len() {
            readers.push(match election {
                Some(_) => Reader::alone(context, index, is_timed)?,
                None => Reader::join(context, index, is_timed)?,
            });
        }
        context.status.set(TaskState::Assigning);
        let mut task = Task {
            context,
            meter,
            memory,
            flow,
            readers,
            is_timed,
            election,
            watermark_ms: None,
            sought_at: Instant::now(),
            checkpoints: Checkpoints::new(context),
            batch_records: 1,
            next_reading: 0,
            committed_at: Instant::now(),
            polled_at: Instant::now(),
            is_kafka_slow: false,
            producers,
            commits_cuts: pipeline.commits_cuts(),
            cuts: Cuts::new(context),
        };
        if transactional_id.is_some() {
            task.init_transactions()?;
            if is_successor {
                task.abort_leftovers()?;
            }
        }
        if task.election.is_some() {
            kill_point("in_take_over");
            let reset = |reader: &Reader| reader.reset().to_owned();
            let reset = task.readers.first().map(reset).unwrap_or_default();
            task.take_new_partitions(&reset)?;
        }
        Ok(task)
    }

    /// Keeps the members in their groups during a wait for Kafka, and says once that it is long.
    fn until_the_drain(&self) -> impl FnMut(&str) -> bool {
        let began = Instant::now();
        let mut is_said = false;
        move |reason| {
            let task = self.context.task;
            if began.elapsed() < LONG_WAIT || std::mem::replace(&mut is_said, true) {
                tracing::debug!(event = "transaction_waits", task, reason);
            } else {
                tracing::warn!(
                    event = "transaction_waits",
                    task,
                    reason,
                    "waiting for Kafka"
                );
            }
            self.context.status.set(TaskState::WaitingForKafka);
            self.serve_members();
            !self.context.signals.is_draining()
        }
    }

    /// Waits as long as Kafka is away, and keeps the members in their groups meanwhile.
    fn init_transactions(&mut self) -> Result<(), TaskError> {
        let mut waiting = self.until_the_drain();
        let answer = self.producers.borrow().init_transactions(&mut waiting);
        match answer {
            Ok(()) | Err(TransactionError::GivenUp(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn work(&mut self) -> Result<TaskEnd, TaskError> {
        while !self.context.signals.is_draining() {
            self.turn()?;
        }
        self.drain()
    }

    /// The data path.
    fn turn(&mut self) -> Result<(), TaskError> {
        let began = Instant::now();
        self.serve_rebalances()?;
        let Found { records, events } = self.read()?;
        self.close_before_long_call()?;
        let called = self.context.monitor.time_awake();
        let advance = self.flow.advance(&mut self.meter.counters);
        let advance = advance.map_err(|error| self.failed(error))?;
        let took = self.context.monitor.time_awake().saturating_sub(called);
        self.memory.note_call(took);
        self.poll_sinks(began)?;
        if !self.cuts.is_due {
            self.pass_time()?;
        }
        let is_slow = advance == Advance::Yielded || self.is_isolating();
        let is_due = is_slow
            || self.flow.wants_flush()
            || self.memory.outputs_leave_alone.is_some() && self.flow.has_unflushed()
            || self.cuts.records >= self.cuts.records_max
            || began - self.committed_at.min(began) >= self.context.pipeline.checkpoint_interval;
        self.commit_when(is_due)?;
        self.report(began);
        let took = began.elapsed();
        self.adapt(took, is_slow, records);
        // Behind an event there may be more, and a queue that is not empty wakes nobody.
        if records == 0 && events == 0 && advance == Advance::Idle {
            thread::park_timeout(self.idle_wait());
        }
        Ok(())
    }

    fn note_ready(&mut self) {
        self.memory.note_ready(self.context, Role::Active);
    }

    fn commit_when(&mut self, is_due: bool) -> Result<(), TaskError> {
        if self.commits_cuts {
            self.cuts.is_due |= is_due || self.is_transaction_old();
            return self.serve_cut();
        }
        if is_due {
            self.commit(false)?;
        }
        self.flow.count_settled(&mut self.meter.counters);
        Ok(())
    }

    fn poll_sinks(&mut self, now: Instant) -> Result<(), TaskError> {
        if now.saturating_duration_since(self.polled_at) >= SINK_POLL_INTERVAL
            || self.flow.waits_for_sink()
        {
            self.polled_at = now;
            let answer = self.flow.poll_sinks(&mut self.meter.counters);
            answer.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Proofs, watermarks and timers. A watermark is passed only when every record read before it has been processed.
    fn pass_time(&mut self) -> Result<(), TaskError> {
        for reader in &mut self.readers {
            let proofs = reader.take_proofs();
            if proofs.is_empty() {
                continue;
            }
            reader.consumer.note_reachable();
            for reading in &mut reader.readings {
                let Some(proof) = proofs.get(&(reading.key.topic.clone(), reading.key.partition))
                else {
                    continue;
                };
                reading.time.end_was(proof.asked_at_ms, proof.end_offset);
                let lag = u64::try_from(proof.end_offset - reading.time.position()).unwrap_or(0);
                self.meter.counters[reading.counters].lag_records = Some(lag);
            }
        }
        let fired = self.flow.fire_timers(&mut self.meter.counters);
        fired.map_err(|error| self.failed(error))?;
        if !self.is_timed || !self.flow.transforms_are_idle() {
            return Ok(());
        }
        let passed = self.pass_watermarks();
        passed.map_err(|error| self.failed(error))
    }

    /// Tells transforms the event time that belongs to the state they were given.
    fn pass_restored_watermarks(&mut self) -> Result<(), TaskError> {
        if !self.is_timed {
            return Ok(());
        }
        let passed = self.pass_watermarks();
        passed.map_err(|error| self.failed(error))
    }

    fn pass_watermarks(&mut self) -> Result<(), FlowError> {
        let counters = &mut self.meter.counters;
        let mut slowest = Some(i64::MAX);
        let readings = self.readers.iter_mut();
        for reading in readings.flat_map(|reader| reader.readings.iter_mut()) {
            let watermark = reading.time.watermark_ms();
            counters[reading.counters].watermark_ms = watermark;
            slowest = slowest.min(watermark);
            if let Some(at_ms) = watermark {
                reading.passed_ms = watermark;
                self.flow.pass_watermark(reading.slot, at_ms, counters)?;
            }
        }
        // A partition that was added, and has none yet, holds the pipeline's back but does not undo it.
        let of_all = slowest.filter(|at_ms| *at_ms < i64::MAX);
        self.watermark_ms = self.watermark_ms.max(of_all);
        match self.watermark_ms {
            Some(at_ms) => self.flow.pass_watermark(SLOT_ALL, at_ms, counters),
            None => Ok(()),
        }
    }

    /// State for `/readyz` and a snapshot for `/metrics`.
    fn report(&mut self, now: Instant) {
        self.meter.publish_if_due(now);
        let assigned = self.readers.iter().all(|reader| reader.is_assigned);
        let mut readers = self.readers.iter();
        let unacknowledged = || "what was produced is not acknowledged".to_owned();
        let unreachable = readers
            .find_map(|reader| reader.consumer.unreachable())
            .or_else(|| self.is_kafka_slow.then(unacknowledged));
        let state = match self.flow.trouble() {
            _ if unreachable.is_some() => TaskState::WaitingForKafka,
            _ if !assigned => TaskState::Assigning,
            Some(trouble) => trouble,
            None => TaskState::Running,
        };
        match unreachable {
            Some(reason) => self.memory.note_kafka_away(self.context, &reason),
            // Over a new start of the task as well: it is back when the partitions are.
            None if assigned => self.memory.note_kafka_back(self.context),
            None => {}
        }
        let before = self.context.status.view().state;
        if before == state {
            return;
        }
        if let TaskState::SinkUnavailable { node, reason } = &state {
            tracing::warn!(
                event = "sink_unavailable",
                task = self.context.task,
                node,
                reason,
                "waiting for the sink"
            );
        }
        self.context.status.set(state);
    }

    /// Batches start at one record and grow while turns are quick.
    fn adapt(&mut self, took: Duration, is_slow: bool, records: usize) {
        if is_slow {
            self.batch_records = 1;
        } else if took > QUICK_TURN * 10 {
            self.batch_records = (self.batch_records / 2).max(1);
        } else if took < QUICK_TURN && records >= self.batch_records {
            self.batch_records = (self.batch_records * 2).min(BATCH_RECORDS_MAX);
        }
    }

    fn idle_wait(&self) -> Duration {
        if self.cuts.is_due {
            return FULL_WAIT;
        }
        if self.flow.waits_for_sink() {
            let full_since = self.flow.sink_full_since();
            let is_long = full_since.is_some_and(|since| since.elapsed() >= FULL_LONG_AFTER);
            return if is_long { FULL_LONG_WAIT } else { FULL_WAIT };
        }
        let until_commit = self
            .context
            .pipeline
            .checkpoint_interval
            .saturating_sub(self.committed_at.elapsed());
        let until_timer = self
            .flow
            .next_timer_ms()
            .map(|at_ms| at_ms.saturating_sub(Clock::System.now_ms()).max(0));
        let until_timer =
            until_timer.map_or(IDLE_WAIT, |ms| Duration::from_millis(ms.unsigned_abs()));
        let now = Instant::now();
        let until_retry = self.flow.next_retry();
        let until_retry = until_retry.map_or(IDLE_WAIT, |at| at.saturating_duration_since(now));
        IDLE_WAIT
            .min(until_retry)
            .min(until_commit.max(Duration::from_millis(1)))
            .min(until_timer)
    }
}
