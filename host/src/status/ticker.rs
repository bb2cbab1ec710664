//! One thread that looks at every task's plugin call, so that no task reads a clock per record.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::call_monitor::{CallMonitor, NodeLabel};
use super::{TaskStatus, lock};

/// How often the ticker looks. 40 looks a second cost nothing that can be measured, and date a call to 25 ms.
pub const TICK_INTERVAL: Duration = Duration::from_millis(25);

/// Longest time between two looks that counts as time in which the process ran: ten looks that a busy machine left out.
const LOOK_LATE_MAX: Duration = Duration::from_millis(250);

/// When a call is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Looks after the first one that saw the call until it is asked to give back. 4 looks: 100 to 125 ms, so that
    /// commits, polls and signals wait for a slow plugin no longer than a person notices.
    pub yield_after_ticks: u32,
    /// When a call counts as stuck: below `max.poll.interval.ms` (5 min), at which the group takes the partitions.
    pub watchdog: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            yield_after_ticks: 4,
            watchdog: Duration::from_secs(240),
        }
    }
}

/// The ticker's thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    watched: Mutex<Vec<Watched>>,
    stopped: AtomicBool,
}

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(limits: CallLimits) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("weir-ticker".to_owned())
            .spawn(move || {
                while !of_thread.stopped.load(Ordering::Acquire) {
                    look_at_all(&mut lock(&of_thread.watched), limits, Instant::now());
                    thread::park_timeout(TICK_INTERVAL);
                }
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Watches a task's calls for as long as the monitor lives. `nodes` are the labels that
    /// [`CallMonitor::begin`] indexes.
    pub fn watch(
        &self,
        task: u32,
        status: Arc<TaskStatus>,
        nodes: Vec<NodeLabel>,
    ) -> Arc<CallMonitor> {
        let monitor = Arc::new(CallMonitor::new(nodes));
        lock(&self.shared.watched).push(Watched::new(task, status, &monitor));
        monitor
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread cannot fail in a way that its owner could do anything about.
            let _ = thread.join();
        }
    }
}

fn look_at_all(watched: &mut Vec<Watched>, limits: CallLimits, now: Instant) {
    watched.retain_mut(|task| task.look(limits, now));
}

/// What the ticker remembers of one task between two looks.
#[derive(Debug)]
struct Watched {
    task: u32,
    status: Arc<TaskStatus>,
    monitor: Weak<CallMonitor>,
    looked_at: Option<Instant>,
    seen: Option<SeenCall>,
}

#[derive(Debug, Clone, Copy)]
struct SeenCall {
    call: u64,
    first_seen: Instant,
    ticks: u32,
    is_stuck: bool,
}

impl Watched {
    fn new(task: u32, status: Arc<TaskStatus>, monitor: &Arc<CallMonitor>) -> Self {
        Self {
            task,
            status,
            monitor: Arc::downgrade(monitor),
            looked_at: None,
            seen: None,
        }
    }

    /// One look. Returns false when the task is gone.
    fn look(&mut self, limits: CallLimits, now: Instant) -> bool {
        let Some(monitor) = self.monitor.upgrade() else {
            self.forget();
            return false;
        };
        if let Some(before) = self.looked_at.replace(now) {
            let passed = now.saturating_duration_since(before);
            monitor.add_time_awake(passed.min(LOOK_LATE_MAX));
        }
        let Some(call) = monitor.running_call() else {
            self.forget();
            return true;
        };
        match &mut self.seen {
            Some(seen) if seen.call == call => {
                seen.ticks = seen.ticks.saturating_add(1);
                if seen.ticks == limits.yield_after_ticks {
                    monitor.ask_to_yield();
                }
                if !seen.is_stuck
                    && now.saturating_duration_since(seen.first_seen) >= limits.watchdog
                {
                    seen.is_stuck = true;
                    report_stuck(self.task, &self.status, &monitor, *seen, now);
                }
            }
            _ => {
                self.forget();
                self.seen = Some(SeenCall {
                    call,
                    first_seen: now,
                    ticks: 0,
                    is_stuck: false,
                });
            }
        }
        true
    }

    fn forget(&mut self) {
        if self.seen.take().is_some_and(|seen| seen.is_stuck) {
            self.status.set_stuck_call(None);
            tracing::info!(
                event = "call_returned",
                task = self.task,
                "the stuck plugin call has returned"
            );
        }
    }
}

