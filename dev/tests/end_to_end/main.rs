//! Pipelines end to end: real hosts on a real Kafka and a real Elasticsearch, one file for each thing that must hold.
//!
//! One binary, because these tests wait most of their time: all of them share the threads of one run. What measures time
//! (`tests/reference_job.rs`) or takes half an hour (`tests/long`) is apart.

mod alerting;
mod bad_records;
mod chaos;
mod chaos_findings;
mod commands;
mod elasticsearch_sink;
mod exactly_once;
mod faults;
mod kill_points;
mod panics;
mod rebalance;
mod restore;
mod servers;
mod shutdown;
mod sink_in_host;
mod standby;
mod time_and_gaps;
