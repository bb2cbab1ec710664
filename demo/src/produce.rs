//! Sends visits to Kafka at a steady rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use crate::error::DemoError;
use crate::visits::{Row, Visits};

/// Rows are sent in groups, this often: fine enough to look steady, coarse enough to cost nothing.
const TICK: Duration = Duration::from_millis(50);
/// Rows that wait for the broker; beyond it the generator waits.
const QUEUE_RECORDS: u32 = 10_000;
/// A generator that was held up catches up by at most this many seconds of rows, so that a pause makes no flood.
const CATCH_UP_S: f64 = 1.0;
/// Time for the last rows to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// How many rows were acknowledged and how many were given up.
#[derive(Debug, Default)]
pub struct Deliveries {
    pub sent: AtomicU64,
    pub failed: AtomicU64,
}

#[derive(Clone)]
struct Context(Arc<Deliveries>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        let count = match result {
            Ok(_) => &self.0.sent,
            Err(_) => &self.0.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where rows go, and how many a second.
pub struct Generator {
    producer: BaseProducer<Context>,
    topic: String,
    rate: f64,
    visits: Visits,
}

impl Generator {
    pub fn new(
        bootstrap: &str,
        topic: &str,
        rate: f64,
        visits: Visits,
        deliveries: Arc<Deliveries>,
    ) -> Result<Self, DemoError> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("client.id", "weir-demo-generator")
            .set("enable.idempotence", "true")
            .set("linger.ms", "20")
            // One visit's events go where Java producers would put them.
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", QUEUE_RECORDS.to_string())
            .create_with_context(Context(deliveries))
            .map_err(|cause| DemoError::Broker { cause })?;
        Ok(Self {
            producer,
            topic: topic.to_owned(),
            rate,
            visits,
        })
    }

    /// Sends until `stop`, then waits for the acknowledgements.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<(), DemoError> {
        let mut pace = Pace::new(self.rate);
        let started_at = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..pace.due(started_at.elapsed()) {
                let row = self.visits.next_row(Timestamp::now());
                self.send(&row, stop)?;
            }
            self.producer.poll(TICK);
        }
        self.producer
            .flush(FLUSH_TIMEOUT)
            .map_err(|cause| DemoError::Broker { cause })
    }

    fn send(&self, row: &Row, stop: &AtomicBool) -> Result<(), DemoError> {
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to(&self.topic).payload(&row.value);
        if let Some(key) = &row.key {
            record = record.key(key);
        }
        while let Err((cause, returned)) = self.producer.send(record) {
            let full = matches!(
                cause,
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
            );
            if !full {
                return Err(DemoError::Broker { cause });
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.producer.poll(TICK);
            record = returned;
        }
        Ok(())
    }
}

/// How many rows are due by now.
struct Pace {
    rate: f64,
    sent: f64,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Self { rate, sent: 0.0 }
    }

    /// Rows to send at this time since the start: the first at once, then one every 1/rate seconds.
    fn due(&mut self, elapsed: Duration) -> u64 {
        let wanted = elapsed.as_secs_f64() * self.rate + 1.0;
        let behind = wanted - self.sent;
        let most = (self.rate * CATCH_UP_S).max(1.0);
        if behind > most {
            self.sent = wanted - most;
        }
        let due = (wanted - self.sent).floor().max(0.0);
        self.sent += due;
        due as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_due_at_their_rate() {
        let mut pace = Pace::new(200.0);
        let total: u64 = (0..=200).map(|tick| pace.due(TICK * tick)).sum();
        assert_eq!(total, 2_001);
    }

    #[test]
    fn a_slow_rate_sends_its_first_row_at_once() {
        let mut pace = Pace::new(0.1);
        assert_eq!(pace.due(Duration::ZERO), 1);
        assert_eq!(pace.due(Duration::from_millis(9_900)), 0);
        assert_eq!(pace.due(Duration::from_millis(10_100)), 1);
    }

    #[test]
    fn a_pause_is_caught_up_by_a_second_at_most() {
        let mut pace = Pace::new(200.0);
        pace.due(Duration::ZERO);
        assert_eq!(pace.due(Duration::from_secs(60)), 200);
        assert_eq!(pace.due(Duration::from_secs(60) + TICK), 10);
    }
}
