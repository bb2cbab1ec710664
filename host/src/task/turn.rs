//! One turn of a task's loop, top to bottom: rebalances, read, transform and write, verdicts, event time, commit.

use std::thread;
use std::time::{Duration, Instant};

use weir_plugin_api::{NO_TIMESTAMP, SLOT_ALL};

use super::limits::{
    BATCH_RECORDS_MAX, FLUSH_WAIT, FULL_LONG_AFTER, FULL_LONG_WAIT, FULL_WAIT, IDLE_WAIT,
    OWNERSHIP_INTERVAL, QUICK_TURN, REVOKE_TIMEOUT, SINK_POLL_INTERVAL, SKEW_MAX_MS,
};
use super::reader::{Asked, Reader, Reading};
use super::{Memory, TaskContext, TaskEnd, TaskError};
use crate::clock::Clock;
use crate::flow::{self, Advance, Flow, FlowError, FlowParts, Producers, Refusal, Stage};
use crate::kafka::{FetchedBatch, QueueEvent, Rebalance};
use crate::metrics::TaskMeter;
use crate::status::TaskState;
use crate::topology::Scope;

/// What a look into the queues has found.
#[derive(Default)]
struct Found {
    records: usize,
    /// Ends of partitions and errors.
    events: usize,
}

struct Task<'a> {
    context: &'a TaskContext,
    meter: &'a mut TaskMeter,
    memory: &'a mut Memory,
    flow: Flow,
    readers: Vec<Reader>,
    /// Some transform follows event time.
    is_timed: bool,
    /// The pipeline needs every partition in this task, and this is what is missing.
    not_owner: Option<String>,
    judged_at: Instant,
    /// Size of the next read: from one, since nothing is known of the plugins' speed.
    batch_records: usize,
    /// Where the next read begins, so that every partition has its turn.
    next_reading: usize,
    committed_at: Instant,
    polled_at: Instant,
    /// The last commit could not settle the producer.
    is_kafka_slow: bool,
}

/// Runs from the committed offsets until the drain.
pub fn run(
    context: &TaskContext,
    meter: &mut TaskMeter,
    memory: &mut Memory,
) -> Result<TaskEnd, TaskError> {
    let mut task = Task::start(context, meter, memory)?;
    let ended = task.work();
    task.flow.count_settled(&mut task.meter.counters);
    task.flow.stop();
    ended
}

impl<'a> Task<'a> {
    fn start(
        context: &'a TaskContext,
        meter: &'a mut TaskMeter,
        memory: &'a mut Memory,
    ) -> Result<Self, TaskError> {
        let pipeline = &context.pipeline;
        let producers = Producers::new(pipeline)?;
        let parts = FlowParts {
            task: context.task,
            catalog: context.catalog.clone(),
            outbox: Box::new(producers),
            clock: Clock::System,
            monitor: context.monitor.clone(),
            counters: &mut meter.counters,
            poison: memory.poison.clone(),
            target: &|sink, host| {
                flow::plugin_or_kafka(&context.catalog, pipeline, context.task, sink, host)
            },
        };
        let flow = flow::build(pipeline, parts)?;
        let is_timed = pipeline.transforms.iter().any(|node| node.describe.timers);
        let mut readers = Vec::with_capacity(pipeline.sources.len());
        for (index, source) in pipeline.sources.iter().enumerate() {
            readers.push(Reader::join(context, index, source, is_timed)?);
        }
        context.status.set(TaskState::Assigning);
        Ok(Task {
            context,
            meter,
            memory,
            flow,
            readers,
            is_timed,
            not_owner: None,
            judged_at: Instant::now(),
            batch_records: 1,
            next_reading: 0,
            committed_at: Instant::now(),
            polled_at: Instant::now(),
            is_kafka_slow: false,
        })
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
        if self.not_owner.is_some() && self.judged_at.elapsed() >= OWNERSHIP_INTERVAL {
            self.judge_ownership();
        }
        let Found { records, events } = self.read()?;
        let advance = self.flow.advance(&mut self.meter.counters);
        let advance = advance.map_err(|error| self.failed(error))?;
        self.poll_sinks(began)?;
        self.pass_time()?;
        let is_slow = advance == Advance::Yielded || self.is_isolating();
        if is_slow
            || self.flow.wants_flush()
            || began - self.committed_at.min(began) >= self.context.pipeline.checkpoint_interval
        {
            self.commit(false)?;
        }
        self.flow.count_settled(&mut self.meter.counters);
        self.report(began);
        let took = began.elapsed();
        self.adapt(took, is_slow, records);
        // Behind an event there may be more, and a queue that is not empty wakes nobody.
        if records == 0 && events == 0 && advance == Advance::Idle {
            thread::park_timeout(self.idle_wait());
        }
        Ok(())
    }

