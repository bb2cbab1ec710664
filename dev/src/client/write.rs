//! Rows to produce.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryOpaque, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use std::sync::Mutex;

/// One record to write. A null key or value is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the Unix epoch; the broker replaces it on a LogAppendTime topic.
    pub timestamp_ms: Option<i64>,
    /// By the key (as Java's client) where it is `None`.
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
}

/// Remembers the first record that the broker refused.
#[derive(Debug, Default)]
struct FirstError(Mutex<Option<KafkaError>>);

impl ClientContext for FirstError {}

impl ProducerContext for FirstError {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: <() as DeliveryOpaque2>::Unit) {
        if let Err((error, _)) = result
            && let Ok(mut first) = self.0.lock()
        {
            first.get_or_insert_with(|| error.clone());
        }
    }
}
