//! What happens to topics while a pipeline reads them: they grow, lose their beginning, go away.

use anyhow::{Result, bail};
use futures_executor::block_on;
use rdkafka::admin::NewPartitions;
use rdkafka::{Offset, TopicPartitionList};

use super::kafka::{Kafka, REQUEST_TIMEOUT, options};
use super::wait::wait_until;

impl Kafka {
    /// Deletes a topic and waits until the brokers do not know it any more.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        for result in block_on(self.admin()?.delete_topics(&[name], &options()))? {
            if let Err((name, code)) = result {
                bail!("cannot delete topic {name}: {code}");
            }
        }
        wait_until(
            &format!("topic {name} to go"),
            REQUEST_TIMEOUT,
            || match self.partitions(name) {
                Ok(found) if found.is_empty() => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
    }

    /// Gives a topic more partitions, `partitions` in all, and waits until they have leaders.
    pub fn add_partitions(&self, topic: &str, partitions: usize) -> Result<()> {
        let grown = NewPartitions::new(topic, partitions);
        for result in block_on(self.admin()?.create_partitions([&grown], &options()))? {
            if let Err((name, code)) = result {
                bail!("cannot add partitions to {name}: {code}");
            }
        }
        wait_until(
            &format!("{topic} to grow"),
            REQUEST_TIMEOUT,
            || match self.partitions(topic) {
                Ok(found) if found.len() == partitions => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
    }

    /// Deletes the records of a partition below `offset`, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        let deleted = block_on(self.admin()?.delete_records(&list, &options()))?;
        for element in deleted.elements() {
            element.error()?;
        }
        Ok(())
    }
}
