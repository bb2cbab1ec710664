//! What became of records handed to Kafka: a completed flush delivers all that no failure names.

use std::time::Duration;

use weir_plugin_api::SEQ_DERIVED;

use super::ledger::Maker;
use super::{Flow, FlowError, Refusal, Stage, UNSETTLED_RECORDS_MAX, mark};
use crate::kafka::DeliveryFailure;
use crate::topology::Policy;

/// In place of a `seq` that is not to be settled; no record has it.
const NOBODY: u64 = SEQ_DERIVED;

impl Flow {
    pub(super) fn check_outbox(&self) -> Result<(), FlowError> {
        match self.outbox.fatal_error() {
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
        let Some(code) = failure.records_fault() else {
            return Err(FlowError::Broken {
                code: "kafka.produce".into(),
                message,
            });
        };
        // A broker refuses a whole batch for one record of it. Who is at fault shows when each travels alone. Records
        // derived from many cannot be had one at a time.
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
        let refusal = Refusal {
            stage: Stage::KafkaProduce,
            node: failure.topic.clone(),
            class: "kafka".into(),
            code: code.into(),
            message,
            detail: String::new(),
        };
        if self.is_dead_letter(failure) {
            // A dead letter that cannot be written leaves no place for the record.
            let policy = std::mem::replace(&mut self.on_error.policy, Policy::Fail);
            let answer = self.refuse(failure.seq, &refusal);
            self.on_error.policy = policy;
            return answer;
        }
        self.refuse(failure.seq, &refusal)
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
