//! Settles and commits (I1), at every interval, before partitions are given up, before the end (I8).

use std::thread;
use std::time::{Duration, Instant};

use super::Task;
use crate::flow::{Advance, FlowError, Poison};
use crate::status::TaskState;
use crate::task::limits::{FLUSH_WAIT, FULL_WAIT, IDLE_WAIT};
use crate::task::{TaskEnd, TaskError};

impl Task<'_> {
    /// A refused record ends the host, but what stands before it is finished and committed first (I1).
    pub(super) fn failed(&mut self, error: FlowError) -> TaskError {
        if matches!(error, FlowError::Refused { .. }) {
            // Best effort: what cannot be settled now is read again.
            self.flow.finish_before_refused(&mut self.meter.counters);
            let _ = self.flow.flush(FLUSH_WAIT, &mut self.meter.counters);
            let _ = self.commit(true);
        }
        self.note_isolation(&error);
        error.into()
    }

    /// Remembers how far records must be read one at a time, or that outputs must leave so.
    pub(super) fn note_isolation(&mut self, error: &FlowError) {
        match error {
            FlowError::IsolateOutputs { .. } => self.memory.isolate_outputs(),
            FlowError::Poisoned {
                poison: Poison::Output { .. },
                ..
            } => {
                let is_progress = self.flow.has_refused_output();
                self.memory.note_output_found(is_progress);
            }
            FlowError::Isolate { .. }
            | FlowError::Poisoned {
                poison: Poison::Record { .. },
                ..
            } => {
                for reading in self.readers.iter().flat_map(|reader| &reader.readings) {
                    self.memory.isolate(&reading.key, reading.next);
                }
            }
            _ => {}
        }
    }

    /// Finishes what was read, without reading more; false when the deadline passed first. Where cuts are committed it
    /// ends early at a slow plugin: records that nothing was done with may stay behind, they are read again.
    pub(super) fn settle(&mut self, deadline: Instant) -> Result<bool, TaskError> {
        loop {
            let advance = self.flow.advance(&mut self.meter.counters);
            let advance = advance.map_err(|error| self.failed(error))?;
            let settled = self.flow.flush(IDLE_WAIT, &mut self.meter.counters);
            let settled = settled.map_err(|error| self.failed(error))?;
            if self.commits_cuts {
                let is_slow = advance == Advance::Yielded;
                if (settled || is_slow) && self.try_cut()? {
                    return Ok(true);
                }
            } else {
                self.flow.count_settled(&mut self.meter.counters);
            }
            let is_done = settled && !self.commits_cuts;
            if is_done || Instant::now() >= deadline {
                return Ok(is_done);
            }
            thread::park_timeout(FULL_WAIT);
        }
    }

    /// Commits what is durable. With `wait` it returns when the group has it; a cut that is not aligned is not made.
    pub(super) fn commit(&mut self, wait: bool) -> Result<(), TaskError> {
        if self.commits_cuts {
            return self.try_cut().map(|_| ());
        }
        self.commit_prefix(wait)
    }

    /// I1: flushes the producer and commits the settled prefix, where it has moved.
    fn commit_prefix(&mut self, wait: bool) -> Result<(), TaskError> {
        self.committed_at = Instant::now();
        let refused = match self.flow.flush_outbox(FLUSH_WAIT) {
            Ok(flushed) => {
                self.is_kafka_slow = !flushed;
                None
            }
            // Its place stays open: what stands before it is committed.
            Err(error @ FlowError::Refused { .. }) => Some(error),
            Err(error) => {
                self.note_isolation(&error);
                return Err(error.into());
            }
        };
        self.commit_offsets(wait || refused.is_some());
        let took = self.committed_at.elapsed();
        self.meter.counters.checkpoint_durations.observe(took);
        refused.map_or(Ok(()), |error| Err(error.into()))
    }

    fn commit_offsets(&mut self, wait: bool) {
        let offsets = self.flow.settled_prefix(&self.positions());
        for reader in &mut self.readers {
            let mut moved = Vec::new();
            for reading in &mut reader.readings {
                let offset = offsets.get(reading.slot as usize).copied();
                let offset = offset.unwrap_or(i64::MIN);
                self.memory.forget_below(&reading.key, offset);
                if offset > reading.committed {
                    reading.committed = offset;
                    moved.push(reading.next_offset(offset, String::new()));
                }
            }
            if !moved.is_empty()
                && let Err(error) = reader.consumer.commit(&moved, wait)
            {
                tracing::warn!(event = "commit_failed", task = self.context.task, reason = %error, "will commit again");
                for reading in &mut reader.readings {
                    reading.committed = i64::MIN;
                }
            }
        }
    }

    pub(super) fn is_isolating(&self) -> bool {
        let below = &self.memory.isolate_below;
        !below.is_empty()
            && self
                .readers
                .iter()
                .flat_map(|reader| &reader.readings)
                .any(|reading| {
                    below
                        .get(&reading.key)
                        .is_some_and(|below| reading.next <= *below && reading.committed < *below)
                })
    }

    /// I8: no more reading; finish, commit, leave the group.
    pub(super) fn drain(&mut self) -> Result<TaskEnd, TaskError> {
        self.context.status.set(TaskState::Draining);
        // The process's own deadline (shutdown_timeout) ends it whatever happens here; a second before, commit what is settled.
        let timeout = self.context.pipeline.shutdown_timeout;
        let deadline =
            Instant::now() + timeout.saturating_sub(Duration::from_secs(1).min(timeout / 10));
        let settled = self.settle(deadline)?;
        if !self.commits_cuts {
            self.commit_prefix(true)?;
            self.flow.count_settled(&mut self.meter.counters);
        }
        self.meter.publish();
        let pending = self.flow.pending();
        Ok(if settled {
            TaskEnd::Drained
        } else {
            TaskEnd::DrainedInPart { pending }
        })
    }
}
