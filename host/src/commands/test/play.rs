//! Runs a pipeline on records from a file: one at a time, in the order of the file, so that the outcome is one and the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_plugin_api::host::{OwnedBatch, RecordFields};
use weir_plugin_api::{NO_TIMESTAMP, SLOT_ALL, timestamp_type};

use super::TestError;
use super::capture::{Capture, Output};
use super::lines::InputRecord;
use crate::clock::Clock;
use crate::flow::{self, Flow, FlowParts, PartitionTime, SlotKey, Target, TimeRules};
use crate::metrics::TaskCounters;
use crate::plugin::Catalog;
use crate::status::{CallLimits, HostStatus, Ticker};
use crate::topology::Pipeline;

/// Past every window: the end of the input closes them all.
const END_OF_TIME_MS: i64 = i64::MAX / 4;

struct Play<'p> {
    pipeline: &'p Pipeline,
    flow: Flow,
    counters: TaskCounters,
    times: BTreeMap<u32, PartitionTime>,
}

/// Answers what left the pipeline, in order.
pub fn play(
    pipeline: &Pipeline,
    catalog: Arc<Catalog>,
    clock_ms: Option<i64>,
    input: &[InputRecord],
) -> Result<Vec<Output>, TestError> {
    let failed = |error: &dyn std::fmt::Display| TestError::Run(error.to_string());
    let ticker = Ticker::start(CallLimits::default()).map_err(|error| failed(&error))?;
    let status = HostStatus::new(&pipeline.name);
    let capture = Capture::default();
    let mut counters = TaskCounters::default();
    let parts = FlowParts {
        task: 0,
        catalog,
        outbox: Box::new(capture.clone()),
        clock: clock_ms.map_or(Clock::System, Clock::Fixed),
        monitor: ticker.watch(0, status.task(0), flow::node_labels(pipeline)),
        counters: &mut counters,
        poison: BTreeMap::new(),
        outputs_leave_alone: false,
        is_transactional: false,
        target: &|sink, _| {
            Ok(Target::Kafka {
                topic: sink.name.clone(),
            })
        },
    };
    let flow = flow::build(pipeline, parts).map_err(|error| failed(&error))?;
    let mut play = Play {
        pipeline,
        flow,
        counters,
        times: BTreeMap::new(),
    };
    // Every partition of the file is known from the start, as after an assignment.
    for record in input {
        play.slot(record);
    }
    play.note_partition_counts(input);
    for record in input {
        play.feed(record).map_err(|error| failed(&error))?;
    }
    play.end().map_err(|error| failed(&error))?;
    play.flow.stop();
    Ok(capture.0.take())
}

impl Play<'_> {
    fn slot(&mut self, record: &InputRecord) -> u32 {
        let key = SlotKey {
            source: record.source,
            topic: record.topic.clone(),
            partition: record.partition,
        };
        let source = &self.pipeline.sources[record.source];
        let slot = self.flow.slots().number(&key, &source.name);
        let ms =
            |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.times.entry(slot).or_insert_with(|| {
            let rules = TimeRules {
                max_disorder_ms: ms(source.max_disorder),
                idle_grace_ms: ms(source.idle_grace),
                max_future_ms: ms(source.max_future),
            };
            PartitionTime::new(rules, 0)
        });
        slot
    }

    /// A topic has as many partitions as the file's largest says.
    fn note_partition_counts(&mut self, input: &[InputRecord]) {
        let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
        for record in input {
            let count = counts.entry(&record.topic).or_default();
            *count = (*count).max(record.partition.saturating_add(1));
        }
        for (topic, count) in counts {
            self.flow.slots().set_partition_count(topic, count);
        }
    }

    fn feed(&mut self, record: &InputRecord) -> Result<(), flow::FlowError> {
        let slot = self.slot(record);
        let headers: Vec<(&str, Option<&[u8]>)> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let batch = |seq| {
            OwnedBatch::copy_of([RecordFields {
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
                timestamp_ms: record.timestamp_ms.unwrap_or(NO_TIMESTAMP),
                timestamp_type: match record.timestamp_ms {
                    Some(_) => timestamp_type::LOG_APPEND_TIME,
                    None => timestamp_type::NONE,
                },
                offset: record.offset,
                slot,
                seq,
            }])
        };
        self.flow.push(
            record.source,
            slot,
            std::iter::once(record.offset),
            true,
            batch,
            None,
        )?;
        self.settle()?;
        if let Some(time) = self.times.get_mut(&slot) {
            time.processed(record.offset + 1, record.timestamp_ms);
        }
        self.pass_watermarks()
    }

    fn settle(&mut self) -> Result<(), flow::FlowError> {
        loop {
            let advance = self.flow.advance(&mut self.counters)?;
            self.flow.flush_outbox(std::time::Duration::ZERO)?;
            if advance == flow::Advance::Idle && self.flow.transforms_are_idle() {
                return Ok(());
            }
            // A retryable error waits here until its time has come.
            std::thread::park_timeout(std::time::Duration::from_millis(1));
        }
    }

    fn pass_watermarks(&mut self) -> Result<(), flow::FlowError> {
        let mut slowest = Some(i64::MAX);
        for (slot, time) in &mut self.times {
            let watermark = time.watermark_ms();
            slowest = slowest.min(watermark);
            if let Some(at_ms) = watermark {
                self.flow.pass_watermark(*slot, at_ms, &mut self.counters)?;
            }
        }
        if let Some(at_ms) = slowest {
            self.flow
                .pass_watermark(SLOT_ALL, at_ms, &mut self.counters)?;
        }
        self.settle()
    }

    fn end(&mut self) -> Result<(), flow::FlowError> {
        let slots: Vec<u32> = self.times.keys().copied().collect();
        for slot in slots.into_iter().chain([SLOT_ALL]) {
            self.flow
                .pass_watermark(slot, END_OF_TIME_MS, &mut self.counters)?;
        }
        self.settle()
    }
}
