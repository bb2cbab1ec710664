//! One Kafka, as a test sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::read::{self, Record};
use super::wait::wait_until;
use super::write::{Row, Writer};

/// A broker on shared cores under a full build answers in seconds at worst.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Access to one cluster. Cheap to make; each call opens its own connection.
#[derive(Debug, Clone)]
pub struct Kafka {
    bootstrap: String,
}

impl Kafka {
    pub fn at(bootstrap: impl Into<String>) -> Kafka {
        Kafka {
            bootstrap: bootstrap.into(),
        }
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Makes a topic and waits until its partitions have leaders.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: usize,
        config: &[(&str, &str)],
    ) -> Result<()> {
        let replication = i32::try_from(partitions)
            .map(|count| NewTopic::new(name, count, TopicReplication::Fixed(1)))?;
        let topic = config
            .iter()
            .fold(replication, |topic, (key, value)| topic.set(key, value));
        let results = block_on(self.admin()?.create_topics([&topic], &options()))?;
        for result in results {
            if let Err((name, code)) = result {
                bail!("cannot create topic {name}: {code}");
            }
        }
        wait_until(&format!("topic {name}"), REQUEST_TIMEOUT, || {
            match self.partitions(name) {
                Ok(found) if found.len() == partitions => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
    }

    /// Changes settings of a topic; those not named go back to the broker's.
    pub fn alter_topic(&self, name: &str, config: &[(&str, &str)]) -> Result<()> {
        let alter = config.iter().fold(
            AlterConfig::new(ResourceSpecifier::Topic(name)),
            |alter, (key, value)| alter.set(key, value),
        );
        for result in block_on(self.admin()?.alter_configs([&alter], &options()))? {
            if let Err((_, code)) = result {
                bail!("cannot alter topic {name}: {code}");
            }
        }
        Ok(())
    }

    /// The partitions of a topic that have a leader; none if it does not exist.
    pub fn partitions(&self, topic: &str) -> Result<Vec<i32>> {
        let client: BaseConsumer = self.config().create()?;
        let metadata = client.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
        Ok(metadata
            .topics()
            .iter()
            .filter(|t| t.name() == topic && t.error().is_none())
            .flat_map(|t| t.partitions())
            .filter(|p| p.leader() >= 0)
            .map(|p| p.id())
            .collect())
    }

    /// Writes rows in their order and waits for every acknowledgement.
    pub fn write(&self, topic: &str, rows: &[Row]) -> Result<()> {
        self.writer()?.write(topic, rows)
    }

    /// A connection to write over, again and again.
    pub fn writer(&self) -> Result<Writer> {
        Writer::open(&self.config())
    }

    /// Every committed record by partition; empty if the topic does not exist.
    pub fn read(&self, topic: &str) -> Result<BTreeMap<i32, Vec<Record>>> {
        read::read(&self.config(), topic, &self.partitions(topic)?)
    }

    /// Every committed record, partition after partition.
    pub fn read_all(&self, topic: &str) -> Result<Vec<Record>> {
        Ok(self.read(topic)?.into_values().flatten().collect())
    }

    /// The number of committed records, read and not computed: control records do not count.
    pub fn count(&self, topic: &str) -> Result<u64> {
        let mut count = 0;
        read::for_each(&self.config(), topic, &self.partitions(topic)?, |_| {
            count += 1;
        })?;
        Ok(count)
    }

    /// The offset after the last committed record of each partition that has one.
    fn after_last(&self, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let mut after_last = BTreeMap::new();
        read::for_each(&self.config(), topic, &self.partitions(topic)?, |message| {
            after_last.insert(message.partition(), message.offset() + 1);
        })?;
        Ok(after_last)
    }

    /// The end offsets by partition (control records count).
    pub fn ends(&self, topic: &str) -> Result<BTreeMap<i32, i64>> {
        self.watermarks(topic)?.ends()
    }

    /// The end offsets over one connection, for a caller that looks often.
    pub fn watermarks(&self, topic: &str) -> Result<Watermarks> {
        self.watermarks_as("read_committed", topic)
    }

    /// Waits until no transaction is open on `topic`: what a killed host has left open hides everything behind it.
    pub fn wait_stable(&self, topic: &str, timeout: Duration) -> Result<()> {
        let stable = self.watermarks_as("read_committed", topic)?;
        let all = self.watermarks_as("read_uncommitted", topic)?;
        wait_until(&format!("no open transaction on {topic}"), timeout, || {
            let seen = |error: anyhow::Error| format!("{error:#}");
            let (stable, all) = (stable.ends().map_err(seen)?, all.ends().map_err(seen)?);
            match stable == all {
                true => Ok(()),
                false => Err(format!("stable to {stable:?} of {all:?}")),
            }
        })
    }

    /// The end offsets by partition, open transactions included.
    pub fn ends_with_open(&self, topic: &str) -> Result<BTreeMap<i32, i64>> {
        self.watermarks_as("read_uncommitted", topic)?.ends()
    }

    fn watermarks_as(&self, isolation: &str, topic: &str) -> Result<Watermarks> {
        let mut config = self.config();
        Ok(Watermarks {
            client: config.set("isolation.level", isolation).create()?,
            topic: topic.to_owned(),
            partitions: self.partitions(topic)?,
        })
    }

    /// The offsets that `group` has committed; partitions without one are left out.
    pub fn committed(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let client: BaseConsumer = self.config().set("group.id", group).create()?;
        let mut wanted = TopicPartitionList::new();
        for partition in self.partitions(topic)? {
            wanted.add_partition(topic, partition);
        }
        let committed = client.committed_offsets(wanted, REQUEST_TIMEOUT)?;
        Ok(committed
            .elements()
            .iter()
            .filter_map(|e| match e.offset() {
                Offset::Offset(offset) => Some((e.partition(), offset)),
                _ => None,
            })
            .collect())
    }

    /// Commits `offset` for every partition, as someone does who moves a group by hand.
    pub fn commit(&self, group: &str, topic: &str, offset: i64) -> Result<()> {
        let client: BaseConsumer = self.config().set("group.id", group).create()?;
        let mut list = TopicPartitionList::new();
        for partition in self.partitions(topic)? {
            list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        }
        Ok(client.commit(&list, CommitMode::Sync)?)
    }

    /// Waits until `group` has committed past the last record of every partition of `topic`:
    /// by the delivery guarantee, everything that follows from them is then durable.
    pub fn wait_settled(&self, group: &str, topic: &str, timeout: Duration) -> Result<()> {
        self.wait_stable(topic, timeout)?;
        let after_last = self.after_last(topic)?;
        let what = format!("group {group} to commit all of {topic} {after_last:?}");
        wait_until(&what, timeout, || {
            let committed = self
                .committed(group, topic)
                .map_err(|error| format!("{error:#}"))?;
            let done = after_last
                .iter()
                .all(|(p, &offset)| committed.get(p).is_some_and(|&c| c >= offset));
            if done {
                Ok(())
            } else {
                Err(format!("{committed:?}"))
            }
        })
    }

    /// How many members `group` has, and its state as the broker names it.
    pub fn group(&self, group: &str) -> Result<(usize, String)> {
        let client: BaseConsumer = self.config().create()?;
        let list = client.fetch_group_list(Some(group), REQUEST_TIMEOUT)?;
        let info = list.groups().first().context("the broker lists no group")?;
        Ok((info.members().len(), info.state().to_owned()))
    }

    pub(super) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("reconnect.backoff.max.ms", "500")
            // A look at a topic must not make it.
            .set("allow.auto.create.topics", "false");
        config
    }

    pub(super) fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.config().create()?)
    }
}

/// The end offsets of one topic.
pub struct Watermarks {
    client: BaseConsumer,
    topic: String,
    partitions: Vec<i32>,
}

impl Watermarks {
    /// By partition.
    pub fn ends(&self) -> Result<BTreeMap<i32, i64>> {
        let end = |&partition: &i32| {
            let (_, end) = self
                .client
                .fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT)?;
            Ok((partition, end))
        };
        self.partitions.iter().map(end).collect()
    }

    /// Over all partitions.
    pub fn sum(&self) -> Result<i64> {
        Ok(self.ends()?.values().sum())
    }
}

pub(super) fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST_TIMEOUT))
        .operation_timeout(Some(REQUEST_TIMEOUT))
}