    /// A refused record ends the host, but what stands before it is finished and committed first (I1).
    fn failed(&mut self, error: FlowError) -> TaskError {
        if matches!(error, FlowError::Refused { .. }) {
            // Best effort: what cannot be settled now is read again.
            let counters = &mut self.meter.counters;
            self.flow.finish_before_refused(counters);
            let _ = self.flow.flush(FLUSH_WAIT, counters);
            let _ = self.commit(true);
        }
        self.note_isolation(&error);
        error.into()
    }

    /// Remembers how far records must be read one at a time.
    fn note_isolation(&mut self, error: &FlowError) {
        if matches!(
            error,
            FlowError::Isolate { .. } | FlowError::Poisoned { .. }
        ) {
            for reading in self.readers.iter().flat_map(|reader| &reader.readings) {
                self.memory.isolate(&reading.key, reading.next);
            }
        }
    }

    fn serve_rebalances(&mut self) -> Result<(), TaskError> {
        for at in 0..self.readers.len() {
            while let Some(rebalance) = self.readers[at].consumer.poll() {
                self.serve_rebalance(at, &rebalance)?;
            }
            if let Some(reason) = self.readers[at].consumer.fatal_error() {
                return Err(TaskError::Restart(format!(
                    "kafka.consumer_fatal: {reason}"
                )));
            }
            if let Some(reason) = self.readers[at].consumer.take_commit_failure() {
                tracing::warn!(
                    event = "commit_failed",
                    task = self.context.task,
                    reason,
                    "will commit again"
                );
                for reading in &mut self.readers[at].readings {
                    reading.committed = i64::MIN;
                }
            }
        }
        Ok(())
    }

    fn serve_rebalance(&mut self, at: usize, rebalance: &Rebalance) -> Result<(), TaskError> {
        let (kind, partitions) = match rebalance {
            Rebalance::Assign(partitions) => ("assigned", partitions),
            Rebalance::Revoke(partitions) => ("revoked", partitions),
            Rebalance::Lost(partitions) => ("lost", partitions),
        };
        let source = &self.readers[at].source.name;
        tracing::info!(event = kind, task = self.context.task, source, partitions = %shown(partitions), "partitions {kind}");
        match rebalance {
            Rebalance::Assign(partitions) => self.assign(at, partitions),
            Rebalance::Revoke(partitions) => self.give_up(at, partitions),
            // I6: nothing of a lost partition is committed; what is in flight may have been read by its new owner.
            Rebalance::Lost(partitions) => {
                self.readers[at].unassign(partitions, &mut self.meter.counters)?;
                Err(TaskError::Rejoin(
                    "kafka.partitions_lost: the session expired".to_owned(),
                ))
            }
        }
    }

    fn assign(&mut self, at: usize, partitions: &[(String, i32)]) -> Result<(), TaskError> {
        let slots = self.flow.slots();
        let assigned = self.readers[at].assign(
            partitions,
            slots,
            &mut self.meter.counters,
            self.context,
            &mut self.memory.is_kafka_away,
        );
        match assigned? {
            Asked::Draining => return Ok(()),
            Asked::Answer(()) => {}
        }
        self.judge_ownership();
        if !self.memory.was_ready && self.readers.iter().all(|reader| reader.is_assigned) {
            self.memory.was_ready = true;
            (self.context.on_ready)();
        }
        Ok(())
    }

