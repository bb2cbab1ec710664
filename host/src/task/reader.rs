//! One source of a task: its group membership and the partitions it reads.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use super::limits::{
    ASK_TIMEOUT, PREFETCH_KBYTES, PREFETCH_PARTITION_KBYTES_MIN, PROBE_INTERVAL_LAG,
    PROBE_INTERVAL_TIMED,
};
use super::{TaskContext, TaskError};
use crate::flow::{PartitionTime, SlotKey, Slots, TimeRules};
use crate::kafka::{EndProbe, EndProof, GroupConsumer, KafkaError, PartitionQueue, resolve_start};
use crate::metrics::{PartitionIndex, TaskCounters};
use crate::status::TaskState;
use crate::topology::Source;

/// Bounds the prefetched bytes of all partitions of a source together.
const PREFETCH_PROPERTY: &str = "queued.max.messages.kbytes";

/// A partition that is being read.
pub struct Reading {
    pub slot: u32,
    pub key: SlotKey,
    pub queue: PartitionQueue,
    pub time: PartitionTime,
    pub counters: PartitionIndex,
    /// The offset after the last record read.
    pub next: i64,
    /// What the group has committed, as far as this task knows.
    pub committed: i64,
}

pub struct Reader {
    pub source: Source,
    pub index: usize,
    pub consumer: GroupConsumer,
    /// Last asked for ends: lag and event time. Dropped with the reader.
    probe: EndProbe,
    pub readings: Vec<Reading>,
    /// An assignment came, be it empty.
    pub is_assigned: bool,
}

/// A wait for Kafka that may be given up.
pub enum Asked<T> {
    Answer(T),
    Draining,
}

impl Reader {
    /// Joins the source's group.
    pub fn join(
        context: &TaskContext,
        index: usize,
        source: &Source,
        timed: bool,
    ) -> Result<Self, TaskError> {
        let mut properties = source.kafka.consumer.clone();
        // Each partition has a queue of its own, so the bound over all of them is shared out.
        let total = properties
            .get(PREFETCH_PROPERTY)
            .and_then(|kbytes| kbytes.parse().ok());
        let share = total.unwrap_or(PREFETCH_KBYTES) / context.source_partitions.max(1);
        let share = share.max(PREFETCH_PARTITION_KBYTES_MIN).to_string();
        properties.insert(PREFETCH_PROPERTY.to_owned(), share);
        let wake = thread::current();
        let consumer = GroupConsumer::join(
            &properties,
            &source.group,
            context
                .instance
                .as_deref()
                .map(|name| format!("{name}-{}", context.task))
                .as_deref(),
            &source.topics,
            wake.clone(),
        )?;
        let interval = if timed {
            PROBE_INTERVAL_TIMED
        } else {
            PROBE_INTERVAL_LAG
        };
        let probe = EndProbe::start(&source.kafka.consumer, interval, wake)?;
        Ok(Reader {
            source: source.clone(),
            index,
            consumer,
            probe,
            readings: Vec::new(),
            is_assigned: false,
        })
    }

