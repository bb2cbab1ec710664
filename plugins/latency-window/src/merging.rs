//! Stage two: merges the sketches of all source partitions into documents.

use std::collections::{BTreeMap, BTreeSet};

use weir_plugin_sdk::{Context, Error, Out, Record, State, StateParts};

use crate::config::LatencyWindowConfig;
use crate::emission::Documents;
use crate::percentiles::Distribution;
use crate::sketch::{Message, News};
use crate::transform::milliseconds;
use crate::windows::WINDOWS_PER_SLOT_MAX;
use crate::wire::{Reader, put_varint};

/// Source partitions that stage two knows at most: more than any topic that people run has.
const SOURCES_MAX: usize = 10_000;
/// A part's id is `source << 40 | window + 1`; 0 in the low bits is the source itself.
const WINDOW_BITS: u32 = 40;

/// What is known of one source partition.
struct Source {
    topic: String,
    partition: i32,
    partition_count: i32,
    watermark_ms: i64,
    /// The slot that its messages come through.
    slot: u32,
    windows: BTreeMap<i64, Part>,
    /// The snapshot before has it as it is.
    saved: bool,
}

/// One source partition's share of a window.
struct Part {
    latencies: Distribution,
    saved: bool,
}

pub struct Merging {
    size_ms: i64,
    allowed_lateness_ms: i64,
    documents: Documents,
    /// Numbered as they were first seen: the number goes into the ids of state parts.
    sources: Vec<Source>,
    /// Every source partition has passed it; rises only.
    watermark_ms: i64,
    /// Windows with something that no emitted document has, by start.
    dirty: BTreeSet<i64>,
}

impl Merging {
    pub fn new(config: &LatencyWindowConfig, context: &Context) -> Self {
        let size_ms = milliseconds(config.size.0);
        Merging {
            size_ms,
            allowed_lateness_ms: milliseconds(config.allowed_lateness.0),
            documents: Documents::new(config, size_ms, context),
            sources: Vec::new(),
            watermark_ms: i64::MIN,
            dirty: BTreeSet::new(),
        }
    }

    pub fn process(&mut self, record: &Record<'_>) -> Result<(), Error> {
        let value = record.value().unwrap_or_default();
        let message = Message::decode(value)
            .map_err(|error| Error::record("latency-window.sketch", error.to_string()))?;
        if message.size_ms != self.size_ms {
            return Err(Error::record(
                "latency-window.sketch_size",
                format!(
                    "its windows are {} ms long, and `size` is {} ms",
                    message.size_ms, self.size_ms
                ),
            ));
        }
        let source = self.source(&message, record.slot())?;
        let known = &mut self.sources[source];
        if known.slot != record.slot() || known.partition_count != message.partition_count {
            known.saved = false;
        }
        known.slot = record.slot();
        known.partition_count = message.partition_count;
        match message.news {
            News::Watermark(at_ms) if at_ms > known.watermark_ms => {
                known.watermark_ms = at_ms;
                known.saved = false;
            }
            News::Watermark(_) => {}
            News::Window {
                start_ms,
                latencies,
            } => self.take_window(source, start_ms, latencies)?,
        }
        Ok(())
    }

    fn source(&mut self, message: &Message, slot: u32) -> Result<usize, Error> {
        let is_it =
            |known: &Source| known.partition == message.partition && known.topic == message.topic;
        if let Some(found) = self.sources.iter().position(is_it) {
            return Ok(found);
        }
        if self.sources.len() >= SOURCES_MAX {
            return Err(Error::record(
                "latency-window.too_many_sources",
                format!("sketches of {SOURCES_MAX} source partitions are merged already"),
            ));
        }
        self.sources.push(Source {
            topic: message.topic.clone(),
            partition: message.partition,
            partition_count: message.partition_count,
            watermark_ms: i64::MIN,
            slot,
            windows: BTreeMap::new(),
            saved: false,
        });
        Ok(self.sources.len() - 1)
    }

