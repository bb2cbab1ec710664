//! Transactions of a producer (I4): outputs, dead letters, checkpoint and offsets become visible together or not at all.
//! Sources: KIP-98 (transactions), KIP-447 (the group's generation is the fence), librdkafka's INTRODUCTION.md,
//! "Transactional producer", for which error asks for what.

use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;

/// One wait for the transaction coordinator; between two waits the task serves its consumers.
const ANSWER_WAIT: Duration = Duration::from_millis(500);

/// Offsets that one consumer group commits inside a transaction, with the membership that allows it.
pub struct GroupOffsets {
    pub(super) offsets: TopicPartitionList,
    pub(super) membership: ConsumerGroupMetadata,
}

/// Why a transaction could not be ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// It must be aborted; the producer stays good.
    #[error("kafka.transaction_aborted: {0}")]
    Abort(String),
    /// The producer is beyond use. Whether the transaction was committed is the broker's to know.
    #[error("kafka.producer_fenced: {0}")]
    Fenced(String),
    /// The brokers do not allow it, now or later.
    #[error(
        "kafka.transactions_refused: {0}; correct what it names, or set `delivery: at_least_once`"
    )]
    Refused(String),
    /// The caller gave up waiting for an answer.
    #[error("kafka.transaction_unanswered: {0}")]
    GivenUp(String),
}

/// What a call of librdkafka answers.
enum Answer {
    Done,
    /// The same call is to be made again: it goes on where it stopped.
    Again(String),
}

fn judge(result: Result<(), KafkaError>) -> Result<Answer, TransactionError> {
    let error = match result {
        Ok(()) => return Ok(Answer::Done),
        Err(error) => error,
    };
    let KafkaError::Transaction(cause) = &error else {
        // The flush inside of a commit: nothing is lost by asking again.
        return Ok(Answer::Again(error.to_string()));
    };
    let text = format!("{}: {}", cause.name(), cause.string());
    if is_refusal(cause.code()) {
        return Err(TransactionError::Refused(text));
    }
    let is_fenced = matches!(
        cause.code(),
        RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::Fatal
    );
    if cause.is_fatal() || is_fenced {
        Err(TransactionError::Fenced(text))
    } else if cause.txn_requires_abort() {
        Err(TransactionError::Abort(text))
    } else if cause.is_retriable() {
        Ok(Answer::Again(text))
    } else {
        Err(TransactionError::Fenced(text))
    }
}

/// Permissions and settings: trying again would meet the same.
fn is_refusal(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::InvalidTransactionTimeout
            | RDKafkaErrorCode::UnsupportedFeature
            | RDKafkaErrorCode::UnsupportedVersion
    )
}

/// The transactions of one producer, one after the other.
#[derive(Default)]
pub(super) struct Transactions {
    open_since: Option<Instant>,
}

/// Told why no answer has come yet; answers whether to wait on.
pub type Waiting<'w> = &'w mut dyn FnMut(&str) -> bool;

fn insist(
    waiting: Waiting<'_>,
    mut call: impl FnMut() -> Result<(), KafkaError>,
) -> Result<(), TransactionError> {
    loop {
        match judge(call())? {
            Answer::Done => return Ok(()),
            Answer::Again(reason) if !waiting(&reason) => {
                return Err(TransactionError::GivenUp(reason));
            }
            Answer::Again(_) => {}
        }
    }
}

impl Transactions {
    /// Fences older producers of the same id and waits until their open transactions are ended.
    pub(super) fn init<C: ProducerContext>(
        producer: &BaseProducer<C>,
        waiting: Waiting<'_>,
    ) -> Result<(), TransactionError> {
        insist(waiting, || producer.init_transactions(ANSWER_WAIT))
    }

    /// When the open one began.
    pub(super) fn open_since(&self) -> Option<Instant> {
        self.open_since
    }

    /// Opens one where none is open. Costs no request: the broker hears of it with the first record.
    pub(super) fn open<C: ProducerContext>(
        &mut self,
        producer: &BaseProducer<C>,
    ) -> Result<(), String> {
        if self.open_since.is_none() {
            producer
                .begin_transaction()
                .map_err(|error| error.to_string())?;
            self.open_since = Some(Instant::now());
        }
        Ok(())
    }

    /// Adds the offsets and commits. Everything produced must have been flushed.
    pub(super) fn commit<C: ProducerContext>(
        &mut self,
        producer: &BaseProducer<C>,
        groups: &[GroupOffsets],
        waiting: Waiting<'_>,
    ) -> Result<(), TransactionError> {
        self.open(producer).map_err(TransactionError::Fenced)?;
        self.add_offsets(producer, groups, waiting)?;
        crate::kill_point::kill_point("after_offsets_sent");
        crate::kill_point::kill_during("during_commit", Duration::from_millis(20));
        insist(waiting, || producer.commit_transaction(ANSWER_WAIT))?;
        self.open_since = None;
        Ok(())
    }

    /// Adds the offsets and aborts, whether they could be added or not.
    pub(super) fn abort_with<C: ProducerContext>(
        &mut self,
        producer: &BaseProducer<C>,
        groups: &[GroupOffsets],
        waiting: Waiting<'_>,
    ) -> Result<(), TransactionError> {
        self.open(producer).map_err(TransactionError::Fenced)?;
        let added = self.add_offsets(producer, groups, waiting);
        self.abort(producer, waiting)?;
        added
    }

    fn add_offsets<C: ProducerContext>(
        &mut self,
        producer: &BaseProducer<C>,
        groups: &[GroupOffsets],
        waiting: Waiting<'_>,
    ) -> Result<(), TransactionError> {
        groups.iter().try_for_each(|group| {
            insist(waiting, || {
                producer.send_offsets_to_transaction(&group.offsets, &group.membership, ANSWER_WAIT)
            })
        })
    }

    /// Takes everything produced since the last commit back.
    pub(super) fn abort<C: ProducerContext>(
        &mut self,
        producer: &BaseProducer<C>,
        waiting: Waiting<'_>,
    ) -> Result<(), TransactionError> {
        if self.open_since.is_some() {
            insist(waiting, || {
                // What is purged counts as queued until it was reported, and a transaction with a queue does not end.
                producer.poll(Duration::ZERO);
                let aborted = producer.abort_transaction(ANSWER_WAIT);
                producer.poll(Duration::ZERO);
                aborted
            })?;
            self.open_since = None;
        }
        Ok(())
    }
}