    /// Begins to read partitions at their committed offsets (I2).
    pub fn assign(
        &mut self,
        partitions: &[(String, i32)],
        slots: &mut Slots,
        counters: &mut TaskCounters,
        context: &TaskContext,
        is_kafka_away: &mut bool,
    ) -> Result<Asked<()>, TaskError> {
        self.is_assigned = true;
        let Asked::Answer(committed) = self.ask(context, is_kafka_away, || {
            self.consumer.committed(partitions, ASK_TIMEOUT)
        })?
        else {
            return Ok(Asked::Draining);
        };
        let mut positions = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let Asked::Answer(bounds) = self.ask(context, is_kafka_away, || {
                self.consumer.bounds(partition, ASK_TIMEOUT)
            })?
            else {
                return Ok(Asked::Draining);
            };
            let committed = committed.get(partition).copied().flatten();
            let reset = self
                .source
                .kafka
                .consumer
                .get("auto.offset.reset")
                .map_or("earliest", String::as_str);
            let name = format!("{}-{}", partition.0, partition.1);
            let start = resolve_start(&name, committed, bounds, reset, self.source.on_gap)
                .map_err(|error| TaskError::Stop(error.to_string()))?;
            let reading = self.split(partition, start.offset, slots, counters)?;
            if start.lost > 0 {
                counters[reading.counters].lost += start.lost;
                let (lost, partition) = (start.lost, name);
                tracing::warn!(
                    event = "source_gap_skipped",
                    partition,
                    lost,
                    "retention removed records before they were read"
                );
            }
            positions.push((partition.clone(), start.offset));
            let committed = committed.unwrap_or(i64::MIN);
            self.readings.push(Reading {
                committed,
                ..reading
            });
        }
        self.consumer.assign(&positions)?;
        self.watch();
        Ok(Asked::Answer(()))
    }

    fn split(
        &self,
        partition: &(String, i32),
        offset: i64,
        slots: &mut Slots,
        counters: &mut TaskCounters,
    ) -> Result<Reading, TaskError> {
        let key = SlotKey {
            source: self.index,
            topic: partition.0.clone(),
            partition: partition.1,
        };
        let slot = slots.number(&key, &self.source.name);
        let queue = self.consumer.queue(partition, thread::current());
        let queue = queue.ok_or_else(|| {
            TaskError::Restart(format!(
                "kafka.queue: no queue for {}-{}",
                partition.0, partition.1
            ))
        })?;
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let rules = TimeRules {
            max_disorder_ms: ms(self.source.max_disorder),
            idle_grace_ms: ms(self.source.idle_grace),
            max_future_ms: ms(self.source.max_future),
        };
        Ok(Reading {
            slot,
            queue,
            time: PartitionTime::new(rules, offset),
            counters: counters.partition(&self.source.name, &key.topic, key.partition),
            key,
            next: offset,
            committed: i64::MIN,
        })
    }

    /// Asks Kafka until it answers; it may be away for as long as it likes, which is said once.
    fn ask<T>(
        &self,
        context: &TaskContext,
        is_kafka_away: &mut bool,
        question: impl Fn() -> Result<T, KafkaError>,
    ) -> Result<Asked<T>, TaskError> {
        loop {
            match question() {
                Ok(answer) => return Ok(Asked::Answer(answer)),
                Err(error) if !*is_kafka_away => {
                    *is_kafka_away = true;
                    tracing::warn!(event = "kafka_unreachable", task = context.task, reason = %error, "Kafka does not answer; waiting for it");
                }
                Err(_) => {}
            }
            context.status.set(TaskState::WaitingForKafka);
            if context.signals.wait(Duration::from_millis(500)) {
                return Ok(Asked::Draining);
            }
        }
    }

    fn watch(&self) {
        self.probe.watch(
            self.readings
                .iter()
                .map(|reading| (reading.key.topic.clone(), reading.key.partition))
                .collect(),
        );
    }

    /// Ends that were asked for since the last call.
    pub fn take_proofs(&self) -> BTreeMap<(String, i32), EndProof> {
        self.probe.take()
    }

    /// Stops reading these partitions, which are settled or given up.
    pub fn unassign(
        &mut self,
        partitions: &[(String, i32)],
        counters: &mut TaskCounters,
    ) -> Result<Vec<u32>, TaskError> {
        let is_given_up = |reading: &Reading| {
            partitions.iter().any(|(topic, partition)| {
                *topic == reading.key.topic && *partition == reading.key.partition
            })
        };
        let released: Vec<u32> = self
            .readings
            .iter()
            .filter(|reading| is_given_up(reading))
            .map(|reading| reading.slot)
            .collect();
        for reading in self.readings.iter().filter(|reading| is_given_up(reading)) {
            counters.release(reading.counters);
        }
        self.readings.retain(|reading| !is_given_up(reading));
        self.consumer.unassign(partitions)?;
        self.watch();
        Ok(released)
    }

    /// Which partitions of the source's topics are not this task's, or `None` if all are.
    pub fn missing_partitions(&self) -> Option<String> {
        let mut missing = Vec::new();
        for topic in &self.source.topics {
            let owned = |partition: i32| {
                self.readings.iter().any(|reading| {
                    reading.key.topic == *topic && reading.key.partition == partition
                })
            };
            match self.consumer.partition_count(topic) {
                Some(count) => missing.extend(
                    (0..count)
                        .filter(|at| !owned(*at))
                        .map(|at| format!("{topic}-{at}")),
                ),
                None => missing.push(topic.clone()),
            }
        }
        (!missing.is_empty()).then(|| missing.join(", "))
    }
}
