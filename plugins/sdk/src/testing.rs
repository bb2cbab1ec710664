//! Runs a plugin inside a test, without a library or a host: the same shims, batches and arenas as in production.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use weir_plugin_api::host::{
    Arena, CallScope, Collected, HeaderFields, HostService, OwnedBatch, RecordFields, collect,
    collect_from, host_handle,
};
use weir_plugin_api::{
    Batch, Consumed, HostHandle, PluginError, SLOT_ALL, Settlements, SinkBox, SlotName, StatePart,
    StatePartRef, TimerRequest, TransformBox, flush_state, timestamp_type,
};

use crate::{Context, Error, Flush, Sink, Transform, shim};

/// A record to feed, or one that came out. Starts as `TestRecord::default()`: no key, no value, no timestamp.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestRecord {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Unix milliseconds; fed as LogAppendTime unless `create_time`.
    pub timestamp_ms: Option<i64>,
    pub create_time: bool,
    pub offset: i64,
    pub slot: u32,
    pub seq: u64,
}

impl TestRecord {
    pub fn value(value: impl AsRef<[u8]>) -> Self {
        TestRecord {
            value: Some(value.as_ref().to_vec()),
            ..TestRecord::default()
        }
    }

    pub fn with_key(self, key: impl AsRef<[u8]>) -> Self {
        TestRecord {
            key: Some(key.as_ref().to_vec()),
            ..self
        }
    }

    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), Some(value.as_ref().to_vec())));
        self
    }

    pub fn at(self, timestamp_ms: i64) -> Self {
        TestRecord {
            timestamp_ms: Some(timestamp_ms),
            ..self
        }
    }

    pub fn offset(self, offset: i64) -> Self {
        TestRecord { offset, ..self }
    }

    pub fn slot(self, slot: u32) -> Self {
        TestRecord { slot, ..self }
    }

    /// The value as text; empty for null.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }
}

/// A refused record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestFailure {
    /// Position in the batch that was fed, from 0, counted over the life of the harness.
    pub seq: u64,
    pub code: String,
    pub message: String,
}

/// What one call left behind.
#[derive(Clone, Debug, Default)]
pub struct TestOutput {
    pub records: Vec<TestRecord>,
    pub failures: Vec<TestFailure>,
    pub timers: Vec<TimerRequest>,
    /// How many input records are done.
    pub consumed: usize,
    /// The call's error as (kind of `weir_plugin_api::error_kind`, message).
    pub error: Option<(u32, String)>,
}

/// The clock and log of a test.
#[derive(Clone, Default)]
struct TestHost {
    clock_ms: Arc<AtomicI64>,
    log: Arc<Mutex<Vec<(u32, String)>>>,
}

impl HostService for TestHost {
    fn log(&self, level: u32, message: &str) {
        if let Ok(mut log) = self.log.lock() {
            log.push((level, message.to_owned()));
        }
    }

    fn clock_ms(&self) -> i64 {
        self.clock_ms.load(Ordering::Relaxed)
    }
}

/// What both harnesses share.
struct Bench {
    host: TestHost,
    handle: HostHandle,
    slots: Vec<SlotName<'static>>,
    next_seq: u64,
    yield_flag: AtomicBool,
}

impl Bench {
    fn new() -> Self {
        let host = TestHost::default();
        let slots = (0..8).map(|partition| SlotName {
            source: "source".into(),
            topic: "topic".into(),
            partition,
            partition_count: 8,
        });
        Bench {
            handle: host_handle(host.clone()),
            host,
            slots: slots.collect(),
            next_seq: 1,
            yield_flag: AtomicBool::new(false),
        }
    }

    fn context(&self) -> Context {
        Context {
            host: self.handle,
            pipeline: "test".into(),
            node: "node".into(),
            task: 0,
        }
    }

    fn scope(&self) -> CallScope<'_> {
        CallScope {
            slots: &self.slots,
            now_ms: self.host.clock_ms(),
            yield_flag: &self.yield_flag,
        }
    }

    fn batch(&mut self, records: &[TestRecord]) -> Rc<OwnedBatch> {
        let first = self.next_seq;
        self.next_seq += records.len() as u64;
        let headers: Vec<Vec<HeaderFields<'_>>> = records
            .iter()
            .map(|record| {
                record
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_deref()))
                    .collect()
            })
            .collect();
        let fields = records
            .iter()
            .zip(&headers)
            .zip(first..)
            .map(|((record, headers), seq)| RecordFields {
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers,
                timestamp_ms: record.timestamp_ms.unwrap_or(weir_plugin_api::NO_TIMESTAMP),
                timestamp_type: match (record.timestamp_ms, record.create_time) {
                    (None, _) => timestamp_type::NONE,
                    (Some(_), true) => timestamp_type::CREATE_TIME,
                    (Some(_), false) => timestamp_type::LOG_APPEND_TIME,
                },
                offset: record.offset,
                slot: record.slot,
                seq,
            });
        Rc::new(OwnedBatch::copy_of(fields))
    }
}

