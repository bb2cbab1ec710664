//! Aligned cuts (I1, I3, I4): what was processed, what has left and what is in state are all equally far. Nothing is read
//! between the moment a cut is due and the moment it is made.

use std::time::{Duration, Instant};

use super::Task;
use super::leftovers::write_missing_markers;
use crate::flow::FlowError;
use crate::kafka::{GroupOffsets, NextOffset, is_transport};
use crate::kill_point::kill_point;
use crate::status::TaskState;
use crate::task::election::Election;
use crate::task::limits::{
    ABORT_TRIES, CUT_RECORDS_MIN, FLUSH_WAIT, IDLE_WAIT, LONG_CALL_MEMORY, RENEW_INTERVAL,
    SEEK_WAIT, TRANSACTION_SHARE,
};
use crate::task::reader::{Reader, Reading};
use crate::task::{Memory, TaskContext, TaskError};
use crate::topology::Delivery;

/// What a task that commits cuts remembers between them.
pub(super) struct Cuts {
    /// A cut is due and not made.
    pub(super) is_due: bool,
    /// Records read since the last one.
    pub(super) records: usize,
    /// Records to read before the next: halved when sinks could not store that many in a transaction's time.
    pub(super) records_max: usize,
    /// After a rewind: nothing is read before every sink has settled what it still holds.
    pub(super) awaits_sinks: bool,
    /// When the group's offsets were last written.
    renewed_at: Instant,
    /// The brokers are known to keep what a transaction commits.
    is_verified: bool,
    /// Part of `transaction.timeout.ms` after which an open transaction is given up.
    open_max: Duration,
}

impl Cuts {
    pub(super) fn new(context: &TaskContext) -> Self {
        let timeout = context
            .pipeline
            .kafka
            .producer
            .get("transaction.timeout.ms");
        let timeout_ms = timeout.and_then(|ms| ms.parse().ok()).unwrap_or(15_000);
        Cuts {
            is_due: false,
            records: 0,
            records_max: usize::MAX,
            awaits_sinks: false,
            renewed_at: Instant::now(),
            is_verified: false,
            open_max: Duration::from_millis(timeout_ms) / TRANSACTION_SHARE,
        }
    }
}

/// Keeps the members in their groups while the brokers are asked again and again.
fn serve<'w>(
    context: &'w TaskContext,
    memory: &'w mut Memory,
    readers: &'w [Reader],
    election: Option<&'w Election>,
) -> impl FnMut(&str) -> bool + 'w {
    move |reason| {
        tracing::debug!(event = "transaction_waits", task = context.task, reason);
        memory.note_kafka_away(context, reason);
        context.status.set(TaskState::WaitingForKafka);
        readers.iter().for_each(|reader| reader.consumer.serve());
        election.into_iter().for_each(Election::serve);
        true
    }
}

/// Whether a group that answers `found` has kept `committed`. It may be further: a host that was stopped in between lost
/// its partitions, and another member went on with them.
fn is_kept(found: Option<i64>, committed: i64) -> bool {
    found.is_some_and(|found| found >= committed)
}

