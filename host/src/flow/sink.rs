//! Sinks: the entrance of one, and the bookkeeping of what a plugin has accepted and not settled.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use weir_plugin_api::host::{Arena, CallScope, OwnedBatch, collect};
use weir_plugin_api::{Batch, Record, Rejection, Settlements};

use super::handed_over::NOBODY;
use super::input::Input;
use crate::plugin::{CallError, CallErrorKind, SinkInstance};

/// How a sink delivers.
pub enum Target {
    /// Through the task's outbox.
    Kafka {
        topic: String,
    },
    Plugin(Box<PluginSink>),
}

pub struct SinkNode {
    pub name: String,
    pub target: Target,
    pub input: Input,
    /// Since when it has taken nothing though something waits.
    pub full_since: Option<Instant>,
    /// A retryable error: not before.
    pub retry_at: Option<Instant>,
}

impl SinkNode {
    pub fn new(name: &str, target: Target) -> Self {
        SinkNode {
            name: name.to_owned(),
            target,
            input: Input::default(),
            full_since: None,
            retry_at: None,
        }
    }
}

/// A verdict on a delivery, by the `seq` of the record it came from.
pub enum Verdict {
    /// Stored or superseded.
    Settled(u64),
    Rejected(u64, Rejection),
}

/// A sink plugin and its deliveries, each with a number of its own: one record may reach a sink several times over.
pub struct PluginSink {
    pub plugin: String,
    instance: SinkInstance,
    settlements: Settlements,
    /// `deliveries[i]` is the record's `seq` of delivery `first + i`; `None` once settled.
    deliveries: VecDeque<Option<u64>>,
    first: u64,
    /// Deliveries not settled.
    open: usize,
}

impl PluginSink {
    pub fn new(plugin: &str, instance: SinkInstance) -> Self {
        PluginSink {
            plugin: plugin.to_owned(),
            instance,
            settlements: Settlements::default(),
            deliveries: VecDeque::new(),
            first: 1,
            open: 0,
        }
    }

    /// Offers records; answers how many, from the front, the plugin accepted, and why it took no more if it says so.
    pub fn write(
        &mut self,
        batch: &Rc<OwnedBatch>,
        range: Range<usize>,
        scope: CallScope<'_>,
    ) -> (usize, Option<CallError>) {
        let numbers = self.first + self.deliveries.len() as u64..;
        let (_, numbered) = collect(
            batch,
            range.clone(),
            CallScope::NONE,
            Arena::default(),
            |batch, out| {
                for (record, seq) in batch.records.iter().zip(numbers) {
                    out.emit(Record { seq, ..*record });
                }
            },
        );
        let view = Batch::new(
            numbered.batch.records(),
            scope.slots,
            scope.now_ms,
            scope.yield_flag,
        );
        let processed = self.instance.write(&view, &mut self.settlements);
        let accepted = batch
            .records()
            .get(range)
            .unwrap_or_default()
            .iter()
            .take(processed.consumed);
        self.deliveries
            .extend(accepted.map(|record| Some(record.seq)));
        self.open += processed.consumed;
        (processed.consumed, processed.error)
    }

    /// Lets the plugin report.
    pub fn poll(&mut self) -> Result<Vec<Verdict>, CallError> {
        self.instance.poll(&mut self.settlements)?;
        self.take_verdicts()
    }

    /// Lets the plugin finish what it has, at most for `wait`.
    pub fn flush(&mut self, wait: Duration) -> Result<(bool, Vec<Verdict>), CallError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let done = self.instance.flush(wait_ms, &mut self.settlements)?;
        Ok((done, self.take_verdicts()?))
    }

    fn take_verdicts(&mut self) -> Result<Vec<Verdict>, CallError> {
        let settled = std::mem::take(&mut self.settlements.settled);
        let rejections = std::mem::take(&mut self.settlements.rejections);
        let mut verdicts = Vec::with_capacity(settled.len() + rejections.len());
        for settled in settled {
            verdicts.push(Verdict::Settled(self.close(settled.seq)?));
        }
        for rejection in rejections {
            verdicts.push(Verdict::Rejected(self.close(rejection.seq)?, rejection));
        }
        while self.deliveries.front().is_some_and(Option::is_none) {
            self.deliveries.pop_front();
            self.first += 1;
        }
        Ok(verdicts)
    }

    fn close(&mut self, delivery: u64) -> Result<u64, CallError> {
        let index = delivery
            .checked_sub(self.first)
            .and_then(|index| usize::try_from(index).ok());
        let seq = index
            .and_then(|index| self.deliveries.get_mut(index))
            .and_then(Option::take);
        self.open -= usize::from(seq.is_some());
        seq.ok_or_else(|| CallError {
            kind: CallErrorKind::Protocol,
            retry_after: None,
            code: "plugin.protocol.settle".into(),
            message: format!(
                "plugin `{}` broke the plugin protocol: it settled delivery {delivery}, which it does not hold",
                self.plugin
            ),
        })
    }

    /// Errors met on the way, as (class, count), since the last call.
    pub fn take_errors(&mut self) -> Vec<(String, u64)> {
        let errors = std::mem::take(&mut self.settlements.errors);
        errors
            .into_iter()
            .map(|error| (error.class.into_string(), error.count))
            .collect()
    }

    /// Other numbers that the plugin reported since the last call, as (metric, label, value).
    pub fn take_numbers(&mut self) -> impl Iterator<Item = (u32, String, u64)> {
        let numbers = std::mem::take(&mut self.settlements.numbers);
        numbers
            .into_iter()
            .map(|number| (number.metric, number.label.into_string(), number.value))
    }

    /// Deliveries so far belong to no record any more; the plugin still settles them.
    pub fn disown(&mut self) {
        let open = self.deliveries.iter_mut().flatten();
        open.for_each(|seq| *seq = NOBODY);
    }

    /// Why the target cannot be written now.
    pub fn unavailable(&self) -> Option<&str> {
        self.settlements
            .unavailable
            .as_ref()
            .map(|reason| reason.as_str())
            .into_option()
    }

    /// Deliveries not settled.
    pub fn open(&self) -> usize {
        self.open
    }

    pub fn stop(self) {
        if let Err(error) = self.instance.stop() {
            tracing::warn!(event = "plugin_stop_failed", reason = %error);
        }
    }
}
