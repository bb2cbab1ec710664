//! What a contributor runs beside the product: real servers for tests, the judge of the
//! end-to-end tests, benchmarks.
//!
//! * [`servers`] fetches Kafka and Elasticsearch by their Maven coordinates and runs them.
//! * [`client`] is what a test needs to see of both: topics, rows, committed offsets, documents.
//! * [`host`] runs `weir` as a real process and reads its log.
//! * [`judge`] recomputes from the topics what the pipelines should have written.
//! * [`bench`] measures the host against a bare client loop.

pub mod servers;
