//! The rule of `/readyz`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::state::{TaskState, TaskView};

/// How long a task that was running may wait for Kafka or for a sink before the host is not ready. A broker's
/// restart or a sink's deployment takes less, and is no reason to take the host out of service.
pub const WAIT_GRACE: Duration = Duration::from_secs(60);

/// Whether a host works on its pipeline or waits to take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It works.
    Active,
    /// Another host works; this one takes over when that one goes.
    Standby,
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Role::Active => "active",
            Role::Standby => "standby",
        })
    }
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether the status code is 200; else it is 503.
    pub ready: bool,
    /// The pipeline's name.
    pub pipeline: String,
    /// The host's role.
    pub role: Role,
    /// One entry per task, by number.
    pub tasks: Vec<TaskReadiness>,
}

/// One task in the answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskReadiness {
    /// The task's number, from 0.
    pub task: u32,
    /// The label of its state.
    pub state: &'static str,
    /// What keeps it from running; empty where nothing does. A ready task that waits gives its reason too.
    pub reasons: Vec<String>,
}

impl Readiness {
    /// Judges a host: ready when every task is, and when there is one or the host stands by.
    pub fn judge(
        pipeline: &str,
        role: Role,
        tasks: &BTreeMap<u32, TaskView>,
        now: Instant,
    ) -> Self {
        let tasks_ready = tasks.values().all(|view| is_ready(view, now));
        let answers = tasks.iter().map(|(task, view)| TaskReadiness {
            task: *task,
            state: view.state.label(),
            reasons: reason(view, now).into_iter().collect(),
        });
        Self {
            ready: tasks_ready && (!tasks.is_empty() || role == Role::Standby),
            pipeline: pipeline.to_owned(),
            role,
            tasks: answers.collect(),
        }
    }
}

/// Whether one task lets its host be ready. The grace for waiting is for tasks that ran before: a host that never
/// reached Kafka is not ready in its first minute either.
fn is_ready(view: &TaskView, now: Instant) -> bool {
    match view.state {
        TaskState::Running | TaskState::Standby => true,
        TaskState::WaitingForKafka
        | TaskState::Retrying { .. }
        | TaskState::SinkUnavailable { .. } => view.has_run && waited(view, now) <= WAIT_GRACE,
        TaskState::Starting
        | TaskState::WaitingForTopic { .. }
        | TaskState::Assigning
        | TaskState::Restoring
        | TaskState::StuckCall { .. }
        | TaskState::Draining
        | TaskState::Failed { .. } => false,
    }
}

fn reason(view: &TaskView, now: Instant) -> Option<String> {
    let seconds = waited(view, now).as_secs();
    let text = match &view.state {
        TaskState::Running | TaskState::Standby => return None,
        TaskState::Starting => format!("the task has been starting for {seconds} s"),
        TaskState::WaitingForKafka => format!("Kafka has not answered for {seconds} s"),
        TaskState::WaitingForTopic { topic } => {
            format!("the source topic {topic} has been missing for {seconds} s")
        }
        TaskState::Assigning => {
            format!("the consumer group has given no assignment for {seconds} s")
        }
        TaskState::Restoring => {
            format!("the task has been reading its checkpoint for {seconds} s")
        }
        TaskState::Retrying { node, reason } => {
            format!("node {node} has been retrying for {seconds} s: {reason}")
        }
        TaskState::SinkUnavailable { node, reason } => {
            format!("sink {node} has taken no records for {seconds} s: {reason}")
        }
        TaskState::StuckCall { node, plugin } => {
            format!("a call into plugin {plugin} of node {node} has not returned for {seconds} s")
        }
        TaskState::Draining => format!("the task has been draining for {seconds} s"),
        TaskState::Failed { reason } => format!("the task failed {seconds} s ago: {reason}"),
    };
    Some(text)
}

fn waited(view: &TaskView, now: Instant) -> Duration {
    now.saturating_duration_since(view.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(role: Role, views: Vec<TaskView>, now: Instant) -> Readiness {
        let tasks = (0..).zip(views).collect();
        Readiness::judge("visits", role, &tasks, now)
    }

    fn view(state: TaskState, has_run: bool) -> TaskView {
        TaskView {
            state,
            since: Instant::now(),
            has_run,
        }
    }

    fn ready_after(state: TaskState, has_run: bool, waited: Duration) -> bool {
        let view = view(state, has_run);
        let now = view.since + waited;
        judge(Role::Active, vec![view], now).ready
    }

    fn sink_unavailable() -> TaskState {
        TaskState::SinkUnavailable {
            node: "index".to_owned(),
            reason: "connection refused".to_owned(),
        }
    }

    fn failed() -> TaskState {
        TaskState::Failed {
            reason: "out of memory".to_owned(),
        }
    }

    #[test]
    fn waiting_is_forgiven_for_a_minute_to_a_task_that_ran() {
        let retrying = TaskState::Retrying {
            node: "n".to_owned(),
            reason: "r".to_owned(),
        };
        for state in [TaskState::WaitingForKafka, sink_unavailable(), retrying] {
            let minute = Duration::from_secs(60);
            assert!(ready_after(state.clone(), true, minute));
            assert!(!ready_after(
                state.clone(),
                true,
                minute + Duration::from_millis(1)
            ));
            assert!(!ready_after(state, false, Duration::ZERO));
        }
    }

    #[test]
    fn what_is_not_waiting_counts_at_once() {
        let at_once = [
            TaskState::Starting,
            TaskState::WaitingForTopic {
                topic: "visits".to_owned(),
            },
            TaskState::Assigning,
            TaskState::Restoring,
            TaskState::StuckCall {
                node: "n".to_owned(),
                plugin: "p".to_owned(),
            },
            TaskState::Draining,
            failed(),
        ];
        for state in at_once {
            let label = state.label();
            assert!(!ready_after(state, true, Duration::ZERO), "{label}");
        }
        assert!(ready_after(
            TaskState::Running,
            true,
            Duration::from_secs(9_999)
        ));
    }

    #[test]
    fn one_task_that_failed_is_enough() {
        let now = Instant::now();
        let views = vec![view(TaskState::Running, true), view(failed(), true)];
        let answer = judge(Role::Active, views, now);
        assert!(!answer.ready);
        assert_eq!(answer.tasks[0].reasons, Vec::<String>::new());
        assert_eq!(
            answer.tasks[1].reasons,
            ["the task failed 0 s ago: out of memory"]
        );
    }

    #[test]
    fn a_host_without_tasks_is_ready_only_as_standby() {
        assert!(!judge(Role::Active, vec![], Instant::now()).ready);
        assert!(judge(Role::Standby, vec![], Instant::now()).ready);
        let standby = vec![view(TaskState::Standby, true)];
        assert!(judge(Role::Standby, standby, Instant::now()).ready);
        assert!(!judge(Role::Standby, vec![view(failed(), true)], Instant::now()).ready);
    }

    #[test]
    fn the_answer_has_the_promised_shape() {
        let answer = judge(
            Role::Active,
            vec![view(TaskState::Running, true)],
            Instant::now(),
        );
        assert_eq!(
            serde_json::to_string(&answer).expect("plain data"),
            r#"{"ready":true,"pipeline":"visits","role":"active","tasks":[{"task":0,"state":"running","reasons":[]}]}"#
        );
    }
}
