//! What an answered request means for each of its operations.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use weir_plugin_sdk::SinkMetric;

use super::{FAULTS_MAX, Scheduler, Verdict};
use crate::bulk_answer::Item;
use crate::flight::Flight;
use crate::item_class::{ItemClass, classify_item};
use crate::item_error;
use crate::numbers::to_ms;
use crate::operation::{Lane, Operation};
use crate::pace::{BACKOFF_STEPS, backoff};
use crate::refusal::{Refusal, code};
use crate::write_plan::ConflictPolicy;

impl Scheduler {
    /// A verdict, or another try, for each item of an answer.
    pub(super) fn apply(&mut self, flight: &mut Flight, items: Vec<Item>, now: Instant) {
        self.size.accepted(flight.body_bytes());
        let sent = flight.take_front();
        flight.failures_alone = 0;
        let total = sent.len();
        let classes: Vec<ItemClass> = sent
            .iter()
            .zip(&items)
            .map(|(operation, item)| class_of(operation, item))
            .collect();
        self.answers += 1;
        let ended_well = sent
            .iter()
            .zip(&classes)
            .filter(|(operation, class)| match class {
                ItemClass::Stored | ItemClass::Gone | ItemClass::Exists => true,
                ItemClass::Conflict => operation.versioned,
                _ => false,
            });
        self.stored += ended_well.count() as u64;
        match classes.contains(&ItemClass::Overloaded) {
            true => self.concurrency.overloaded(flight.round),
            false => self.concurrency.passed(),
        }
        let mut again = Vec::new();
        let mut blocked_by = None;
        for ((operation, item), class) in sent.into_iter().zip(items).zip(classes) {
            if let Some(error_type) = item_error::label(&item) {
                self.numbers.add(SinkMetric::ItemErrors, error_type, 1);
            }
            match self.end_item(operation, &item, class, now) {
                Ended::Settled => {}
                Ended::Again(operation) => again.push(operation),
                Ended::Blocked(operation, class, reason) => {
                    blocked_by = Some((class, reason));
                    again.push(operation);
                }
            }
        }
        match blocked_by {
            Some((class, reason)) if again.len() == total => self.blocked(class, reason, now),
            _ => self.pace.succeeded(),
        }
        self.numbers
            .add(SinkMetric::Items, "retried", again.len() as u64);
        self.send_again(flight, again, now);
    }

    /// Every operation of a request was refused for now. While others are stored this concerns these operations alone,
    /// and the back-off of each is enough; else the target takes nothing.
    fn blocked(&mut self, class: &'static str, reason: String, now: Instant) {
        let others_pass = self
            .stored_when_blocked
            .is_some_and(|stored| self.stored > stored);
        self.stored_when_blocked = Some(self.stored);
        match others_pass {
            true => self.pace.succeeded(),
            false => self.fail(class, reason, None, now),
        }
    }

    /// Operations that are sent again leave for flights of their own by how long they wait, so that nothing else waits
    /// with them. What the flight still holds of their documents goes along: a document is in one flight only.
    fn send_again(&mut self, flight: &mut Flight, mut again: Vec<Operation>, now: Instant) {
        if again.is_empty() {
            return;
        }
        let mut attempts: HashMap<Lane, u32> = HashMap::new();
        for operation in &mut again {
            operation.retries = operation.retries.saturating_add(1);
            operation.clear_of_refusals();
            let most = attempts.entry(operation.lane).or_default();
            *most = operation.retries.min(BACKOFF_STEPS).max(*most);
        }
        again.extend(flight.take_lanes(|lane| attempts.contains_key(&lane)));
        let mut by_attempt: BTreeMap<u32, Vec<Operation>> = BTreeMap::new();
        for operation in again {
            let attempt = attempts.get(&operation.lane).copied().unwrap_or(1);
            by_attempt.entry(attempt).or_default().push(operation);
        }
        for (attempt, operations) in by_attempt {
            let mut later = self.new_flight();
            later.not_before = Some(now + backoff(attempt, &mut self.random));
            for operation in operations {
                self.lanes.move_to(&operation, later.number);
                later.push(operation);
            }
            self.waiting.push_back(later);
        }
    }

