//! The transform `latency-window`: percentiles of a latency in tumbling windows, one document a window.
//!
//! The latency of a record is its message timestamp (Kafka's append time) less the start time in its value, in
//! milliseconds. A window `[start, start + size)` holds the records whose message timestamp lies in it. It is emitted
//! when the watermark of the pipeline has passed its end:
//!
//! ```text
//! key      2024-09-10T13:37:00+00:00
//! headers  weir.version: 29591
//! value    {"@timestamp":"2024-09-10T13:37:00+00:00","p50":12.0,"p75":15.0,"p90":37.4,"p99":740.0,
//!           "count":29591,"min":3.0,"max":740.0}
//! ```
//!
//! With `emit: sketch` it is stage one of two: any number of hosts measure, each its own partitions, and emit what each
//! partition's windows hold; a second pipeline with `merge: true` makes the same documents of that.
//!
//! State is kept for each source partition and merged only to emit. A record that comes after its window was emitted
//! makes the document anew: the same key, and a higher version, for the version rises with the count.

mod config;
mod document;
mod emission;
mod measuring;
mod merging;
pub mod percentiles;
mod sketch;
mod start_field;
mod transform;
mod windows;
mod wire;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod two_stages_tests;

pub use config::{Emit, LatencyWindowConfig};
pub use transform::LatencyWindow;
pub use wire::WireError;

use weir_plugin_sdk::export_plugins;

export_plugins! {
    transform "latency-window" => LatencyWindow:
        "Percentiles of latencies in tumbling windows, one document a window"
}
