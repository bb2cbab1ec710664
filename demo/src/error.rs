//! Why the demo ends early. Each message is a cause and a cure.

use std::io;
use std::path::PathBuf;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use weir_document_store::StartError;

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("Kafka: {cause}; check KAFKA_BOOTSTRAP, or leave it out for the embedded broker")]
    Broker { cause: KafkaError },
    #[error("topic {topic} cannot be created: {code}; create it by hand or allow its creation")]
    Topic {
        topic: String,
        code: RDKafkaErrorCode,
    },
    #[error("{0}")]
    DocumentStore(#[from] StartError),
    #[error("{} cannot be started: {cause}; build it with `make build`, or name it with --weir", path.display())]
    HostStart { path: PathBuf, cause: io::Error },
    #[error("`weir up` ended by itself ({status}); its log is {}", log.display())]
    HostEnded { status: String, log: PathBuf },
    #[error("`weir up` did not drain well ({status}); its log is {}", log.display())]
    HostDrain { status: String, log: PathBuf },
    #[error("only {closed} of {wanted} windows closed within {deadline_s} s; the log of `weir up` is {}", log.display())]
    Deadline {
        closed: usize,
        wanted: usize,
        deadline_s: u64,
        log: PathBuf,
    },
    #[error("{text:?} is no duration; write for example 500ms, 10s, 1m or 2h")]
    Duration { text: String },
    #[error("{what}: {cause}")]
    Io {
        what: &'static str,
        cause: io::Error,
    },
}
