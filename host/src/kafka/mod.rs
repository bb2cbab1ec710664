//! Everything that talks to Kafka. The rest of the host sees batches, offsets and topic names.

mod client;
mod consumer;
mod end_probe;
mod log_reader;
mod open_transactions;
mod partition_queue;
mod position;
mod produce_batch;
mod producer;
mod topics;
mod transaction;

pub use client::{ClientError, client_config, is_not_allowed, is_transport};
pub use consumer::{Committed, GroupConsumer, NextOffset, Partition, Rebalance};
pub use end_probe::{EndProbe, EndProof};
pub use log_reader::{LogError, LogRecord, read_log};
pub use open_transactions::partitions_with_open_transactions;
pub use partition_queue::{FetchedBatch, PartitionQueue, QueueEvent};
pub use position::{StartPosition, resolve_start};
pub use producer::{DeliveryFailure, Producer};
pub use topics::{TopicAdmin, TopicError, TopicPlan};
pub use transaction::{GroupOffsets, TransactionError, Waiting};

pub use rdkafka::error::{KafkaError, RDKafkaErrorCode};
