//! A transaction of somebody else: it holds back what readers of committed records see behind it.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::producer::{BaseProducer, Producer};

use super::kafka::{Kafka, REQUEST_TIMEOUT};
use super::write::{self, Row};

/// Dropped without an end, it stays open until the broker's timeout of 60 s.
pub struct Transaction {
    producer: BaseProducer,
}

impl Kafka {
    /// Begins a transaction under an id of its own.
    pub fn begin_transaction(&self, transactional_id: &str) -> Result<Transaction> {
        let mut config = self.config();
        config
            .set("transactional.id", transactional_id)
            .set("partitioner", "murmur2_random");
        let producer: BaseProducer = config.create()?;
        producer.init_transactions(REQUEST_TIMEOUT)?;
        producer.begin_transaction()?;
        Ok(Transaction { producer })
    }
}

impl Transaction {
    /// Writes rows inside of the transaction and waits for every acknowledgement.
    pub fn write(&self, topic: &str, rows: &[Row]) -> Result<()> {
        for row in rows {
            write::send(&self.producer, topic, row)?;
        }
        let flushed = self.producer.flush(Duration::from_secs(60));
        flushed.with_context(|| format!("cannot write to {topic}"))
    }

    /// Makes what was written visible.
    pub fn commit(self) -> Result<()> {
        Ok(self.producer.commit_transaction(REQUEST_TIMEOUT)?)
    }

    /// Takes what was written back; its offsets stay empty.
    pub fn abort(self) -> Result<()> {
        Ok(self.producer.abort_transaction(REQUEST_TIMEOUT)?)
    }
}
