//! Sink `elasticsearch`: writes each record as one document, loses none, doubles none, and waits for a server that is
//! away.
//!
//! The way of a record: [`sink`] (host's thread) shapes it into an [`operation`], hands it over the [`exchange`] to the
//! [`worker`] thread, where the [`scheduler`] decides when it travels in which [`flight`], the [`client`] sends it, and
//! [`outcome`] and [`item_class`] say what the answer means.

mod arrivals;
mod bulk_answer;
mod client;
mod config;
mod credentials;
mod distribution;
mod document;
mod endpoint;
mod exchange;
mod flight;
mod identity;
mod index_name;
mod item_class;
mod item_error;
mod lanes;
mod nodes;
mod numbers;
mod operation;
mod outcome;
mod pace;
mod preflight;
mod refusal;
mod scheduler;
mod sink;
mod sources;
mod storm;
#[cfg(test)]
mod testing;
mod tls;
mod worker;
mod write_plan;

pub use config::{BatchConfig, ElasticsearchConfig, ProxyConfig};
pub use index_name::IndexPattern;
pub use sink::ElasticsearchSink;
pub use sources::{FieldPointer, IdSource, RoutingSource, VersionSource};
pub use tls::TlsConfig;
pub use write_plan::{ConflictPolicy, TombstonePolicy, WriteMethod};

weir_plugin_sdk::export_plugins! {
    sink "elasticsearch" => ElasticsearchSink: "Writes each record as one document of an Elasticsearch index"
}
