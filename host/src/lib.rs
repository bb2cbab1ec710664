//! The host: it reads a topology, loads plugins and runs pipelines between Kafka and sinks.

pub mod cli;
pub mod http;
pub mod log;
pub mod metrics;
pub mod shutdown;
pub mod status;
pub mod supervisor;
