//! A task: one thread that owns its consumers, its plugin instances and its producer. Nothing is shared between tasks.
//!
//! [`supervise`] runs it and starts it anew from its committed offsets when it breaks; [`turn::Task::turn`] is one turn of
//! its loop, the data path from poll to commit.

mod election;
mod limits;
mod reader;
mod turn;

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::flow::{FlowError, Poison, Refusal, SlotKey};
use crate::kafka::{ClientError, KafkaError, TransactionError};
use crate::metrics::TaskMeter;
use crate::plugin::{CallError, Catalog};
use crate::shutdown::Signals;
use crate::status::{CallMonitor, HostStatus, Role, TaskState, TaskStatus};
use crate::topology::Pipeline;

pub use election::election_group;
pub use limits::LIMITS;
use limits::{
    LONG_CALL_MEMORY, LONG_CALL_MIN, OUTPUT_SEARCH_MAX, POISONED_RECORDS_MAX, RESTART_WAIT_MAX,
    RESTART_WAIT_MIN, SETTLED_AFTER,
};

/// What a task is given by its host.
pub struct TaskContext {
    pub pipeline: Arc<Pipeline>,
    pub task: u32,
    /// A lasting name, which makes the group membership static.
    pub instance: Option<String>,
    /// A random name of this process, for its transactions.
    pub process: String,
    pub catalog: Arc<Catalog>,
    pub signals: Signals,
    pub status: Arc<TaskStatus>,
    pub monitor: Arc<CallMonitor>,
    pub host: Arc<HostStatus>,
    /// Called once, when every source has its assignment or the host stands by.
    pub on_ready: Box<dyn Fn(Role) + Send>,
    /// Partitions of all source topics together, for the bound on prefetched bytes.
    pub source_partitions: usize,
}

impl TaskContext {
    /// Name of the task's memberships where they are static.
    pub(crate) fn member_name(&self) -> Option<String> {
        let instance = self.instance.as_ref()?;
        Some(format!("{instance}-{}", self.task))
    }
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEnd {
    /// Everything read is settled and committed.
    Drained,
    /// The drain broke, or its deadline passed; what was settled before is committed.
    DrainedInPart { pending: u64 },
    /// It cannot go on: the reason, for the last line on stderr.
    Failed(String),
}

/// Why a run of a task ended before its drain.
#[derive(Debug)]
pub(crate) enum TaskError {
    /// The host ends: a restart would meet the same.
    Stop(String),
    /// From the committed offsets again.
    Restart(String),
    /// From the committed offsets again, through no fault of the task's: Kafka, which may come and go as it likes, took
    /// its partitions away.
    Rejoin(String),
    /// From the committed offsets again, one record at a time up to where it was.
    Isolate {
        reason: String,
        poison: Option<(Poison, Box<Refusal>)>,
    },
}

impl From<FlowError> for TaskError {
    fn from(error: FlowError) -> Self {
        let reason = error.to_string();
        match error {
            FlowError::Refused { .. } => TaskError::Stop(reason),
            FlowError::Broken { .. } => TaskError::Restart(reason),
            FlowError::Lost { .. } => TaskError::Rejoin(reason),
            FlowError::Isolate { .. } | FlowError::IsolateOutputs { .. } => TaskError::Isolate {
                reason,
                poison: None,
            },
            FlowError::Poisoned { poison, refusal } => TaskError::Isolate {
                reason,
                poison: Some((poison, refusal)),
            },
        }
    }
}

impl From<ClientError> for TaskError {
    fn from(error: ClientError) -> Self {
        TaskError::Stop(error.to_string())
    }
}

impl From<TransactionError> for TaskError {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Refused(_) => TaskError::Stop(error.to_string()),
            _ => TaskError::Rejoin(error.to_string()),
        }
    }
}

impl From<KafkaError> for TaskError {
    fn from(error: KafkaError) -> Self {
        TaskError::Restart(format!("kafka.client_call: {error}"))
    }
}

impl From<CallError> for TaskError {
    fn from(error: CallError) -> Self {
        TaskError::Restart(format!("{}: {}", error.code, error.message))
    }
}

