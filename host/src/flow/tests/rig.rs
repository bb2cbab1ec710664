//! Scripted plugins and a scripted Kafka around a real flow.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use weir_plugin_api::abi_stable::sabi_trait::TD_Opaque;
use weir_plugin_api::abi_stable::std_types::{ROption, RResult, RSlice, RVec};
use weir_plugin_api::host::{OwnedBatch, RecordFields};
use weir_plugin_api::{
    Batch, Bytes, Consumed, Failure, Output, PluginError, Record, Rejection, SEQ_DERIVED, SLOT_ALL,
    Settled, Settlements, SinkObject, SinkObject_TO, StatePart, StatePartRef, TransformObject,
    TransformObject_TO, error_kind, flush_state, timestamp_type, verdict,
};

use super::super::sink::PluginSink;
use super::super::*;
use crate::clock::Clock;
use crate::kafka::DeliveryFailure;
use crate::metrics::TaskCounters;
use crate::plugin::{SinkInstance, TransformInstance};
use crate::status::{CallLimits, HostStatus, NodeLabel, Ticker};
use crate::topology::{OnError, Policy, Scope};

pub const DEAD_LETTERS: &str = "dlq";

pub fn text<'a>(record: &Record<'a>) -> &'a str {
    std::str::from_utf8(record.value.get().unwrap_or_default()).expect("text")
}

/// What the brokers, and the client itself, think of a value.
pub type Opinion = fn(&str) -> Option<RDKafkaErrorCode>;

/// Topic, seq, value.
type Sent = (String, u64, String);

pub struct Wire {
    pub in_flight: Vec<Sent>,
    /// Topic and value, in order.
    pub delivered: Vec<(String, String)>,
    failures: Vec<DeliveryFailure>,
    pub is_away: bool,
    pub client: Opinion,
    /// As a broker: one bad record refuses its whole batch.
    pub broker: Opinion,
    /// The client takes every dead letter.
    pub takes_dead_letters: bool,
}

#[derive(Clone)]
pub struct FakeKafka(pub Rc<RefCell<Wire>>);

impl FakeKafka {
    pub fn new() -> Self {
        FakeKafka(Rc::new(RefCell::new(Wire {
            in_flight: Vec::new(),
            delivered: Vec::new(),
            failures: Vec::new(),
            is_away: false,
            client: |_| None,
            broker: |_| None,
            takes_dead_letters: false,
        })))
    }

    pub fn delivered(&self, topic: &str) -> Vec<String> {
        let wire = self.0.borrow();
        let of_topic = wire.delivered.iter().filter(|(to, _)| to == topic);
        of_topic.map(|(_, value)| value.clone()).collect()
    }
}

impl Wire {
    fn take(&mut self, topic: &str, record: &Record<'_>) {
        let (topic, seq, value) = (topic.to_owned(), record.seq, text(record).to_owned());
        let opinion = (self.client)(&value);
        match opinion.filter(|_| topic != DEAD_LETTERS || !self.takes_dead_letters) {
            Some(code) => self.failures.push(DeliveryFailure {
                topic,
                seq,
                code,
                is_local: true,
            }),
            None => self.in_flight.push((topic, seq, value)),
        }
    }
}

impl Outbox for FakeKafka {
    fn produce(&mut self, _sink: &str, topic: &str, records: &[Record<'_>]) -> usize {
        let mut wire = self.0.borrow_mut();
        records.iter().for_each(|record| wire.take(topic, record));
        records.len()
    }

    fn dead_letter(&mut self, topic: &str, record: &Record<'_>, _: &[(&str, &str)]) -> bool {
        self.0.borrow_mut().take(topic, record);
        true
    }

    fn flush(&mut self, _wait: Duration) -> bool {
        let wire = &mut *self.0.borrow_mut();
        if wire.is_away {
            return false;
        }
        let batch = std::mem::take(&mut wire.in_flight);
        for (topic, seq, value) in &batch {
            let mates = batch.iter().filter(|(to, ..)| to == topic);
            let broker = wire.broker;
            let code = mates.into_iter().find_map(|(.., value)| broker(value));
            match code.filter(|_| topic != DEAD_LETTERS) {
                Some(code) => wire.failures.push(DeliveryFailure {
                    topic: topic.clone(),
                    seq: *seq,
                    code,
                    is_local: false,
                }),
                None => wire.delivered.push((topic.clone(), value.clone())),
            }
        }
        true
    }

    fn take_failures(&mut self) -> Vec<DeliveryFailure> {
        std::mem::take(&mut self.0.borrow_mut().failures)
    }

    fn fatal_error(&self) -> Option<String> {
        None
    }
}

pub fn plugin_error(kind: u32) -> PluginError {
    PluginError {
        kind,
        retry_after_ms: 1,
        code: "scripted.error".into(),
        message: "scripted".into(),
    }
}

pub fn stopped(records: usize, kind: u32) -> Consumed {
    Consumed {
        records,
        error: ROption::RSome(plugin_error(kind)),
    }
}

pub fn refusal_of(record: &Record<'_>) -> Failure {
    Failure {
        seq: record.seq,
        code: "scripted.refused".into(),
        message: "scripted".into(),
        detail: "".into(),
    }
}

/// A record derived from many.
pub fn derived(value: &'static str) -> Record<'static> {
    Record {
        key: Bytes::from_option(None),
        value: Bytes::from_option(Some(value.as_bytes())),
        headers: RSlice::EMPTY,
        timestamp_ms: 0,
        offset: -1,
        seq: SEQ_DERIVED,
        slot: SLOT_ALL,
        timestamp_type: timestamp_type::SET_BY_PLUGIN,
    }
}

pub type Process = Box<dyn for<'b> FnMut(&Batch<'b>, &mut Output<'b>) -> Consumed + Send>;

/// What all instances of a transform share.
#[derive(Clone)]
pub struct Script {
    pub process: Arc<Mutex<Process>>,
    /// Watermarks and the making of instances, in order.
    pub log: Arc<Mutex<Vec<String>>>,
}

struct ScriptedTransform(Script);

impl TransformObject for ScriptedTransform {
    fn process<'b>(&mut self, batch: &Batch<'b>, out: &mut Output<'b>) -> Consumed {
        (self.0.process.lock().expect("script"))(batch, out)
    }

    fn on_watermark<'b>(
        &mut self,
        _batch: &Batch<'b>,
        _slot: u32,
        watermark_ms: i64,
        _out: &mut Output<'b>,
    ) -> RResult<(), PluginError> {
        let mut log = self.0.log.lock().expect("log");
        log.push(format!("watermark {watermark_ms}"));
        RResult::ROk(())
    }

