//! Decides what is sent when, and what an outcome means for each operation. No I/O and no clock of its own: the worker
//! tells it the time and the outcomes.
//!
//! * One document, one request at a time: operations on one document share a lane, and a lane belongs to one flight
//!   until that flight has a verdict for each of the lane's operations. Several operations of a lane may ride in one
//!   flight only if all carry a version, since the server then keeps their order whichever of them is sent again.
//! * An operation ends as stored, superseded or rejected, never by a timeout or a count of retries. Two rules convict on
//!   evidence: 400s for requests of this operation alone count from the third on, once another request was answered
//!   since it was first suspected; an unexplained failure counts each time another document was stored since the last.

mod items;
mod whole_request;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use weir_plugin_sdk::SinkMetric;

use crate::arrivals::Arrivals;
use crate::flight::Flight;
use crate::lanes::Lanes;
use crate::numbers::{Numbers, to_ms};
use crate::operation::{Lane, Operation};
use crate::outcome::Outcome;
use crate::pace::{BulkSize, Concurrency, Pace, backoff};
use crate::refusal::Refusal;
use crate::storm::StormBreaker;
use crate::write_plan::ConflictPolicy;

/// Unexplained failures of one operation, each with other documents stored since the one before, until it is rejected.
/// With the back-off below that is about a minute of a server that works for everyone else.
const FAULTS_MAX: u32 = 10;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) batch_records: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) batch_age: Duration,
    pub(crate) max_in_flight: usize,
    /// See [`StormBreaker`].
    pub(crate) max_rejections: usize,
    /// What a document means that is there when it should be created.
    pub(crate) on_conflict: ConflictPolicy,
}

/// How a record ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Stored,
    Superseded,
    /// With the chain of causes. In a box, for nearly every verdict is another one.
    Rejected(Box<(Refusal, String)>),
}

#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) seq: u64,
    /// Buffer that the record gives back.
    pub(crate) held_bytes: usize,
    pub(crate) verdict: Verdict,
}

#[derive(Debug)]
pub(crate) struct Scheduler {
    limits: Limits,
    /// In order of arrival; whether a lane is free is looked at when an operation is taken.
    ready: VecDeque<Operation>,
    ready_bytes: usize,
    lanes: Lanes,
    /// Flights between two attempts.
    waiting: VecDeque<Flight>,
    in_flight: usize,
    probe_in_flight: bool,
    failed_went_last: bool,
    next_flight: u32,
    /// Send without waiting for bulks to fill.
    flushing: bool,
    pace: Pace,
    concurrency: Concurrency,
    size: BulkSize,
    breaker: StormBreaker,
    random: fastrand::Rng,
    /// Requests that were answered item by item.
    answers: u64,
    /// Items that were stored or superseded.
    stored: u64,
    /// The same when every operation of a request was refused for now, the last time.
    stored_when_blocked: Option<u64>,
    settlements: Vec<Settlement>,
    errors: BTreeMap<&'static str, u64>,
    numbers: Numbers,
    /// The class that the metric of pauses said last.
    paused: Option<&'static str>,
    arrivals: Arrivals,
    /// Lanes and arrivals of operations that have a verdict, until [`Scheduler::free_lanes`].
    ended: Vec<(Lane, Instant)>,
}

impl Scheduler {
    pub(crate) fn new(limits: Limits, random: fastrand::Rng) -> Self {
        Scheduler {
            limits,
            ready: VecDeque::new(),
            ready_bytes: 0,
            lanes: Lanes::default(),
            waiting: VecDeque::new(),
            in_flight: 0,
            probe_in_flight: false,
            failed_went_last: false,
            next_flight: 0,
            flushing: false,
            pace: Pace::new(),
            concurrency: Concurrency::new(limits.max_in_flight),
            size: BulkSize::new(limits.batch_bytes),
            breaker: StormBreaker::new(limits.max_rejections),
            random,
            answers: 0,
            stored: 0,
            stored_when_blocked: None,
            settlements: Vec::new(),
            errors: BTreeMap::new(),
            numbers: Numbers::default(),
            paused: None,
            arrivals: Arrivals::default(),
            ended: Vec::new(),
        }
    }