impl Task<'_> {
    /// A transaction is to be committed before it is so old that it would be given up (I4), whatever
    /// `checkpoint_interval` says.
    pub(super) fn is_transaction_old(&self) -> bool {
        self.is_transaction_open_for(self.cuts.open_max / 2)
    }

    fn is_transaction_open_for(&self, age: Duration) -> bool {
        let open_since = self.producers.borrow().transaction_open_since();
        open_since.is_some_and(|since| since.elapsed() >= age)
    }

    /// Makes the cut that is due, as far as it goes without waiting long; called in every turn until it is made.
    pub(super) fn serve_cut(&mut self) -> Result<(), TaskError> {
        if !self.cuts.is_due || self.try_cut()? {
            return Ok(());
        }
        // I4: an open transaction holds readers back, and the coordinator ends it at its timeout.
        if self.is_transaction_open_for(self.cuts.open_max) && !self.is_kafka_slow {
            return self.rewind("sinks have not settled within a third of transaction.timeout.ms");
        }
        Ok(())
    }

    /// A call that may take this long must not begin inside a transaction (I4): makes the cut first.
    pub(super) fn close_before_long_call(&mut self) -> Result<(), TaskError> {
        let is_open = self.producers.borrow().transaction_open_since().is_some();
        let expected = self.memory.longest_call(LONG_CALL_MEMORY);
        if is_open && expected >= self.cuts.open_max && self.flow.pending() > 0 {
            self.cuts.is_due = true;
            self.try_cut()?;
        }
        Ok(())
    }

    /// True when the cut is made; false while something is on its way.
    pub(super) fn try_cut(&mut self) -> Result<bool, TaskError> {
        let began = Instant::now();
        kill_point("before_flush");
        let flushed = self.flow.flush_outbox(FLUSH_WAIT);
        let flushed = flushed.map_err(|error| self.failed_in_cut(error))?;
        self.is_kafka_slow = !flushed;
        let positions = self.positions();
        let Some(offsets) = flushed.then(|| self.flow.cut(&positions)).flatten() else {
            let settled = self.flow.flush_sinks(IDLE_WAIT, &mut self.meter.counters);
            settled.map_err(|error| self.failed(error))?;
            return Ok(false);
        };
        kill_point("after_flush");
        let has_committed = self.commit_cut(&offsets)?;
        self.cuts.is_due = false;
        self.cuts.records = 0;
        self.cuts.records_max = self.cuts.records_max.saturating_mul(2);
        self.flow.count_settled(&mut self.meter.counters);
        self.committed_at = Instant::now();
        if has_committed {
            let took = began.elapsed();
            self.meter.counters.checkpoint_durations.observe(took);
        }
        kill_point("after_commit");
        Ok(true)
    }

    /// The next offset of each slot, as far as it was read.
    pub(super) fn positions(&self) -> Vec<i64> {
        let mut next = vec![i64::MIN; self.flow.slot_count()];
        for reading in self.readers.iter().flat_map(|reader| &reader.readings) {
            if let Some(offset) = next.get_mut(reading.slot as usize) {
                *offset = reading.time.position();
            }
        }
        next
    }

    /// Makes the cut at these offsets, by slot, durable; false where nothing has changed since the last.
    fn commit_cut(&mut self, offsets: &[i64]) -> Result<bool, TaskError> {
        let is_open = self.producers.borrow().transaction_open_since().is_some();
        let at = |reading: &Reading| offsets.get(reading.slot as usize).copied();
        let mut readings = self.readers.iter().flat_map(|reader| &reader.readings);
        let has_moved = readings.any(|reading| at(reading) > Some(reading.committed));
        let has_changed = self.flow.take_state_changed();
        // I7: nobody is a member of the source's group, and Kafka forgets the offsets of such a group.
        let expires = self.election.is_some() && self.cuts.renewed_at.elapsed() >= RENEW_INTERVAL;
        if !is_open && !has_moved && !has_changed && !expires {
            return Ok(false);
        }
        self.cuts.renewed_at = Instant::now();
        kill_point("in_transaction");
        self.write_checkpoints(offsets)?;
        kill_point("checkpoint_written");
        match self.context.pipeline.delivery {
            Delivery::ExactlyOnce => self.commit_in_transaction(offsets)?,
            Delivery::AtLeastOnce => self.commit_behind_checkpoint(offsets)?,
        }
        for reading in self
            .readers
            .iter_mut()
            .flat_map(|reader| &mut reader.readings)
        {
            if let Some(offset) = offsets.get(reading.slot as usize) {
                reading.committed = *offset;
                reading.cut = (*offset, reading.passed_ms);
                self.memory.forget_below(&reading.key, *offset);
            }
        }
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.committed();
        }
        if self.memory.ends_search(self.flow.has_refused_output()) {
            self.flow.end_search();
        }
        if self.context.pipeline.delivery == Delivery::ExactlyOnce {
            self.verify_first_commit()?;
        }
        Ok(true)
    }

    /// The offsets of a source's partitions as the group is to keep them. All of them, moved or not: in a transaction
    /// they are the fence against members that were replaced.
    fn next_offsets(&self, at: usize, offsets: &[i64]) -> Vec<NextOffset> {
        let readings = self.readers[at].readings.iter();
        let next = readings.filter_map(|reading| {
            let offset = offsets.get(reading.slot as usize)?;
            let checkpoints = self.checkpoints.as_ref();
            let metadata = checkpoints
                .map(|checkpoints| checkpoints.metadata(&self.slot_name(at, &reading.partition())));
            Some(reading.next_offset(*offset, metadata.unwrap_or_default()))
        });
        next.collect()
    }

    /// I4, I7: outputs, dead letters, checkpoints and offsets in one transaction, fenced by the memberships.
    fn commit_in_transaction(&mut self, offsets: &[i64]) -> Result<(), TaskError> {
        let mut groups = Vec::with_capacity(self.readers.len() + 1);
        if let Some(election) = &self.election {
            groups.push(election.fence()?);
        }
        for (at, reader) in self.readers.iter().enumerate() {
            let next = self.next_offsets(at, offsets);
            if !next.is_empty() {
                groups.push(reader.consumer.for_transaction(&next)?);
            }
        }
        self.end_transaction(&groups)
    }

    /// At least once, with state: the checkpoint is durable, the offsets follow it (I3).
    fn commit_behind_checkpoint(&mut self, offsets: &[i64]) -> Result<(), TaskError> {
        for at in 0..self.readers.len() {
            let next = self.next_offsets(at, offsets);
            while !next.is_empty()
                && let Err(error) = self.readers[at].consumer.commit(&next, true)
            {
                let is_away = error.rdkafka_error_code().is_some_and(is_transport);
                if !is_away || self.context.signals.wait(FLUSH_WAIT) {
                    return Err(TaskError::Rejoin(format!("kafka.commit: {error}")));
                }
                self.context.status.set(TaskState::WaitingForKafka);
                self.serve_members();
            }
        }
        Ok(())
    }

    fn end_transaction(&mut self, groups: &[GroupOffsets]) -> Result<(), TaskError> {
        let mut waiting = serve(
            self.context,
            self.memory,
            &self.readers,
            self.election.as_ref(),
        );
        let committed = self.producers.borrow_mut().commit(groups, &mut waiting);
        drop(waiting);
        Ok(committed?)
    }

    /// I4: a broker that accepts transactions without keeping them would lose records at the next restart.
    fn verify_first_commit(&mut self) -> Result<(), TaskError> {
        if self.cuts.is_verified {
            return Ok(());
        }
        for reader in &self.readers {
            let mut kept = None;
            let partitions: Vec<_> = reader.readings.iter().map(Reading::partition).collect();
            while kept.is_none() {
                let asked = reader.consumer.committed(&partitions, SEEK_WAIT);
                kept = asked.ok();
                if kept.is_none() && self.context.signals.wait(FLUSH_WAIT) {
                    return Ok(());
                }
                reader.consumer.serve();
            }
            let kept = kept.unwrap_or_default();
            for reading in &reader.readings {
                let found = kept.get(&reading.partition()).cloned().flatten();
                let offset = found.map(|committed| committed.offset);
                if !is_kept(offset, reading.committed) {
                    let (topic, partition) = reading.partition();
                    return Err(TaskError::Stop(format!(
                        "kafka.transactions_not_kept: after a committed transaction the group has {} for {topic}-{partition} where {} was committed: these brokers accept transactions without keeping them; set `delivery: at_least_once`",
                        offset.map_or("no offset".to_owned(), |offset| offset.to_string()),
                        reading.committed,
                    )));
                }
            }
        }
        self.cuts.is_verified = true;
        Ok(())
    }

    /// Takes back what was done since the last cut and goes on from there when every sink has settled (I4).
    pub(super) fn rewind(&mut self, reason: &str) -> Result<(), TaskError> {
        tracing::warn!(
            event = "rewound",
            task = self.context.task,
            reason,
            "the transaction was aborted; going back to the last commit"
        );
        self.abort()?;
        self.flow.rewind().map_err(|error| self.failed(error))?;
        self.meter.counters.rewind_pending();
        for reader in &mut self.readers {
            let mut positions = Vec::with_capacity(reader.readings.len());
            for reading in &mut reader.readings {
                let (offset, watermark_ms) = reading.cut;
                reading.go_back(offset, watermark_ms);
                positions.push((reading.partition(), offset));
            }
            reader.consumer.seek(&positions, SEEK_WAIT)?;
        }
        self.restore_last()?;
        self.pass_restored_watermarks()?;
        self.batch_records = 1;
        self.cuts.is_due = false;
        self.cuts.awaits_sinks = true;
        self.cuts.records_max = (self.cuts.records / 2).max(CUT_RECORDS_MIN);
        self.cuts.records = 0;
        Ok(())
    }

    fn abort(&mut self) -> Result<(), TaskError> {
        let mut waiting = serve(
            self.context,
            self.memory,
            &self.readers,
            self.election.as_ref(),
        );
        self.producers.borrow_mut().abort(&mut waiting)?;
        write_missing_markers(self.context, &self.producers, &mut waiting)
    }

    /// Frees readers of an open transaction when the task ends badly. A few tries: whoever comes next under this name ends
    /// it as well.
    pub(super) fn abort_at_end(&mut self) {
        let mut tries = 0;
        let mut waiting = |_: &str| {
            tries += 1;
            tries < ABORT_TRIES
        };
        if let Err(error) = self.producers.borrow_mut().abort(&mut waiting) {
            tracing::debug!(event = "abort_failed", task = self.context.task, reason = %error);
        }
    }

    /// A record that is refused while a cut is made: see [`Task::failed`].
    pub(super) fn failed_in_cut(&mut self, error: FlowError) -> TaskError {
        self.note_isolation(&error);
        error.into()
    }
}

#[cfg(test)]
mod tests {
    use super::is_kept;

    #[test]
    fn an_offset_that_another_member_moved_on_was_kept() {
        assert!(is_kept(Some(7), 7));
        assert!(is_kept(Some(8), 7), "another member went on");
        assert!(!is_kept(Some(6), 7), "the commit before it");
        assert!(!is_kept(None, 7), "never kept");
    }
}
