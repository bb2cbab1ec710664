//! What a contributor runs beside the product: real servers for tests, the judge of the
//! end-to-end tests, benchmarks.
//!
//! * [`servers`] fetches Kafka, Elasticsearch and OpenSearch by their Maven coordinates and runs them.
//! * [`bench`] measures the host against a bare client loop.
//! * [`chaos`] runs the reference job under a random schedule of faults, and judges it.
//! * [`client`] is what a test needs to do with, and see of, both.
//! * [`docs`] makes the generated reference.
//! * [`grafana`] evaluates the provisioned alert rule against a real Elasticsearch.
//! * [`host`] runs `weir` as a real process and reads its log.
//! * [`judge`] recomputes from the topics what the pipelines should have written.
//! * [`proxy`] is a network that can be cut, silenced and slowed.
//! * [`sink`] runs the Elasticsearch sink, alone or in a host: soak and speed.
//! * [`scene`] is the reference job, or one that writes documents, under names of its own, for one test.

pub mod bench;
pub mod chaos;
pub mod client;
pub mod docs;
pub mod grafana;
pub mod host;
pub mod judge;
mod processes;
pub mod proxy;
pub mod scene;
pub mod servers;
pub mod sink;