    pub(crate) fn offer(&mut self, operations: impl IntoIterator<Item = Operation>) {
        let operations: Vec<Operation> = operations.into_iter().collect();
        for together in operations.chunk_by(|one, next| one.accepted_at == next.accepted_at) {
            if let [first, ..] = together {
                self.arrivals.enter(first.accepted_at, together.len());
            }
            let bytes = together.iter().map(|operation| operation.lines().len());
            self.ready_bytes += bytes.sum::<usize>();
        }
        let count = operations.len() as u64;
        self.numbers.add(SinkMetric::RecordsAccepted, "", count);
        self.ready.extend(operations);
    }

    /// While set, no bulk waits to be filled.
    pub(crate) fn set_flushing(&mut self, flushing: bool) {
        self.flushing = flushing;
    }

    /// Why the target makes no progress now.
    pub(crate) fn unavailable(&self) -> Option<&str> {
        self.pause().map(|(_, reason)| reason)
    }

    /// The same with its class.
    fn pause(&self) -> Option<(&'static str, &str)> {
        let idle = self.in_flight == 0 && self.ready.is_empty() && self.waiting.is_empty();
        let storm = || self.breaker.reason().map(|reason| ("storm", reason));
        self.pace.reason().or_else(storm).filter(|_| !idle)
    }

    pub(crate) fn take_settlements(&mut self) -> Vec<Settlement> {
        std::mem::take(&mut self.settlements)
    }

