//! What the group, or the election, gives and takes: assignments, revocations, losses (I6, I7).

use std::collections::BTreeMap;
use std::time::Instant;

use super::Task;
use crate::kafka::{Partition, Rebalance};
use crate::kill_point::kill_point;
use crate::task::TaskError;
use crate::task::election::{Election, Loss};
use crate::task::limits::{NEW_PARTITIONS_INTERVAL, REVOKE_TIMEOUT};
use crate::task::reader::Asked;

impl Task<'_> {
    pub(super) fn serve_rebalances(&mut self) -> Result<(), TaskError> {
        let loss = self.election.as_ref().map(Election::poll).transpose()?;
        if let Some(loss) = loss.flatten() {
            return self.stand_down(loss);
        }
        if self.election.is_some() && self.sought_at.elapsed() >= NEW_PARTITIONS_INTERVAL {
            self.take_new_partitions("earliest")?;
        }
        for at in 0..self.readers.len() {
            while let Some(rebalance) = self.readers[at].consumer.poll() {
                self.serve_rebalance(at, &rebalance)?;
            }
            if let Some(reason) = self.readers[at].consumer.fatal_error() {
                return Err(TaskError::Restart(format!(
                    "kafka.consumer_fatal: {reason}"
                )));
            }
            if let Some(reason) = self.readers[at].consumer.take_commit_failure() {
                tracing::warn!(
                    event = "commit_failed",
                    task = self.context.task,
                    reason,
                    "will commit again"
                );
                for reading in &mut self.readers[at].readings {
                    reading.committed = i64::MIN;
                }
            }
        }
        Ok(())
    }

    /// Keeps every membership during a wait in the middle of something; what the groups ask for is answered later.
    pub(super) fn serve_members(&self) {
        self.readers
            .iter()
            .for_each(|reader| reader.consumer.serve());
        self.election.iter().for_each(Election::serve);
    }

    fn serve_rebalance(&mut self, at: usize, rebalance: &Rebalance) -> Result<(), TaskError> {
        let (kind, partitions) = match rebalance {
            Rebalance::Assign(partitions) => ("assigned", partitions),
            Rebalance::Revoke(partitions) => ("revoked", partitions),
            Rebalance::Lost(partitions) => ("lost", partitions),
        };
        let source = &self.readers[at].source.name;
        tracing::info!(event = kind, task = self.context.task, source, partitions = %shown(partitions), "partitions {kind}");
        match rebalance {
            Rebalance::Assign(partitions) => {
                let reset = self.readers[at].reset().to_owned();
                self.assign(at, partitions, &reset)
            }
            Rebalance::Revoke(partitions) => self.give_up(at, partitions),
            // I6: nothing of a lost partition is committed; what is in flight may have been read by its new owner.
            Rebalance::Lost(partitions) => {
                self.readers[at].unassign(partitions, &mut self.meter.counters)?;
                Err(TaskError::Rejoin(
                    "kafka.partitions_lost: the session expired".to_owned(),
                ))
            }
        }
    }

    /// I7: the active host reads all partitions of its sources. `reset` is for those without an offset.
    pub(super) fn take_new_partitions(&mut self, reset: &str) -> Result<(), TaskError> {
        self.sought_at = Instant::now();
        for at in 0..self.readers.len() {
            let Asked::Answer(partitions) = self.readers[at].partitions_not_read(self.context)?
            else {
                return Ok(());
            };
            if !partitions.is_empty() || !self.readers[at].is_assigned {
                let source = &self.readers[at].source.name;
                tracing::info!(event = "assigned", task = self.context.task, source, partitions = %shown(&partitions), "partitions assigned");
                self.assign(at, &partitions, reset)?;
            }
        }
        Ok(())
    }

    fn assign(
        &mut self,
        at: usize,
        partitions: &[Partition],
        reset: &str,
    ) -> Result<(), TaskError> {
        let reader = &self.readers[at];
        let Asked::Answer(committed) = reader.committed(partitions, self.context, self.memory)?
        else {
            return Ok(());
        };
        let Asked::Answer(beginnings) = self.find_beginnings(at, &committed)? else {
            return Ok(());
        };
        // I3: the position is the checkpoint's where there is one.
        let position = |partition: &Partition| {
            let beginning = beginnings.get(partition);
            let checkpoint = beginning.and_then(|beginning| beginning.checkpoint.as_ref());
            let committed = committed.get(partition).and_then(Option::as_ref);
            checkpoint
                .map(|checkpoint| checkpoint.offset)
                .or(committed.map(|committed| committed.offset))
        };
        let positions: BTreeMap<Partition, Option<i64>> = partitions
            .iter()
            .map(|partition| (partition.clone(), position(partition)))
            .collect();
        let assigned = self.readers[at].assign(
            &positions,
            reset,
            self.flow.slots(),
            &mut self.meter.counters,
            self.context,
            self.memory,
        );
        let Asked::Answer(()) = assigned? else {
            return Ok(());
        };
        self.note_partition_counts(at);
        self.restore(at, beginnings)?;
        if self.readers.iter().all(|reader| reader.is_assigned) {
            // What was late before is late again: transforms know their watermark before they see a record.
            self.pass_restored_watermarks()?;
            self.note_ready();
        }
        Ok(())
    }

    fn note_partition_counts(&mut self, at: usize) {
        if !self.context.pipeline.is_stateful() {
            return;
        }
        for topic in self.readers[at].source.topics.clone() {
            if let Some(count) = self.readers[at].consumer.partition_count(&topic) {
                self.flow.slots().set_partition_count(&topic, count);
            }
        }
    }

    /// I6: revoked partitions are finished and committed before they are given up.
    fn give_up(&mut self, at: usize, partitions: &[Partition]) -> Result<(), TaskError> {
        kill_point("in_revoke");
        let settled = self.settle(Instant::now() + REVOKE_TIMEOUT)?;
        if !self.commits_cuts {
            self.commit(true)?;
        }
        if !settled {
            // Nothing of it may become visible once another member has them.
            self.abort_at_end();
        }
        let released = self.readers[at].unassign(partitions, &mut self.meter.counters)?;
        if !settled || self.flow.pending() > 0 {
            return Err(TaskError::Rejoin(
                "kafka.revoked: records were still on their way".to_owned(),
            ));
        }
        for partition in partitions {
            let name = self.slot_name(at, partition);
            if let Some(checkpoints) = &mut self.checkpoints {
                checkpoints.forget(&name);
            }
        }
        for slot in released {
            let answer = self.flow.release(slot);
            answer.map_err(|error| self.failed(error))?;
        }
        // Where others stay (cooperative rebalancing, a second source) the instances keep what they hold of them.
        if self.readers.iter().all(|reader| reader.readings.is_empty()) {
            let answer = self.flow.renew();
            answer.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// I7: another host is the active one, or is to be. A new run of the task stands by.
    fn stand_down(&mut self, loss: Loss) -> Result<(), TaskError> {
        if loss == Loss::Revoked {
            kill_point("in_revoke");
            self.settle(Instant::now() + REVOKE_TIMEOUT)?;
        }
        Err(TaskError::Rejoin(
            "host.stand_by: another host is the active one".to_owned(),
        ))
    }
}

/// Names of partitions for the log.
pub(super) fn shown(partitions: &[Partition]) -> String {
    let names: Vec<String> = partitions
        .iter()
        .map(|(topic, partition)| format!("{topic}-{partition}"))
        .collect();
    names.join(", ")
}
