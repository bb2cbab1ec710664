//! The states of a task.

use std::time::Instant;

use super::call_monitor::NodeLabel;

/// What a task is doing. Reasons are whole sentences or the cause of an error, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// Its thread has begun; it has not asked Kafka yet.
    Starting,
    /// No broker answers, or the one needed does not.
    WaitingForKafka,
    /// A source topic does not exist.
    WaitingForTopic {
        /// The topic's name.
        topic: String,
    },
    /// It has joined the group and has no assignment yet.
    Assigning,
    /// It reads, calls and writes. An empty assignment counts.
    Running,
    /// It stands by for another host that works on the pipeline.
    Standby,
    /// It reads its checkpoint.
    Restoring,
    /// A node answered with an error that is tried again.
    Retrying {
        /// The node's name.
        node: String,
        /// The error.
        reason: String,
    },
    /// A sink's target does not take records.
    SinkUnavailable {
        /// The node's name.
        node: String,
        /// The error.
        reason: String,
    },
    /// A plugin call has not come back within the watchdog limit. Entered by the ticker, never by the task.
    StuckCall {
        /// The node's name.
        node: String,
        /// The plugin's name.
        plugin: String,
    },
    /// It finishes what it has and will end.
    Draining,
    /// It has ended, or is between two tries.
    Failed {
        /// The error.
        reason: String,
    },
}

impl TaskState {
    /// Every label, in the order in which a task usually meets them.
    pub const LABELS: [&'static str; 12] = [
        "starting",
        "waiting_for_kafka",
        "waiting_for_topic",
        "assigning",
        "running",
        "standby",
        "restoring",
        "retrying",
        "sink_unavailable",
        "stuck_call",
        "draining",
        "failed",
    ];

    /// The state's name in `/readyz` and in the label `state` of the metrics.
    pub fn label(&self) -> &'static str {
        match self {
            TaskState::Starting => "starting",
            TaskState::WaitingForKafka => "waiting_for_kafka",
            TaskState::WaitingForTopic { .. } => "waiting_for_topic",
            TaskState::Assigning => "assigning",
            TaskState::Running => "running",
            TaskState::Standby => "standby",
            TaskState::Restoring => "restoring",
            TaskState::Retrying { .. } => "retrying",
            TaskState::SinkUnavailable { .. } => "sink_unavailable",
            TaskState::StuckCall { .. } => "stuck_call",
            TaskState::Draining => "draining",
            TaskState::Failed { .. } => "failed",
        }
    }

    /// Whether `other` is this state with at most another reason.
    fn continues(&self, other: &TaskState) -> bool {
        match (self, other) {
            (
                TaskState::Retrying { node: a, .. } | TaskState::SinkUnavailable { node: a, .. },
                TaskState::Retrying { node: b, .. } | TaskState::SinkUnavailable { node: b, .. },
            ) => self.label() == other.label() && a == b,
            _ => self.label() == other.label(),
        }
    }
}

/// A task's state as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskView {
    /// The state.
    pub state: TaskState,
    /// Since when the task is in it.
    pub since: Instant,
    /// Whether the task was ever running or standing by.
    pub has_run: bool,
}

#[derive(Debug)]
pub(super) struct TaskRecord {
    view: TaskView,
    pub(super) stuck_call: Option<(NodeLabel, Instant)>,
}

impl Default for TaskRecord {
    fn default() -> Self {
        let view = TaskView {
            state: TaskState::Starting,
            since: Instant::now(),
            has_run: false,
        };
        Self {
            view,
            stuck_call: None,
        }
    }
}

impl TaskRecord {
    pub(super) fn enter(&mut self, state: TaskState, now: Instant) {
        if !self.view.state.continues(&state) {
            self.view.since = now;
        }
        self.view.has_run |= matches!(state, TaskState::Running | TaskState::Standby);
        self.view.state = state;
    }

    pub(super) fn view(&self) -> TaskView {
        let Some((node, since)) = &self.stuck_call else {
            return self.view.clone();
        };
        TaskView {
            state: TaskState::StuckCall {
                node: node.node.clone(),
                plugin: node.plugin.clone(),
            },
            since: *since,
            has_run: self.view.has_run,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn unavailable(node: &str, reason: &str) -> TaskState {
        TaskState::SinkUnavailable {
            node: node.to_owned(),
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn a_new_reason_keeps_the_time_and_a_new_node_does_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut record = TaskRecord::default();
        record.enter(unavailable("index", "refused"), at(1));
        record.enter(unavailable("index", "timed out"), at(2));
        assert_eq!(record.view().since, at(1));
        assert_eq!(record.view().state, unavailable("index", "timed out"));
        record.enter(unavailable("other", "timed out"), at(3));
        assert_eq!(record.view().since, at(3));
        assert!(!record.view().has_run);
        record.enter(TaskState::Running, at(4));
        record.enter(TaskState::WaitingForKafka, at(5));
        assert!(record.view().has_run);
    }

    #[test]
    fn a_stuck_call_hides_the_state_and_gives_it_back() {
        let mut record = TaskRecord::default();
        let since = Instant::now();
        record.enter(TaskState::Running, since);
        record.stuck_call = Some((NodeLabel::new("reduced", "reduce-visit"), since));
        assert_eq!(record.view().state.label(), "stuck_call");
        record.stuck_call = None;
        assert_eq!(record.view().state, TaskState::Running);
    }
}