    fn end_item(
        &mut self,
        operation: Operation,
        item: &Item,
        class: ItemClass,
        now: Instant,
    ) -> Ended {
        match class {
            ItemClass::Stored => self.end_stored(operation, "stored", now),
            ItemClass::Gone => self.end_stored(operation, "gone", now),
            ItemClass::Conflict if operation.versioned => {
                self.end_well(operation, Verdict::Superseded, "superseded")
            }
            ItemClass::Exists => self.end_existing(operation, item),
            ItemClass::Rejected(code) => self.reject_item(operation, code, item),
            ItemClass::Conflict => {
                self.tolerate(operation, "item_conflict", code::CONFLICT, &describe(item))
            }
            ItemClass::Faulted => {
                self.tolerate(operation, "item_fault", code::SERVER_FAULT, &describe(item))
            }
            ItemClass::Overloaded => {
                self.count("item_overload");
                Ended::Blocked(operation, "item_overload", describe(item))
            }
            ItemClass::Systemic => {
                self.count("item_systemic");
                Ended::Blocked(operation, "item_systemic", describe(item))
            }
        }
    }

    fn end_stored(&mut self, operation: Operation, how: &'static str, now: Instant) -> Ended {
        if let Some(age_ms) = operation.age_ms_when_accepted {
            let since = now.saturating_duration_since(operation.accepted_at);
            let lag_ms = to_ms(since).saturating_add(age_ms);
            self.numbers.lag_ms.observe(lag_ms);
        }
        self.end_well(operation, Verdict::Stored, how)
    }

    fn end_well(&mut self, operation: Operation, verdict: Verdict, how: &'static str) -> Ended {
        self.numbers.add(SinkMetric::Items, how, 1);
        self.breaker.passed(&operation);
        self.settle(operation, verdict);
        Ended::Settled
    }

    /// Its own earlier attempt may have made the document; else the policy decides.
    fn end_existing(&mut self, operation: Operation, item: &Item) -> Ended {
        let replay =
            operation.maybe_applied || self.limits.on_conflict == ConflictPolicy::Supersede;
        match replay {
            true => self.end_well(operation, Verdict::Superseded, "already_there"),
            false => self.reject_item(operation, code::DOCUMENT_EXISTS, item),
        }
    }

    fn reject_item(&mut self, mut operation: Operation, code: &'static str, item: &Item) -> Ended {
        let seen = describe(item);
        if let Err(storm) = self.breaker.reject(&operation, code, &seen) {
            operation.held_by_breaker = true;
            self.count("storm");
            return Ended::Blocked(operation, "storm", storm);
        }
        let causes = item.error.as_ref().map(|error| error.causes());
        let message = format!("Elasticsearch refused the {}: {seen}", operation.name());
        self.reject(
            operation,
            Refusal::new(code, message),
            causes.unwrap_or_default(),
        );
        Ended::Settled
    }

    /// Gives the operation back for another try, unless the failures are its own by now.
    pub(super) fn tolerate(
        &mut self,
        mut operation: Operation,
        class: &'static str,
        code: &'static str,
        seen: &str,
    ) -> Ended {
        self.count(class);
        let stored = self.stored;
        let suspicion = operation.suspicion();
        if suspicion.faults == 0 || stored > suspicion.stored_at_last_fault {
            suspicion.faults += 1;
            suspicion.stored_at_last_fault = stored;
        }
        if suspicion.faults < FAULTS_MAX {
            return Ended::Again(operation);
        }
        let message = format!(
            "Elasticsearch failed {FAULTS_MAX} times over the {} while it stored others: {seen}",
            operation.name()
        );
        self.reject(operation, Refusal::new(code, message), String::new());
        Ended::Settled
    }
}

/// What an item's answer means for its operation now.
pub(super) enum Ended {
    Settled,
    /// Sent again; it may be its own fault.
    Again(Operation),
    /// Sent again, and not for anything that is wrong with it: the class of what is in the way, and what was seen.
    Blocked(Operation, &'static str, String),
}

fn class_of(operation: &Operation, item: &Item) -> ItemClass {
    let error_type = item.error.as_ref().map(|error| error.error_type());
    classify_item(
        operation.action,
        item.status,
        error_type,
        item.is_in_failure_store(),
    )
}

fn describe(item: &Item) -> String {
    match &item.error {
        Some(error) => format!("status {}, {}", item.status, error.describe()),
        None if item.is_in_failure_store() => format!(
            "status {}, but it went to the data stream's failure store",
            item.status
        ),
        None => format!("status {}", item.status),
    }
}
