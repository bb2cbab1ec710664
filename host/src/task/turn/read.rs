//! Reads partitions in turn, at most one batch a turn.

use weir_plugin_api::NO_TIMESTAMP;

use super::Task;
use crate::clock::Clock;
use crate::flow::{Flow, FlowError, Refusal, Stage};
use crate::kafka::{FetchedBatch, QueueEvent};
use crate::task::TaskError;
use crate::task::limits::SKEW_MAX_MS;
use crate::task::reader::Reading;

/// What a look into the queues has found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) records: usize,
    /// Ends of partitions and errors.
    pub(super) events: usize,
}

impl Task<'_> {
    /// At most one batch, of the next partition that has something and may go on.
    pub(super) fn read(&mut self) -> Result<Found, TaskError> {
        let mut found = Found::default();
        // While one record is sought that a broker refuses, each travels alone, however slow Kafka is.
        let waits = self.is_isolating() && self.flow.has_unflushed();
        if self.cuts.is_due || self.awaits_sinks() {
            return Ok(found);
        }
        if waits || !self.flow.wants_input() {
            return Ok(found);
        }
        let readings: usize = self
            .readers
            .iter()
            .map(|reader| reader.readings.len())
            .sum();
        let floor_ms = self.slowest_watermark_ms();
        for step in 0..readings {
            let nth = (self.next_reading + step) % readings;
            let Some((at, within)) = self.locate(nth) else {
                continue;
            };
            let Found { records, events } = self.read_partition(at, within, floor_ms)?;
            found.records += records;
            found.events += events;
            if records > 0 {
                self.next_reading = nth + 1;
                self.cuts.records += records;
                break;
            }
        }
        Ok(found)
    }

    /// After a rewind nothing is read before every sink has settled what it still holds (I4).
    fn awaits_sinks(&mut self) -> bool {
        if self.cuts.awaits_sinks && self.flow.sinks_accept() {
            tracing::info!(
                event = "sinks_back",
                task = self.context.task,
                "the sinks take records again"
            );
            self.cuts.awaits_sinks = false;
        }
        self.cuts.awaits_sinks
    }

    /// The nth partition over all readers.
    fn locate(&self, nth: usize) -> Option<(usize, usize)> {
        let mut left = nth;
        for (at, reader) in self.readers.iter().enumerate() {
            if left < reader.readings.len() {
                return Some((at, left));
            }
            left -= reader.readings.len();
        }
        None
    }

    fn read_partition(
        &mut self,
        at: usize,
        within: usize,
        floor_ms: Option<i64>,
    ) -> Result<Found, TaskError> {
        let is_timed = self.is_timed;
        let reader = &mut self.readers[at];
        let reading = &mut reader.readings[within];
        // I9: a partition far ahead in event time waits for the others.
        let ahead = |floor: i64| {
            reading
                .time
                .watermark_ms()
                .is_some_and(|at_ms| at_ms > floor.saturating_add(SKEW_MAX_MS))
        };
        if is_timed && floor_ms.is_some_and(ahead) {
            return Ok(Found::default());
        }
        let isolated = self
            .memory
            .isolate_below
            .get(&reading.key)
            .is_some_and(|below| reading.next < *below);
        let limit = if isolated { 1 } else { self.batch_records };
        let mut fetched = reading.queue.read(limit);
        let events = std::mem::take(&mut fetched.events);
        let records = fetched.len();
        if records > 0 {
            reader.consumer.note_reachable();
            self.meter.counters.read(reading.counters, records as u64);
            let index = reader.index;
            let pushed = push(&mut self.flow, index, reading, fetched, is_timed, isolated);
            pushed.map_err(|error| self.failed(error))?;
        }
        let found = Found {
            records,
            events: events.len(),
        };
        for event in events {
            serve_event(&mut self.readers[at].readings[within], event)?;
        }
        Ok(found)
    }

    fn slowest_watermark_ms(&mut self) -> Option<i64> {
        if !self.is_timed {
            return None;
        }
        let readings = self
            .readers
            .iter_mut()
            .flat_map(|reader| reader.readings.iter_mut());
        readings
            .map(|reading| reading.time.watermark_ms())
            .min()
            .flatten()
    }
}

/// Gives a batch to the flow. Records from the future are refused here and move no watermark.
fn push(
    flow: &mut Flow,
    source: usize,
    reading: &mut Reading,
    fetched: FetchedBatch,
    is_timed: bool,
    keep_bytes: bool,
) -> Result<(), FlowError> {
    let offsets: Vec<i64> = fetched.offsets().collect();
    let Some(last) = offsets.last().copied() else {
        return Ok(());
    };
    let slot = reading.slot;
    let mut largest = None;
    let now_ms = if is_timed { Clock::System.now_ms() } else { 0 };
    let time = &reading.time;
    let mut judge = |timestamp_ms: i64| {
        if timestamp_ms == NO_TIMESTAMP {
            return None;
        }
        if time.is_future(timestamp_ms, now_ms) {
            return Some(future_refusal(timestamp_ms, now_ms));
        }
        largest = largest.max(Some(timestamp_ms));
        None
    };
    let judge: Option<&mut dyn FnMut(i64) -> Option<Refusal>> =
        if is_timed { Some(&mut judge) } else { None };
    let pushed = flow.push(
        source,
        slot,
        offsets.into_iter(),
        keep_bytes,
        |first| fetched.into_batch(slot, first),
        judge,
    );
    // The ledger knows all of them, also when one ends the host: what may be committed is its to say.
    reading.next = last + 1;
    reading.time.processed(last + 1, largest);
    pushed
}

fn future_refusal(timestamp_ms: i64, now_ms: i64) -> Refusal {
    Refusal {
        stage: Stage::Transformation,
        node: "source".into(),
        class: "weir".into(),
        code: "source.timestamp_in_future".into(),
        message: format!(
            "the timestamp {timestamp_ms} is {} ms ahead of the host's clock, more than max_future",
            timestamp_ms.saturating_sub(now_ms)
        ),
        detail: String::new(),
    }
}

fn serve_event(reading: &mut Reading, event: QueueEvent) -> Result<(), TaskError> {
    let (topic, partition) = (&reading.key.topic, reading.key.partition);
    match event {
        QueueEvent::EndOfPartition { end_offset } => reading.time.reached(end_offset),
        // The position is resolved anew after the restart, by `on_gap`.
        QueueEvent::PositionOutOfRange { message } => {
            return Err(TaskError::Restart(format!(
                "source.position: {topic}-{partition}@{}: {message}",
                reading.next
            )));
        }
        QueueEvent::Error { code, message } => {
            tracing::warn!(event = "partition_error", topic, partition, %code, message);
        }
    }
    Ok(())
}