/// What one run of a task leaves to the next.
#[derive(Default)]
pub(crate) struct Memory {
    /// Records below these offsets are read one at a time: one of them is at fault.
    isolate_below: BTreeMap<SlotKey, i64>,
    /// Outputs leave one at a time since then: one of those that transforms derive is at fault.
    outputs_leave_alone: Option<Instant>,
    /// Records that are known to be at fault. Forgotten once committed.
    poison: BTreeMap<Poison, Refusal>,
    /// The longest turn of late, and when it was.
    longest_call: Option<(Duration, Instant)>,
    /// Something was added to the above since the last restart.
    has_learned: bool,
    /// Whether the host was told that the task is ready.
    was_ready: bool,
    /// An earlier run of the task has used its transactional id.
    has_run: bool,
    /// Whether the log says that Kafka does not answer.
    is_kafka_away: bool,
}

impl Memory {
    /// Says once that Kafka is away, whatever the task is waiting in.
    fn note_kafka_away(&mut self, context: &TaskContext, reason: &str) {
        if !std::mem::replace(&mut self.is_kafka_away, true) {
            tracing::warn!(
                event = "kafka_unreachable",
                task = context.task,
                reason,
                "Kafka does not answer; waiting for it"
            );
        }
    }

    /// Says once that it is back.
    fn note_kafka_back(&mut self, context: &TaskContext) {
        if std::mem::replace(&mut self.is_kafka_away, false) {
            tracing::info!(
                event = "kafka_back",
                task = context.task,
                "Kafka answers again"
            );
        }
    }

    /// Says once that the task is ready.
    fn note_ready(&mut self, context: &TaskContext, role: Role) {
        if !std::mem::replace(&mut self.was_ready, true) {
            (context.on_ready)(role);
        }
    }

    /// Records of the partition below `offset` are to be read one at a time.
    fn isolate(&mut self, partition: &SlotKey, offset: i64) {
        let below = self.isolate_below.entry(partition.clone());
        let below = below.or_insert(i64::MIN);
        self.has_learned |= *below < offset;
        *below = (*below).max(offset);
    }

    /// What transforms derive is to leave one at a time.
    fn isolate_outputs(&mut self) {
        self.has_learned |= self.outputs_leave_alone.is_none();
        self.outputs_leave_alone.get_or_insert_with(Instant::now);
    }

    /// An output was found. `is_progress` if those found before were met again; a plugin whose outputs differ each time
    /// would be restarted for ever.
    fn note_output_found(&mut self, is_progress: bool) {
        let is_first = !self.poison.keys().any(Poison::is_output);
        self.has_learned |= is_first || is_progress;
        self.outputs_leave_alone = Some(Instant::now());
    }

    /// At a commit: true when the outputs that were looked for are behind it, or will not come again.
    fn ends_search(&mut self, has_refused_output: bool) -> bool {
        let is_long = |since: Instant| since.elapsed() >= OUTPUT_SEARCH_MAX;
        let ends = has_refused_output || self.outputs_leave_alone.is_some_and(is_long);
        if ends {
            self.outputs_leave_alone = None;
            self.poison.retain(|poison, _| !poison.is_output());
        }
        ends
    }

    /// The record is to be refused.
    fn poison(&mut self, record: Poison, refusal: Refusal) {
        let is_output = record.is_output();
        let is_new = self.poison.insert(record, refusal).is_none();
        self.has_learned |= is_new && !is_output;
    }

    /// Records of the partition below `offset` are committed.
    fn forget_below(&mut self, partition: &SlotKey, offset: i64) {
        let is_below = |poison: &Poison| match poison {
            Poison::Record {
                topic,
                partition: number,
                offset: at,
                ..
            } => *topic == partition.topic && *number == partition.partition && *at < offset,
            Poison::Output { .. } => false,
        };
        self.poison.retain(|poison, _| !is_below(poison));
    }

    /// A round of calls took this long.
    fn note_call(&mut self, took: Duration) {
        if took >= LONG_CALL_MIN && self.longest_call(LONG_CALL_MEMORY) <= took {
            self.longest_call = Some((took, Instant::now()));
        }
    }

    /// The longest of the last `within`.
    fn longest_call(&self, within: Duration) -> Duration {
        let recent = self.longest_call.filter(|(_, at)| at.elapsed() < within);
        recent.map_or(Duration::ZERO, |(took, _)| took)
    }
}

