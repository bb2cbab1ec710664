//! The checkpoint topic and the groups of a pipeline, for someone who is no task.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use weir_plugin_api::abi_stable::std_types::RSlice;
use weir_plugin_api::{Bytes, Record, SLOT_ALL, timestamp_type};

use crate::checkpoint::{
    self, CheckpointImage, CheckpointRecord, CheckpointWriter, ImageError, NodeSnapshot,
    Restorable, SlotCheckpoint, SlotName, SlotSnapshot, WriteError, commit_metadata,
};
use crate::kafka::{
    ClientError, Committed, GroupConsumer, KafkaError, LogError, NextOffset, Partition, Producer,
    RDKafkaErrorCode, read_log,
};
use crate::task::election_group;
use crate::topology::{Pipeline, Scope, Source};

/// How often Kafka may leave a question without an answer, at half a second each.
const TRIES: u32 = 40;
/// Longest wait for one answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("kafka.client_call: {0}; check that Kafka runs and has the pipeline's topics")]
    Kafka(#[from] KafkaError),
    #[error("{0}; check that Kafka runs and has the pipeline's topics")]
    Log(#[from] LogError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(
        "checkpoints.active: the group `{group}` has {members} members; stop every host of the pipeline first"
    )]
    Active { group: String, members: usize },
    #[error(
        "checkpoints.active: somebody works in the group `{group}`; stop every host of the pipeline first"
    )]
    ActiveUncounted { group: String },
    #[error(
        "checkpoints.incomplete: the checkpoint of {0} is not whole, so one transform's state cannot be taken out of it; reset all of it without --node"
    )]
    Incomplete(SlotName),
    #[error(
        "checkpoints.unknown_node: no checkpoint has state of a transform `{node}`; there is {known}"
    )]
    UnknownNode { node: String, known: String },
    #[error("checkpoints.unwritten: Kafka did not take the records of the checkpoint topic: {0}")]
    Unwritten(String),
    #[error("checkpoints.file: {0}")]
    File(String),
}

pub struct Store<'p> {
    pipeline: &'p Pipeline,
    topic: String,
    /// One for each source.
    groups: Vec<GroupConsumer>,
}

