//! What a good engineer writes without a framework: poll, parse two fields, send, commit what was
//! acknowledged. The yardstick of the benchmark; it has no fault handling beyond librdkafka's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use serde::Deserialize;

use super::tracker::Tracker;

/// As the host: often enough that little is repeated, seldom enough to cost nothing.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Where to read and write.
#[derive(Debug, Clone)]
pub struct BareLoop {
    pub bootstrap: String,
    pub source: String,
    pub target: String,
    pub group: String,
}

#[derive(Deserialize)]
struct Visit<'a> {
    #[serde(borrow)]
    visit_id: Cow<'a, str>,
    #[serde(borrow)]
    event_time: Cow<'a, str>,
}

/// Settles a source record when its output is acknowledged.
#[derive(Debug, Default)]
struct Settle {
    trackers: Mutex<BTreeMap<i32, Tracker>>,
    has_failed: AtomicBool,
}

impl Settle {
    fn with<T>(&self, partition: i32, act: impl FnOnce(&mut Tracker) -> T) -> T {
        let mut trackers = self.trackers.lock().unwrap_or_else(PoisonError::into_inner);
        act(trackers.entry(partition).or_default())
    }
}

impl ClientContext for Settle {}

impl ProducerContext for Settle {
    type DeliveryOpaque = Box<(i32, i64)>;

    fn delivery(&self, result: &DeliveryResult<'_>, source: Box<(i32, i64)>) {
        match result {
            Ok(_) => self.with(source.0, |tracker| tracker.settle(source.1)),
            Err(_) => self.has_failed.store(true, Ordering::Relaxed),
        }
    }
}

impl BareLoop {
    /// Works until `stop` is set, then flushes and commits. Prints `ready` at the first assignment.
    ///
    /// Rows that are bad by its simple rules are passed over: dead letters are the host's extra.
    pub fn run(&self, stop: &AtomicBool) -> Result<()> {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", &self.group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "10000")
            .create()?;
        let mut config = self.config();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random");
        let producer: BaseProducer<Settle> =
            BaseProducer::from_config_and_context(&config, Settle::default())?;
        consumer.subscribe(&[&self.source])?;
        let mut output = Vec::with_capacity(256);
        let mut is_ready = false;
        let mut committed_at = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if let Some(message) = consumer.poll(Duration::from_millis(50)) {
                self.reduce(&message?, &producer, &mut output)?;
            }
            producer.poll(Duration::ZERO);
            if !is_ready && consumer.assignment()?.count() > 0 {
                is_ready = true;
                println!("ready");
            }
            if committed_at.elapsed() >= COMMIT_INTERVAL {
                committed_at = Instant::now();
                self.commit(&consumer, &producer, CommitMode::Async)?;
            }
        }
        producer.flush(Duration::from_secs(30))?;
        self.commit(&consumer, &producer, CommitMode::Sync)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    fn reduce(
        &self,
        message: &impl Message,
        producer: &BaseProducer<Settle>,
        output: &mut Vec<u8>,
    ) -> Result<()> {
        let source = (message.partition(), message.offset());
        producer
            .context()
            .with(source.0, |tracker| tracker.read(source.1));
        output.clear();
        if !write_reduced(message.payload(), output) {
            producer
                .context()
                .with(source.0, |tracker| tracker.settle(source.1));
            return Ok(());
        }
        let mut record = BaseRecord::with_opaque_to(&self.target, Box::new(source));
        record.payload = Some(output.as_slice());
        record.key = message.key();
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                    producer.poll(Duration::from_millis(10));
                    record = unsent;
                }
                Err((error, _)) => bail!("cannot write to {}: {error}", self.target),
            }
        }
    }

    fn commit(
        &self,
        consumer: &BaseConsumer,
        producer: &BaseProducer<Settle>,
        mode: CommitMode,
    ) -> Result<()> {
        let settle = producer.context();
        if settle.has_failed.load(Ordering::Relaxed) {
            bail!("a record for {} was refused", self.target);
        }
        let mut offsets = TopicPartitionList::new();
        let mut trackers = settle
            .trackers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (&partition, tracker) in trackers.iter_mut() {
            if let Some(next) = tracker.take_commit() {
                offsets.add_partition_offset(&self.source, partition, Offset::Offset(next))?;
            }
        }
        drop(trackers);
        if offsets.count() > 0 {
            consumer.commit(&offsets, mode)?;
        }
        Ok(())
    }
}

/// Writes the reduced form of a row; `false` for a row without the two fields.
fn write_reduced(payload: Option<&[u8]>, output: &mut Vec<u8>) -> bool {
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_millis());
    let Ok(visit) = serde_json::from_slice::<Visit<'_>>(payload.unwrap_or_default()) else {
        return false;
    };
    let Ok(event_time) = visit.event_time.parse::<jiff::Timestamp>() else {
        return false;
    };
    let seconds = event_time.as_second();
    output.extend_from_slice(br#"{"visit":{"id":"#);
    // Writing into a vector cannot fail.
    serde_json::to_writer(&mut *output, &visit.visit_id).is_ok()
        && write!(
            output,
            r#","event_time":{seconds}}},"start_processing_time_unix_ms":{now_ms}}}"#
        )
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::write_reduced;

    #[test]
    fn a_row_is_reduced_to_the_contracts_form() {
        let mut output = Vec::new();
        let row = br#"{"visit_id":"a\"b","event_time":"2024-06-01T00:00:00+00:00","x":1}"#;
        assert!(write_reduced(Some(row), &mut output));
        let value: serde_json::Value = serde_json::from_slice(&output).expect("JSON");
        assert_eq!(value["visit"]["id"], "a\"b");
        assert_eq!(value["visit"]["event_time"], 1_717_200_000);
        assert!(value["start_processing_time_unix_ms"].is_u64());
        assert!(!write_reduced(Some(b"{}"), &mut output));
        assert!(!write_reduced(None, &mut output));
    }
}
