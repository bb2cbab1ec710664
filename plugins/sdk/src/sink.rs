use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use weir_plugin_api as api;
use weir_plugin_api::abi_stable::std_types::ROption;
use weir_plugin_api::{Rejection, Settled, Settlements, SinkErrorCount, SinkNumber, sink_metric};

use crate::record::Batch;
use crate::{Context, Error, Errors, Findings};

/// What writing a record again does to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Nothing: ids and versions are functions of the record.
    Idempotent,
    /// It may stand there twice.
    Duplicates,
}

/// How an accepted record ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The target has it, durably.
    Stored,
    /// The target holds an equal or newer version.
    Superseded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Every accepted record is settled.
    Done,
    /// Some are still on their way.
    Pending,
}

/// A sink. All calls come from one thread and none may block (but `flush`, for as long as it is told): whoever waits
/// for a network does it on threads of its own. Every accepted record is settled exactly once, in any order. The
/// host keeps offsets, original bytes and dead letters; a sink knows none of these.
pub trait Sink: Sized + Send + 'static {
    /// Doc comments of its fields become the reference. Put `#[serde(deny_unknown_fields)]` on it.
    type Config: DeserializeOwned + JsonSchema;

    fn replay(_config: &Self::Config) -> Replay {
        Replay::Duplicates
    }

    /// Adds what the types of the configuration cannot say.
    fn validate(_config: &Self::Config, _errors: &mut Errors) {}

    /// Asks the target whether it can be written as configured: for `weir validate --online`. May use the network, for some
    /// seconds at most.
    fn check_target(_config: &Self::Config, _findings: &mut Findings) {}

    fn new(config: Self::Config, context: &Context) -> Result<Self, Error>;

    /// Copies what it keeps and answers how many records, from the front, it accepted; 0 = full. The host refuses an
    /// answer above the batch's length.
    fn write(&mut self, batch: &Batch<'_>, out: &mut Settle<'_>) -> Result<usize, Error>;

    /// Reports verdicts; called at least every 100 ms.
    fn poll(&mut self, out: &mut Settle<'_>) -> Result<(), Error>;

    /// Sends what it holds and waits at most `wait_ms` for the verdicts.
    fn flush(&mut self, wait_ms: u64, out: &mut Settle<'_>) -> Result<Flush, Error>;

    /// Last call before the drop.
    fn stop(&mut self) {}
}

/// What a sink can report beside verdicts; each stands in `/metrics` as `weir_sink_...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum SinkMetric {
    /// Counter: operations by how their last answer was; the label says how.
    Items = sink_metric::ITEMS,
    /// Counter: operations sent, repetitions included; the label is the method.
    Operations = sink_metric::OPERATIONS,
    /// Counter: requests; the label is what became of them.
    Requests = sink_metric::REQUESTS,
    /// Counter: bytes of requests; the label is `raw` or `sent`.
    RequestBytes = sink_metric::REQUEST_BYTES,
    /// Counter: requests that were divided; the label is the cause.
    Splits = sink_metric::SPLITS,
    /// Gauge: records accepted and not settled.
    PendingRecords = sink_metric::PENDING_RECORDS,
    /// Gauge: requests on their way.
    RequestsInFlight = sink_metric::REQUESTS_IN_FLIGHT,
    /// Gauge: records that wait for another one on the same document.
    BlockedRecords = sink_metric::BLOCKED_RECORDS,
    /// Gauge: age of the oldest record not settled, in milliseconds.
    OldestPendingMs = sink_metric::OLDEST_PENDING_MS,
    /// Gauge: 1 if the node that the label names works, else 0.
    TargetUp = sink_metric::TARGET_UP,
    /// Observation: how long a request took, in microseconds.
    RequestDurationUs = sink_metric::REQUEST_DURATION_US,
    /// Counter: records accepted.
    RecordsAccepted = sink_metric::RECORDS_ACCEPTED,
    /// Counter: errors of single operations; the label is their type.
    ItemErrors = sink_metric::ITEM_ERRORS,
    /// Gauge: 1 while nothing is sent for the reason that the label names, else 0.
    Paused = sink_metric::PAUSED,
    /// Histogram: operations of a request. Reported by [`Settle::buckets`], like the next two.
    RequestOperations = sink_metric::REQUEST_OPERATIONS,
    /// Histogram: how long a record waited for its first request, in milliseconds.
    QueueWaitMs = sink_metric::QUEUE_WAIT_MS,
    /// Histogram: from a record's timestamp to its end as stored, in milliseconds.
    LagMs = sink_metric::LAG_MS,
}

/// Takes a sink's verdicts.
pub struct Settle<'o>(pub(crate) &'o mut Settlements);

impl Settle<'_> {
    /// `seq` is [`crate::Record::seq`] of an accepted record.
    pub fn settle(&mut self, seq: u64, verdict: Verdict) {
        let verdict = match verdict {
            Verdict::Stored => api::verdict::STORED,
            Verdict::Superseded => api::verdict::SUPERSEDED,
        };
        self.0.settled.push(Settled { seq, verdict });
    }

    /// The target refuses this record for good. `code` is stable and dotted, `message` names the field or the limit.
    pub fn reject(&mut self, seq: u64, code: &str, message: &str, detail: &str) {
        self.0.rejections.push(Rejection {
            seq,
            code: code.into(),
            message: message.into(),
            detail: detail.into(),
        });
    }

    /// Counts an error met on the way to a verdict; `class` is one of a small fixed set of names.
    pub fn count_error(&mut self, class: &str, count: u64) {
        self.0.errors.push(SinkErrorCount {
            class: class.into(),
            count,
        });
    }

    /// Counts, sets or observes a number that `/metrics` shows; `label` is one of a small fixed set of names, empty where the
    /// metric has none.
    pub fn number(&mut self, metric: SinkMetric, label: &str, value: u64) {
        self.0.numbers.push(SinkNumber {
            metric: metric as u32,
            label: label.into(),
            value,
        });
    }

    /// Adds to a histogram that `/metrics` shows: how many observations fell into each bucket alone, by its upper bound
    /// (`None` = above all others), and their sum. A histogram has the same bounds at every call, at most 30.
    pub fn buckets(
        &mut self,
        metric: SinkMetric,
        buckets: impl IntoIterator<Item = (Option<u64>, u64)>,
        sum: u64,
    ) {
        for (bound, count) in buckets {
            match bound {
                Some(bound) => self.number(metric, &bound.to_string(), count),
                None => self.number(metric, sink_metric::BUCKET_INF, count),
            }
        }
        self.number(metric, sink_metric::BUCKET_SUM, sum);
    }

    /// The target cannot be written now, and why (no secrets); shown in /readyz until [`Settle::available`].
    pub fn unavailable(&mut self, reason: &str) {
        self.0.unavailable = ROption::RSome(reason.into());
    }

    pub fn available(&mut self) {
        self.0.unavailable = ROption::RNone;
    }
}
