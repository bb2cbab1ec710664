//! One source of a task: its group membership and the partitions it reads.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use super::limits::{
    ASK_AGAIN, ASK_TIMEOUT, PREFETCH_KBYTES, PREFETCH_PARTITION_KBYTES_MIN, PROBE_INTERVAL_LAG,
    PROBE_INTERVAL_TIMED,
};
use super::{Memory, TaskContext, TaskError};
use crate::flow::{PartitionTime, SlotKey, Slots, TimeRules};
use crate::kafka::{
    ClientError, Committed, EndProbe, EndProof, GroupConsumer, KafkaError, NextOffset, Partition,
    PartitionQueue, is_not_allowed, resolve_start,
};
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
    /// The watermark that transforms were given last.
    pub passed_ms: Option<i64>,
    /// Offset and watermark of the last cut.
    pub cut: (i64, Option<i64>),
}

impl Reading {
    /// Topic and partition.
    pub fn partition(&self) -> Partition {
        (self.key.topic.clone(), self.key.partition)
    }

    /// What the group is to keep when everything below `offset` is durable.
    pub fn next_offset(&self, offset: i64, metadata: String) -> NextOffset {
        NextOffset {
            partition: self.partition(),
            offset,
            metadata,
        }
    }

    /// Event time and position as they were at a cut.
    pub fn go_back(&mut self, offset: i64, watermark_ms: Option<i64>) {
        self.time = self.time.as_of(offset, watermark_ms);
        self.next = offset;
        self.passed_ms = watermark_ms;
        self.cut = (offset, watermark_ms);
    }
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
    pub fn join(context: &TaskContext, index: usize, timed: bool) -> Result<Self, TaskError> {
        Self::with_consumer(context, index, timed, |source, properties| {
            // Sources may share a group, and a second member of one name would fence the first.
            let member = context.member_name().map(|member| match index {
                0 => member,
                _ => format!("{member}-{}", source.name),
            });
            let wake = thread::current();
            let Source { group, topics, .. } = source;
            GroupConsumer::join(properties, group, member.as_deref(), topics, wake)
        })
    }

    /// Reads without being a member; the source's group only keeps the offsets (I7).
    pub fn alone(context: &TaskContext, index: usize, timed: bool) -> Result<Self, TaskError> {
        Self::with_consumer(context, index, timed, |source, properties| {
            GroupConsumer::without_membership(properties, &source.group, thread::current())
        })
    }

    fn with_consumer(
        context: &TaskContext,
        index: usize,
        timed: bool,
        make: impl FnOnce(&Source, &BTreeMap<String, String>) -> Result<GroupConsumer, ClientError>,
    ) -> Result<Self, TaskError> {
        let source = context.pipeline.sources[index].clone();
        let mut properties = source.kafka.consumer.clone();
        share_prefetch(&mut properties, context.source_partitions);
        let consumer = make(&source, &properties)?;
        let interval = if timed {
            PROBE_INTERVAL_TIMED
        } else {
            PROBE_INTERVAL_LAG
        };
        let probe = EndProbe::start(&source.kafka.consumer, interval, thread::current())?;
        Ok(Reader {
            source,
            index,
            consumer,
            probe,
            readings: Vec::new(),
            is_assigned: false,
        })
    }

    /// Where to begin in a partition without an offset.
    pub fn reset(&self) -> &str {
        let reset = self.source.kafka.consumer.get("auto.offset.reset");
        reset.map_or("earliest", String::as_str)
    }

    /// What the group has committed for these partitions.
    pub fn committed(
        &self,
        partitions: &[Partition],
        context: &TaskContext,
        memory: &mut Memory,
    ) -> Result<Asked<BTreeMap<Partition, Option<Committed>>>, TaskError> {
        if partitions.is_empty() {
            return Ok(Asked::Answer(BTreeMap::new()));
        }
        self.ask(context, memory, || {
            self.consumer.committed(partitions, ASK_TIMEOUT)
        })
    }

