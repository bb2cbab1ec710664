//! Settles and commits (I1), at every checkpoint, before partitions are given up, before the end (I8).

use std::thread;
use std::time::{Duration, Instant};

use super::Task;
use crate::flow::FlowError;
use crate::status::TaskState;
use crate::task::limits::{FLUSH_WAIT, FULL_WAIT, IDLE_WAIT};
use crate::task::{TaskEnd, TaskError};

impl Task<'_> {
    /// A refused record ends the host, but what stands before it is finished and committed first (I1).
    pub(super) fn failed(&mut self, error: FlowError) -> TaskError {
        if matches!(error, FlowError::Refused { .. }) {
            // Best effort: what cannot be settled now is read again.
            let counters = &mut self.meter.counters;
            self.flow.finish_before_refused(counters);
            let _ = self.flow.flush(FLUSH_WAIT, counters);
            let _ = self.commit(true);
        }
        self.note_isolation(&error);
        error.into()
    }

    /// Remembers how far records must be read one at a time.
    fn note_isolation(&mut self, error: &FlowError) {
        if matches!(
            error,
            FlowError::Isolate { .. } | FlowError::Poisoned { .. }
        ) {
            for reading in self.readers.iter().flat_map(|reader| &reader.readings) {
                self.memory.isolate(&reading.key, reading.next);
            }
        }
    }

    /// Finishes what was read, without reading more; false when the deadline passed first.
    pub(super) fn settle(&mut self, deadline: Instant) -> Result<bool, TaskError> {
        loop {
            let settled = self.flow.advance(&mut self.meter.counters);
            let settled =
                settled.and_then(|_| self.flow.flush(IDLE_WAIT, &mut self.meter.counters));
            let settled = settled.map_err(|error| self.failed(error))?;
            self.flow.count_settled(&mut self.meter.counters);
            if settled || Instant::now() >= deadline {
                return Ok(settled);
            }
            thread::park_timeout(FULL_WAIT);
        }
    }

    /// I1: flushes the producer and commits what is durable, where it has moved.
    pub(super) fn commit(&mut self, wait: bool) -> Result<(), TaskError> {
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
        self.commit_offsets(wait || refused.is_some())?;
        let took = self.committed_at.elapsed();
        self.meter.counters.checkpoint_durations.observe(took);
        refused.map_or(Ok(()), |error| Err(error.into()))
    }

    fn commit_offsets(&mut self, wait: bool) -> Result<(), TaskError> {
        let mut next = vec![i64::MIN; self.flow.slots().count()];
        for reading in self.readers.iter().flat_map(|reader| &reader.readings) {
            if let Some(offset) = next.get_mut(reading.slot as usize) {
                *offset = reading.time.position();
            }
        }
        let offsets = self.flow.committable(&next)?;
        for reader in &mut self.readers {
            let mut moved = Vec::new();
            for reading in &mut reader.readings {
                let offset = offsets
                    .get(reading.slot as usize)
                    .copied()
                    .unwrap_or(i64::MIN);
                let key = &reading.key;
                self.memory.poison.retain(|poison, _| {
                    poison.topic != key.topic
                        || poison.partition != key.partition
                        || poison.offset >= offset
                });
                if offset > reading.committed {
                    reading.committed = offset;
                    moved.push(((reading.key.topic.clone(), reading.key.partition), offset));
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
        Ok(())
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
        self.commit(true)?;
        self.flow.count_settled(&mut self.meter.counters);
        self.meter.publish();
        let pending = self.flow.pending();
        Ok(if settled {
            TaskEnd::Drained
        } else {
            TaskEnd::DrainedInPart { pending }
        })
    }
}