    /// The newest version of a source partition's window counts; a window only grows, so that is the larger one.
    fn take_window(
        &mut self,
        source: usize,
        start_ms: i64,
        latencies: Distribution,
    ) -> Result<(), Error> {
        let end_ms = start_ms + self.size_ms;
        if end_ms + self.allowed_lateness_ms <= self.watermark_ms {
            return Err(Error::record(
                "latency-window.late",
                format!(
                    "its window ended {} ms before the watermark, and `allowed_lateness` is {} ms",
                    self.watermark_ms - end_ms,
                    self.allowed_lateness_ms
                ),
            ));
        }
        let windows = &mut self.sources[source].windows;
        let known = windows
            .get(&start_ms)
            .map_or(0, |part| part.latencies.count());
        if latencies.count() <= known {
            return Ok(());
        }
        if known == 0 && windows.len() >= WINDOWS_PER_SLOT_MAX {
            return Err(Error::record(
                "latency-window.too_many_windows",
                format!(
                    "its partition holds {WINDOWS_PER_SLOT_MAX} windows already; choose a larger `size`"
                ),
            ));
        }
        let saved = false;
        windows.insert(start_ms, Part { latencies, saved });
        self.dirty.insert(start_ms);
        self.sources[source].saved = false;
        Ok(())
    }

    /// Emits what every source partition has passed, each window once, and forgets what is too old to be corrected.
    pub fn emit_closed(&mut self, out: &mut Out<'_, '_>) -> Result<(), Error> {
        self.watermark_ms = self.watermark_ms.max(self.slowest_watermark_ms());
        let last_closed_ms = self.watermark_ms.saturating_sub(self.size_ms);
        while let Some(start_ms) = self.dirty.first().copied()
            && start_ms <= last_closed_ms
        {
            self.dirty.remove(&start_ms);
            let parts = self
                .sources
                .iter()
                .filter_map(|source| source.windows.get(&start_ms));
            let merged = Distribution::merged(parts.map(|part| &part.latencies));
            self.documents.emit(start_ms, &merged, out)?;
            // Whether it was emitted is kept with the sources.
            self.sources
                .iter_mut()
                .for_each(|source| source.saved = false);
        }
        let last_forgotten_ms = last_closed_ms.saturating_sub(self.allowed_lateness_ms);
        for source in &mut self.sources {
            while let Some(first) = source.windows.first_entry()
                && *first.key() <= last_forgotten_ms
            {
                first.remove();
            }
        }
        Ok(())
    }

    /// Of the partitions that there are by what the newest sketches say, known or not.
    fn slowest_watermark_ms(&self) -> i64 {
        let mut topics: BTreeMap<&str, (i32, usize)> = BTreeMap::new();
        for source in &self.sources {
            let (count, known) = topics.entry(&source.topic).or_insert((0, 0));
            *count = (*count).max(source.partition_count);
            *known += 1;
        }
        let is_whole = |(count, known): &(i32, usize)| usize::try_from(*count) == Ok(*known);
        if topics.is_empty() || !topics.values().all(is_whole) {
            return i64::MIN;
        }
        let watermarks = self.sources.iter().map(|source| source.watermark_ms);
        watermarks.min().unwrap_or(i64::MIN)
    }

    /// A part for each source partition that comes through the slot (topic, partition, partition count, watermark, and
    /// which of its windows are dirty), and one for each of its windows.
    pub fn snapshot(&mut self, slot: u32, state: &mut State) {
        for (number, source) in (0u64..).zip(&mut self.sources) {
            if source.slot != slot {
                continue;
            }
            let id = number << WINDOW_BITS;
            match source.saved {
                true => state.keep(id),
                false => state.put(id, source.head(self.size_ms, &self.dirty)),
            }
            source.saved = true;
            for (start_ms, part) in &mut source.windows {
                let id = id | ((start_ms / self.size_ms).unsigned_abs() + 1);
                if std::mem::replace(&mut part.saved, true) {
                    state.keep(id);
                    continue;
                }
                let mut bytes = Vec::new();
                part.latencies.encode(&mut bytes);
                state.put(id, bytes);
            }
        }
    }