fn output(consumed: Consumed, collected: Collected) -> TestOutput {
    let records = collected.batch.records().iter().map(|record| TestRecord {
        key: record.key.get().map(<[u8]>::to_vec),
        value: record.value.get().map(<[u8]>::to_vec),
        headers: record
            .headers
            .iter()
            .map(|header| {
                (
                    header.name.to_string(),
                    header.value.get().map(<[u8]>::to_vec),
                )
            })
            .collect(),
        timestamp_ms: (record.timestamp_ms != weir_plugin_api::NO_TIMESTAMP)
            .then_some(record.timestamp_ms),
        create_time: record.timestamp_type == timestamp_type::CREATE_TIME,
        offset: record.offset,
        slot: record.slot,
        seq: record.seq,
    });
    let failures = collected.failures.iter().map(|failure| TestFailure {
        seq: failure.seq,
        code: failure.code.to_string(),
        message: failure.message.to_string(),
    });
    TestOutput {
        records: records.collect(),
        failures: failures.collect(),
        timers: collected.timers.to_vec(),
        consumed: consumed.records,
        error: consumed
            .error
            .into_option()
            .map(|error| (error.kind, error.message.to_string())),
    }
}

fn no_records(answer: Result<(), PluginError>) -> Consumed {
    Consumed {
        records: 0,
        error: answer.err().into(),
    }
}

/// Records as a host would hold them, for the harness that made them.
pub struct TestBatch {
    first: u64,
    batch: Rc<OwnedBatch>,
}