    fn on_timer<'b>(
        &mut self,
        _: &Batch<'b>,
        _: u32,
        _: u64,
        _: i64,
        _: &mut Output<'b>,
    ) -> RResult<(), PluginError> {
        RResult::ROk(())
    }

    fn snapshot(&mut self, _: u32, _: &mut RVec<StatePart>) -> RResult<u32, PluginError> {
        RResult::ROk(1)
    }

    fn restore(
        &mut self,
        _: u32,
        _: u32,
        _: RSlice<'_, StatePartRef<'_>>,
    ) -> RResult<(), PluginError> {
        RResult::ROk(())
    }

    fn release(&mut self, _slot: u32) -> RResult<(), PluginError> {
        RResult::ROk(())
    }

    fn stop(&mut self) -> RResult<(), PluginError> {
        RResult::ROk(())
    }
}

/// What a scripted sink has: accepted deliveries, and what it stored.
#[derive(Default)]
pub struct Store {
    pub accepted: Vec<(u64, String)>,
    pub stored: Vec<String>,
    /// Records it accepts at once.
    pub room: usize,
    /// Ends each `write` with a retryable error.
    pub is_retrying: bool,
    pub rejects: Option<fn(&str) -> bool>,
}

struct ScriptedSink(Arc<Mutex<Store>>);

impl SinkObject for ScriptedSink {
    fn write<'b>(&mut self, batch: &Batch<'b>, _out: &mut Settlements) -> Consumed {
        let mut store = self.0.lock().expect("store");
        let room = store.room;
        let taken = batch.records.iter().take(room);
        let taken = taken.map(|record| (record.seq, text(record).to_owned()));
        let before = store.accepted.len();
        store.accepted.extend(taken);
        let records = store.accepted.len() - before;
        match store.is_retrying {
            true => stopped(records, error_kind::RETRYABLE),
            false => Consumed::ok(records),
        }
    }

    fn poll(&mut self, out: &mut Settlements) -> RResult<(), PluginError> {
        let mut store = self.0.lock().expect("store");
        // Verdicts may come in any order: the newest first.
        while let Some((seq, value)) = store.accepted.pop() {
            if store.rejects.is_some_and(|rejects| rejects(&value)) {
                out.rejections.push(Rejection {
                    seq,
                    code: "scripted.rejected".into(),
                    message: "scripted".into(),
                    detail: "".into(),
                });
            } else {
                store.stored.push(value);
                out.settled.push(Settled {
                    seq,
                    verdict: verdict::STORED,
                });
            }
        }
        RResult::ROk(())
    }

    fn flush(&mut self, _: u64, out: &mut Settlements) -> RResult<u32, PluginError> {
        self.poll(out).map(|()| flush_state::DONE)
    }

    fn stop(&mut self) -> RResult<(), PluginError> {
        RResult::ROk(())
    }
}

pub struct Rig {
    pub flow: Flow,
    pub counters: TaskCounters,
    pub kafka: FakeKafka,
    pub store: Arc<Mutex<Store>>,
    _ticker: Ticker,
}

