//! Whole topics, as a consumer sees them that reads committed records only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// A topic that stands still is read to its end in far less; a broker just back takes longest.
const READ_TIMEOUT_S: u64 = 60;

/// Milliseconds since the Unix epoch, and who set them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamp {
    None,
    /// Set by the producer.
    Create(i64),
    /// Set by the broker on append.
    Append(i64),
}

impl Timestamp {
    pub fn ms(self) -> Option<i64> {
        match self {
            Timestamp::None => None,
            Timestamp::Create(ms) | Timestamp::Append(ms) => Some(ms),
        }
    }
}

/// One record as it lies in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Timestamp,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The value of the last header of that name, as text.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(key, _)| key == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    fn from_message(message: &BorrowedMessage<'_>) -> Record {
        let headers = message.headers().map_or(Vec::new(), |headers| {
            headers
                .iter()
                .map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
                .collect()
        });
        Record {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: match message.timestamp() {
                rdkafka::Timestamp::NotAvailable => Timestamp::None,
                rdkafka::Timestamp::CreateTime(ms) => Timestamp::Create(ms),
                rdkafka::Timestamp::LogAppendTime(ms) => Timestamp::Append(ms),
            },
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }
}

/// Gives every committed record of `topic` to `take`, in order within a partition, at least up to
/// the end that each partition has when this is called.
pub(super) fn for_each(
    config: &ClientConfig,
    topic: &str,
    partitions: &[i32],
    mut take: impl FnMut(&BorrowedMessage<'_>),
) -> Result<()> {
    let mut config = config.clone();
    config
        // Never committed to; the client wants one for `assign`.
        .set("group.id", "weir-dev-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        // The end of a partition is told by an empty answer, which a broker holds back for so long.
        .set("fetch.wait.max.ms", "10");
    let consumer: BaseConsumer = config.create()?;
    let mut assignment = TopicPartitionList::new();
    for &partition in partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    // A set: the end of a partition is reported again after each later append.
    let mut ended = BTreeSet::new();
    let deadline = Instant::now() + Duration::from_secs(READ_TIMEOUT_S);
    while ended.len() < partitions.len() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => take(&message),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(error)) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("cannot read {topic}"));
            }
            None if Instant::now() >= deadline => {
                bail!("{topic} was not read to its end within {READ_TIMEOUT_S} s")
            }
            _ => {}
        }
    }
    Ok(())
}

/// Every committed record of `topic` by partition.
pub(super) fn read(
    config: &ClientConfig,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, Vec<Record>>> {
    let mut records: BTreeMap<i32, Vec<Record>> =
        partitions.iter().map(|&p| (p, Vec::new())).collect();
    for_each(config, topic, partitions, |message| {
        let record = Record::from_message(message);
        records.entry(record.partition).or_default().push(record);
    })?;
    Ok(records)
}
