//! Moves records on: sinks first, then the most downstream transform that can run.

use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use weir_plugin_api::host::{Arena, CallScope, Collected, OwnedBatch, collect};
use weir_plugin_api::{Record, SEQ_DERIVED, TimerRequest};

use super::{Advance, Flow, FlowError, Poison, Receiver, Refusal, Target, broken, mark};
use crate::metrics::TaskCounters;
use crate::plugin::CallErrorKind;
use crate::topology::Policy;

/// Records that may wait at the entrance of a node before the nodes above it are held back.
pub const INPUT_RECORDS_MAX: usize = 8_192;
/// A call that lasted this long ends the round: the task polls, flushes and commits before the next.
pub const SLOW_CALL: Duration = Duration::from_millis(100);
/// Timers that transforms may wait for at once (I9): each is looked at in every turn, and 100,000 take a millisecond.
pub const TIMERS_MAX: usize = 100_000;
/// Wait before a sink that asked for a retry without a time is offered records again.
const SINK_RETRY_WAIT: Duration = Duration::from_millis(100);

impl Flow {
    /// Moves records on until nothing can be done or a call has taken long.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn advance(&mut self, counters: &mut TaskCounters) -> Result<Advance, FlowError> {
        loop {
            if self.may_deliver() {
                self.drain_into_sinks()?;
            }
            let now = Instant::now();
            let Some(index) = self.runnable(now) else {
                if self.may_deliver() || !self.is_short_of_room(now) {
                    return Ok(Advance::Idle);
                }
                // More came out than may wait: it leaves, though a cut is not aligned before the rest is done.
                self.drain_into_sinks()?;
                if self.runnable(now).is_none() {
                    return Ok(Advance::Idle);
                }
                continue;
            };
            let ran = self.run_transform(index, counters);
            if matches!(ran, Err(FlowError::Refused { .. })) {
                self.closed_below = self.closed_below.max(index + 1);
            }
            if ran? == Advance::Yielded {
                if self.may_deliver() {
                    self.drain_into_sinks()?;
                }
                return Ok(Advance::Yielded);
            }
        }
    }

    fn may_deliver(&self) -> bool {
        !self.delivers_together || self.transforms_are_idle()
    }

    fn drain_into_sinks(&mut self) -> Result<(), FlowError> {
        (0..self.sinks.len()).try_for_each(|index| self.drain_into_sink(index))
    }

    /// The most downstream first, so that nothing piles up between the nodes.
    fn runnable(&self, now: Instant) -> Option<usize> {
        let mut downstream_first = (0..self.transforms.len()).rev();
        downstream_first.find(|index| self.can_run(*index, now))
    }

    /// Some transform could run if what is below it took more.
    fn is_short_of_room(&self, now: Instant) -> bool {
        let open = self.transforms.iter().skip(self.closed_below);
        open.into_iter().any(|node| node.next(now).is_some())
    }

    fn can_run(&self, index: usize, now: Instant) -> bool {
        let node = &self.transforms[index];
        let room = |receiver: &Receiver| self.waiting(*receiver) < INPUT_RECORDS_MAX;
        index >= self.closed_below && node.next(now).is_some() && node.receivers.iter().all(room)
    }

    /// One call of a transform, and everything that follows from it.
    fn run_transform(
        &mut self,
        index: usize,
        counters: &mut TaskCounters,
    ) -> Result<Advance, FlowError> {
        let began = Instant::now();
        let Some((input, range)) = self.transforms[index].next(began) else {
            return Ok(Advance::Idle);
        };
        if self.refuse_poisoned(index, &input, range.start)? {
            return Ok(Advance::Idle);
        }
        let range = self.up_to_poison(index, &input, range);
        let scope = CallScope {
            slots: self.slots.names(),
            now_ms: self.clock.now_ms(),
            yield_flag: self.monitor.yield_flag(),
        };
        let instance = &mut self.transforms[index].instance;
        self.monitor.begin(index);
        let (processed, collected) = collect(
            &input,
            range.clone(),
            scope,
            Arena::default(),
            |batch, out| instance.process(batch, out),
        );
        self.monitor.end();
        let took = began.elapsed();
        counters[self.transform_counters[index]]
            .call_durations
            .observe(took);
        let error = processed.error;
        if let Some(error) = error
            .as_ref()
            .filter(|error| error.kind == CallErrorKind::Panic)
        {
            drop(collected);
            self.recover_from_panic(index, &input, range.len(), range.start, error)?;
            return Ok(Advance::Yielded);
        }
        let records = processed.consumed.min(range.len());
        let (records, collected, refused) =
            self.stop_before_refused(index, &input, &range, records, collected);
        self.transforms[index].input.consume(records);
        self.take_outputs(index, collected)?;
        self.consume_inputs(index, &input, range.start..range.start + records);
        if let Some((seq, refusal)) = refused {
            self.refuse(seq, &refusal)?;
        }
        match error {
            Some(error) if error.kind == CallErrorKind::Retryable => {
                if records > 0 {
                    // It is another record that fails now: its `retry_timeout` begins.
                    self.transforms[index].retry = None;
                }
                self.retry_or_refuse(index, &input, range.start + records, &error)?;
                Ok(Advance::Yielded)
            }
            Some(error) => Err(broken(&self.transforms[index].name, &error)),
            None => {
                self.transforms[index].retry = None;
                let cut_short = records < range.len();
                Ok(if cut_short || took >= SLOW_CALL {
                    Advance::Yielded
                } else {
                    Advance::Idle
                })
            }
        }
    }

    /// Under `on_error: fail` nothing of the first refused record and those behind it moves on: what stands before it is
    /// delivered and committed, up to exactly there. Records derived from many move on all the same: the state that
    /// they came from holds them no more.
    fn stop_before_refused(
        &self,
        index: usize,
        input: &OwnedBatch,
        range: &Range<usize>,
        records: usize,
        mut collected: Collected,
    ) -> (usize, Collected, Option<(u64, Refusal)>) {
        if self.on_error.policy != Policy::Fail || collected.failures.is_empty() {
            return (records, collected, None);
        }
        let consumed = input.records().get(range.clone()).unwrap_or_default();
        let consumed = consumed.get(..records).unwrap_or_default();
        let refused = consumed.iter().enumerate().find_map(|(at, record)| {
            let mut failures = collected.failures.iter();
            failures
                .find(|failure| failure.seq == record.seq)
                .map(|failure| (at, failure))
        });
        let Some((before, failure)) = refused else {
            return (records, collected, None);
        };
        let (seq, refusal) = (failure.seq, self.transform_refusal(index, failure));
        // Outputs may stand in any order, inputs derived from one record may share its number.
        let kept: BTreeSet<u64> = consumed[..before].iter().map(|record| record.seq).collect();
        collected
            .batch
            .retain(|record| record.seq == SEQ_DERIVED || kept.contains(&record.seq));
        collected.failures.clear();
        collected.timers.clear();
        (before, collected, Some((seq, refusal)))
    }

    /// True where the record at the front is one at which this transform is known to panic; it is done then.
    fn refuse_poisoned(
        &mut self,
        index: usize,
        input: &OwnedBatch,
        at: usize,
    ) -> Result<bool, FlowError> {
        let Some((seq, refusal)) = self.poisoned(index, input, at) else {
            return Ok(false);
        };
        self.transforms[index].input.consume(1);
        self.refuse(seq, &refusal)?;
        self.ledger.done(seq);
        Ok(true)
    }

    /// The range as far as the first record at which this transform is known to panic.
    fn up_to_poison(&self, index: usize, batch: &OwnedBatch, range: Range<usize>) -> Range<usize> {
        if self.poison.is_empty() {
            return range;
        }
        let poisoned =
            (range.start..range.end).find(|at| self.poisoned(index, batch, *at).is_some());
        range.start..poisoned.unwrap_or(range.end)
    }

    fn poisoned(&self, index: usize, batch: &OwnedBatch, at: usize) -> Option<(u64, Refusal)> {
        let record = batch.records().get(at)?;
        let refusal = self.poisoned_at(Some(&self.transforms[index].name), record)?;
        Some((record.seq, refusal))
    }

    /// Why the record is to be refused at this node, or before any (`None`).
    pub(super) fn poisoned_at(&self, node: Option<&str>, record: &Record<'_>) -> Option<Refusal> {
        if self.poison.is_empty() {
            return None;
        }
        let key = self.slots.key(record.slot)?;
        let poison = Poison::Record {
            node: node.map(str::to_owned),
            topic: key.topic.clone(),
            partition: key.partition,
            offset: record.offset,
        };
        self.poison.get(&poison).cloned()
    }

    fn consume_inputs(&mut self, index: usize, input: &OwnedBatch, range: Range<usize>) {
        let stateful = self.transforms[index].is_stateful();
        for record in input.records().get(range).unwrap_or_default() {
            if stateful {
                self.ledger.mark(record.seq, mark::ABSORBED);
            }
            self.ledger.done(record.seq);
        }
    }

    /// Sends what a call emitted to the node's receivers and refuses what it refused.
    pub(super) fn take_outputs(
        &mut self,
        index: usize,
        collected: Collected,
    ) -> Result<(), FlowError> {
        let Collected {
            mut batch,
            failures,
            timers,
        } = collected;
        self.take_timers(index, &timers)?;
        let receivers = self.transforms[index].receivers.clone();
        let targets = u32::try_from(receivers.len()).unwrap_or(u32::MAX);
        let mut derived = Vec::new();
        for (position, record) in batch.records().iter().enumerate() {
            match record.seq {
                SEQ_DERIVED => derived.push(u32::try_from(position).unwrap_or(u32::MAX)),
                seq => self.ledger.add(seq, targets),
            }
        }
        self.state_changed |= !derived.is_empty();
        let first_derived = (!derived.is_empty()).then(|| {
            let first = self.ledger.open_derived(index, derived, targets);
            batch.number_derived(first);
            first
        });
        if !batch.is_empty() {
            let batch = Rc::new(batch);
            if let Some(first) = first_derived {
                self.ledger.attach(first, &batch);
            }
            self.send(&receivers, &batch, 0..batch.len());
        }
        for failure in failures {
            let refusal = self.transform_refusal(index, &failure);
            self.refuse(failure.seq, &refusal)?;
        }
        Ok(())
    }

    fn take_timers(&mut self, index: usize, timers: &[TimerRequest]) -> Result<(), FlowError> {
        for timer in timers {
            self.timers
                .insert((index, timer.slot, timer.id), timer.at_ms);
        }
        if self.timers.len() <= TIMERS_MAX {
            return Ok(());
        }
        Err(FlowError::Broken {
            code: "plugin.protocol.timers".into(),
            message: format!(
                "node `{}` asks for more than {TIMERS_MAX} timers at once; set one for each window, not for each record",
                self.transforms[index].name
            ),
        })
    }

    fn drain_into_sink(&mut self, index: usize) -> Result<(), FlowError> {
        let now = Instant::now();
        let node = &mut self.sinks[index];
        if node.retry_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        node.retry_at = None;
        while let Some((batch, range)) = self.sinks[index].input.front() {
            let taken = self.offer(index, &batch, range.clone(), now)?;
            let node = &mut self.sinks[index];
            if taken < range.len() {
                // Full since the first moment at which it took nothing.
                node.full_since = if taken > 0 {
                    None
                } else {
                    node.full_since.or(Some(now))
                };
                return Ok(());
            }
            node.full_since = None;
        }
        self.sinks[index].full_since = None;
        Ok(())
    }

    /// Offers a sink the front of its input; answers how many records it took.
    fn offer(
        &mut self,
        index: usize,
        batch: &Rc<OwnedBatch>,
        range: Range<usize>,
        now: Instant,
    ) -> Result<usize, FlowError> {
        let node = &mut self.sinks[index];
        match &mut node.target {
            Target::Kafka { .. } if self.alone.is_wanted => self.offer_alone(index, batch, range),
            Target::Kafka { .. } => {
                self.hand_over(index, batch.records().get(range).unwrap_or_default())
            }
            Target::Plugin(sink) => {
                let scope = CallScope {
                    slots: self.slots.names(),
                    now_ms: self.clock.now_ms(),
                    yield_flag: self.monitor.yield_flag(),
                };
                self.monitor.begin(self.transforms.len() + index);
                let (taken, error) = sink.write(batch, range, scope);
                self.monitor.end();
                node.input.consume(taken);
                match error {
                    None => Ok(taken),
                    Some(error) if error.kind == CallErrorKind::Retryable => {
                        node.retry_at = Some(now + error.retry_after.unwrap_or(SINK_RETRY_WAIT));
                        Ok(taken)
                    }
                    Some(error) => Err(broken(&node.name, &error)),
                }
            }
        }
    }

    /// Hands the front of a Kafka sink's input to the producer; answers how many records it took.
    pub(super) fn hand_over(
        &mut self,
        index: usize,
        records: &[Record<'_>],
    ) -> Result<usize, FlowError> {
        let node = &mut self.sinks[index];
        let Target::Kafka { topic } = &node.target else {
            return Ok(0);
        };
        let taken = self.outbox.produce(&node.name, topic, records);
        let records = records.get(..taken).unwrap_or(records);
        node.input.consume(records.len());
        for record in records {
            self.ledger.mark(record.seq, mark::PRODUCED);
            self.unflushed.push(record.seq);
        }
        // What the client refuses by itself shows at once, while the originals are still here.
        let refused = self.take_failures();
        for record in records {
            self.ledger.release_bytes(record.seq);
        }
        refused.map(|()| records.len())
    }

    /// After [`FlowError::Refused`]: moves on what stands before the refused record, as far as it goes without waiting.
    pub fn finish_before_refused(&mut self, counters: &mut TaskCounters) {
        // Each further refusal closes one transform more.
        for _ in 0..=self.transforms.len() {
            match self.advance(counters) {
                Err(FlowError::Refused { .. }) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}