    /// I7, as far as it goes without standby hosts: a result that needs every partition is not made from some.
    fn judge_ownership(&mut self) {
        if self.context.pipeline.scope() != Scope::Pipeline {
            return;
        }
        self.judged_at = Instant::now();
        let missing: Vec<String> = self
            .readers
            .iter()
            .filter_map(Reader::missing_partitions)
            .collect();
        let not_owner = (!missing.is_empty()).then(|| {
            format!(
                "the pipeline needs every partition in one task; not assigned here: {}",
                missing.join(", ")
            )
        });
        if let Some(reason) = not_owner.as_ref().filter(|_| not_owner != self.not_owner) {
            tracing::warn!(event = "not_owner", task = self.context.task, reason);
        }
        self.not_owner = not_owner;
    }

    /// I6: revoked partitions are finished and committed before they are given up.
    fn give_up(&mut self, at: usize, partitions: &[(String, i32)]) -> Result<(), TaskError> {
        let settled = self.settle(Instant::now() + REVOKE_TIMEOUT)?;
        self.commit(true)?;
        let released = self.readers[at].unassign(partitions, &mut self.meter.counters)?;
        self.judge_ownership();
        if !settled {
            return Err(TaskError::Rejoin(
                "kafka.revoked: records were still on their way".to_owned(),
            ));
        }
        for slot in released {
            let answer = self.flow.release(slot);
            answer.map_err(|error| self.failed(error))?;
        }
        // Where others stay (cooperative rebalancing, a second source) the instances keep what they hold of them.
        if self.readers.iter().all(|reader| reader.readings.is_empty()) {
            let answer = self.flow.renew();
            answer.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Finishes what was read, without reading more; false when the deadline passed first.
    fn settle(&mut self, deadline: Instant) -> Result<bool, TaskError> {
        loop {
            let settled = self.flow.advance(&mut self.meter.counters);
            let settled =
                settled.and_then(|_| self.flow.flush(IDLE_WAIT, &mut self.meter.counters));
            let settled = settled.map_err(|error| self.failed(error))?;
            self.flow.count_settled(&mut self.meter.counters);
            if settled || Instant::now() >= deadline {
                return Ok(settled);
            }
            thread::park_timeout(FULL_WAIT);
        }
    }

    /// At most one batch, of the next partition that has something and may go on.
    fn read(&mut self) -> Result<Found, TaskError> {
        let mut found = Found::default();
        // While one record is sought that a broker refuses, each travels alone, however slow Kafka is.
        let waits = self.is_isolating() && self.flow.has_unflushed();
        if waits || self.not_owner.is_some() || !self.flow.wants_input() {
            return Ok(found);
        }
        let readings: usize = self
            .readers
            .iter()
            .map(|reader| reader.readings.len())
            .sum();
        let floor_ms = self.slowest_watermark_ms();
        for step in 0..readings {
            let nth = (self.next_reading + step) % readings;
            let Some((at, within)) = self.locate(nth) else {
                continue;
            };
            let Found { records, events } = self.read_partition(at, within, floor_ms)?;
            found.records += records;
            found.events += events;
            if records > 0 {
                self.next_reading = nth + 1;
                break;
            }
        }
        Ok(found)
    }

    /// The nth partition over all readers.
    fn locate(&self, nth: usize) -> Option<(usize, usize)> {
        let mut left = nth;
        for (at, reader) in self.readers.iter().enumerate() {
            if left < reader.readings.len() {
                return Some((at, left));
            }
            left -= reader.readings.len();
        }
        None
    }

    fn read_partition(
        &mut self,
        at: usize,
        within: usize,
        floor_ms: Option<i64>,
    ) -> Result<Found, TaskError> {
        let is_timed = self.is_timed;
        let reader = &mut self.readers[at];
        let reading = &mut reader.readings[within];
        // I9: a partition far ahead in event time waits for the others.
        let ahead = |floor: i64| {
            reading
                .time
                .watermark_ms()
                .is_some_and(|at_ms| at_ms > floor.saturating_add(SKEW_MAX_MS))
        };
        if is_timed && floor_ms.is_some_and(ahead) {
            return Ok(Found::default());
        }
        let isolated = self
            .memory
            .isolate_below
            .get(&reading.key)
            .is_some_and(|below| reading.next < *below);
        let limit = if isolated { 1 } else { self.batch_records };
        let mut fetched = reading.queue.read(limit);
        let events = std::mem::take(&mut fetched.events);
        let records = fetched.len();
        if records > 0 {
            reader.consumer.note_reachable();
            self.meter.counters.read(reading.counters, records as u64);
            let index = reader.index;
            let pushed = push(&mut self.flow, index, reading, fetched, is_timed, isolated);
            pushed.map_err(|error| self.failed(error))?;
        }
        let found = Found {
            records,
            events: events.len(),
        };
        for event in events {
            serve_event(&mut self.readers[at].readings[within], event)?;
        }
        Ok(found)
    }

    fn slowest_watermark_ms(&mut self) -> Option<i64> {
        if !self.is_timed {
            return None;
        }
        let readings = self
            .readers
            .iter_mut()
            .flat_map(|reader| reader.readings.iter_mut());
        readings
            .map(|reading| reading.time.watermark_ms())
            .min()
            .flatten()
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
        if !self.is_timed || self.not_owner.is_some() || !self.flow.transforms_are_idle() {
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
                self.flow.pass_watermark(reading.slot, at_ms, counters)?;
            }
        }
        match slowest {
            Some(at_ms) if at_ms < i64::MAX => self.flow.pass_watermark(SLOT_ALL, at_ms, counters),
            _ => Ok(()),
        }
    }

    /// I1: flushes the producer and commits what is durable, where it has moved.
    fn commit(&mut self, wait: bool) -> Result<(), TaskError> {
        self.committed_at = Instant::now();
        let refused = match self.flow.flush_outbox(FLUSH_WAIT) {
            Ok(flushed) => {
                self.is_kafka_slow = !flushed;
                None
            }
            // Its place stays open: what stands before it is committed.
            Err(error @ FlowError::Refused { .. }) => Some(error),
            Err(error) => {
                self.note_isolation(&error);
                return Err(error.into());
            }
        };
        self.commit_offsets(wait || refused.is_some())?;
        let took = self.committed_at.elapsed();
        self.meter.counters.checkpoint_durations.observe(took);
        refused.map_or(Ok(()), |error| Err(error.into()))
    }

    fn commit_offsets(&mut self, wait: bool) -> Result<(), TaskError> {
        let mut next = vec![i64::MIN; self.flow.slots().count()];
        for reading in self.readers.iter().flat_map(|reader| &reader.readings) {
            if let Some(offset) = next.get_mut(reading.slot as usize) {
                *offset = reading.time.position();
            }
        }
        let offsets = self.flow.committable(&next)?;
        for reader in &mut self.readers {
            let mut moved = Vec::new();
            for reading in &mut reader.readings {
                let offset = offsets
                    .get(reading.slot as usize)
                    .copied()
                    .unwrap_or(i64::MIN);
                let key = &reading.key;
                self.memory.poison.retain(|poison, _| {
                    poison.topic != key.topic
                        || poison.partition != key.partition
                        || poison.offset >= offset
                });
                if offset > reading.committed {
                    reading.committed = offset;
                    moved.push(((reading.key.topic.clone(), reading.key.partition), offset));
                }
            }
            if !moved.is_empty()
                && let Err(error) = reader.consumer.commit(&moved, wait)
            {
                tracing::warn!(event = "commit_failed", task = self.context.task, reason = %error, "will commit again");
                for reading in &mut reader.readings {
                    reading.committed = i64::MIN;
                }
            }
        }
        Ok(())
    }

    fn is_isolating(&self) -> bool {
        let below = &self.memory.isolate_below;
        !below.is_empty()
            && self
                .readers
                .iter()
                .flat_map(|reader| &reader.readings)
                .any(|reading| {
                    below
                        .get(&reading.key)
                        .is_some_and(|below| reading.next <= *below && reading.committed < *below)
                })
    }

    /// State for `/readyz` and a snapshot for `/metrics`.
    fn report(&mut self, now: Instant) {
        self.meter.publish_if_due(now);
        let assigned = self.readers.iter().all(|reader| reader.is_assigned);
        let unreachable = self.is_kafka_slow
            || self
                .readers
                .iter()
                .any(|reader| reader.consumer.unreachable().is_some());
        let state = match (&self.not_owner, self.flow.trouble()) {
            _ if unreachable => TaskState::WaitingForKafka,
            _ if !assigned => TaskState::Assigning,
            (Some(reason), _) => TaskState::NotOwner {
                reason: reason.clone(),
            },
            (None, Some(trouble)) => trouble,
            (None, None) => TaskState::Running,
        };
        let before = self.context.status.view().state;
        if before == state {
            return;
        }
        let task = self.context.task;
        match (unreachable, self.memory.is_kafka_away) {
            (true, false) => tracing::warn!(
                event = "kafka_unreachable",
                task,
                "Kafka does not answer; waiting for it"
            ),
            // Over a new start of the task as well: it is back when the partitions are.
            (false, true) if assigned => {
                tracing::info!(event = "kafka_back", task, "Kafka answers again");
            }
            _ => {}
        }
        self.memory.is_kafka_away = unreachable || self.memory.is_kafka_away && !assigned;
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

    /// I8: no more reading; finish, commit, leave the group.
    fn drain(&mut self) -> Result<TaskEnd, TaskError> {
        self.context.status.set(TaskState::Draining);
        // The process's own deadline (shutdown_timeout) ends it whatever happens here; a second before, commit what is settled.
        let timeout = self.context.pipeline.shutdown_timeout;
        let deadline =
            Instant::now() + timeout.saturating_sub(Duration::from_secs(1).min(timeout / 10));
        let settled = self.settle(deadline)?;
        self.commit(true)?;
        self.flow.count_settled(&mut self.meter.counters);
        self.meter.publish();
        let pending = self.flow.pending();
        Ok(if settled {
            TaskEnd::Drained
        } else {
            TaskEnd::DrainedInPart { pending }
        })
    }
}

/// Gives a batch to the flow. Records from the future are refused here and move no watermark.
fn push(
    flow: &mut Flow,
    source: usize,
    reading: &mut Reading,
    fetched: FetchedBatch,
    is_timed: bool,
    keep_bytes: bool,
) -> Result<(), FlowError> {
    let offsets: Vec<i64> = fetched.offsets().collect();
    let Some(last) = offsets.last().copied() else {
        return Ok(());
    };
    let slot = reading.slot;
    let mut largest = None;
    let now_ms = if is_timed { Clock::System.now_ms() } else { 0 };
    let time = &reading.time;
    let mut judge = |timestamp_ms: i64| {
        if timestamp_ms == NO_TIMESTAMP {
            return None;
        }
        if time.is_future(timestamp_ms, now_ms) {
            return Some(future_refusal(timestamp_ms, now_ms));
        }
        largest = largest.max(Some(timestamp_ms));
        None
    };
    let judge: Option<&mut dyn FnMut(i64) -> Option<Refusal>> =
        if is_timed { Some(&mut judge) } else { None };
    let pushed = flow.push(
        source,
        slot,
        offsets.into_iter(),
        keep_bytes,
        |first| fetched.into_batch(slot, first),
        judge,
    );
    // The ledger knows all of them, also when one ends the host: what may be committed is its to say.
    reading.next = last + 1;
    reading.time.processed(last + 1, largest);
    pushed
}

fn future_refusal(timestamp_ms: i64, now_ms: i64) -> Refusal {
    Refusal {
        stage: Stage::Transformation,
        node: "source".into(),
        class: "weir".into(),
        code: "source.timestamp_in_future".into(),
        message: format!(
            "the timestamp {timestamp_ms} is {} ms ahead of the host's clock, more than max_future",
            timestamp_ms.saturating_sub(now_ms)
        ),
        detail: String::new(),
    }
}

fn serve_event(reading: &mut Reading, event: QueueEvent) -> Result<(), TaskError> {
    let (topic, partition) = (&reading.key.topic, reading.key.partition);
    match event {
        QueueEvent::EndOfPartition { end_offset } => reading.time.reached(end_offset),
        // The position is resolved anew after the restart, by `on_gap`.
        QueueEvent::PositionOutOfRange { message } => {
            return Err(TaskError::Restart(format!(
                "source.position: {topic}-{partition}@{}: {message}",
                reading.next
            )));
        }
        QueueEvent::Error { code, message } => {
            tracing::warn!(event = "partition_error", topic, partition, %code, message);
        }
    }
    Ok(())
}

fn shown(partitions: &[(String, i32)]) -> String {
    let names: Vec<String> = partitions
        .iter()
        .map(|(topic, partition)| format!("{topic}-{partition}"))
        .collect();
    names.join(", ")
}
