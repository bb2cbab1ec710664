//! What an earlier producer of the task's transactional id has left open in Kafka (I4).
//!
//! The coordinator ends such a transaction when the new producer registers, but Kafka 4.3.1 writes no marker into a
//! partition whose leader it does not know at that moment (its log: "Couldn't find leader endpoint"). What was aborted
//! would become visible with the next commit, offsets included, and until then readers of committed records wait, the
//! restore of a checkpoint among them. An aborted transaction over the same partitions and groups, which are reachable when
//! they take part in it, writes the markers.

use std::collections::BTreeMap;
use std::thread;

use super::Task;
use super::membership::shown;
use crate::checkpoint;
use crate::flow::SharedProducers;
use crate::kafka::{
    GroupConsumer, GroupOffsets, NextOffset, Partition, TransactionError, Waiting,
    partitions_with_open_transactions,
};
use crate::task::limits::{ASK_AGAIN, LEFTOVER_TRIES, MARKERS_WAIT};
use crate::task::{TaskContext, TaskError};
use crate::topology::{Pipeline, Source};

impl Task<'_> {
    /// Where the task writes, and in the offsets of its groups; before anything is read, so that none of it can be
    /// committed with the first transaction.
    pub(super) fn abort_leftovers(&mut self) -> Result<(), TaskError> {
        // A group of the new protocol (KIP-848) with members takes no offsets from strangers, not even in a transaction.
        let is_open_to_strangers =
            |source: &&Source| self.election.is_some() || !source.kafka.is_grouped_by_broker();
        let sources = self.context.pipeline.sources.iter();
        let groups = sources
            .filter(is_open_to_strangers)
            .map(offset_of_a_stranger);
        let groups = groups.collect::<Result<Vec<GroupOffsets>, TaskError>>()?;
        for _ in 0..LEFTOVER_TRIES {
            if self.context.signals.is_draining() {
                return Ok(());
            }
            let mut waiting = self.until_the_drain();
            let partitions = open_partitions(self.context, &mut waiting)?;
            let mut producers = self.producers.borrow_mut();
            match producers.abort_leftovers(&partitions, &groups, &mut waiting) {
                Ok(()) | Err(TransactionError::GivenUp(_)) => return Ok(()),
                // A coordinator that is loading, a leader that is elected.
                Err(TransactionError::Abort(reason)) => {
                    tracing::debug!(event = "leftovers_wait", task = self.context.task, reason);
                }
                Err(error) => return Err(error.into()),
            }
            drop(producers);
            self.context.signals.wait(ASK_AGAIN);
        }
        let reason = "kafka.leftovers: what an earlier run may have left open could not be aborted";
        Err(TaskError::Restart(reason.to_owned()))
    }
}

/// After an abort of the task's own: where its markers are missing, they are written. The next offsets replace those that
/// may be left.
pub(super) fn write_missing_markers(
    context: &TaskContext,
    producers: &SharedProducers,
    waiting: Waiting<'_>,
) -> Result<(), TaskError> {
    let partitions = open_partitions(context, waiting)?;
    if partitions.is_empty() {
        return Ok(());
    }
    let mut producers = producers.borrow_mut();
    Ok(producers.abort_leftovers(&partitions, &[], waiting)?)
}

/// An offset for a source's group from somebody who is no member: in a transaction the group takes it. It may be any, it is
/// aborted.
fn offset_of_a_stranger(source: &Source) -> Result<GroupOffsets, TaskError> {
    let properties = &source.kafka.consumer;
    let consumer = GroupConsumer::without_membership(properties, &source.group, thread::current())?;
    let topic = source.topics.first().cloned().unwrap_or_default();
    let offset = NextOffset {
        partition: (topic, 0),
        offset: 0,
        metadata: String::new(),
    };
    Ok(consumer.for_transaction(&[offset])?)
}

/// Partitions that the pipeline writes to and that have an open transaction, looked at twice: markers follow the answer
/// to an abort. Empty where the caller gave up.
fn open_partitions(
    context: &TaskContext,
    waiting: Waiting<'_>,
) -> Result<Vec<Partition>, TaskError> {
    let pipeline = &context.pipeline;
    let mut topics: Vec<String> = pipeline
        .output_topics()
        .into_iter()
        .map(str::to_owned)
        .collect();
    if pipeline.is_stateful() {
        topics.push(checkpoint::topic_name(&pipeline.name));
    }
    let properties = reader_properties(pipeline);
    let first = partitions_with_open_transactions(&properties, &topics, waiting)?;
    if first.is_none_or(|open| open.is_empty()) {
        return Ok(Vec::new());
    }
    context.signals.wait(MARKERS_WAIT);
    let open = partitions_with_open_transactions(&properties, &topics, waiting)?;
    let open = open.unwrap_or_default();
    if !open.is_empty() {
        tracing::warn!(
            event = "transactions_open",
            task = context.task,
            partitions = %shown(&open),
            "a transaction is open where this task writes; whatever an earlier run has left there is aborted"
        );
    }
    Ok(open)
}

/// A consumer that may see what the producer may.
fn reader_properties(pipeline: &Pipeline) -> BTreeMap<String, String> {
    let is_access = |name: &str| {
        let prefixes = ["sasl.", "ssl.", "security.", "bootstrap."];
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let access = pipeline.kafka.producer.iter();
    let access = access.filter(|(name, _)| is_access(name));
    let mut properties = pipeline.kafka.consumer.clone();
    properties.extend(access.map(|(name, value)| (name.clone(), value.clone())));
    properties
}
