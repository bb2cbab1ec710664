//! What the tasks of a host are doing, and whether that makes the host ready.
//!
//! A task says its state in its [`TaskStatus`] when it changes, never per batch. [`HostStatus::readiness`] judges
//! all of them by one pure rule. [`Ticker`] watches the plugin calls: it asks long ones to give back and reports
//! those that do not.

mod call_monitor;
mod readiness;
mod state;
mod ticker;

pub use call_monitor::{CallMonitor, NodeLabel};
pub use readiness::{Readiness, Role, TaskReadiness, WAIT_GRACE};
pub use state::{TaskState, TaskView};
pub use ticker::{CallLimits, TICK_INTERVAL, Ticker};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use state::TaskRecord;

/// The status of one host process: its pipeline, its role, its tasks.
#[derive(Debug)]
pub struct HostStatus {
    pipeline: String,
    shared: Mutex<HostRecord>,
}

#[derive(Debug)]
struct HostRecord {
    role: Role,
    tasks: BTreeMap<u32, Arc<TaskStatus>>,
}

impl HostStatus {
    /// An active host without tasks, which is not ready yet.
    pub fn new(pipeline: impl Into<String>) -> Self {
        let record = HostRecord {
            role: Role::Active,
            tasks: BTreeMap::new(),
        };
        Self {
            pipeline: pipeline.into(),
            shared: Mutex::new(record),
        }
    }

    /// The pipeline's name.
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// Sets whether this host works or stands by.
    pub fn set_role(&self, role: Role) {
        lock(&self.shared).role = role;
    }

    /// Whether this host works or stands by.
    pub fn role(&self) -> Role {
        lock(&self.shared).role
    }

    /// The status of a task; made, as [`TaskState::Starting`], at the first time. A restarted task gets the same.
    pub fn task(&self, task: u32) -> Arc<TaskStatus> {
        Arc::clone(lock(&self.shared).tasks.entry(task).or_default())
    }

    /// What every task is doing, by task number.
    pub fn tasks(&self) -> BTreeMap<u32, TaskView> {
        let shared = lock(&self.shared);
        shared
            .tasks
            .iter()
            .map(|(task, status)| (*task, status.view()))
            .collect()
    }

    /// The answer of `/readyz` at `now`.
    pub fn readiness(&self, now: Instant) -> Readiness {
        Readiness::judge(&self.pipeline, self.role(), &self.tasks(), now)
    }
}

/// What one task is doing. Written by its thread, and by the ticker when a call is stuck.
#[derive(Debug, Default)]
pub struct TaskStatus {
    record: Mutex<TaskRecord>,
}

impl TaskStatus {
    /// Enters a state. Entering the one the task is in already keeps the time since when it is in it, and takes
    /// the new reason.
    pub fn set(&self, state: TaskState) {
        lock(&self.record).enter(state, Instant::now());
    }

    /// What the task is doing. A stuck call hides the state that the task itself entered.
    pub fn view(&self) -> TaskView {
        lock(&self.record).view()
    }

    pub(self) fn set_stuck_call(&self, stuck: Option<(NodeLabel, Instant)>) {
        lock(&self.record).stuck_call = stuck;
    }
}

/// A status is whole after every statement that holds its lock, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
