//! The host: it reads a topology, loads plugins and runs pipelines between Kafka and sinks.

pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod codes;
pub mod commands;
pub mod flow;
pub mod http;
pub mod kafka;
pub mod kill_point;
pub mod log;
pub mod metrics;
pub mod plugin;
pub mod shutdown;
pub mod status;
pub mod supervisor;
pub mod task;
pub mod topology;
