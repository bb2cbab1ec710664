//! State and offsets move together (I3): what a stateful task writes at a cut and reads when partitions come.

use std::collections::BTreeMap;
use std::time::Instant;

use weir_plugin_api::abi_stable::std_types::RSlice;
use weir_plugin_api::{Bytes, Record, SLOT_ALL, timestamp_type};

use super::Task;
use crate::checkpoint::{
    self, CheckpointImage, CheckpointRecord, CheckpointWriter, CommittedOffset, NodeSnapshot,
    Restore, SlotCheckpoint, SlotName, SlotSnapshot, commit_metadata, decide,
};
use crate::flow::{NodeState, SEQ_CHECKPOINT};
use crate::kafka::{Committed, LogError, Partition, read_log};
use crate::kill_point::kill_point;
use crate::status::TaskState;
use crate::task::limits::FLUSH_WAIT;
use crate::task::reader::{Asked, Reading};
use crate::task::{TaskContext, TaskError};

/// The checkpoints of a task with state.
pub(super) struct Checkpoints {
    topic: String,
    writer: CheckpointWriter,
    /// By node: of its plugin and configuration.
    fingerprints: BTreeMap<String, u64>,
}

/// What a partition begins with.
pub(super) struct Beginning {
    /// In place of what the group has committed.
    pub(super) checkpoint: Option<SlotCheckpoint>,
}

impl Checkpoints {
    pub(super) fn new(context: &TaskContext) -> Option<Self> {
        let pipeline = &context.pipeline;
        let fingerprint = |node: &crate::topology::Transform| {
            let fingerprint = checkpoint::fingerprint(&node.plugin, &node.config);
            (node.name.clone(), fingerprint)
        };
        pipeline.is_stateful().then(|| Checkpoints {
            topic: checkpoint::topic_name(&pipeline.name),
            writer: CheckpointWriter::default(),
            fingerprints: pipeline.transforms.iter().map(fingerprint).collect(),
        })
    }

    /// The text that the group keeps with the offset of a slot.
    pub(super) fn metadata(&self, slot: &SlotName) -> String {
        let generation = self.writer.generation(slot);
        generation.map_or_else(String::new, commit_metadata)
    }

    pub(super) fn committed(&mut self) {
        self.writer.committed();
    }

    pub(super) fn forget(&mut self, slot: &SlotName) {
        self.writer.forget(slot);
    }

    fn stage(
        &mut self,
        slot: &SlotName,
        position: SlotPosition,
        states: Vec<NodeState>,
    ) -> Result<Vec<CheckpointRecord>, TaskError> {
        let node = |state: NodeState| NodeSnapshot {
            fingerprint: self.fingerprints.get(&state.node).copied().unwrap_or(0),
            node: state.node,
            plugin: state.plugin,
            version: state.snapshot.version,
            parts: state.snapshot.parts,
        };
        let snapshot = SlotSnapshot {
            offset: position.offset,
            watermark_ms: position.watermark_ms,
            pipeline_watermark_ms: position.pipeline_watermark_ms,
            nodes: states.into_iter().map(node).collect(),
        };
        let staged = self.writer.stage(slot, snapshot);
        staged.map_err(|error| TaskError::Stop(error.to_string()))
    }

    /// Reads the checkpoint topic to its end as it is now, after the assignment.
    fn read(
        &self,
        context: &TaskContext,
        serve: &dyn Fn(),
    ) -> Result<Asked<CheckpointImage>, TaskError> {
        context.status.set(TaskState::Restoring);
        kill_point("in_restore");
        let began = Instant::now();
        let (mut records, mut bytes) = (0_u64, 0);
        let mut image = CheckpointImage::default();
        let mut is_said = false;
        let mut waiting = |reason: &str| {
            if !std::mem::replace(&mut is_said, true) {
                let topic = &self.topic;
                tracing::warn!(
                    event = "restore_waits",
                    task = context.task,
                    topic,
                    reason,
                    "waiting for the end of the checkpoint topic"
                );
            }
            serve();
            !context.signals.is_draining()
        };
        let answer = read_log(
            &context.pipeline.kafka.consumer,
            &self.topic,
            0,
            |(offset, key, value)| {
                records += 1;
                bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
                image.apply(offset, key, value);
            },
            &mut waiting,
        );
        match answer {
            Ok(()) => {
                tracing::info!(
                    event = "checkpoints_read",
                    task = context.task,
                    records,
                    bytes,
                    seconds = began.elapsed().as_secs_f64(),
                    "the checkpoint topic was read to its end"
                );
                let checked = image.check();
                checked.map_err(|error| TaskError::Stop(error.to_string()))?;
                Ok(Asked::Answer(image))
            }
            Err(LogError::GivenUp(_)) if context.signals.is_draining() => Ok(Asked::Draining),
            Err(error) => Err(TaskError::Restart(error.to_string())),
        }
    }
}