    /// Errors since the last call, by class.
    pub(crate) fn take_errors(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.errors)
    }

    /// What was counted since the last call, with the gauges of now.
    pub(crate) fn take_numbers(&mut self, now: Instant) -> Numbers {
        let mut numbers = std::mem::take(&mut self.numbers);
        let oldest = self.arrivals.oldest();
        let age = oldest.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        numbers.set(SinkMetric::OldestPendingMs, "", to_ms(age));
        let pending = self.arrivals.count() as u64;
        numbers.set(SinkMetric::PendingRecords, "", pending);
        numbers.set(SinkMetric::RequestsInFlight, "", self.in_flight as u64);
        numbers.set(SinkMetric::BlockedRecords, "", self.lanes.blocked() as u64);
        let paused = self.pause().map(|(class, _)| class);
        if let Some(ended) = self.paused.filter(|class| Some(*class) != paused) {
            numbers.set(SinkMetric::Paused, ended, 0);
        }
        if let Some(class) = paused {
            numbers.set(SinkMetric::Paused, class, 1);
        }
        self.paused = paused;
        numbers
    }

    /// The next request to send now, if there is one. Its outcome must come back by [`Scheduler::land`].
    pub(crate) fn launch(&mut self, now: Instant) -> Option<Flight> {
        if self.is_crowded() || self.pace.not_before().is_some_and(|moment| moment > now) {
            return None;
        }
        let mut flight = self.next_flight(now)?;
        self.failed_went_last = flight.failed;
        flight.not_before = None;
        flight.probes = self.pace.is_failing();
        flight.round = self.concurrency.round();
        self.probe_in_flight |= flight.probes;
        self.in_flight += 1;
        self.numbers
            .request_operations
            .observe(flight.front().len() as u64);
        for alike in flight
            .front()
            .chunk_by(|one, next| one.action == next.action)
        {
            if let [first, ..] = alike {
                let (action, count) = (first.action.name(), alike.len() as u64);
                self.numbers.add(SinkMetric::Operations, action, count);
            }
        }
        Some(flight)
    }

    /// Flights that failed take turns with the others, so that neither can keep the other from being sent.
    fn next_flight(&mut self, now: Instant) -> Option<Flight> {
        let failed_first = !self.failed_went_last;
        let flight = match failed_first {
            true => self.take_failed(now).or_else(|| self.take_fresh(now)),
            false => self.take_fresh(now).or_else(|| self.take_failed(now)),
        };
        flight.filter(|flight| !flight.is_empty())
    }

    fn take_failed(&mut self, now: Instant) -> Option<Flight> {
        let mut flight = self.take_waiting(now, |flight| flight.failed)?;
        self.cut(&mut flight);
        Some(flight)
    }

    fn take_fresh(&mut self, now: Instant) -> Option<Flight> {
        let waiting = self.take_waiting(now, |flight| !flight.failed);
        let mut flight = match waiting {
            Some(flight) => flight,
            None if self.ready_due().is_some_and(|due| due <= now) => self.new_flight(),
            None => return None,
        };
        self.cut(&mut flight);
        if flight.is_open() {
            self.fill(&mut flight, now);
        }
        Some(flight).filter(|flight| !flight.is_empty())
    }

    fn cut(&self, flight: &mut Flight) {
        flight.cut_front(self.size.target(), self.limits.batch_records);
    }

    /// When [`Scheduler::launch`] may have something, unless an operation or an outcome arrives before.
    pub(crate) fn next_launch(&self, now: Instant) -> Option<Instant> {
        if self.is_crowded() {
            return None;
        }
        let waiting = self
            .waiting
            .iter()
            .map(|flight| flight.not_before.unwrap_or(now))
            .min();
        let due = waiting.into_iter().chain(self.ready_due()).min()?;
        Some(self.pace.not_before().map_or(due, |moment| moment.max(due)))
    }

    /// Takes the outcome of a flight's attempt.
    pub(crate) fn land(&mut self, mut flight: Flight, outcome: Outcome, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.probe_in_flight &= !flight.probes;
        if let Some(class) = outcome.error_class() {
            self.count(class);
        }
        let class = outcome.error_class().unwrap_or("answered");
        self.numbers.add(SinkMetric::Requests, class, 1);
        flight.failed = outcome.error_class().is_some();
        match outcome {
            Outcome::Answered(items) => self.apply(&mut flight, items, now),
            Outcome::NotSent(reason) | Outcome::Systemic(reason) => {
                self.fail(class, reason, None, now);
            }
            Outcome::Overload(floor, reason) => {
                self.concurrency.overloaded(flight.round);
                self.fail(class, reason, floor, now);
            }
            Outcome::Unknown(doubt, reason) => self.doubt(&mut flight, doubt, reason, now),
            Outcome::TooLarge(reason) => self.shrink(&mut flight, reason, now),
            Outcome::BadRequest(reason) => self.bisect(&mut flight, reason, now),
        }
        self.free_lanes();
        if !flight.is_empty() {
            self.waiting.push_back(flight);
        }
    }

    /// While the target fails, one flight at a time asks whether it is back, beside those that were under way.
    fn is_crowded(&self) -> bool {
        self.in_flight >= self.concurrency.limit()
            || (self.pace.is_failing() && self.probe_in_flight)
    }

    fn count(&mut self, class: &'static str) {
        *self.errors.entry(class).or_default() += 1;
    }

    fn fail(&mut self, class: &'static str, reason: String, floor: Option<Duration>, now: Instant) {
        let random = &mut self.random;
        self.pace.failed(class, reason, floor, now, random);
    }

    /// A failure that may be the flight's own: if other requests were answered since it failed before, it alone waits.
    fn fail_alone(
        &mut self,
        flight: &mut Flight,
        class: &'static str,
        reason: String,
        now: Instant,
    ) {
        let others_pass = flight
            .answers_at_failure
            .is_some_and(|answers| self.answers > answers);
        flight.answers_at_failure = Some(self.answers);
        if others_pass {
            flight.failures_alone = flight.failures_alone.saturating_add(1);
            flight.not_before = Some(now + backoff(flight.failures_alone, &mut self.random));
        } else {
            self.fail(class, reason, None, now);
        }
    }

    /// When the operations that wait make a bulk: full, flushed, or old enough.
    fn ready_due(&self) -> Option<Instant> {
        let oldest = self.ready.front()?.accepted_at;
        let full =
            self.ready.len() >= self.limits.batch_records || self.ready_bytes >= self.size.target();
        Some(if full || self.flushing {
            oldest
        } else {
            oldest + self.limits.batch_age
        })
    }

    fn new_flight(&mut self) -> Flight {
        // A number may repeat after 4 billion requests. A flight that lives that long would share its lanes with the
        // other, and only for operations that carry versions.
        self.next_flight = self.next_flight.wrapping_add(1);
        Flight::new(self.next_flight)
    }

    fn take_waiting(&mut self, now: Instant, fits: impl Fn(&Flight) -> bool) -> Option<Flight> {
        let due =
            |flight: &Flight| flight.not_before.is_none_or(|moment| moment <= now) && fits(flight);
        let position = self.waiting.iter().position(due)?;
        self.waiting.remove(position)
    }

    /// Lets other retries that are due join, then new operations.
    fn fill(&mut self, flight: &mut Flight, now: Instant) {
        let (mut records, mut bytes) = (flight.front().len(), flight.body_bytes());
        let (max_records, max_bytes) = (self.limits.batch_records, self.size.target());
        let joins = |records: usize, bytes: usize| {
            move |other: &Flight| {
                other.is_open()
                    && records + other.front().len() <= max_records
                    && bytes + other.body_bytes() <= max_bytes
            }
        };
        while let Some(mut other) = self.take_waiting(now, joins(records, bytes)) {
            records += other.front().len();
            bytes += other.body_bytes();
            for operation in other.take_front() {
                self.lanes.move_to(&operation, flight.number);
                flight.push(operation);
            }
        }
        flight.reserve(self.ready.len().min(max_records.saturating_sub(records)));
        while records < max_records {
            let Some(next) = self.ready.front() else {
                break;
            };
            if records > 0 && bytes + next.lines().len() > max_bytes {
                break;
            }
            let Some(operation) = self.ready.pop_front() else {
                break;
            };
            self.ready_bytes = self.ready_bytes.saturating_sub(operation.lines().len());
            if let Some(operation) = self.lanes.enter(operation, flight.number) {
                records += 1;
                bytes += operation.lines().len();
                let waited = now.saturating_duration_since(operation.accepted_at);
                self.numbers.queue_wait_ms.observe(to_ms(waited));
                flight.push(operation);
            }
        }
    }

    fn settle(&mut self, operation: Operation, verdict: Verdict) {
        self.ended.push((operation.lane, operation.accepted_at));
        self.settlements.push(Settlement {
            seq: operation.seq,
            held_bytes: operation.lines().len(),
            verdict,
        });
    }

    /// Gives back the lanes of what has ended, all at once: each is a look into a table that the first cache does not
    /// hold, and a short loop lets the processor wait for several of them at a time.
    fn free_lanes(&mut self) {
        for together in self.ended.chunk_by(|one, next| one.1 == next.1) {
            if let [(_, accepted_at), ..] = together {
                self.arrivals.leave(*accepted_at, together.len());
            }
        }
        for (lane, _) in self.ended.drain(..) {
            for blocked in self.lanes.leave(lane).into_iter().rev() {
                self.ready_bytes += blocked.lines().len();
                self.ready.push_front(blocked);
            }
        }
    }

    fn reject(&mut self, operation: Operation, refusal: Refusal, causes: String) {
        self.count("rejected");
        self.numbers.add(SinkMetric::Items, "rejected", 1);
        self.settle(operation, Verdict::Rejected(Box::new((refusal, causes))));
    }
}

#[cfg(test)]
mod tests;
