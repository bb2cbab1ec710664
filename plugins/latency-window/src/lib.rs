//! latency-window
