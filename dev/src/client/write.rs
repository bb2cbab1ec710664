//! Rows to produce.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message};

/// Long enough for a broker that is restarted in the middle.
const DELIVERY_TIMEOUT_S: u64 = 120;

/// One record to write. A null key or value is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the Unix epoch; the broker replaces it on a LogAppendTime topic.
    pub timestamp_ms: Option<i64>,
    /// By the key (as Java's client does it) where it is `None`.
    pub partition: Option<i32>,
}

impl Row {
    pub fn value(value: impl Into<Vec<u8>>) -> Row {
        Row {
            value: Some(value.into()),
            ..Row::default()
        }
    }

    pub fn keyed(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Row {
        Row {
            key: Some(key.into()),
            ..Row::value(value)
        }
    }

    pub fn on(self, partition: i32) -> Row {
        Row {
            partition: Some(partition),
            ..self
        }
    }

    pub fn at(self, timestamp_ms: i64) -> Row {
        Row {
            timestamp_ms: Some(timestamp_ms),
            ..self
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Row {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }

    fn record<'a>(&'a self, topic: &'a str) -> BaseRecord<'a, [u8], [u8]> {
        let mut record = BaseRecord::to(topic);
        record.key = self.key.as_deref();
        record.payload = self.value.as_deref();
        record.partition = self.partition;
        record.timestamp = self.timestamp_ms;
        if !self.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(self.headers.len());
            for (key, value) in &self.headers {
                headers = headers.insert(Header {
                    key,
                    value: value.as_deref(),
                });
            }
            record.headers = Some(headers);
        }
        record
    }
}

/// Remembers the topic and the error of the first record that the broker refused.
#[derive(Debug, Default)]
struct FirstError(Mutex<Option<(String, KafkaError)>>);

impl ClientContext for FirstError {}

impl ProducerContext for FirstError {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, record)) = result
            && let Ok(mut first) = self.0.lock()
        {
            first.get_or_insert_with(|| (record.topic().to_owned(), error.clone()));
        }
    }
}

/// An idempotent producer with `acks=all`, for whoever writes often.
pub struct Writer {
    producer: BaseProducer<FirstError>,
}

impl Writer {
    pub(super) fn open(config: &ClientConfig) -> Result<Writer> {
        let mut config = config.clone();
        config
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            // A row waits for its broker however long that is away; `flush` has the deadline.
            .set("message.timeout.ms", "0")
            .set("message.max.bytes", "10000000");
        let producer = BaseProducer::from_config_and_context(&config, FirstError::default())?;
        Ok(Writer { producer })
    }

    /// Writes all rows in their order and waits until the broker has acknowledged each.
    pub fn write(&self, topic: &str, rows: &[Row]) -> Result<()> {
        for row in rows {
            self.send(topic, row)?;
        }
        self.flush()
    }

    /// Hands a row to the client, and waits while its queue is full.
    pub fn send(&self, topic: &str, row: &Row) -> Result<()> {
        send(&self.producer, topic, row)
    }

    /// Waits until the broker has acknowledged every row; an error if it refused one.
    pub fn flush(&self) -> Result<()> {
        self.producer
            .flush(Duration::from_secs(DELIVERY_TIMEOUT_S))
            .context("the broker does not acknowledge what was written")?;
        let first = self.producer.context();
        match first.0.lock().ok().and_then(|mut error| error.take()) {
            Some((topic, error)) => bail!("a row for {topic} was refused: {error}"),
            None => Ok(()),
        }
    }
}

pub(super) fn send<C: ProducerContext<DeliveryOpaque = ()>>(
    producer: &BaseProducer<C>,
    topic: &str,
    row: &Row,
) -> Result<()> {
    let mut record = row.record(topic);
    loop {
        match producer.send(record) {
            Ok(()) => break,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                producer.poll(Duration::from_millis(50));
                record = unsent;
            }
            Err((error, _)) => bail!("cannot write to {topic}: {error}"),
        }
    }
    producer.poll(Duration::ZERO);
    Ok(())
}
