//! The host: it reads a topology, loads plugins and runs pipelines between Kafka and sinks.

pub mod metrics;
pub mod status;