impl TestBatch {
    pub fn len(&self) -> usize {
        self.batch.records().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Id and bytes of a part of state; `None` where it has not changed.
pub type TestStatePart = (u64, Option<Vec<u8>>);

/// A transform under test.
pub struct TransformHarness {
    bench: Bench,
    object: TransformBox,
}

impl TransformHarness {
    /// Makes an instance from its configuration as JSON, as the host does after validation.
    pub fn new<T: Transform>(config: serde_json::Value) -> Result<Self, Error> {
        let bench = Bench::new();
        let config = serde_json::from_value(config)?;
        let object = shim::transform_object::<T>(config, bench.context())?;
        Ok(TransformHarness { bench, object })
    }

    pub fn set_clock_ms(&mut self, clock_ms: i64) {
        self.bench.host.clock_ms.store(clock_ms, Ordering::Relaxed);
    }

    /// Lines logged so far, as (level, message).
    pub fn log(&self) -> Vec<(u32, String)> {
        self.bench
            .host
            .log
            .lock()
            .map(|log| log.clone())
            .unwrap_or_default()
    }

    /// From now on the host asks for the thread back after each record.
    pub fn set_yield(&mut self, requested: bool) {
        self.bench.yield_flag.store(requested, Ordering::Relaxed);
    }

    pub fn process(&mut self, records: &[TestRecord]) -> TestOutput {
        let batch = self.bench.batch(records);
        let object = &mut self.object;
        let (consumed, collected) = collect(
            &batch,
            0..batch.len(),
            self.bench.scope(),
            Arena::default(),
            |batch, out| object.process(batch, out),
        );
        output(consumed, collected)
    }

    /// The pipeline's watermark.
    pub fn watermark(&mut self, at_ms: i64) -> TestOutput {
        self.slot_watermark(SLOT_ALL, at_ms)
    }

    /// The watermark of one slot.
    pub fn slot_watermark(&mut self, slot: u32, at_ms: i64) -> TestOutput {
        let object = &mut self.object;
        let (answer, collected) =
            collect_from(None, self.bench.scope(), Arena::default(), |batch, out| {
                object.on_watermark(batch, slot, at_ms, out).into_result()
            });
        output(no_records(answer), collected)
    }

    pub fn timer(&mut self, slot: u32, id: u64) -> TestOutput {
        let now_ms = self.bench.host.clock_ms();
        let object = &mut self.object;
        let (answer, collected) =
            collect_from(None, self.bench.scope(), Arena::default(), |batch, out| {
                object.on_timer(batch, slot, id, now_ms, out).into_result()
            });
        output(no_records(answer), collected)
    }

    /// Version and parts of the slot's state; `None` in place of the bytes of a part that has not changed.
    pub fn snapshot(&mut self, slot: u32) -> Result<(u32, Vec<TestStatePart>), String> {
        let mut parts = weir_plugin_api::abi_stable::std_types::RVec::new();
        let version = self
            .object
            .snapshot(slot, &mut parts)
            .into_result()
            .map_err(|error| error.message.to_string())?;
        let bytes = |part: StatePart| (!part.is_unchanged).then(|| part.bytes.into_vec());
        let parts = parts.into_iter().map(|part| (part.id, bytes(part)));
        Ok((version, parts.collect()))
    }

    /// Gives the slot the state of these parts.
    pub fn restore(
        &mut self,
        slot: u32,
        version: u32,
        parts: &[(u64, Vec<u8>)],
    ) -> Result<(), String> {
        let parts = parts.iter().map(|(id, bytes)| StatePartRef {
            id: *id,
            bytes: bytes.as_slice().into(),
        });
        let parts: Vec<StatePartRef<'_>> = parts.collect();
        self.object
            .restore(slot, version, parts.as_slice().into())
            .into_result()
            .map_err(|error| error.message.to_string())
    }

    pub fn release(&mut self, slot: u32) -> Result<(), String> {
        self.object
            .release(slot)
            .into_result()
            .map_err(|error| error.message.to_string())
    }
}

/// A sink under test.
pub struct SinkHarness {
    bench: Bench,
    object: SinkBox,
    settlements: Settlements,
}

impl SinkHarness {
    /// Makes an instance from its configuration as JSON, as the host does after validation.
    pub fn new<S: Sink>(config: serde_json::Value) -> Result<Self, Error> {
        let bench = Bench::new();
        let config = serde_json::from_value(config)?;
        let object = shim::sink_object::<S>(config, bench.context())?;
        Ok(SinkHarness {
            bench,
            object,
            settlements: Settlements::default(),
        })
    }

    /// What the host's wall clock says from now on; it begins at 0.
    pub fn set_clock_ms(&mut self, clock_ms: i64) {
        self.bench.host.clock_ms.store(clock_ms, Ordering::Relaxed);
    }

    /// Lines logged so far, as (level, message).
    pub fn log(&self) -> Vec<(u32, String)> {
        self.bench
            .host
            .log
            .lock()
            .map(|log| log.clone())
            .unwrap_or_default()
    }

    /// Answers how many records were accepted and the `seq` of the first.
    pub fn write(&mut self, records: &[TestRecord]) -> Result<(usize, u64), String> {
        let batch = self.batch(records);
        self.write_batch(&batch, 0)
    }

    /// Makes a batch as a host would hold it: for measurements of the sink alone.
    pub fn batch(&mut self, records: &[TestRecord]) -> TestBatch {
        TestBatch {
            first: self.bench.next_seq,
            batch: self.bench.batch(records),
        }
    }

    /// Writes the records of `batch`, one of this harness, from position `from` on, as [`SinkHarness::write`].
    pub fn write_batch(&mut self, batch: &TestBatch, from: usize) -> Result<(usize, u64), String> {
        let first = batch.first + from as u64;
        let view = Batch::new(
            batch.batch.records().get(from..).unwrap_or_default(),
            &self.bench.slots,
            self.bench.host.clock_ms(),
            &self.bench.yield_flag,
        );
        let consumed = self.object.write(&view, &mut self.settlements);
        match consumed.error.into_option() {
            Some(error) => Err(error.message.to_string()),
            None => Ok((consumed.records, first)),
        }
    }

    pub fn poll(&mut self) -> Result<(), String> {
        self.object
            .poll(&mut self.settlements)
            .into_result()
            .map_err(|error| error.message.to_string())
    }

    pub fn flush(&mut self, wait_ms: u64) -> Result<Flush, String> {
        let state = self
            .object
            .flush(wait_ms, &mut self.settlements)
            .into_result();
        let state = state.map_err(|error| error.message.to_string())?;
        Ok(if state == flush_state::DONE {
            Flush::Done
        } else {
            Flush::Pending
        })
    }

    /// The last call; a sink says by errors that it takes nothing any more.
    pub fn stop(&mut self) -> Result<(), String> {
        self.object
            .stop()
            .into_result()
            .map_err(|error| error.message.to_string())
    }

    /// Everything reported so far; kept until taken with `std::mem::take`.
    pub fn settlements(&mut self) -> &mut Settlements {
        &mut self.settlements
    }
}
