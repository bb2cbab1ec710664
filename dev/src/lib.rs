//! What a contributor runs beside the product: real servers for tests, the judge of the
//! end-to-end tests, benchmarks.
//!
//! * [`servers`] fetches Kafka and Elasticsearch by their Maven coordinates and runs them.
//! * [`client`] is what a test needs to do with, and see of, both.
//! * [`judge`] recomputes from the topics what the pipelines should have written.

pub mod client;
pub mod judge;
pub mod servers;
