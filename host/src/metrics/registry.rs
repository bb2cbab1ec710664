//! Where tasks leave their counters and `/metrics` finds them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{TaskCounters, TaskSnapshot, exposition};
use crate::status::HostStatus;

/// How often a task publishes at most. Scrapers come every few seconds, people look no faster than this, and a
/// copy of a task's counters costs a few microseconds.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(250);

/// The published counters of every task of a host.
#[derive(Debug)]
pub struct HostMetrics {
    status: Arc<HostStatus>,
    tasks: Mutex<BTreeMap<u32, Arc<PublishedCounters>>>,
}

#[derive(Debug, Default)]
struct PublishedCounters(Mutex<Arc<TaskSnapshot>>);

impl HostMetrics {
    /// No task yet. The pipeline's name and the states of the tasks come from `status`.
    pub fn new(status: Arc<HostStatus>) -> Self {
        Self {
            status,
            tasks: Mutex::default(),
        }
    }

    /// The meter of one run of a task. A later run of the same task goes on where the one before ended, with what
    /// was pending then settled as rewound. Only one meter of a task may live at a time.
    pub fn meter(&self, task: u32) -> TaskMeter {
        let published = Arc::clone(lock(&self.tasks).entry(task).or_default());
        let mut counters = published.load().as_ref().clone();
        counters.resume();
        let mut meter = TaskMeter {
            counters,
            published,
            published_at: None,
        };
        meter.publish();
        meter
    }

    /// What every task published last, by task number.
    pub fn snapshots(&self) -> BTreeMap<u32, Arc<TaskSnapshot>> {
        let tasks = lock(&self.tasks);
        tasks
            .iter()
            .map(|(task, published)| (*task, published.load()))
            .collect()
    }

    /// The answer of `/metrics`: Prometheus text, version 0.0.4.
    ///
    /// # Errors
    /// Only what the encoder reports; writing to memory gives it no cause.
    pub fn render(&self) -> Result<String, fmt::Error> {
        exposition::render(
            self.status.pipeline(),
            self.snapshots(),
            self.status.tasks(),
        )
    }
}

impl PublishedCounters {
    fn load(&self) -> Arc<TaskSnapshot> {
        Arc::clone(&lock(&self.0))
    }
}

/// A task's own counters with the place where it publishes them. It publishes a last time when it is dropped, a
/// panic included, so that a restarted task forgets nothing.
#[derive(Debug)]
pub struct TaskMeter {
    /// The counters, for the task's thread to write.
    pub counters: TaskCounters,
    published: Arc<PublishedCounters>,
    published_at: Option<Instant>,
}

impl TaskMeter {
    /// Publishes if [`PUBLISH_INTERVAL`] has passed. Call it between batches with the batch's clock reading.
    pub fn publish_if_due(&mut self, now: Instant) {
        let is_due = self
            .published_at
            .is_none_or(|at| now.saturating_duration_since(at) >= PUBLISH_INTERVAL);
        if is_due {
            self.publish();
            self.published_at = Some(now);
        }
    }

    /// Publishes at once. Call it where the task comes to rest.
    pub fn publish(&mut self) {
        let snapshot = Arc::new(self.counters.clone());
        *lock(&self.published.0) = snapshot;
    }
}

impl Drop for TaskMeter {
    fn drop(&mut self) {
        self.publish();
    }
}

/// What these locks guard is replaced in one statement, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Outcome;

    fn metrics() -> HostMetrics {
        HostMetrics::new(Arc::new(HostStatus::new("visits")))
    }

    #[test]
    fn a_copy_is_published_when_due_and_not_before() {
        let metrics = metrics();
        let mut meter = metrics.meter(0);
        let start = Instant::now();
        meter.publish_if_due(start);
        let partition = meter.counters.partition("visits", "visits", 0);
        meter.counters.read(partition, 3);
        meter.publish_if_due(start + PUBLISH_INTERVAL / 2);
        assert_eq!(metrics.snapshots()[&0].source_records(), 0);
        meter.publish_if_due(start + PUBLISH_INTERVAL);
        assert_eq!(metrics.snapshots()[&0].source_records(), 3);
        assert!(metrics.snapshots()[&0].is_balanced());
    }

    #[test]
    fn a_restarted_task_goes_on_and_the_account_balances() {
        let metrics = metrics();
        let mut meter = metrics.meter(1);
        let partition = meter.counters.partition("visits", "visits", 0);
        meter.counters.read(partition, 10);
        meter.counters.settle(Outcome::Delivered, 4);
        meter.counters[partition].lag_records = Some(5);
        drop(meter);
        assert_eq!(metrics.snapshots()[&1].pending, 6);

        let mut meter = metrics.meter(1);
        let again = meter.counters.partition("visits", "visits", 0);
        assert_eq!(again, partition);
        assert_eq!(meter.counters[again].lag_records, None);
        meter.counters.read(again, 6);
        meter.counters.settle(Outcome::Delivered, 6);
        meter.publish();
        let snapshot = &metrics.snapshots()[&1];
        assert_eq!(snapshot.source_records(), 16);
        assert_eq!(snapshot.settled.get(Outcome::Delivered), 10);
        assert_eq!(snapshot.settled.get(Outcome::Rewound), 6);
        assert_eq!(snapshot.pending, 0);
        assert!(snapshot.is_balanced());
    }

    #[test]
    fn a_panicking_task_publishes_what_it_counted() {
        let metrics = Arc::new(metrics());
        let of_thread = Arc::clone(&metrics);
        let outcome = std::thread::spawn(move || {
            let mut meter = of_thread.meter(0);
            let partition = meter.counters.partition("visits", "visits", 0);
            meter.counters.read(partition, 2);
            panic!("on purpose");
        })
        .join();
        assert!(outcome.is_err());
        assert_eq!(metrics.snapshots()[&0].pending, 2);
    }
}
