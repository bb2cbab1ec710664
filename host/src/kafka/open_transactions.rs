//! Partitions in which a transaction is open, whoever's it is.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Partition;
use super::client::{ClientError, client_config};
use super::transaction::Waiting;

/// Longest wait for one answer; between two the caller is told.
const ANSWER_WAIT: Duration = Duration::from_millis(500);
/// Wait before the next try: an error may be answered at once.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Partitions of these topics whose last stable offset is below their high watermark. A topic that is not there, or may
/// not be looked at, has none. `None` if the caller gave up waiting.
///
/// # Errors
/// A property that librdkafka refuses.
pub fn partitions_with_open_transactions(
    properties: &BTreeMap<String, String>,
    topics: &[String],
    waiting: Waiting<'_>,
) -> Result<Option<Vec<Partition>>, ClientError> {
    let client = |isolation: &str| -> Result<BaseConsumer, ClientError> {
        let mut config = client_config(properties, &[("isolation.level", isolation)]);
        config.remove("group.instance.id");
        let made = config.create();
        made.map_err(|cause| ClientError::new("offset reader", cause))
    };
    // Whoever asks for a partition's end is answered by its own isolation.
    let (stable, latest) = (client("read_committed")?, client("read_uncommitted")?);
    let mut open = Vec::new();
    for topic in topics {
        let Some(count) = ask(waiting, || partition_count(&latest, topic)) else {
            return Ok(None);
        };
        for partition in 0..count.unwrap_or(0) {
            let end = |client: &BaseConsumer| {
                let bounds = client.fetch_watermarks(topic, partition, ANSWER_WAIT);
                bounds.map(|(_, end)| end)
            };
            // The latest first: what is committed in between is no open transaction.
            let ends = || Ok((end(&latest)?, end(&stable)?));
            let Some(ends) = ask(waiting, ends) else {
                return Ok(None);
            };
            if ends.is_some_and(|(latest_end, stable_end)| stable_end < latest_end) {
                open.push((topic.clone(), partition));
            }
        }
    }
    Ok(Some(open))
}

fn partition_count(client: &BaseConsumer, topic: &str) -> Result<i32, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_WAIT)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let Some(found) = found else {
        return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic));
    };
    match found.error() {
        Some(error) => Err(KafkaError::MetadataFetch(error.into())),
        None => Ok(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX)),
    }
}

/// Asks until there is an answer, the outer `None` if the caller gives up. The inner one stands for what is not there or
/// may not be seen.
fn ask<T>(waiting: Waiting<'_>, question: impl Fn() -> Result<T, KafkaError>) -> Option<Option<T>> {
    loop {
        let error = match question() {
            Ok(answer) => return Some(Some(answer)),
            Err(error) => error,
        };
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition,
            ) => return Some(None),
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                tracing::warn!(event = "transactions_unseen", %error, "open transactions cannot be looked for");
                return Some(None);
            }
            _ if !waiting(&error.to_string()) => return None,
            _ => thread::sleep(ASK_AGAIN),
        }
    }
}
