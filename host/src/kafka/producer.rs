//! One producer a task: Kafka sinks and dead letters go through it, and a flush settles them all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, ProducerContext};
use weir_plugin_api::{Record, timestamp_type};

use super::Partition;
use super::client::{ClientError, client_config, is_transport};
use super::produce_batch::{Produced, ProducerTopic, flush};
use super::transaction::{GroupOffsets, TransactionError, Transactions, Waiting};

/// One wait inside [`Producer::flush`]: how long an error report may lie in the queue before it is served.
const FLUSH_STEP: Duration = Duration::from_millis(50);

/// The same while a partition without a leader is waited for; between two the caller is told.
const FLUSH_WAIT: Duration = Duration::from_millis(500);
/// Key of records that are aborted as soon as they are there.
const LEFTOVERS_KEY: &[u8] = b"weir.aborted";

/// A record that Kafka refused.
#[derive(Debug, Clone)]
pub struct DeliveryFailure {
    pub topic: String,
    /// The `seq` the record was produced with.
    pub seq: u64,
    pub code: RDKafkaErrorCode,
    /// The client refused it before it was sent: no other record of its batch can have caused that.
    pub is_local: bool,
}

impl DeliveryFailure {
    /// Kafka was away too long, or took the producer's epoch away meanwhile: nobody's fault, the same may go through next
    /// time.
    pub fn is_kafkas_doing(&self) -> bool {
        is_transport(self.code)
            || matches!(
                self.code,
                RDKafkaErrorCode::PurgeQueue
                    | RDKafkaErrorCode::PurgeInflight
                    | RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
                    | RDKafkaErrorCode::InvalidProducerIdMapping
                    | RDKafkaErrorCode::UnknownProducerId
                    | RDKafkaErrorCode::InvalidTransactionalState
            )
    }

    /// The stable code where a record is at fault, so that no retry can help it.
    pub fn records_fault(&self) -> Option<&'static str> {
        match self.code {
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::MessageBatchTooLarge
            | RDKafkaErrorCode::InvalidMessageSize => Some("kafka.record_too_large"),
            RDKafkaErrorCode::InvalidTimestamp => Some("kafka.invalid_timestamp"),
            RDKafkaErrorCode::InvalidMessage | RDKafkaErrorCode::InvalidRecord => {
                Some("kafka.invalid_record")
            }
            _ => None,
        }
    }
}

#[derive(Default)]
struct Reports {
    failures: Vec<DeliveryFailure>,
    fatal: Option<String>,
}

/// Receives delivery reports of failures alone (`delivery.report.only.error`): what a completed flush has not reported
/// was delivered.
#[derive(Clone, Default)]
struct ReportContext(Arc<Mutex<Reports>>);

impl ReportContext {
    fn with<R>(&self, f: impl FnOnce(&mut Reports) -> R) -> R {
        // Nothing panics while it holds the lock; a poisoned one would still be whole.
        f(&mut self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl ClientContext for ReportContext {
    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => {
                self.with(|reports| reports.fatal = Some(reason.to_owned()))
            }
            _ => tracing::debug!(event = "kafka_client_error", client = "producer", %error, reason),
        }
    }

    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        super::consumer::log_client_line(level, facility, message);
    }
}

impl ProducerContext for ReportContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, seq: usize) {
        if let Err((error, message)) = result {
            let code = error
                .rdkafka_error_code()
                .unwrap_or(RDKafkaErrorCode::Unknown);
            let failure = DeliveryFailure {
                topic: message.topic().to_owned(),
                seq: seq as u64,
                code,
                is_local: false,
            };
            self.with(|reports| reports.failures.push(failure));
        }
    }
}

pub struct Producer {
    /// Before `producer`: fields drop in order, and a topic must not outlive its client.
    topics: BTreeMap<String, ProducerTopic>,
    producer: BaseProducer<ReportContext>,
    reports: ReportContext,
    /// `None`: records are visible as soon as they are delivered.
    transactions: Option<Transactions>,
}

impl Producer {
    /// # Errors
    /// A property that librdkafka refuses.
    pub fn new(properties: &BTreeMap<String, String>) -> Result<Self, ClientError> {
        Self::make(properties, &[], None)
    }