/// Where a slot was at a cut.
struct SlotPosition {
    offset: i64,
    watermark_ms: Option<i64>,
    pipeline_watermark_ms: Option<i64>,
}

impl Task<'_> {
    pub(super) fn slot_name(&self, at: usize, partition: &Partition) -> SlotName {
        SlotName {
            source: self.readers[at].source.name.clone(),
            topic: partition.0.clone(),
            partition: partition.1,
        }
    }

    /// I3: what partitions begin with, by what the group has committed and what the checkpoint topic holds.
    pub(super) fn find_beginnings(
        &mut self,
        at: usize,
        committed: &BTreeMap<Partition, Option<Committed>>,
    ) -> Result<Asked<BTreeMap<Partition, Beginning>>, TaskError> {
        let Some(checkpoints) = &self.checkpoints else {
            return Ok(Asked::Answer(BTreeMap::new()));
        };
        let serve = || self.serve_members();
        let Asked::Answer(image) = checkpoints.read(self.context, &serve)? else {
            return Ok(Asked::Draining);
        };
        let delivery = self.context.pipeline.delivery;
        let mut beginnings = BTreeMap::new();
        for (partition, committed) in committed {
            let slot = self.slot_name(at, partition);
            let committed = committed.as_ref().map(|committed| CommittedOffset {
                offset: committed.offset,
                metadata: &committed.metadata,
            });
            let decided = decide(&slot, committed, &image.slot(&slot), delivery);
            let checkpoint = match decided.map_err(|error| TaskError::Stop(error.to_string()))? {
                Restore::Fresh => None,
                Restore::From(checkpoint) => Some(checkpoint),
            };
            beginnings.insert(partition.clone(), Beginning { checkpoint });
        }
        Ok(Asked::Answer(beginnings))
    }

    /// Gives transforms the state of the slots that began with one.
    pub(super) fn restore(
        &mut self,
        at: usize,
        beginnings: BTreeMap<Partition, Beginning>,
    ) -> Result<(), TaskError> {
        for (partition, beginning) in beginnings {
            let name = self.slot_name(at, &partition);
            if let Some(checkpoint) = &beginning.checkpoint {
                let mut readings = self.readers[at].readings.iter_mut();
                if let Some(reading) = readings.find(|reading| reading.partition() == partition) {
                    // Behind a gap that is skipped, the position is above the checkpoint's.
                    reading.go_back(reading.next, checkpoint.watermark_ms);
                }
                self.restore_slot(at, &partition, checkpoint)?;
                tracing::info!(
                    event = "restored",
                    task = self.context.task,
                    slot = %name,
                    generation = checkpoint.generation,
                    offset = checkpoint.offset,
                    bytes = checkpoint.state_bytes(),
                    "restored"
                );
            }
            if let Some(checkpoints) = &mut self.checkpoints {
                checkpoints.writer.begin(name, beginning.checkpoint);
            }
        }
        Ok(())
    }

    fn restore_slot(
        &mut self,
        at: usize,
        partition: &Partition,
        checkpoint: &SlotCheckpoint,
    ) -> Result<(), TaskError> {
        // The active host has all slots and wrote them together: they agree, but for those that were empty then.
        if self.election.is_some() {
            self.watermark_ms = self.watermark_ms.max(checkpoint.pipeline_watermark_ms);
        }
        let name = self.slot_name(at, partition);
        let mut readings = self.readers[at].readings.iter();
        let Some(reading) = readings.find(|reading| reading.partition() == *partition) else {
            return Ok(());
        };
        for node in &checkpoint.nodes {
            let restored = self
                .flow
                .restore(&node.node, reading.slot, node.version, &node.parts);
            let is_taken = restored.map_err(|error| {
                TaskError::Stop(format!(
                    "checkpoint.state_refused: the transform `{}` cannot read its state of {name}: {}; run the plugin and the configuration that wrote it, or give the state up with `weir checkpoints reset --node {}`",
                    node.node, error.message, node.node
                ))
            })?;
            if !is_taken {
                return Err(TaskError::Stop(format!(
                    "checkpoint.unknown_node: the checkpoint of {name} has state of the transform `{}`, and the pipeline has no transform of that name that keeps any; name it as before, or give the state up with `weir checkpoints reset --node {}`",
                    node.node, node.node
                )));
            }
            self.note_configuration(&node.node, node.fingerprint);
        }
        Ok(())
    }

    fn note_configuration(&self, node: &str, fingerprint: u64) {
        let now = self.checkpoints.as_ref();
        let now = now.and_then(|checkpoints| checkpoints.fingerprints.get(node));
        if now.is_some_and(|now| *now != fingerprint) {
            tracing::warn!(
                event = "configuration_changed",
                task = self.context.task,
                node,
                "its state was built under another configuration"
            );
        }
    }

    /// Goes back to the newest checkpoints without reading the topic.
    pub(super) fn restore_last(&mut self) -> Result<(), TaskError> {
        let Some(checkpoints) = &mut self.checkpoints else {
            return Ok(());
        };
        checkpoints.writer.rolled_back();
        self.watermark_ms = None;
        for at in 0..self.readers.len() {
            let partitions: Vec<Partition> = self.readers[at]
                .readings
                .iter()
                .map(Reading::partition)
                .collect();
            for partition in partitions {
                let name = self.slot_name(at, &partition);
                let last = self.checkpoints.as_ref();
                let last = last.and_then(|checkpoints| checkpoints.writer.last(&name).cloned());
                if let Some(checkpoint) = last {
                    self.restore_slot(at, &partition, &checkpoint)?;
                }
            }
        }
        Ok(())
    }

    /// I3: writes the state of every slot as it is at the cut at these offsets, by slot, and waits until Kafka has it.
    /// All slots, moved or not: a window may have closed in one because another moved on.
    pub(super) fn write_checkpoints(&mut self, offsets: &[i64]) -> Result<(), TaskError> {
        let Some(mut checkpoints) = self.checkpoints.take() else {
            return Ok(());
        };
        let written = self.write_slots(&mut checkpoints, offsets);
        self.checkpoints = Some(checkpoints);
        written
    }

    fn write_slots(
        &mut self,
        checkpoints: &mut Checkpoints,
        offsets: &[i64],
    ) -> Result<(), TaskError> {
        for at in 0..self.readers.len() {
            for within in 0..self.readers[at].readings.len() {
                let reading = &self.readers[at].readings[within];
                let (slot, watermark_ms) = (reading.slot, reading.passed_ms);
                let Some(offset) = offsets.get(slot as usize).copied() else {
                    continue;
                };
                let name = self.slot_name(at, &reading.partition());
                let states = self
                    .flow
                    .snapshot(slot)
                    .map_err(|error| self.failed(error))?;
                let is_active = self.election.is_some();
                let position = SlotPosition {
                    offset,
                    watermark_ms,
                    pipeline_watermark_ms: self.watermark_ms.filter(|_| is_active),
                };
                let records = checkpoints.stage(&name, position, states)?;
                self.produce_checkpoint(&checkpoints.topic, &records)?;
            }
        }
        while !self.flush_checkpoint()? {
            self.is_kafka_slow = true;
            self.serve_members();
        }
        Ok(())
    }

    fn produce_checkpoint(
        &mut self,
        topic: &str,
        records: &[CheckpointRecord],
    ) -> Result<(), TaskError> {
        for record in records {
            let record = Record {
                key: Bytes::from_option(Some(&record.key)),
                value: Bytes::from_option(record.value.as_deref()),
                headers: RSlice::EMPTY,
                timestamp_ms: 0,
                offset: -1,
                seq: SEQ_CHECKPOINT,
                slot: SLOT_ALL,
                timestamp_type: timestamp_type::NONE,
            };
            // The client's queue is full: Kafka is away or slow.
            while !self
                .producers
                .borrow_mut()
                .produce_checkpoint(topic, &record)
            {
                self.flush_checkpoint()?;
                self.serve_members();
            }
        }
        Ok(())
    }

    fn flush_checkpoint(&mut self) -> Result<bool, TaskError> {
        let flushed = self.flow.flush_handed_over(FLUSH_WAIT);
        flushed.map_err(|error| self.failed_in_cut(error))
    }
}
