//! What a host measures, and how `/metrics` shows it.
//!
//! The data path pays nothing per record: a task's thread owns its [`TaskCounters`], plain numbers in a
//! [`TaskMeter`], and publishes a copy at most every [`PUBLISH_INTERVAL`]. `/metrics` reads copies only. A task that
//! is restarted goes on with the counters of its last run.

mod catalogue;
mod counters;
mod exposition;
mod histogram;
mod registry;
mod sink_numbers;

pub use catalogue::{CATALOGUE, Metric, MetricKind, catalogue_markdown};
pub(crate) use catalogue::{HOST_RESTARTS, HOST_UP};
pub use counters::{
    MAX_SINK_ERROR_CLASSES, NodeCounters, NodeIndex, OTHER_ERROR_CLASS, Outcome, Outcomes,
    PartitionCounters, PartitionIndex, TaskCounters, TaskSnapshot,
};
pub(crate) use exposition::Exposition;
pub use histogram::{BUCKET_BOUNDS_MS, Buckets, DurationHistogram};
pub use registry::{HostMetrics, PUBLISH_INTERVAL, TaskMeter};
pub use sink_numbers::SinkNumbers;