    /// A producer whose records become visible with [`Producer::commit`] (I4). Call [`Producer::init_transactions`]
    /// before anything else.
    ///
    /// # Errors
    /// A property that librdkafka refuses.
    pub fn transactional(
        properties: &BTreeMap<String, String>,
        id: &str,
    ) -> Result<Self, ClientError> {
        let owned = [("transactional.id", id)];
        Self::make(properties, &owned, Some(Transactions::default()))
    }

    fn make(
        properties: &BTreeMap<String, String>,
        owned: &[(&str, &str)],
        transactions: Option<Transactions>,
    ) -> Result<Self, ClientError> {
        let reports = ReportContext::default();
        let owned = [owned, &[("delivery.report.only.error", "true")]].concat();
        let producer = client_config(properties, &owned)
            .create_with_context(reports.clone())
            .map_err(|cause| ClientError::new("producer", cause))?;
        Ok(Producer {
            topics: BTreeMap::new(),
            producer,
            reports,
            transactions,
        })
    }

    /// Fences producers of the same id that an earlier run of the task, or another host, has left.
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub fn init_transactions(&self, waiting: Waiting<'_>) -> Result<(), TransactionError> {
        Transactions::init(&self.producer, waiting)
    }

    /// When the open transaction began; `None` too where there are none.
    pub fn transaction_open_since(&self) -> Option<Instant> {
        self.transactions.as_ref()?.open_since()
    }

    /// Makes visible what was produced since the last commit, and the offsets with it (I4). Flush first.
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub fn commit(
        &mut self,
        groups: &[GroupOffsets],
        waiting: Waiting<'_>,
    ) -> Result<(), TransactionError> {
        match &mut self.transactions {
            Some(transactions) => transactions.commit(&self.producer, groups, waiting),
            None => Ok(()),
        }
    }

    /// Takes back what was produced since the last commit, and forgets what became of it.
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub fn abort(&mut self, waiting: Waiting<'_>) -> Result<(), TransactionError> {
        if let Some(transactions) = &mut self.transactions {
            transactions.abort(&self.producer, waiting)?;
            // What was purged reports itself as failed.
            self.producer.poll(Duration::ZERO);
            self.take_failures();
        }
        Ok(())
    }

    /// Aborts a transaction that touches these partitions and groups, and with it whatever an earlier producer of this id
    /// has left open in them (I4): abort markers name a producer id, not a transaction.
    ///
    /// # Errors
    /// See [`TransactionError`]; [`TransactionError::Abort`] where something could not be reached, or where a transaction
    /// of this producer is open, which stays as it is.
    pub fn abort_leftovers(
        &mut self,
        partitions: &[Partition],
        groups: &[GroupOffsets],
        waiting: Waiting<'_>,
    ) -> Result<(), TransactionError> {
        let Some(transactions) = &mut self.transactions else {
            return Ok(());
        };
        if transactions.open_since().is_some() {
            return Err(TransactionError::Abort("a transaction is open".to_owned()));
        }
        transactions
            .open(&self.producer)
            .map_err(TransactionError::Fenced)?;
        for (topic, partition) in partitions {
            let record: BaseRecord<'_, [u8], [u8], usize> =
                BaseRecord::with_opaque_to(topic, 0).partition(*partition);
            // A compacted topic takes no record without a key.
            let sent = self.producer.send(record.key(LEFTOVERS_KEY));
            if let Err((error, _)) = sent {
                tracing::debug!(event = "leftover_not_sent", topic, partition, %error);
            }
        }
        let mut is_flushed = self.flush(FLUSH_STEP);
        while !is_flushed && waiting("a partition does not answer") {
            is_flushed = self.flush(FLUSH_WAIT);
        }
        let unreached = self.take_failures();
        if let Some(transactions) = &mut self.transactions {
            let aborted = transactions.abort_with(&self.producer, groups, waiting);
            // What was purged reports itself as failed.
            self.flush(FLUSH_STEP);
            self.take_failures();
            aborted?;
        }
        match unreached.iter().find(|failure| failure.is_kafkas_doing()) {
            Some(failure) => Err(TransactionError::Abort(failure.code.to_string())),
            None if is_flushed => Ok(()),
            None => Err(TransactionError::GivenUp("a partition".to_owned())),
        }
    }

    /// A transaction opens at the first record; one that cannot be opened shows in [`Producer::fatal_error`].
    fn open_transaction(&mut self) {
        if let Some(transactions) = &mut self.transactions
            && let Err(reason) = transactions.open(&self.producer)
        {
            self.reports.with(|reports| {
                reports.fatal.get_or_insert(reason);
            });
        }
    }