fn report_stuck(
    task: u32,
    status: &TaskStatus,
    monitor: &CallMonitor,
    seen: SeenCall,
    now: Instant,
) {
    let label = monitor.label(seen.call);
    let seconds = now.saturating_duration_since(seen.first_seen).as_secs();
    tracing::error!(
        event = "stuck_call",
        task,
        node = label.node,
        plugin = label.plugin,
        seconds,
        "a plugin call has not returned; the group will soon take this task's partitions"
    );
    status.set_stuck_call(Some((label, seen.first_seen)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::TaskState;

    struct Rig {
        status: Arc<TaskStatus>,
        monitor: Arc<CallMonitor>,
        watched: Vec<Watched>,
        start: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let status = Arc::new(TaskStatus::default());
            let labels = vec![NodeLabel::new("a", "first"), NodeLabel::new("b", "second")];
            let monitor = Arc::new(CallMonitor::new(labels));
            let watched = vec![Watched::new(0, Arc::clone(&status), &monitor)];
            let start = Instant::now();
            Self {
                status,
                monitor,
                watched,
                start,
            }
        }

        fn look_after(&mut self, since_start: Duration) {
            let now = self.start + since_start;
            look_at_all(&mut self.watched, CallLimits::default(), now);
        }

        fn is_asked_to_yield(&self) -> bool {
            self.monitor.yield_flag().load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_call_is_asked_to_yield_at_the_fifth_look_and_the_next_one_is_not() {
        let mut rig = Rig::new();
        rig.monitor.begin(0);
        for look in 1..=4 {
            rig.look_after(TICK_INTERVAL * look);
            assert!(!rig.is_asked_to_yield(), "look {look}");
        }
        rig.look_after(TICK_INTERVAL * 5);
        assert!(rig.is_asked_to_yield());
        rig.monitor.end();
        rig.monitor.begin(0);
        assert!(!rig.is_asked_to_yield());
        rig.look_after(TICK_INTERVAL * 6);
        assert!(!rig.is_asked_to_yield());
    }

    #[test]
    fn a_standstill_is_no_time_awake() {
        let mut rig = Rig::new();
        rig.look_after(Duration::ZERO);
        rig.look_after(TICK_INTERVAL);
        assert_eq!(rig.monitor.time_awake(), TICK_INTERVAL);
        rig.look_after(TICK_INTERVAL + Duration::from_secs(20));
        assert_eq!(rig.monitor.time_awake(), TICK_INTERVAL + LOOK_LATE_MAX);
    }

    #[test]
    fn many_short_calls_never_yield() {
        let mut rig = Rig::new();
        for look in 1..=20 {
            rig.monitor.begin(1);
            rig.look_after(TICK_INTERVAL * look);
            rig.monitor.end();
        }
        assert!(!rig.is_asked_to_yield());
    }

    #[test]
    fn a_stuck_call_shows_with_its_plugin_until_it_returns() {
        let mut rig = Rig::new();
        rig.status.set(TaskState::Running);
        rig.monitor.begin(1);
        rig.look_after(Duration::ZERO);
        rig.look_after(Duration::from_millis(239_999));
        assert_eq!(rig.status.view().state, TaskState::Running);
        rig.look_after(Duration::from_secs(240));
        let stuck = TaskState::StuckCall {
            node: "b".to_owned(),
            plugin: "second".to_owned(),
        };
        assert_eq!(rig.status.view().state, stuck);
        rig.monitor.end();
        rig.look_after(Duration::from_secs(241));
        assert_eq!(rig.status.view().state, TaskState::Running);
    }

    #[test]
    fn a_task_that_goes_while_stuck_is_forgotten() {
        let mut rig = Rig::new();
        rig.status.set(TaskState::Running);
        rig.monitor.begin(0);
        rig.look_after(Duration::ZERO);
        rig.look_after(Duration::from_secs(300));
        assert_eq!(rig.status.view().state.label(), "stuck_call");
        rig.monitor = Arc::new(CallMonitor::new(Vec::new()));
        rig.look_after(Duration::from_secs(301));
        assert!(rig.watched.is_empty());
        assert_eq!(rig.status.view().state, TaskState::Running);
    }

    #[test]
    fn the_thread_asks_a_long_call_to_yield() {
        let ticker = Ticker::start(CallLimits::default()).expect("a thread");
        let status = Arc::new(TaskStatus::default());
        let monitor = ticker.watch(0, status, vec![NodeLabel::new("a", "first")]);
        monitor.begin(0);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !monitor.yield_flag().load(Ordering::Relaxed) {
            assert!(Instant::now() < deadline, "the flag was never set");
            thread::yield_now();
        }
        monitor.end();
    }
}
