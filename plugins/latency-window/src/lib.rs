//! latency-window
pub mod percentiles;
