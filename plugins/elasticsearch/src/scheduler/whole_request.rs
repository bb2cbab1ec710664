//! What a request that failed as a whole means for its operations.

use std::time::Instant;

use weir_plugin_sdk::SinkMetric;

use super::items::Ended;
use super::{FAULTS_MAX, Scheduler};
use crate::flight::Flight;
use crate::outcome::Doubt;
use crate::refusal::{Refusal, code};

/// Attempts of one body that end in doubt, until its size or one of its operations is suspected.
const STRIKES_MAX: u32 = 3;
/// Requests of one operation alone that must be refused with 400 until it is guilty: a 400 by chance costs two requests
/// then, and no document.
const REFUSALS_ALONE: u32 = 3;
/// No server breaks the connection over a smaller body for its size.
const RESET_SUSPECT_BYTES: usize = 128 << 10;

impl Scheduler {
    /// The same operations are sent again. Repeated doubt leads to smaller bodies, or to the guilty operation.
    pub(super) fn doubt(
        &mut self,
        flight: &mut Flight,
        doubt: Doubt,
        reason: String,
        now: Instant,
    ) {
        flight.strikes += 1;
        for operation in flight.front_mut() {
            operation.maybe_applied = true;
        }
        let single = flight.front().len() == 1;
        if doubt == Doubt::ServerFault && single {
            self.tolerate_alone(flight, "item_fault", code::SERVER_FAULT, &reason);
        } else if flight.strikes >= STRIKES_MAX && !single {
            match doubt {
                Doubt::ServerFault => {
                    self.halve(flight, "server_fault");
                }
                Doubt::Reset if flight.body_bytes() >= RESET_SUSPECT_BYTES => {
                    self.numbers.add(SinkMetric::Splits, "reset", 1);
                    self.size.reset(flight.body_bytes());
                }
                // It may take the server longer than `request_timeout`; half of it takes half as long.
                Doubt::Timeout => {
                    self.numbers.add(SinkMetric::Splits, "timeout", 1);
                    flight.halve_front();
                }
                Doubt::Reset | Doubt::BadAnswer => {}
            }
        }
        self.fail_alone(flight, "unknown", reason, now);
    }

    fn halve(&mut self, flight: &mut Flight, cause: &'static str) {
        self.numbers.add(SinkMetric::Splits, cause, 1);
        flight.isolating = true;
        flight.halve_front();
    }

    /// 413: later bodies are smaller; a document that is too large alone is rejected. Where larger bodies were taken
    /// before, its size is not why, and it is sent again like after any failure that is not explained.
    pub(super) fn shrink(&mut self, flight: &mut Flight, reason: String, now: Instant) {
        let bytes = flight.body_bytes();
        if flight.front().len() > 1 {
            self.pace.succeeded();
            self.numbers.add(SinkMetric::Splits, "too_large", 1);
            self.size.refused(bytes);
            flight.halve_front();
        } else if self.size.was_taken(bytes) {
            self.tolerate_alone(flight, "item_fault", code::PAYLOAD_TOO_LARGE, &reason);
            self.fail_alone(flight, "too_large", reason, now);
        } else {
            self.pace.succeeded();
            for operation in flight.take_front() {
                let message = format!(
                    "the {} takes {bytes} bytes of a bulk, more than the server takes: {reason}",
                    operation.name()
                );
                let refusal = Refusal::new(code::PAYLOAD_TOO_LARGE, message);
                self.reject(operation, refusal, String::new());
            }
        }
    }

    /// The one operation of a request that failed stays for another try, unless the failures are its own by now; what
    /// else the flight holds goes first.
    fn tolerate_alone(
        &mut self,
        flight: &mut Flight,
        class: &'static str,
        code: &'static str,
        seen: &str,
    ) {
        for operation in flight.take_front() {
            if let Ended::Again(operation) = self.tolerate(operation, class, code, seen) {
                flight.put_front(vec![operation]);
                flight.rotate();
            }
        }
    }

    /// 400 for a whole request: halves it until the guilty operation stands alone, and rejects that.
    pub(super) fn bisect(&mut self, flight: &mut Flight, reason: String, now: Instant) {
        let answers = self.answers;
        for operation in flight.front_mut() {
            operation
                .suspicion()
                .answers_at_suspicion
                .get_or_insert(answers);
        }
        if flight.front().len() > 1 {
            self.halve(flight, "bad_request");
        } else if self.is_proved_guilty(flight) {
            for operation in flight.take_front() {
                let message = format!(
                    "Elasticsearch refuses any bulk with the {}: {reason}",
                    operation.name()
                );
                let refusal = Refusal::new(code::REQUEST_INVALID, message);
                self.reject(operation, refusal, String::new());
            }
        } else {
            flight.isolating = true;
            flight.failures_in_a_row += 1;
            flight.rotate();
            self.fail_alone(flight, "bad_request", reason, now);
        }
    }

    /// Counts one more refusal of a request with one operation. It is the operation's fault once there were
    /// [`REFUSALS_ALONE`], and another request was answered since it was first suspected: without such an answer the
    /// request itself may be wrong. Where everything else waits behind such operations no answer can come: then it is
    /// enough that requests were answered before, and that it was refused [`FAULTS_MAX`] times.
    fn is_proved_guilty(&self, flight: &mut Flight) -> bool {
        let nothing_else = self.ready.is_empty()
            && self.in_flight == 0
            && self.waiting.iter().all(Flight::is_suspect);
        let failures_in_a_row = flight.failures_in_a_row;
        let Some(operation) = flight.front_mut().first_mut() else {
            return false;
        };
        let suspicion = operation.suspicion();
        suspicion.refused_alone = suspicion.refused_alone.saturating_add(1);
        let others_pass = suspicion
            .answers_at_suspicion
            .is_some_and(|answers| self.answers > answers);
        (others_pass && suspicion.refused_alone >= REFUSALS_ALONE)
            || (nothing_else && self.answers > 0 && failures_in_a_row >= FAULTS_MAX)
    }
}
