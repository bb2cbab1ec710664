//! Everything that talks to Kafka. The rest of the host sees batches, offsets and topic names.

mod client;
mod consumer;
mod end_probe;
mod partition_queue;
mod position;
mod produce_batch;
mod producer;
mod topics;

pub use client::{ClientError, client_config};
pub use consumer::{GroupConsumer, Rebalance};
pub use end_probe::{EndProbe, EndProof};
pub use partition_queue::{FetchedBatch, PartitionQueue, QueueEvent};
pub use position::{StartPosition, resolve_start};
pub use producer::{DeliveryFailure, Producer};
pub use topics::{TopicAdmin, TopicError, TopicPlan};

pub use rdkafka::error::{KafkaError, RDKafkaErrorCode};
