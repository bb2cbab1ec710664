//! What the group gives and takes: assignments, revocations, losses (I6, I7).

use std::time::Instant;

use super::Task;
use crate::kafka::Rebalance;
use crate::task::TaskError;
use crate::task::limits::REVOKE_TIMEOUT;
use crate::task::reader::{Asked, Reader};
use crate::topology::Scope;

impl Task<'_> {
    pub(super) fn serve_rebalances(&mut self) -> Result<(), TaskError> {
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

    fn serve_rebalance(&mut self, at: usize, rebalance: &Rebalance) -> Result<(), TaskError> {
        let (kind, partitions) = match rebalance {
            Rebalance::Assign(partitions) => ("assigned", partitions),
            Rebalance::Revoke(partitions) => ("revoked", partitions),
            Rebalance::Lost(partitions) => ("lost", partitions),
        };
        let source = &self.readers[at].source.name;
        tracing::info!(event = kind, task = self.context.task, source, partitions = %shown(partitions), "partitions {kind}");
        match rebalance {
            Rebalance::Assign(partitions) => self.assign(at, partitions),
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

    fn assign(&mut self, at: usize, partitions: &[(String, i32)]) -> Result<(), TaskError> {
        let slots = self.flow.slots();
        let assigned = self.readers[at].assign(
            partitions,
            slots,
            &mut self.meter.counters,
            self.context,
            &mut self.memory.is_kafka_away,
        );
        match assigned? {
            Asked::Draining => return Ok(()),
            Asked::Answer(()) => {}
        }
        self.judge_ownership();
        if !self.memory.was_ready && self.readers.iter().all(|reader| reader.is_assigned) {
            self.memory.was_ready = true;
            (self.context.on_ready)();
        }
        Ok(())
    }

    /// I7, as far as it goes without standby hosts: a result that needs every partition is not made from some.
    pub(super) fn judge_ownership(&mut self) {
        if self.context.pipeline.scope() != Scope::Pipeline {
            return;
        }
        self.judged_at = Instant::now();
        let missing: Vec<String> = self
            .readers
            .iter()
            .filter_map(Reader::missing_partitions)
            .collect();
        let not_owner = (!missing.is_empty()).then(|| {
            format!(
                "the pipeline needs every partition in one task; not assigned here: {}",
                missing.join(", ")
            )
        });
        if let Some(reason) = not_owner.as_ref().filter(|_| not_owner != self.not_owner) {
            tracing::warn!(event = "not_owner", task = self.context.task, reason);
        }
        self.not_owner = not_owner;
    }

    /// I6: revoked partitions are finished and committed before they are given up.
    fn give_up(&mut self, at: usize, partitions: &[(String, i32)]) -> Result<(), TaskError> {
        let settled = self.settle(Instant::now() + REVOKE_TIMEOUT)?;
        self.commit(true)?;
        let released = self.readers[at].unassign(partitions, &mut self.meter.counters)?;
        self.judge_ownership();
        if !settled {
            return Err(TaskError::Rejoin(
                "kafka.revoked: records were still on their way".to_owned(),
            ));
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
}

fn shown(partitions: &[(String, i32)]) -> String {
    let names: Vec<String> = partitions
        .iter()
        .map(|(topic, partition)| format!("{topic}-{partition}"))
        .collect();
    names.join(", ")
}
