//! Reads what the pipelines wrote to Kafka: reduced visits are counted, dead letters are counted by their reason.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::error::DemoError;
use crate::topics::{DEAD_LETTERS, REDUCED_VISITS};

/// The header that carries the stable error code.
const REASON_HEADER: &str = "__connect.errors.exception.class.name";
/// Further reasons are counted together: there are some ten of them.
const REASONS_MAX: usize = 64;
const OTHER_REASONS: &str = "other";
const NO_REASON: &str = "without a reason";

const POLL: Duration = Duration::from_millis(100);
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// A broker elects the leaders of a new topic within a second or so.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(30);
const LEADERS_POLL: Duration = Duration::from_millis(100);

/// What came out of the pipelines since the demo began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub reduced: u64,
    pub dead_letters: u64,
    /// Dead letters by error code.
    pub reasons: BTreeMap<String, u64>,
    /// The newest error of the client, for example a broker that is away.
    pub trouble: Option<String>,
}

impl Counts {
    fn add_dead_letter(&mut self, reason: &str) {
        self.dead_letters += 1;
        let known = self.reasons.contains_key(reason);
        let reason = if known || self.reasons.len() < REASONS_MAX {
            reason
        } else {
            OTHER_REASONS
        };
        *self.reasons.entry(reason.to_owned()).or_insert(0) += 1;
    }
}

/// A reader of the output topics, placed at their ends.
pub struct Observer {
    consumer: BaseConsumer,
    counts: Arc<Mutex<Counts>>,
}

impl Observer {
    /// Reads from where the topics end now. It joins no group and commits nothing.
    pub fn new(bootstrap: &str, counts: Arc<Mutex<Counts>>) -> Result<Self, DemoError> {
        let broker = |cause| DemoError::Broker { cause };
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("client.id", "weir-demo-observer")
            // librdkafka asks for a name even where no group is joined.
            .set("group.id", "weir-demo-observer")
            .set("enable.auto.commit", "false")
            // A few seconds of rows at the demo's rate.
            .set("queued.max.messages.kbytes", "8192")
            .create()
            .map_err(broker)?;
        let mut assignment = TopicPartitionList::new();
        for topic in DEAD_LETTERS.into_iter().chain([REDUCED_VISITS]) {
            for (partition, end) in ends(&consumer, topic).map_err(broker)? {
                assignment
                    .add_partition_offset(topic, partition, Offset::Offset(end))
                    .map_err(broker)?;
            }
        }
        consumer.assign(&assignment).map_err(broker)?;
        Ok(Self { consumer, counts })
    }

    /// Counts until `stop`.
    pub fn run(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let Some(polled) = self.consumer.poll(POLL) else {
                continue;
            };
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            match polled {
                Ok(message) => count(&mut counts, &message),
                Err(cause) => counts.trouble = Some(cause.to_string()),
            }
        }
    }
}

fn count(counts: &mut Counts, message: &BorrowedMessage<'_>) {
    counts.trouble = None;
    if message.topic() == REDUCED_VISITS {
        counts.reduced += 1;
        return;
    }
    let reason = message.headers().and_then(|headers| {
        let header = headers.iter().find(|header| header.key == REASON_HEADER)?;
        std::str::from_utf8(header.value?).ok()
    });
    counts.add_dead_letter(reason.unwrap_or(NO_REASON));
}

/// The end offset of each partition. A topic that was made a moment ago has no leaders yet, which a real broker says in
/// several ways; they are waited for.
fn ends(consumer: &BaseConsumer, topic: &str) -> Result<Vec<(i32, i64)>, KafkaError> {
    let deadline = Instant::now() + LEADERS_TIMEOUT;
    loop {
        match ends_now(consumer, topic) {
            Err(cause) if has_no_leader(&cause) && Instant::now() < deadline => {
                std::thread::sleep(LEADERS_POLL);
            }
            outcome => return outcome,
        }
    }
}

fn ends_now(consumer: &BaseConsumer, topic: &str) -> Result<Vec<(i32, i64)>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), METADATA_TIMEOUT)?;
    let partitions: Vec<i32> = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions())
        .map(|partition| partition.id())
        .collect();
    if partitions.is_empty() {
        return Err(KafkaError::MetadataFetch(
            RDKafkaErrorCode::LeaderNotAvailable,
        ));
    }
    partitions
        .into_iter()
        .map(|partition| {
            let (_, end) = consumer.fetch_watermarks(topic, partition, METADATA_TIMEOUT)?;
            Ok((partition, end))
        })
        .collect()
}

fn has_no_leader(cause: &KafkaError) -> bool {
    matches!(
        cause.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_leader_is_waited_for_and_nothing_else() {
        let fetch = |code| has_no_leader(&KafkaError::MetadataFetch(code));
        assert!(fetch(RDKafkaErrorCode::NotLeaderForPartition));
        assert!(fetch(RDKafkaErrorCode::LeaderNotAvailable));
        assert!(!fetch(RDKafkaErrorCode::TopicAuthorizationFailed));
        assert!(!fetch(RDKafkaErrorCode::OperationTimedOut));
    }

    #[test]
    fn reasons_beyond_the_bound_are_counted_together() {
        let mut counts = Counts::default();
        for number in 0..REASONS_MAX + 5 {
            counts.add_dead_letter(&format!("code.{number:03}"));
        }
        counts.add_dead_letter("code.000");
        assert_eq!(counts.dead_letters, 70);
        assert_eq!(counts.reasons.len(), REASONS_MAX + 1);
        assert_eq!(counts.reasons.get("code.000"), Some(&2));
        assert_eq!(counts.reasons.get(OTHER_REASONS), Some(&5));
    }
}