    /// Hands records to the client, in order, and answers how many from the front it handled. A record it refuses counts
    /// as handled and shows in [`Producer::take_failures`].
    pub fn produce(&mut self, topic: &str, records: &[Record<'_>]) -> usize {
        self.open_transaction();
        let mut handled = 0;
        while handled < records.len() {
            let rest = &records[handled..];
            // The batch call carries neither headers nor timestamps; visits have neither, so this is the common path.
            let plain = rest
                .iter()
                .position(|record| !is_plain(record))
                .unwrap_or(rest.len());
            let (step, full) = match plain {
                0 => (usize::from(self.produce_one(topic, &rest[0], &[])), 1),
                plain => (self.produce_plain(topic, &rest[..plain]), plain),
            };
            handled += step;
            if step < full {
                break;
            }
        }
        handled
    }

    fn produce_plain(&mut self, topic: &str, records: &[Record<'_>]) -> usize {
        if !self.topics.contains_key(topic)
            && let Some(made) = ProducerTopic::new(&self.producer, topic)
        {
            self.topics.insert(topic.to_owned(), made);
        }
        let produced = match self.topics.get_mut(topic) {
            Some(topic) => topic.produce(records),
            None => Produced {
                handled: records.len(),
                refused: (0..records.len())
                    .map(|index| (index, RDKafkaErrorCode::InvalidTopic))
                    .collect(),
            },
        };
        for (index, code) in &produced.refused {
            self.report(topic, records[*index].seq, *code);
        }
        produced.handled
    }

    /// One record with its headers and `extra` ones; false when the client's queue is full.
    pub fn produce_one(
        &mut self,
        topic: &str,
        record: &Record<'_>,
        extra: &[(&str, &str)],
    ) -> bool {
        self.open_transaction();
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len() + extra.len());
        for header in record.headers.iter() {
            headers = headers.insert(Header {
                key: header.name.as_str(),
                value: header.value.get(),
            });
        }
        for (name, value) in extra {
            headers = headers.insert(Header {
                key: name,
                value: Some(value.as_bytes()),
            });
        }
        let seq = record.seq;
        let mut message: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(topic, seq as usize).headers(headers);
        message.key = record.key.get();
        message.payload = record.value.get();
        if record.timestamp_type != timestamp_type::NONE && sends_timestamp(record, extra) {
            message.timestamp = Some(record.timestamp_ms);
        }
        match self.producer.send(message) {
            Ok(()) => true,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => false,
            Err((error, _)) => {
                let code = error
                    .rdkafka_error_code()
                    .unwrap_or(RDKafkaErrorCode::Unknown);
                self.report(topic, seq, code);
                true
            }
        }
    }

    fn report(&self, topic: &str, seq: u64, code: RDKafkaErrorCode) {
        let failure = DeliveryFailure {
            topic: topic.to_owned(),
            seq,
            code,
            is_local: true,
        };
        self.reports.with(|reports| reports.failures.push(failure));
    }

    /// Waits until everything produced is delivered or reported, at most `wait`; answers whether that is so.
    pub fn flush(&self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        loop {
            self.producer.poll(Duration::ZERO);
            let left = deadline.saturating_duration_since(Instant::now());
            if flush(&self.producer, left.min(FLUSH_STEP)) {
                self.producer.poll(Duration::ZERO);
                return true;
            }
            if left.is_zero() {
                return false;
            }
        }
    }

    /// Serves reports without waiting.
    pub fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }

    pub fn take_failures(&self) -> Vec<DeliveryFailure> {
        self.reports
            .with(|reports| std::mem::take(&mut reports.failures))
    }

    /// Why this producer can no longer be used: fenced, or out of sequence.
    pub fn fatal_error(&self) -> Option<String> {
        self.reports.with(|reports| reports.fatal.clone())
    }
}

fn is_plain(record: &Record<'_>) -> bool {
    record.headers.is_empty() && record.timestamp_type != timestamp_type::SET_BY_PLUGIN
}

/// A timestamp that came with the input is the input's: the output gets its own, as when any producer sends. Dead letters
/// (they carry extra headers) keep the original's.
fn sends_timestamp(record: &Record<'_>, extra: &[(&str, &str)]) -> bool {
    record.timestamp_type == timestamp_type::SET_BY_PLUGIN || !extra.is_empty()
}
