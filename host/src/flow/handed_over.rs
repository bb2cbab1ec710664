//! What became of records handed to Kafka: a completed flush delivers all that no failure names.

use std::time::Duration;

use weir_plugin_api::SEQ_DERIVED;

use super::ledger::Maker;
use super::{Flow, FlowError, Poison, Refusal, Stage, UNSETTLED_RECORDS_MAX, mark};
use crate::kafka::DeliveryFailure;
use crate::topology::Policy;

/// In place of a `seq` that is not to be settled; no record has it.
pub(super) const NOBODY: u64 = SEQ_DERIVED;

/// In place of the `seq` of a record, for one of the checkpoint topic.
pub const SEQ_CHECKPOINT: u64 = u64::MAX;

impl Flow {
    pub(super) fn check_outbox(&self) -> Result<(), FlowError> {
        match self.outbox.fatal_error() {
            // The coordinator ended a transaction that was open too long, or another producer has this one's name.
            Some(message) if self.is_transactional => Err(FlowError::Lost {
                code: "kafka.producer_fenced".into(),
                message,
            }),
            Some(message) => Err(FlowError::Broken {
                code: "kafka.producer_fatal".into(),
                message,
            }),
            None => Ok(()),
        }
    }

    /// Settles what Kafka has taken: waits at most `wait` for it (twice that where refused records become dead letters);
    /// answers whether nothing is on its way there.
    ///
    /// # Errors
    /// See [`FlowError`]. What was delivered is settled all the same, and a record whose refusal is the error stays
    /// open, so that a commit after it goes exactly as far as that record.
    pub fn flush_outbox(&mut self, wait: Duration) -> Result<bool, FlowError> {
        // Two rounds at most: the first may make dead letters, of which none makes another.
        while !self.unflushed.is_empty() || !self.unflushed_dead_letters.is_empty() {
            let (produced, letters) = (self.unflushed.len(), self.unflushed_dead_letters.len());
            let flushed = self.outbox.flush(wait);
            let refused = self.take_failures();
            if flushed {
                // Of a record that was refused above this says nothing: outcomes have a precedence.
                for seq in self.unflushed.drain(..produced) {
                    self.ledger.mark(seq, mark::DELIVERED);
                    self.ledger.done_without_bytes(seq);
                }
                for seq in self.unflushed_dead_letters.drain(..letters) {
                    self.ledger.done_without_bytes(seq);
                }
            }
            refused?;
            self.check_outbox()?;
            if !flushed {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits at most `wait` for whatever is on its way to Kafka, records of checkpoints included.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn flush_handed_over(&mut self, wait: Duration) -> Result<bool, FlowError> {
        let flushed = self.outbox.flush(wait);
        self.take_failures()?;
        self.check_outbox()?;
        Ok(flushed)
    }

    /// Gives to `on_error` what Kafka or its client has refused.
    pub(super) fn take_failures(&mut self) -> Result<(), FlowError> {
        let failures = self.outbox.take_failures();
        if failures.is_empty() {
            return Ok(());
        }
        let alone = self.alone_in_flight();
        let mut answer = Ok(());
        for failure in failures {
            let taken = self.take_delivery_failure(&failure, alone);
            if taken.is_err() {
                self.keep_open(&failure);
            }
            answer = answer.and(taken);
        }
        answer
    }

    /// The record of everything that is on its way to Kafka, if it is only one.
    fn alone_in_flight(&self) -> Option<u64> {
        let mut in_flight = self.unflushed.iter().chain(&self.unflushed_dead_letters);
        let first = *in_flight.next()?;
        in_flight.all(|seq| *seq == first).then_some(first)
    }

    fn is_dead_letter(&self, failure: &DeliveryFailure) -> bool {
        self.on_error.policy == Policy::DeadLetter && failure.topic == self.on_error.topic
    }

    /// The place of a refused output whose record nothing became of is never settled (I1).
    fn keep_open(&mut self, failure: &DeliveryFailure) {
        let places = match self.is_dead_letter(failure) {
            true => &mut self.unflushed_dead_letters,
            false => &mut self.unflushed,
        };
        if let Some(place) = places.iter_mut().find(|seq| **seq == failure.seq) {
            *place = NOBODY;
        }
    }

    fn take_delivery_failure(
        &mut self,
        failure: &DeliveryFailure,
        alone: Option<u64>,
    ) -> Result<(), FlowError> {
        let message = format!(
            "Kafka refused a record for the topic `{}`: {}",
            failure.topic, failure.code
        );
        if self.is_transactional && failure.is_kafkas_doing() {
            return Err(FlowError::Lost {
                code: "kafka.produce".into(),
                message,
            });
        }
        let code = failure.records_fault();
        let Some(code) = code.filter(|_| failure.seq != SEQ_CHECKPOINT) else {
            return Err(FlowError::Broken {
                code: "kafka.produce".into(),
                message,
            });
        };
        // A broker refuses a whole batch for one record of it. Who is at fault shows when each travels alone. Without
        // transactions those derived from many cannot be had again.
        let is_derived = self
            .ledger
            .get(failure.seq)
            .is_some_and(|known| known.maker != Maker::Source);
        if !failure.is_local && !is_derived && alone != Some(failure.seq) {
            return Err(FlowError::Isolate {
                code: code.into(),
                message,
            });
        }
        let is_lost = self.is_transactional && !failure.is_local;
        // It shares no batch with dead letters, which go to a topic of their own.
        let is_alone = alone == Some(failure.seq)
            || !self.is_dead_letter(failure) && self.alone.sent(failure.seq).is_some();
        if is_lost && is_derived && !is_alone {
            return Err(FlowError::IsolateOutputs {
                code: code.into(),
                message,
            });
        }
        let refusal = Refusal {
            stage: Stage::KafkaProduce,
            node: failure.topic.clone(),
            class: "kafka".into(),
            code: code.into(),
            message,
            detail: String::new(),
        };
        if is_lost {
            return Err(self.poisoned_by(failure.seq, refusal));
        }
        if self.is_dead_letter(failure) {
            // A dead letter that cannot be written leaves no place for the record.
            let policy = std::mem::replace(&mut self.on_error.policy, Policy::Fail);
            let answer = self.refuse(failure.seq, &refusal);
            self.on_error.policy = policy;
            return answer;
        }
        self.refuse(failure.seq, &refusal)
    }

    /// I4: the transaction is lost with the record, so it is refused when it is read, or made, again.
    fn poisoned_by(&mut self, seq: u64, refusal: Refusal) -> FlowError {
        let known = self.ledger.get(seq);
        let known = known.filter(|known| known.maker == Maker::Source);
        let place = known.and_then(|known| Some((self.slots.key(known.slot)?, known.offset)));
        let poison = match place {
            Some((key, offset)) => Some(Poison::Record {
                node: None,
                topic: key.topic.clone(),
                partition: key.partition,
                offset,
            }),
            None => self.alone.sent(seq),
        };
        match poison {
            Some(poison) => FlowError::Poisoned {
                poison,
                refusal: Box::new(refusal),
            },
            None => FlowError::IsolateOutputs {
                code: refusal.code,
                message: refusal.message,
            },
        }
    }

    /// True while something is on its way to Kafka, as far as is known.
    pub fn has_unflushed(&self) -> bool {
        !self.unflushed.is_empty() || !self.unflushed_dead_letters.is_empty()
    }

    /// True when the ledger is full of records that the next flush of the producer may settle.
    pub fn wants_flush(&self) -> bool {
        self.ledger.kept() >= UNSETTLED_RECORDS_MAX && !self.unflushed.is_empty()
    }
}