impl Rig {
    /// A flow of one source with one slot and no nodes yet.
    pub fn new(policy: Policy, kafka: FakeKafka) -> Self {
        let ticker = Ticker::start(CallLimits::default()).expect("a ticker");
        let labels = (0..8).map(|_| NodeLabel::new("n", "p")).collect();
        let monitor = ticker.watch(0, HostStatus::new("p").task(0), labels);
        let mut slots = Slots::default();
        let key = SlotKey {
            source: 0,
            topic: "t".into(),
            partition: 0,
        };
        slots.number(&key, "source");
        let flow = Flow {
            pipeline: "p".into(),
            task: 0,
            on_error: OnError {
                policy,
                topic: DEAD_LETTERS.into(),
                retry_timeout: None,
            },
            clock: Clock::Fixed(0),
            monitor,
            source_receivers: vec![Vec::new()],
            transforms: Vec::new(),
            sinks: Vec::new(),
            outbox: Box::new(kafka.clone()),
            ledger: Ledger::new(),
            slots,
            transform_counters: Vec::new(),
            sink_counters: Vec::new(),
            unflushed: Vec::new(),
            unflushed_dead_letters: Vec::new(),
            closed_below: 0,
            timers: BTreeMap::new(),
            poison: BTreeMap::new(),
            alone: Default::default(),
            delivers_together: false,
            state_changed: false,
            is_transactional: false,
        };
        Rig {
            flow,
            counters: TaskCounters::default(),
            kafka,
            store: Arc::new(Mutex::new(Store {
                room: usize::MAX,
                ..Store::default()
            })),
            _ticker: ticker,
        }
    }

    pub fn with_receivers(mut self, receivers: &[Receiver]) -> Self {
        self.flow.source_receivers = vec![receivers.to_vec()];
        self
    }

    pub fn transform(
        mut self,
        scope: Scope,
        receivers: &[Receiver],
        process: impl for<'b> FnMut(&Batch<'b>, &mut Output<'b>) -> Consumed + Send + 'static,
    ) -> (Self, Script) {
        let script = Script {
            process: Arc::new(Mutex::new(Box::new(process))),
            log: Arc::default(),
        };
        let shared = script.clone();
        let factory: transform::Factory = Box::new(move || {
            shared.log.lock().expect("log").push("made".into());
            let object = ScriptedTransform(shared.clone());
            let object = TransformObject_TO::from_value(object, TD_Opaque);
            Ok(TransformInstance::new("scripted", object))
        });
        let name = format!("transform_{}", self.flow.transforms.len());
        self.flow.transform_counters.push(self.counters.node(&name));
        self.flow.transforms.push(TransformNode {
            name,
            plugin: "scripted".into(),
            scope,
            timers: scope != Scope::Record,
            receivers: receivers.to_vec(),
            input: Default::default(),
            instance: factory().expect("an instance"),
            factory,
            retry: None,
            isolate_below: 0,
            unexplained_panics: 0,
            watermarks: BTreeMap::new(),
        });
        (self, script)
    }

    fn sink(&mut self, name: &str, target: Target) {
        self.flow.sink_counters.push(self.counters.node(name));
        self.flow.sinks.push(SinkNode::new(name, target));
    }

    pub fn kafka_sink(mut self, topic: &str) -> Self {
        self.sink(
            topic,
            Target::Kafka {
                topic: topic.into(),
            },
        );
        self
    }

    pub fn plugin_sink(mut self) -> Self {
        let object = ScriptedSink(Arc::clone(&self.store));
        let object = SinkObject_TO::from_value(object, TD_Opaque);
        let sink = PluginSink::new("scripted", SinkInstance::new("scripted", object));
        self.sink("store", Target::Plugin(Box::new(sink)));
        self
    }

    /// Reads records with these values, from `offset` on.
    pub fn push(&mut self, offset: i64, values: &[String], keep: bool) -> Result<(), FlowError> {
        let offsets = (offset..).take(values.len());
        let batch = |first: u64| {
            let numbered = values.iter().zip(first..).zip(offset..);
            OwnedBatch::copy_of(numbered.map(|((value, seq), offset)| RecordFields {
                key: None,
                value: Some(value.as_bytes()),
                headers: &[],
                timestamp_ms: offset,
                timestamp_type: timestamp_type::CREATE_TIME,
                offset,
                slot: 0,
                seq,
            }))
        };
        self.counters_read(values.len());
        self.flow.push(0, 0, offsets, keep, batch, None)
    }

    fn counters_read(&mut self, records: usize) {
        let partition = self.counters.partition("source", "t", 0);
        self.counters.read(partition, records as u64);
    }

    /// Moves on as far as it goes.
    pub fn run(&mut self) -> Result<(), FlowError> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.flow.advance(&mut self.counters)? == Advance::Yielded {
            assert!(Instant::now() < deadline, "the flow comes to no rest");
        }
        Ok(())
    }

    /// What may be committed when `next` is the next offset to read.
    pub fn committable(&mut self, next: i64) -> i64 {
        self.flow.settled_prefix(&[next])[0]
    }
}

pub fn values(of: &[&str]) -> Vec<String> {
    of.iter().map(|value| (*value).to_owned()).collect()
}
