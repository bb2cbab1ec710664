//! What the host's task thread and the worker thread hand each other. Bounded by the sink's buffer: a record counts
//! against it from `write` until its settlement was reported.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::numbers::Numbers;
use crate::operation::Operation;
use crate::scheduler::{Scheduler, Settlement};

#[derive(Debug, Default)]
pub(crate) struct Exchange {
    state: Mutex<State>,
    /// Wakes the worker.
    orders: Notify,
    /// Wakes the task thread that waits in a flush or a stop.
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    operations: Vec<Operation>,
    flushing: bool,
    stopping: bool,
    report: Report,
    worker: WorkerState,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum WorkerState {
    #[default]
    Running,
    Stopped,
    /// A defect of this plugin; the text says which.
    Failed(String),
}

/// From the task thread to the worker.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) operations: Vec<Operation>,
    pub(crate) flushing: bool,
    pub(crate) stopping: bool,
}

/// From the worker to the task thread.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) settlements: Vec<Settlement>,
    pub(crate) errors: BTreeMap<&'static str, u64>,
    /// Why the target makes no progress now.
    pub(crate) unavailable: Option<String>,
    pub(crate) numbers: Numbers,
}

impl Exchange {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under this lock is whole, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New operations end a flush: those that come later may wait for their bulk to fill.
    pub(crate) fn hand_over(&self, operations: Vec<Operation>) {
        if operations.is_empty() {
            return;
        }
        {
            let mut state = self.state();
            match state.operations.is_empty() {
                true => state.operations = operations,
                false => state.operations.extend(operations),
            }
            state.flushing = false;
        }
        self.orders.notify_one();
    }

    /// From now on nothing waits for its bulk to fill.
    pub(crate) fn flush(&self) {
        self.state().flushing = true;
        self.orders.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.state().stopping = true;
        self.orders.notify_one();
    }

    /// What happened since the last call. `unavailable` stays until it changes.
    pub(crate) fn take_report(&self) -> (Report, WorkerState) {
        let mut state = self.state();
        let unavailable = state.report.unavailable.clone();
        let report = std::mem::replace(
            &mut state.report,
            Report {
                unavailable,
                ..Report::default()
            },
        );
        (report, state.worker.clone())
    }

    /// Waits until there is a settlement to report or the worker has ended, at most to the deadline.
    pub(crate) fn wait_for_news(&self, deadline: Instant) {
        self.wait_while(deadline, |state| {
            state.report.settlements.is_empty() && state.worker == WorkerState::Running
        });
    }

    /// True if the worker has ended within `patience`.
    pub(crate) fn wait_for_end(&self, patience: Duration) -> bool {
        self.wait_while(Instant::now() + patience, |state| {
            state.worker == WorkerState::Running
        })
    }

    /// False if the deadline came first.
    fn wait_while(&self, deadline: Instant, holds: impl Fn(&State) -> bool) -> bool {
        let patience = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .news
            .wait_timeout_while(self.state(), patience, |state| holds(state));
        let (_state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    /// The worker's side: returns as soon as there are orders, also those given before the call.
    pub(crate) async fn orders_arrived(&self) {
        self.orders.notified().await;
    }

    pub(crate) fn take_orders(&self) -> Orders {
        let mut state = self.state();
        Orders {
            operations: std::mem::take(&mut state.operations),
            flushing: state.flushing,
            stopping: state.stopping,
        }
    }

    /// `traffic` is what the client has counted.
    pub(crate) fn publish(&self, scheduler: &mut Scheduler, traffic: &mut Numbers, now: Instant) {
        let mut numbers = scheduler.take_numbers(now);
        let mut state = self.state();
        state.report.numbers.absorb(&mut numbers);
        state.report.numbers.absorb(traffic);
        state
            .report
            .settlements
            .append(&mut scheduler.take_settlements());
        for (class, count) in scheduler.take_errors() {
            *state.report.errors.entry(class).or_default() += count;
        }
        if state.report.unavailable.as_deref() != scheduler.unavailable() {
            state.report.unavailable = scheduler.unavailable().map(str::to_owned);
        }
        let news = !state.report.settlements.is_empty();
        drop(state);
        if news {
            self.news.notify_all();
        }
    }

    pub(crate) fn worker_ended(&self, how: WorkerState) {
        self.state().worker = how;
        self.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::operation;

    #[test]
    fn new_operations_end_a_flush() {
        let exchange = Exchange::default();
        exchange.flush();
        assert!(exchange.take_orders().flushing);
        exchange.hand_over(vec![]);
        assert!(exchange.take_orders().flushing);
        exchange.hand_over(vec![operation(1, "a", Some(1))]);
        let orders = exchange.take_orders();
        assert_eq!(
            (orders.operations.len(), orders.flushing, orders.stopping),
            (1, false, false)
        );
        exchange.stop();
        assert!(exchange.take_orders().stopping);
    }

    #[test]
    fn a_worker_that_ends_wakes_whoever_waits_for_it() {
        let exchange = Exchange::default();
        assert!(!exchange.wait_for_end(Duration::ZERO));
        std::thread::scope(|scope| {
            scope.spawn(|| exchange.worker_ended(WorkerState::Failed("a defect".to_owned())));
            assert!(exchange.wait_for_end(Duration::from_secs(60)));
            exchange.wait_for_news(Instant::now() + Duration::from_secs(60));
        });
        let (_, worker) = exchange.take_report();
        assert_eq!(worker, WorkerState::Failed("a defect".to_owned()));
    }
}