impl<'p> Store<'p> {
    pub fn open(pipeline: &'p Pipeline) -> Result<Self, StoreError> {
        let group = |source: &Source| {
            let properties = &source.kafka.consumer;
            GroupConsumer::without_membership(properties, &source.group, thread::current())
        };
        Ok(Store {
            pipeline,
            topic: checkpoint::topic_name(&pipeline.name),
            groups: pipeline
                .sources
                .iter()
                .map(group)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Every record's key, and what the log amounts to.
    fn read(&self) -> Result<(BTreeSet<Vec<u8>>, CheckpointImage), StoreError> {
        let mut keys = BTreeSet::new();
        let mut image = CheckpointImage::default();
        let mut tries = 0;
        let mut waiting = |_: &str| {
            tries += 1;
            tries < TRIES
        };
        read_log(
            &self.pipeline.kafka.consumer,
            &self.topic,
            0,
            |(offset, key, value)| {
                let key = key.unwrap_or_default();
                match value {
                    Some(_) => keys.insert(key.to_owned()),
                    None => keys.remove(key),
                };
                image.apply(offset, Some(key), value);
            },
            &mut waiting,
        )?;
        Ok((keys, image))
    }

    /// What the log amounts to; a damaged record is an error.
    pub fn read_whole(&self) -> Result<CheckpointImage, StoreError> {
        let (_, image) = self.read()?;
        image.check()?;
        Ok(image)
    }

    /// State and offsets are changed only while nobody works with them.
    pub fn check_nobody_is_active(&self) -> Result<(), StoreError> {
        let election = election_group(&self.pipeline.name);
        let sources = self.pipeline.sources.iter().map(|source| &source.group);
        for (consumer, group) in self.groups.iter().zip(sources) {
            for group in [group, &election] {
                let members = consumer.members(group, ANSWER_WAIT)?;
                if members > 0 {
                    let group = group.clone();
                    return Err(StoreError::Active { group, members });
                }
            }
        }
        self.check_groups_take_a_stranger(&election)
    }

    /// librdkafka's list of a group's members is empty for one of the new protocol (KIP-848), active or not. But a group
    /// with members takes offsets from them alone: it is given what it has. Where one host is active, that is the election's
    /// business, since the sources' groups have no members then.
    fn check_groups_take_a_stranger(&self, election: &str) -> Result<(), StoreError> {
        let offset = |partition: Partition, offset: i64, metadata: String| NextOffset {
            partition,
            offset,
            metadata,
        };
        if self.pipeline.scope() == Scope::Pipeline {
            let properties = &self.pipeline.kafka.consumer;
            let consumer =
                GroupConsumer::without_membership(properties, election, thread::current())?;
            // What the active host's transactions carry.
            let fence = offset((self.topic.clone(), 0), 0, String::new());
            return give_as_a_stranger(&consumer, election, &[fence]);
        }
        for (at, source) in self.pipeline.sources.iter().enumerate() {
            let committed = self.committed(at)?.into_iter();
            let same = committed.filter_map(|(partition, committed)| {
                let Committed {
                    offset: at,
                    metadata,
                } = committed?;
                Some(offset(partition, at, metadata))
            });
            let same: Vec<NextOffset> = same.collect();
            if !same.is_empty() {
                give_as_a_stranger(&self.groups[at], &source.group, &same)?;
            }
        }
        Ok(())
    }

    /// Removes every checkpoint and writes these. The groups keep their offsets where there is none for a partition,
    /// and say no longer that a checkpoint goes with them.
    pub fn replace_all(
        &self,
        checkpoints: Vec<(SlotName, SlotCheckpoint)>,
    ) -> Result<String, StoreError> {
        let (keys, _) = self.read()?;
        let mut records: Vec<CheckpointRecord> = keys
            .into_iter()
            .map(|key| CheckpointRecord { key, value: None })
            .collect();
        let removed = records.len();
        let mut writer = CheckpointWriter::default();
        for (slot, checkpoint) in &checkpoints {
            records.extend(writer.stage(slot, snapshot_of(checkpoint))?);
        }
        self.write(&records)?;
        writer.committed();
        for (at, source) in self.pipeline.sources.iter().enumerate() {
            let mut next = Vec::new();
            for (partition, committed) in self.committed(at)? {
                let slot = slot_of(source, &partition);
                next.extend(match (writer.last(&slot), committed) {
                    (Some(last), _) => Some(next_offset(partition, last)),
                    (None, Some(Committed { offset, .. })) => Some(NextOffset {
                        partition,
                        offset,
                        metadata: String::new(),
                    }),
                    (None, None) => None,
                });
            }
            self.commit(at, &next)?;
        }
        Ok(format!(
            "removed {removed} records of {} and wrote {} checkpoints\n",
            self.topic,
            checkpoints.len()
        ))
    }

    /// Takes the state of one transform out of every checkpoint.
    pub fn remove_node(&self, node: &str) -> Result<String, StoreError> {
        let image = self.read_whole()?;
        let mut writer = CheckpointWriter::default();
        let mut records = Vec::new();
        let mut known = BTreeSet::new();
        let mut slots = 0;
        for (slot, found) in image.slots() {
            let checkpoint = match found {
                Restorable::Whole(checkpoint) => checkpoint,
                Restorable::Incomplete(_) => return Err(StoreError::Incomplete(slot.clone())),
                Restorable::Nothing => continue,
            };
            known.extend(checkpoint.nodes.iter().map(|node| node.node.clone()));
            if checkpoint.nodes.iter().all(|known| known.node != node) {
                continue;
            }
            writer.begin(slot.clone(), Some(checkpoint.clone()));
            let mut snapshot = snapshot_of(checkpoint);
            snapshot.nodes.retain(|known| known.node != node);
            records.extend(writer.stage(slot, snapshot)?);
            slots += 1;
        }
        if slots == 0 {
            let known: Vec<String> = known.into_iter().map(|node| format!("`{node}`")).collect();
            let none = || "none".to_owned();
            return Err(StoreError::UnknownNode {
                node: node.to_owned(),
                known: Some(known.join(", "))
                    .filter(|text| !text.is_empty())
                    .unwrap_or_else(none),
            });
        }
        self.write(&records)?;
        writer.committed();
        for (at, source) in self.pipeline.sources.iter().enumerate() {
            let mut next = Vec::new();
            for (partition, _) in self.committed(at)? {
                let slot = slot_of(source, &partition);
                next.extend(writer.last(&slot).map(|last| next_offset(partition, last)));
            }
            self.commit(at, &next)?;
        }
        Ok(format!(
            "removed the state of `{node}` from {slots} checkpoints\n"
        ))
    }

    fn committed(&self, at: usize) -> Result<Vec<(Partition, Option<Committed>)>, StoreError> {
        let consumer = &self.groups[at];
        let mut partitions: Vec<Partition> = Vec::new();
        for topic in &self.pipeline.sources[at].topics {
            let count = consumer.partition_count(topic).unwrap_or(0);
            partitions.extend((0..count).map(|partition| (topic.clone(), partition)));
        }
        match partitions.is_empty() {
            true => Ok(Vec::new()),
            false => Ok(consumer
                .committed(&partitions, ANSWER_WAIT)?
                .into_iter()
                .collect()),
        }
    }

    fn commit(&self, at: usize, next: &[NextOffset]) -> Result<(), StoreError> {
        match next.is_empty() {
            true => Ok(()),
            false => Ok(self.groups[at].commit(next, true)?),
        }
    }

    fn write(&self, records: &[CheckpointRecord]) -> Result<(), StoreError> {
        let mut producer = Producer::new(&self.pipeline.kafka.producer)?;
        for record in records {
            let record = Record {
                key: Bytes::from_option(Some(&record.key)),
                value: Bytes::from_option(record.value.as_deref()),
                headers: RSlice::EMPTY,
                timestamp_ms: 0,
                offset: -1,
                seq: 0,
                slot: SLOT_ALL,
                timestamp_type: timestamp_type::NONE,
            };
            while !producer.produce_one(&self.topic, &record, &[]) {
                flushed(&producer)?;
            }
        }
        flushed(&producer)
    }
}

fn flushed(producer: &Producer) -> Result<(), StoreError> {
    let is_flushed = producer.flush(ANSWER_WAIT);
    match producer.take_failures().first() {
        Some(failure) => Err(StoreError::Unwritten(failure.code.to_string())),
        None if !is_flushed => Err(StoreError::Unwritten("no answer".to_owned())),
        None => Ok(()),
    }
}

fn slot_of(source: &Source, partition: &Partition) -> SlotName {
    SlotName {
        source: source.name.clone(),
        topic: partition.0.clone(),
        partition: partition.1,
    }
}

fn next_offset(partition: Partition, checkpoint: &SlotCheckpoint) -> NextOffset {
    NextOffset {
        partition,
        offset: checkpoint.offset,
        metadata: commit_metadata(checkpoint.generation),
    }
}

fn give_as_a_stranger(
    consumer: &GroupConsumer,
    group: &str,
    offsets: &[NextOffset],
) -> Result<(), StoreError> {
    match consumer.commit(offsets, true) {
        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownMemberId) => {
            let group = group.to_owned();
            Err(StoreError::ActiveUncounted { group })
        }
        other => Ok(other?),
    }
}

fn snapshot_of(checkpoint: &SlotCheckpoint) -> SlotSnapshot {
    let node = |node: &crate::checkpoint::NodeCheckpoint| NodeSnapshot {
        node: node.node.clone(),
        plugin: node.plugin.clone(),
        fingerprint: node.fingerprint,
        version: node.version,
        parts: node
            .parts
            .iter()
            .map(|(id, bytes)| (*id, Some(bytes.to_vec())))
            .collect(),
    };
    SlotSnapshot {
        offset: checkpoint.offset,
        watermark_ms: checkpoint.watermark_ms,
        pipeline_watermark_ms: checkpoint.pipeline_watermark_ms,
        nodes: checkpoint.nodes.iter().map(node).collect(),
    }
}
