//! Counts latencies, slot by slot.

use std::collections::BTreeSet;
use std::time::Duration;

use weir_plugin_sdk::{Context, Error, Out, Record, State, StateParts, TimestampType};

use crate::config::{Emit, LatencyWindowConfig};
use crate::emission::Documents;
use crate::percentiles::{Distribution, Sample};
use crate::sketch::{Message, News};
use crate::start_field::{BadStart, StartField, UNIX_MS_MAX};
use crate::transform::milliseconds;
use crate::windows::{Full, SlotWindows, WINDOWS_PER_SLOT_MAX};

/// How often stage two is told how far a partition's event time has come.
const TELL_INTERVAL_MS: i64 = 1_000;

/// Stage one, or both: counts latencies in tumbling windows of the append time, and emits each closed one.
pub struct Measuring {
    size_ms: i64,
    allowed_lateness_ms: i64,
    start_field: StartField,
    emission: Emission,
    context: Context,
    /// No record of any partition older than this is expected; rises only.
    watermark_ms: i64,
    /// Ascending by slot.
    slots: Vec<Slot>,
    /// Index of the slot of the record before: batches come partition by partition.
    current_slot: usize,
    /// Windows that took a record in this call after they had closed: slot and start.
    corrected: Vec<(u32, i64)>,
    records_in_call: usize,
    /// Topics whose timestamps are not LogAppendTime.
    warned_topics: Vec<String>,
}

/// What a closed window becomes.
enum Emission {
    /// A document, merged over all slots, when all of them have passed its end.
    Documents(Documents),
    /// A sketch for each slot, when that slot has passed its end.
    Sketches,
}

struct Slot {
    slot: u32,
    warned: bool,
    /// No record of this partition older than this is expected; followed where sketches are emitted.
    watermark_ms: i64,
    /// The host's clock when stage two was last told the watermark, unix milliseconds.
    told_at_ms: i64,
    windows: SlotWindows,
}

impl Measuring {
    pub fn new(config: &LatencyWindowConfig, context: &Context) -> Self {
        let size_ms = milliseconds(config.size.0);
        Measuring {
            size_ms,
            allowed_lateness_ms: milliseconds(config.allowed_lateness.0),
            start_field: StartField::new(&config.start_field),
            emission: match config.emit {
                Emit::Document => Emission::Documents(Documents::new(config, size_ms, context)),
                Emit::Sketch => Emission::Sketches,
            },
            context: context.clone(),
            watermark_ms: i64::MIN,
            slots: Vec::new(),
            current_slot: 0,
            corrected: Vec::new(),
            records_in_call: 0,
            warned_topics: Vec::new(),
        }
    }

