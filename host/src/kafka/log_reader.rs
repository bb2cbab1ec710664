//! Reads a partition from its start to its end as it stands now, without being a member of any group: for checkpoints.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::client::{ClientError, client_config};
use super::{GroupConsumer, QueueEvent};

/// Longest wait for one answer; between two the caller is told.
const ANSWER_WAIT: Duration = Duration::from_millis(500);
/// Longest sleep while the queue is empty; it wakes this thread when something comes.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// Records of one look into the queue.
const BATCH_RECORDS: usize = 1_024;
/// librdkafka assigns nothing to a consumer without a group; nothing is committed under this one.
const GROUP: &str = "__weir.reader";

/// Why there is no answer where the brokers can be reached.
const OPEN_TRANSACTION: &str = "a transaction is open; the coordinator ends it at its transaction.timeout.ms. If it does not, Kafka has lost track of it: `kafka-transactions.sh find-hanging` and `abort` end it by hand";

/// Why a log was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("kafka.client_call: {0}")]
    Call(KafkaError),
    /// The caller gave up waiting.
    #[error("kafka.unanswered: {0}")]
    GivenUp(String),
}

/// A record of the log: offset, key, value.
pub type LogRecord<'r> = (i64, Option<&'r [u8]>, Option<&'r [u8]>);

/// Reads committed records up to the high watermark as it is after the call began (I3): an open transaction below it is
/// waited for. `waiting` is told why nothing comes and answers whether to wait on.
///
/// # Errors
/// See [`LogError`].
pub fn read_log(
    properties: &BTreeMap<String, String>,
    topic: &str,
    partition: i32,
    mut on_record: impl FnMut(LogRecord<'_>),
    waiting: &mut dyn FnMut(&str) -> bool,
) -> Result<(), LogError> {
    let (start, end) = bounds(properties, topic, partition, waiting)?;
    if start >= end {
        return Ok(());
    }
    let mut properties = properties.clone();
    properties.insert("isolation.level".into(), "read_committed".into());
    // Members of the new protocol only; this one is none.
    properties.remove("group.protocol");
    let consumer = GroupConsumer::without_membership(&properties, GROUP, thread::current())?;
    let place = (topic.to_owned(), partition);
    let queue = consumer.queue(&place, thread::current());
    let mut queue = queue.ok_or_else(|| LogError::GivenUp(format!("no queue for {topic}")))?;
    consumer.assign(&[(place, start)]).map_err(LogError::Call)?;
    let mut position = start;
    let mut heard_at = Instant::now();
    while position < end {
        consumer.serve();
        let mut fetched = queue.read(BATCH_RECORDS);
        let events = std::mem::take(&mut fetched.events);
        let is_silent = fetched.is_empty() && events.is_empty();
        for record in fetched.into_batch(0, 1).records() {
            on_record((record.offset, record.key.get(), record.value.get()));
            position = record.offset + 1;
        }
        for event in events {
            match event {
                // The last stable offset: behind it stands the end, or an open transaction.
                QueueEvent::EndOfPartition { end_offset } => position = position.max(end_offset),
                QueueEvent::PositionOutOfRange { message } | QueueEvent::Error { message, .. } => {
                    tracing::debug!(event = "log_reader_error", topic, message);
                }
            }
        }
        if !is_silent {
            heard_at = Instant::now();
        } else if heard_at.elapsed() >= ANSWER_WAIT {
            let reason = consumer.unreachable();
            let reason = reason.unwrap_or_else(|| OPEN_TRANSACTION.to_owned());
            if !waiting(&reason) {
                return Err(LogError::GivenUp(reason));
            }
            heard_at = Instant::now();
        } else {
            thread::park_timeout(IDLE_WAIT);
        }
    }
    Ok(())
}

/// First offset and high watermark.
fn bounds(
    properties: &BTreeMap<String, String>,
    topic: &str,
    partition: i32,
    waiting: &mut dyn FnMut(&str) -> bool,
) -> Result<(i64, i64), LogError> {
    // Under read_committed the answer would be the last stable offset.
    let mut config = client_config(properties, &[("isolation.level", "read_uncommitted")]);
    config.remove("group.instance.id");
    let client: BaseConsumer = config
        .create()
        .map_err(|cause| ClientError::new("log reader", cause))?;
    loop {
        match client.fetch_watermarks(topic, partition, ANSWER_WAIT) {
            Ok(bounds) => return Ok(bounds),
            Err(error) if !waiting(&error.to_string()) => {
                return Err(LogError::GivenUp(error.to_string()));
            }
            Err(_) => {}
        }
    }
}
