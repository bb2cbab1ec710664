//! What an earlier producer of the task's transactional id has left open in Kafka (I4).
//!
//! The coordinator ends such a transaction when the new producer registers, but Kafka 4.3.1 writes no abort marker for a
//! partition whose leader it does not know at that moment (its log: "Couldn't find leader endpoint"). What was aborted
//! would become visible with the next commit, and until then readers of committed records wait, the restore of a checkpoint
//! among them. An aborted transaction over the same partitions, which have a leader when they take its records, writes the
//! markers.

use super::Task;
use crate::checkpoint;
use crate::kafka::{NextOffset, Partition, partitions_with_open_transactions};
use crate::task::TaskError;

impl Task<'_> {
    /// In the topics that the task writes to; before anything is read.
    pub(super) fn abort_leftovers(&mut self) -> Result<(), TaskError> {
        let pipeline = &self.context.pipeline;
        let topics = pipeline.output_topics().into_iter().map(str::to_owned);
        let checkpoints = self.checkpoints.is_some();
        let checkpoints = checkpoints.then(|| checkpoint::topic_name(&pipeline.name));
        let topics: Vec<String> = topics.chain(checkpoints).collect();
        let properties = &pipeline.kafka.consumer;
        let mut waiting = self.until_the_drain();
        let open = partitions_with_open_transactions(properties, &topics, &mut waiting)?;
        let partitions = open.unwrap_or_default();
        if partitions.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            event = "transactions_open",
            task = self.context.task,
            partitions = %super::membership::shown(&partitions),
            "a transaction is open where this task writes; whatever an earlier run has left there is aborted"
        );
        let mut producers = self.producers.borrow_mut();
        Ok(producers.abort_leftovers(&partitions, &[], &mut waiting)?)
    }

    /// In the offsets of a source's group, of which this task is a member by now: Kafka tells nobody an offset that a
    /// transaction may yet change, and librdkafka asks until the question's time is over.
    pub(super) fn abort_leftover_offsets(
        &mut self,
        at: usize,
        partition: &Partition,
    ) -> Result<(), TaskError> {
        // Any offset: it is aborted.
        let offset = NextOffset {
            partition: partition.clone(),
            offset: 0,
            metadata: String::new(),
        };
        let group = self.readers[at].consumer.for_transaction(&[offset])?;
        let mut waiting = self.until_the_drain();
        let mut producers = self.producers.borrow_mut();
        Ok(producers.abort_leftovers(&[], &[group], &mut waiting)?)
    }
}