/// Runs the task until it drains or cannot go on. A task that breaks starts anew after a wait that doubles from 1 s to
/// 1 min, and gives up after `task_restarts` breaks without a minute of work between them. A break that taught where
/// the record at fault is does not count: bad records alone never end a host, unless there are very many of them.
pub fn supervise(context: &TaskContext, mut meter: TaskMeter) -> TaskEnd {
    let mut memory = Memory::default();
    let mut breaks = 0;
    loop {
        let began = Instant::now();
        let mut is_kafkas_doing = false;
        let reason = match turn::run(context, &mut meter, &mut memory) {
            Ok(end) => return end,
            Err(TaskError::Stop(reason)) => return fail(context, reason),
            Err(TaskError::Restart(reason)) => reason,
            Err(TaskError::Rejoin(reason)) => {
                is_kafkas_doing = true;
                reason
            }
            Err(TaskError::Isolate { reason, poison }) => {
                if let Some((record, refusal)) = poison {
                    memory.poison(record, *refusal);
                }
                reason
            }
        };
        let pending = meter.counters.pending;
        meter.counters.rewind_pending();
        meter.publish();
        if context.signals.is_draining() && pending > 0 {
            tracing::warn!(
                event = "drain_broke",
                task = context.task,
                reason,
                "the drain broke"
            );
            return TaskEnd::DrainedInPart { pending };
        }
        let has_learned = std::mem::take(&mut memory.has_learned);
        breaks = breaks_after(breaks, began.elapsed(), has_learned || is_kafkas_doing);
        if breaks > context.pipeline.task_restarts {
            return fail(
                context,
                format!("task.crash_loop: broke {breaks} times in a row, last: {reason}"),
            );
        }
        if memory.poison.len() > POISONED_RECORDS_MAX {
            return fail(
                context,
                format!(
                    "task.poisoned: more than {POISONED_RECORDS_MAX} records at fault in a row, last: {reason}"
                ),
            );
        }
        let wait = restart_wait(breaks);
        let seconds = wait.as_secs_f64();
        tracing::error!(
            event = "task_restarts",
            task = context.task,
            breaks,
            seconds,
            reason,
            "the task starts anew from its committed offsets"
        );
        context.status.set(TaskState::Failed { reason });
        if context.signals.wait(wait) {
            return TaskEnd::Drained;
        }
    }
}

/// Breaks in a row, at least 1, after a run of this length. What is excused is no further one.
fn breaks_after(breaks: u32, worked: Duration, is_excused: bool) -> u32 {
    match (worked >= SETTLED_AFTER, is_excused) {
        (true, _) => 1,
        (false, true) => breaks.max(1),
        (false, false) => breaks + 1,
    }
}

fn fail(context: &TaskContext, reason: String) -> TaskEnd {
    context.status.set(TaskState::Failed {
        reason: reason.clone(),
    });
    TaskEnd::Failed(reason)
}

fn restart_wait(breaks: u32) -> Duration {
    RESTART_WAIT_MIN
        .saturating_mul(1 << (breaks - 1).min(16))
        .min(RESTART_WAIT_MAX)
}

/// Starts the task's thread.
///
/// # Errors
/// The operating system gives no thread.
pub fn spawn(
    context: TaskContext,
    meter: TaskMeter,
    end: impl FnOnce(TaskEnd) + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    let name = format!("weir-task-{}", context.task);
    thread::Builder::new()
        .name(name)
        .spawn(move || {
            // A task that is gone must not pass for one that has drained.
            let supervised = panic::catch_unwind(AssertUnwindSafe(|| supervise(&context, meter)));
            end(supervised.unwrap_or_else(|_| {
                fail(
                    &context,
                    "task.panicked: a defect of the host; the panic stands above. Nothing uncommitted is lost: start the host again, and report it".to_owned(),
                )
            }));
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_that_teach_something_do_not_count_as_a_crash_loop() {
        let mut memory = Memory::default();
        let partition = SlotKey {
            source: 0,
            topic: "t".into(),
            partition: 0,
        };
        let mut breaks = 0;
        for offset in 1..=20 {
            memory.isolate(&partition, offset);
            let has_learned = std::mem::take(&mut memory.has_learned);
            breaks = breaks_after(breaks, Duration::from_secs(1), has_learned);
            assert_eq!(breaks, 1, "offset {offset}");
        }
        for known in 2..=3 {
            memory.isolate(&partition, 20);
            let has_learned = std::mem::take(&mut memory.has_learned);
            breaks = breaks_after(breaks, Duration::from_secs(1), has_learned);
            assert_eq!(breaks, known, "the same place again");
        }
        assert_eq!(breaks_after(breaks, SETTLED_AFTER, false), 1);
    }

    #[test]
    fn restarts_wait_longer_each_time_up_to_a_minute() {
        let waits: Vec<u64> = (1..=8)
            .map(|breaks| restart_wait(breaks).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
