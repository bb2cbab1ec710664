//! Real servers on loopback, each owned by the value that started it.

mod elasticsearch;
mod guarded;
mod java;
mod kafka;
mod maven;
mod ports;
mod run_dir;

pub use elasticsearch::{ElasticsearchOptions, ElasticsearchServer, SearchProduct, TlsFiles};
pub use guarded::Guarded;
pub use kafka::KafkaServer;
pub use maven::{ELASTICSEARCH_VERSION, KAFKA_VERSION, OPENSEARCH_VERSION, cache_dir};
pub(crate) use ports::free_ports;