    pub fn process<'b>(&mut self, record: Record<'b>, out: &mut Out<'_, 'b>) -> Result<(), Error> {
        let first_of_call = self.records_in_call == 0;
        self.records_in_call += 1;
        let appended_ms = append_time(&record)?;
        let start = self.start_field.read(record.value()).map_err(bad_start)?;
        let latency = Sample::new(start.latency_ms(appended_ms));
        let latency = latency.ok_or_else(|| {
            Error::record(
                "latency-window.start_out_of_range",
                "the latency is no number",
            )
        })?;

        let start_ms = appended_ms - appended_ms % self.size_ms;
        let end_ms = start_ms + self.size_ms;
        let watermark_ms = self.watermark_ms.max(self.slot(record.slot()).watermark_ms);
        // As in Flink: a window is kept until the watermark reaches its end plus the allowed lateness.
        if end_ms + self.allowed_lateness_ms <= watermark_ms {
            return Err(self.too_late(end_ms, watermark_ms));
        }
        let slot = self.slot(record.slot());
        if record.timestamp_type() != TimestampType::LogAppendTime && !slot.warned {
            slot.warned = true;
            self.warn_of_timestamps(out.topic(record.slot()));
        }
        let window = self
            .slot(record.slot())
            .windows
            .window(start_ms)
            .map_err(|Full| full(first_of_call))?;
        window.latencies.add(latency);
        window.dirty = true;
        window.saved = false;
        if end_ms <= watermark_ms {
            self.corrected.push((record.slot(), start_ms));
        }
        Ok(())
    }

    /// Corrections: one for each window, however many late records the call brought.
    pub fn after_batch(&mut self, out: &mut Out<'_, '_>) -> Result<(), Error> {
        self.records_in_call = 0;
        let corrected = std::mem::take(&mut self.corrected);
        match self.emission {
            Emission::Documents(_) => {
                self.emit_documents(corrected.into_iter().map(|(_, start_ms)| start_ms), out)
            }
            Emission::Sketches => {
                let corrected: BTreeSet<(u32, i64)> = corrected.into_iter().collect();
                corrected
                    .into_iter()
                    .for_each(|(slot, start_ms)| self.emit_sketch(slot, start_ms, out));
                Ok(())
            }
        }
    }

    /// All partitions have passed `at_ms`: a document needs every partition.
    pub fn all_passed(&mut self, at_ms: i64, out: &mut Out<'_, '_>) -> Result<(), Error> {
        self.watermark_ms = self.watermark_ms.max(at_ms);
        let last_closed_ms = self.watermark_ms.saturating_sub(self.size_ms);
        let closed: Vec<i64> = self
            .slots
            .iter()
            .flat_map(|slot| slot.windows.dirty_starts(last_closed_ms))
            .collect();
        self.emit_documents(closed.into_iter(), out)?;
        let last_forgotten_ms = last_closed_ms.saturating_sub(self.allowed_lateness_ms);
        for slot in &mut self.slots {
            slot.windows.forget(last_forgotten_ms);
        }
        Ok(())
    }

    /// One partition has passed `at_ms`: its closed windows leave as sketches, and behind them the watermark, at once when
    /// a window closed and else once a second.
    pub fn slot_passed(&mut self, slot: u32, at_ms: i64, out: &mut Out<'_, '_>) {
        if matches!(self.emission, Emission::Documents(_)) {
            return;
        }
        let (size_ms, now_ms) = (self.size_ms, out.call_time_ms());
        let known = self.slot(slot);
        known.watermark_ms = known.watermark_ms.max(at_ms);
        let last_closed_ms = known.watermark_ms.saturating_sub(size_ms);
        let closed: Vec<i64> = known.windows.dirty_starts(last_closed_ms).collect();
        let is_due =
            !closed.is_empty() || now_ms >= known.told_at_ms.saturating_add(TELL_INTERVAL_MS);
        for start_ms in closed {
            self.emit_sketch(slot, start_ms, out);
        }
        let last_forgotten_ms = last_closed_ms.saturating_sub(self.allowed_lateness_ms);
        let known = self.slot(slot);
        known.windows.forget(last_forgotten_ms);
        if is_due {
            known.told_at_ms = now_ms;
            let watermark_ms = known.watermark_ms;
            self.tell(slot, News::Watermark(watermark_ms.max(0)), out);
        }
    }

    pub fn snapshot(&mut self, slot: u32, state: &mut State) -> Result<(), Error> {
        let size_ms = self.size_ms;
        self.slot(slot).windows.save(size_ms, state);
        Ok(())
    }

    pub fn restore(&mut self, slot: u32, parts: StateParts<'_>) -> Result<(), Error> {
        let windows = SlotWindows::restore(self.size_ms, parts.iter()).map_err(|error| {
            Error::fatal(
                "latency-window.state",
                format!("the state cannot be read: {error}"),
            )
        })?;
        self.slot(slot).windows = windows;
        Ok(())
    }

    pub fn release(&mut self, slot: u32) {
        self.slots.retain(|kept| kept.slot != slot);
        self.current_slot = 0;
    }

    #[inline]
    fn slot(&mut self, slot: u32) -> &mut Slot {
        if self
            .slots
            .get(self.current_slot)
            .is_none_or(|current| current.slot != slot)
        {
            self.current_slot = self
                .slots
                .binary_search_by_key(&slot, |slot| slot.slot)
                .unwrap_or_else(|index| {
                    self.slots.insert(
                        index,
                        Slot {
                            slot,
                            warned: false,
                            watermark_ms: i64::MIN,
                            told_at_ms: i64::MIN,
                            windows: SlotWindows::default(),
                        },
                    );
                    index
                });
        }
        // Just found or inserted.
        &mut self.slots[self.current_slot]
    }

    /// Emits the documents of the windows with these starts, each once, ascending.
    fn emit_documents(
        &mut self,
        starts_ms: impl Iterator<Item = i64>,
        out: &mut Out<'_, '_>,
    ) -> Result<(), Error> {
        let Emission::Documents(documents) = &self.emission else {
            return Ok(());
        };
        for start_ms in starts_ms.collect::<BTreeSet<i64>>() {
            let mut parts = Vec::with_capacity(self.slots.len());
            for window in self
                .slots
                .iter_mut()
                .filter_map(|slot| slot.windows.get_mut(start_ms))
            {
                window.saved &= !window.dirty;
                window.dirty = false;
                parts.push(&window.latencies);
            }
            documents.emit(start_ms, &Distribution::merged(parts), out)?;
        }
        Ok(())
    }

    fn emit_sketch(&mut self, slot: u32, start_ms: i64, out: &mut Out<'_, '_>) {
        let Some(window) = self.slot(slot).windows.get_mut(start_ms) else {
            return;
        };
        window.saved &= !window.dirty;
        window.dirty = false;
        let latencies = window.latencies.clone();
        let news = News::Window {
            start_ms,
            latencies,
        };
        self.tell(slot, news, out);
    }

    /// To stage two. One key for all of a source partition: it keeps them in order.
    fn tell(&self, slot: u32, news: News, out: &mut Out<'_, '_>) {
        let (topic, partition) = (out.topic(slot), out.partition(slot));
        let message = Message {
            topic: topic.to_owned(),
            partition,
            // Not known means at least this one; a later message says better.
            partition_count: out.partition_count(slot).max(partition + 1),
            size_ms: self.size_ms,
            news,
        };
        let record = Record::derived(slot)
            .with_key(Some(out.copy(format!("{topic}-{partition}").as_bytes())))
            .with_value(out.copy(&message.encode()));
        out.emit(record);
    }

    #[cold]
    fn warn_of_timestamps(&mut self, topic: &str) {
        if self.warned_topics.iter().any(|warned| warned == topic) {
            return;
        }
        self.warned_topics.push(topic.to_owned());
        self.context.warn(format!(
            "topic {topic} does not have message.timestamp.type=LogAppendTime: latencies end when its producer made the \
             record, not when Kafka had it"
        ));
    }

    #[cold]
    fn too_late(&self, end_ms: i64, watermark_ms: i64) -> Error {
        let lateness_ms = watermark_ms - end_ms;
        let allowed_ms = self.allowed_lateness_ms;
        Error::record(
            "latency-window.late",
            format!(
                "its window ended {lateness_ms} ms before the watermark, and `allowed_lateness` is {allowed_ms} ms"
            ),
        )
    }
}

fn append_time(record: &Record<'_>) -> Result<i64, Error> {
    let appended_ms = record.timestamp_ms().ok_or_else(|| {
        Error::record("latency-window.no_timestamp", "the record has no timestamp")
    })?;
    if !(0..=UNIX_MS_MAX).contains(&appended_ms) {
        let message =
            format!("the timestamp {appended_ms} is outside 0 to {UNIX_MS_MAX} unix milliseconds");
        return Err(Error::record(
            "latency-window.timestamp_out_of_range",
            message,
        ));
    }
    Ok(appended_ms)
}

#[cold]
fn bad_start(bad: BadStart) -> Error {
    Error::record(bad.code(), bad.to_string())
}

/// First the call ends early, so that the host can move the watermark on, which closes windows: a sparse backlog opens
/// one with each record. Only when that did not help is it the record's fault.
#[cold]
fn full(first_of_call: bool) -> Error {
    let message = format!(
        "its partition holds {WINDOWS_PER_SLOT_MAX} windows already; choose a larger `size`"
    );
    if first_of_call {
        return Error::record("latency-window.too_many_windows", message);
    }
    Error::Retryable {
        message,
        retry_after: Some(Duration::from_millis(1)),
    }
}
