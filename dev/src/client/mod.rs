//! What a test needs to do with, and see of, a real Kafka and a real Elasticsearch.

mod change;
mod documents;
mod kafka;
mod read;
mod transaction;
mod wait;
mod write;

pub use documents::{Document, Index};
pub use kafka::{Kafka, Watermarks};
pub use read::{Record, Timestamp};
pub use transaction::Transaction;
pub use wait::wait_until;
pub use write::{Row, Writer};
