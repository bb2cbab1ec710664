use std::time::Duration;

use weir_plugin_sdk::*;

use crate::config::LatencyWindowConfig;
use crate::document::{DocumentFormat, timestamp_text};
use crate::percentiles::{DISTINCT_VALUES_MAX, Distribution, Sample};
use crate::start_field::{BadStart, StartField, UNIX_MS_MAX};
use crate::windows::{Full, SlotWindows, WINDOWS_PER_SLOT_MAX};

/// Header with the version of a document, as decimal text.
const VERSION_HEADER: &str = "weir.version";

/// A version is `epoch * 2^40 + count`: 10^12 records in a window.
const VERSION_COUNT_BITS: u32 = 40;

/// In place of a slot, for what comes from several.
const ALL_SLOTS: u32 = u32::MAX;

/// The transform: counts latencies in tumbling windows of the append time, and emits a document for each closed one.
pub struct LatencyWindow {
    size_ms: i64,
    allowed_lateness_ms: i64,
    epoch: u64,
    start_field: StartField,
    format: DocumentFormat,
    context: Context,
    /// No record older than this is expected; rises only.
    watermark_ms: i64,
    /// Ascending by slot.
    slots: Vec<Slot>,
    /// Index of the slot of the record before: batches come partition by partition.
    current_slot: usize,
    /// Starts of windows that took a record in this call after they had closed.
    corrected: Vec<i64>,
    records_in_call: usize,
    /// Topics whose timestamps are not LogAppendTime.
    warned_topics: Vec<String>,
}

struct Slot {
    slot: u32,
    warned: bool,
    windows: SlotWindows,
}

impl Transform for LatencyWindow {
    type Config = LatencyWindowConfig;

    fn describe(_config: &LatencyWindowConfig) -> TransformDescription {
        TransformDescription {
            scope: Scope::Pipeline,
            timers: true,
        }
    }

    fn validate(config: &LatencyWindowConfig, errors: &mut Errors) {
        config.validate(errors);
    }

    fn new(config: LatencyWindowConfig, context: &Context) -> Result<Self, Error> {
        let mut errors = Errors::default();
        config.validate(&mut errors);
        if let Some((path, message)) = errors.iter().next() {
            return Err(Error::fatal(
                "latency-window.config",
                format!("{path}: {message}"),
            ));
        }
        Ok(LatencyWindow {
            size_ms: milliseconds(config.size.0),
            allowed_lateness_ms: milliseconds(config.allowed_lateness.0),
            epoch: config.epoch,
            start_field: StartField::new(&config.start_field),
            format: DocumentFormat::new(&config.percentiles),
            context: context.clone(),
            watermark_ms: i64::MIN,
            slots: Vec::new(),
            current_slot: 0,
            corrected: Vec::new(),
            records_in_call: 0,
            warned_topics: Vec::new(),
        })
    }

    fn process<'b>(&mut self, record: Record<'b>, out: &mut Out<'_, 'b>) -> Result<(), Error> {
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
        // As in Flink: a window is kept until the watermark reaches its end plus the allowed lateness.
        if end_ms + self.allowed_lateness_ms <= self.watermark_ms {
            return Err(self.too_late(end_ms));
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
        if end_ms <= self.watermark_ms {
            self.corrected.push(start_ms);
        }
        Ok(())
    }

    /// Corrections: one document for each window, however many late records the call brought.
    fn after_batch<'b>(&mut self, out: &mut Out<'_, 'b>) -> Result<(), Error> {
        self.records_in_call = 0;
        let corrected = std::mem::take(&mut self.corrected);
        self.emit_all(corrected, out)
    }

    fn on_watermark<'b>(
        &mut self,
        watermark: Watermark,
        out: &mut Out<'_, 'b>,
    ) -> Result<(), Error> {
        // A window needs every partition; what one of them has passed closes nothing.
        let Watermark::All { at_ms } = watermark else {
            return Ok(());
        };
        self.watermark_ms = self.watermark_ms.max(at_ms);
        let last_closed_ms = self.watermark_ms.saturating_sub(self.size_ms);
        let closed = self
            .slots
            .iter()
            .flat_map(|slot| slot.windows.dirty_starts(last_closed_ms))
            .collect();
        self.emit_all(closed, out)?;
        let last_forgotten_ms = last_closed_ms.saturating_sub(self.allowed_lateness_ms);
        for slot in &mut self.slots {
            slot.windows.forget(last_forgotten_ms);
        }
        Ok(())
    }

    fn snapshot(&mut self, slot: u32, state: &mut State) -> Result<(), Error> {
        let size_ms = self.size_ms;
        self.slot(slot).windows.save(size_ms, state);
        Ok(())
    }

    fn restore(&mut self, slot: u32, version: u32, parts: StateParts<'_>) -> Result<(), Error> {
        if version != Self::STATE_VERSION {
            let message = format!(
                "the state has version {version}, and this plugin reads {}",
                Self::STATE_VERSION
            );
            return Err(Error::fatal("latency-window.state", message));
        }
        let windows = SlotWindows::restore(self.size_ms, parts.iter()).map_err(|error| {
            Error::fatal(
                "latency-window.state",
                format!("the state cannot be read: {error}"),
            )
        })?;
        self.slot(slot).windows = windows;
        Ok(())
    }

    fn release(&mut self, slot: u32) {
        self.slots.retain(|kept| kept.slot != slot);
        self.current_slot = 0;
    }
}

impl LatencyWindow {
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
                            windows: SlotWindows::default(),
                        },
                    );
                    index
                });
        }
        // Just found or inserted.
        &mut self.slots[self.current_slot]
    }

    /// Emits the windows with these starts, each once, ascending.
    fn emit_all(&mut self, mut starts_ms: Vec<i64>, out: &mut Out<'_, '_>) -> Result<(), Error> {
        starts_ms.sort_unstable();
        starts_ms.dedup();
        starts_ms
            .into_iter()
            .try_for_each(|start_ms| self.emit(start_ms, out))
    }

    fn emit(&mut self, start_ms: i64, out: &mut Out<'_, '_>) -> Result<(), Error> {
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
        let merged = Distribution::merged(parts);
        let Some(summary) = merged.summary(self.format.percentiles()) else {
            return Ok(());
        };
        let timestamp = timestamp_text(start_ms).ok_or_else(|| {
            Error::fatal(
                "latency-window.state",
                format!("a window starts at {start_ms} ms"),
            )
        })?;

        if !merged.is_exact() {
            self.context.debug(format!(
                "the percentiles of {timestamp} are estimates: it has more than {DISTINCT_VALUES_MAX} distinct latencies"
            ));
        }
        let document = self.format.write(&timestamp, &summary);
        let count = summary.count.min((1 << VERSION_COUNT_BITS) - 1);
        let version = ((self.epoch << VERSION_COUNT_BITS) + count).to_string();
        let headers = out.headers(&[(VERSION_HEADER, Some(version.as_bytes()))]);
        let record = Record::derived(ALL_SLOTS)
            .with_key(Some(out.copy(timestamp.as_bytes())))
            .with_value(out.copy(document.as_bytes()))
            .with_headers(headers)
            // The last moment that belongs to the window, as Flink stamps it.
            .with_timestamp_ms(start_ms + self.size_ms - 1);
        out.emit(record);
        Ok(())
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
    fn too_late(&self, end_ms: i64) -> Error {
        let lateness_ms = self.watermark_ms - end_ms;
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

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
