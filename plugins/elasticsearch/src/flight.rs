//! Operations that travel together until each has its verdict.

use std::collections::VecDeque;
use std::time::Instant;

use crate::operation::{Lane, Operation};

/// A flight holds the lanes of all its operations from its first attempt to its last verdict, so no document is ever
/// in two requests at once. After a split its segments are sent one after the other, the front one first.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) number: u32,
    /// No segment is empty.
    segments: VecDeque<Vec<Operation>>,
    /// Room for the next segment.
    spare: Vec<Operation>,
    /// Not sent before this moment.
    pub(crate) not_before: Option<Instant>,
    /// Attempts in a row of the front segment, or of what it was cut from, that ended in doubt.
    pub(crate) strikes: u32,
    /// A guilty operation is being looked for: nothing may join.
    pub(crate) isolating: bool,
    /// Sent to see whether the target is back.
    pub(crate) probes: bool,
    /// The round of [`crate::pace::Concurrency`] in which it was sent last.
    pub(crate) round: u64,
    /// The last attempt failed as a whole.
    pub(crate) failed: bool,
    /// Attempts in a row that failed although other requests were answered in between.
    pub(crate) failures_alone: u32,
    /// Attempts in a row with one suspected operation that were refused.
    pub(crate) failures_in_a_row: u32,
    /// How many requests had been answered when an attempt failed last.
    pub(crate) answers_at_failure: Option<u64>,
}

impl Flight {
    pub(crate) fn new(number: u32) -> Self {
        Flight {
            number,
            segments: VecDeque::new(),
            spare: Vec::new(),
            not_before: None,
            strikes: 0,
            isolating: false,
            probes: false,
            round: 0,
            failed: false,
            failures_alone: 0,
            failures_in_a_row: 0,
            answers_at_failure: None,
        }
    }

    /// The operations of the next or present attempt.
    pub(crate) fn front(&self) -> &[Operation] {
        self.segments.front().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn front_mut(&mut self) -> &mut [Operation] {
        self.segments.front_mut().map_or(&mut [], Vec::as_mut_slice)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(crate) fn body_bytes(&self) -> usize {
        self.front()
            .iter()
            .map(|operation| operation.lines().len())
            .sum()
    }

    /// The request's body, newline-delimited JSON.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.body_bytes());
        for operation in self.front() {
            body.extend_from_slice(operation.lines());
        }
        body
    }

    pub(crate) fn take_front(&mut self) -> Vec<Operation> {
        self.strikes = 0;
        self.failures_in_a_row = 0;
        self.segments.pop_front().unwrap_or_default()
    }

    /// Takes out every operation, of any segment, whose lane is asked for.
    pub(crate) fn take_lanes(&mut self, asked: impl Fn(Lane) -> bool) -> Vec<Operation> {
        let mut taken = Vec::new();
        for segment in &mut self.segments {
            taken.extend(segment.extract_if(.., |operation| asked(operation.lane)));
        }
        self.segments.retain(|segment| !segment.is_empty());
        taken
    }

    pub(crate) fn put_front(&mut self, operations: Vec<Operation>) {
        if !operations.is_empty() {
            self.segments.push_front(operations);
        }
    }

    /// Makes room for `operations` that are to be pushed.
    pub(crate) fn reserve(&mut self, operations: usize) {
        match self.segments.back_mut() {
            Some(segment) => segment.reserve(operations),
            None => self.spare = Vec::with_capacity(operations),
        }
    }

    pub(crate) fn push(&mut self, operation: Operation) {
        match self.segments.back_mut() {
            Some(segment) => segment.push(operation),
            None => {
                let mut segment = std::mem::take(&mut self.spare);
                segment.push(operation);
                self.segments.push_back(segment);
            }
        }
    }

    /// Others may join it, and it may join others: it is one segment in which nothing is suspected.
    pub(crate) fn is_open(&self) -> bool {
        !self.isolating && !self.failed && self.segments.len() <= 1
    }

    /// One operation alone, and even so its request was refused.
    pub(crate) fn is_suspect(&self) -> bool {
        self.failures_in_a_row > 0 && self.segments.len() == 1 && self.front().len() == 1
    }

    /// Halves the front segment, in order. Only a segment of two or more has halves.
    pub(crate) fn halve_front(&mut self) {
        self.split_front(self.front().len() / 2);
    }

    /// Leaves at most `max_bytes` and `max_records` in the front segment, but at least one operation.
    pub(crate) fn cut_front(&mut self, max_bytes: usize, max_records: usize) {
        let mut bytes = 0;
        let fitting = self
            .front()
            .iter()
            .take(max_records)
            .take_while(|operation| {
                bytes += operation.lines().len();
                bytes <= max_bytes
            });
        let fitting = fitting.count().max(1);
        if fitting < self.front().len() {
            self.split_front(fitting);
        }
    }

    /// The front segment waits until the others were sent. Operations of one document keep no order by this, but such
    /// ride in one flight only if they carry versions.
    pub(crate) fn rotate(&mut self) {
        self.strikes = 0;
        self.segments.rotate_left(1.min(self.segments.len()));
    }

    fn split_front(&mut self, at: usize) {
        let Some(front) = self.segments.front_mut() else {
            return;
        };
        if at == 0 || at >= front.len() {
            return;
        }
        let rest = front.split_off(at);
        self.segments.insert(1, rest);
    }
}