    pub fn restore(&mut self, slot: u32, parts: StateParts<'_>) -> Result<(), Error> {
        for (id, bytes) in parts.iter() {
            let number = usize::try_from(id >> WINDOW_BITS).unwrap_or(usize::MAX);
            let window = id & ((1 << WINDOW_BITS) - 1);
            let restored = match window {
                0 => self.restore_source(slot, number, bytes),
                window => self.restore_window(number, window - 1, bytes),
            };
            restored.map_err(|what| {
                Error::fatal(
                    "latency-window.state",
                    format!("the state cannot be read: part {id}: {what}"),
                )
            })?;
        }
        Ok(())
    }

    fn restore_source(&mut self, slot: u32, number: usize, bytes: &[u8]) -> Result<(), String> {
        let mut reader = Reader::new(bytes);
        let (size_ms, dirty) = read_dirty(&mut reader).map_err(|error| error.to_string())?;
        if size_ms != self.size_ms {
            return Err(format!(
                "its windows are {size_ms} ms long, and `size` is {} ms",
                self.size_ms
            ));
        }
        let message = Message::decode(reader.rest()).map_err(|error| error.to_string())?;
        let News::Watermark(at_ms) = message.news else {
            return Err("it is no watermark".to_owned());
        };
        if number >= SOURCES_MAX {
            return Err(format!("{number} is no number of a source partition"));
        }
        // Slots come one by one; numbers of other slots' source partitions are still to come.
        while self.sources.len() <= number {
            self.sources.push(Source::placeholder());
        }
        self.sources[number] = Source {
            topic: message.topic,
            partition: message.partition,
            partition_count: message.partition_count,
            // 0 stands for none: no watermark of a real record lies there.
            watermark_ms: if at_ms == 0 { i64::MIN } else { at_ms },
            slot,
            windows: BTreeMap::new(),
            saved: true,
        };
        self.dirty.extend(dirty);
        Ok(())
    }

    fn restore_window(&mut self, number: usize, window: u64, bytes: &[u8]) -> Result<(), String> {
        let source = self.sources.get_mut(number);
        let source = source.ok_or("its source partition is missing")?;
        let start_ms = i64::try_from(window)
            .ok()
            .and_then(|window| window.checked_mul(self.size_ms))
            .ok_or("its window is out of range")?;
        let latencies = Distribution::decode(bytes).map_err(|error| error.to_string())?;
        let saved = true;
        source.windows.insert(start_ms, Part { latencies, saved });
        Ok(())
    }
}

/// Size and starts of dirty windows, as [`Source::head`] writes them.
fn read_dirty(reader: &mut Reader<'_>) -> Result<(i64, Vec<i64>), crate::wire::WireError> {
    let size_ms = i64::try_from(reader.varint()?).unwrap_or(i64::MAX);
    let count = reader.varint()?;
    let mut dirty = Vec::new();
    for _ in 0..count {
        let window = i64::try_from(reader.varint()?).unwrap_or(i64::MAX);
        dirty.push(window.saturating_mul(size_ms));
    }
    Ok((size_ms, dirty))
}

impl Source {
    /// A number whose source partition is not known yet. It holds nothing closed: no partition 0 of an empty name exists.
    fn placeholder() -> Self {
        Source {
            topic: String::new(),
            partition: 0,
            partition_count: 2,
            watermark_ms: i64::MIN,
            slot: u32::MAX,
            windows: BTreeMap::new(),
            saved: true,
        }
    }

    /// `size_ms`, the number and the indexes of its dirty windows (varints), then a watermark message.
    fn head(&self, size_ms: i64, dirty: &BTreeSet<i64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, size_ms.unsigned_abs());
        let dirty = dirty
            .iter()
            .filter(|start_ms| self.windows.contains_key(start_ms));
        let dirty: Vec<u64> = dirty
            .map(|start_ms| (start_ms / size_ms).unsigned_abs())
            .collect();
        put_varint(&mut bytes, dirty.len() as u64);
        dirty
            .iter()
            .for_each(|window| put_varint(&mut bytes, *window));
        let message = Message {
            topic: self.topic.clone(),
            partition: self.partition,
            partition_count: self.partition_count,
            size_ms,
            news: News::Watermark(self.watermark_ms.max(0)),
        };
        bytes.extend(message.encode());
        bytes
    }
}
