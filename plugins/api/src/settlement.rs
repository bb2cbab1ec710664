use abi_stable::StableAbi;
use abi_stable::std_types::{ROption, RString, RVec};

/// Values of `Settled::verdict`.
pub mod verdict {
    /// The target has the record, durably.
    pub const STORED: u32 = 1;
    /// The target holds an equal or newer version.
    pub const SUPERSEDED: u32 = 2;
}

/// A record the target took.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub seq: u64,
    /// One of [`verdict`].
    pub verdict: u32,
}

/// A record the target refused for good.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct Rejection {
    pub seq: u64,
    /// Stable dotted code, `plugin.reason`.
    pub code: RString,
    /// One sentence that names the field or the limit.
    pub message: RString,
    /// The chain of causes, or empty.
    pub detail: RString,
}

/// Errors met on the way to a verdict, for the host's metrics.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct SinkErrorCount {
    /// A small fixed set of names chosen by the sink, such as `overload`.
    pub class: RString,
    pub count: u64,
}

/// Values of `SinkNumber::metric`. Labels are a small fixed set of names chosen by the sink.
pub mod sink_metric {
    /// Counter: operations by how their last answer was (label: outcome).
    pub const ITEMS: u32 = 1;
    /// Counter: operations sent, repetitions included (label: method).
    pub const OPERATIONS: u32 = 2;
    /// Counter: requests by what became of them (label: class).
    pub const REQUESTS: u32 = 3;
    /// Counter: bytes of requests (label: encoding, `raw` or `sent`).
    pub const REQUEST_BYTES: u32 = 4;
    /// Counter: requests that were divided (label: cause).
    pub const SPLITS: u32 = 5;
    /// Gauge: records accepted and not settled (no label).
    pub const PENDING_RECORDS: u32 = 6;
    /// Gauge: requests on their way (no label).
    pub const REQUESTS_IN_FLIGHT: u32 = 7;
    /// Gauge: records that wait for another one on the same document (no label).
    pub const BLOCKED_RECORDS: u32 = 8;
    /// Gauge: age in milliseconds of the oldest record not settled (no label).
    pub const OLDEST_PENDING_MS: u32 = 9;
    /// Gauge: 1 if the node took its last request, 0 if it is left alone for a while (label: target).
    pub const TARGET_UP: u32 = 10;
    /// Observation in microseconds: how long a request took, from its first byte to its whole answer (no label).
    pub const REQUEST_DURATION_US: u32 = 11;
    /// Counter: records accepted (no label). At every report it is the sum of those that ended and those pending.
    pub const RECORDS_ACCEPTED: u32 = 12;
    /// Counter: errors of single operations in an answer (label: type).
    pub const ITEM_ERRORS: u32 = 13;
    /// Gauge: 1 while nothing is sent for this reason, else 0 (label: class).
    pub const PAUSED: u32 = 14;
    /// Histogram: operations of a request, see [`BUCKET_INF`].
    pub const REQUEST_OPERATIONS: u32 = 15;
    /// Histogram: milliseconds from a record's acceptance to its first request.
    pub const QUEUE_WAIT_MS: u32 = 16;
    /// Histogram: milliseconds from a record's timestamp to its end as stored.
    pub const LAG_MS: u32 = 17;

    /// A histogram is reported as counters, one for each bucket alone: the label is the bucket's upper bound in decimal,
    /// the value how many observations fell into it since the last report. This label is the bucket above all bounds.
    pub const BUCKET_INF: &str = "inf";
    /// The label under which a histogram's sum since the last report stands.
    pub const BUCKET_SUM: &str = "sum";
}

/// One number for the host's metrics. A host passes over a metric that it does not know.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct SinkNumber {
    /// One of [`sink_metric`].
    pub metric: u32,
    /// Empty for a metric without label.
    pub label: RString,
    /// Added to a counter, put in place of a gauge, observed by a histogram.
    pub value: u64,
}

/// Host-owned, filled by the sink: one verdict per accepted record, in any order.
#[repr(C)]
#[derive(StableAbi, Default)]
pub struct Settlements {
    pub settled: RVec<Settled>,
    pub rejections: RVec<Rejection>,
    pub errors: RVec<SinkErrorCount>,
    pub numbers: RVec<SinkNumber>,
    /// Why the sink cannot make progress now; `RNone` = it can. Kept by the host between calls.
    pub unavailable: ROption<RString>,
}