    /// Begins to read partitions at these positions; `None` = by `reset` (I2).
    pub fn assign(
        &mut self,
        wanted: &BTreeMap<Partition, Option<i64>>,
        reset: &str,
        slots: &mut Slots,
        counters: &mut TaskCounters,
        context: &TaskContext,
        memory: &mut Memory,
    ) -> Result<Asked<()>, TaskError> {
        let mut positions = Vec::with_capacity(wanted.len());
        for (partition, committed) in wanted {
            let Asked::Answer(bounds) = self.ask(context, memory, || {
                self.consumer.bounds(partition, ASK_TIMEOUT)
            })?
            else {
                return Ok(Asked::Draining);
            };
            let name = format!("{}-{}", partition.0, partition.1);
            let start = resolve_start(&name, *committed, bounds, reset, self.source.on_gap)
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
            self.readings.push(Reading {
                committed: committed.unwrap_or(i64::MIN),
                ..reading
            });
        }
        self.consumer.assign(&positions)?;
        self.is_assigned = true;
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
        let time = PartitionTime::new(rules, offset);
        Ok(Reading {
            slot,
            queue,
            time,
            passed_ms: None,
            cut: (offset, None),
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
        memory: &mut Memory,
        question: impl Fn() -> Result<T, KafkaError>,
    ) -> Result<Asked<T>, TaskError> {
        loop {
            match question() {
                Ok(answer) => return Ok(Asked::Answer(answer)),
                Err(error) => match error.rdkafka_error_code() {
                    Some(code) if is_not_allowed(code) => {
                        return Err(TaskError::Stop(format!("kafka.not_allowed: {error}")));
                    }
                    _ => memory.note_kafka_away(context, &error.to_string()),
                },
            }
            // What the group asks for is answered later, but it is not to miss this member.
            self.consumer.serve();
            context.status.set(TaskState::WaitingForKafka);
            if context.signals.wait(ASK_AGAIN) {
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

    /// Partitions of the source's topics that are not read yet. Waits until Kafka says how many there are.
    pub fn partitions_not_read(
        &self,
        context: &TaskContext,
    ) -> Result<Asked<Vec<Partition>>, TaskError> {
        let mut partitions = Vec::new();
        for topic in &self.source.topics {
            let count = loop {
                if let Some(count) = self.consumer.partition_count(topic) {
                    break count;
                }
                if self.is_assigned {
                    // It goes on with what it has, and looks again later.
                    break 0;
                }
                context.status.set(TaskState::WaitingForKafka);
                if context.signals.wait(ASK_AGAIN) {
                    return Ok(Asked::Draining);
                }
            };
            let all = (0..count).map(|partition| (topic.clone(), partition));
            let is_new = |partition: &Partition| {
                let mut readings = self.readings.iter();
                !readings.any(|reading| reading.partition() == *partition)
            };
            partitions.extend(all.filter(is_new));
        }
        Ok(Asked::Answer(partitions))
    }
}

/// I9: each partition has a queue of its own, so the bound over all of them is shared out.
fn share_prefetch(properties: &mut BTreeMap<String, String>, partitions: usize) {
    let total = properties
        .get(PREFETCH_PROPERTY)
        .and_then(|kbytes| kbytes.parse().ok());
    let share = total.unwrap_or(PREFETCH_KBYTES) / partitions.max(1);
    let share = share.max(PREFETCH_PARTITION_KBYTES_MIN).to_string();
    properties.insert(PREFETCH_PROPERTY.to_owned(), share);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefetch_is_shared_out_and_one_fetch_is_left_to_each() {
        let share = |total: Option<&str>, partitions| {
            let total = total.map(|total| (PREFETCH_PROPERTY.to_owned(), total.to_owned()));
            let mut properties: BTreeMap<String, String> = total.into_iter().collect();
            share_prefetch(&mut properties, partitions);
            properties.remove(PREFETCH_PROPERTY)
        };
        assert_eq!(share(None, 1).as_deref(), Some("16384"));
        assert_eq!(share(None, 16).as_deref(), Some("1024"));
        assert_eq!(share(None, 10_000).as_deref(), Some("64"));
        assert_eq!(share(Some("4096"), 4).as_deref(), Some("1024"));
        assert_eq!(
            share(None, 0).as_deref(),
            Some("16384"),
            "none is there yet"
        );
    }
}
