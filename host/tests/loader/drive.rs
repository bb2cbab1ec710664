//! Calls instances as the data path does.

use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use weir::plugin::{CallError, Catalog, Creation, Processed, SinkInstance, TransformInstance};
use weir_plugin_api::host::{
    Arena, CallScope, Collected, HostService, OwnedBatch, RecordFields, collect, collect_from,
    host_handle,
};
use weir_plugin_api::{Batch, HostHandle, Output, Settlements, SlotName};

/// Lines that plugins logged.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().expect("a log").clone()
    }
}

impl HostService for Log {
    fn log(&self, _level: u32, message: &str) {
        self.0.lock().expect("a log").push(message.to_owned());
    }

    fn clock_ms(&self) -> i64 {
        42
    }
}

pub fn catalog(folder: &Path) -> Catalog {
    Catalog::search(&[folder.to_owned()])
}

fn creation(host: HostHandle) -> Creation<'static> {
    Creation {
        host,
        pipeline: "pipeline",
        node: "node",
        task: 3,
    }
}

pub fn transform(
    catalog: &Catalog,
    name: &str,
    config: Value,
) -> Result<TransformInstance, CallError> {
    catalog.create_transform(name, &config, &creation(host_handle(Log::default())))
}

pub fn sink(
    catalog: &Catalog,
    name: &str,
    config: Value,
    log: &Log,
) -> Result<SinkInstance, CallError> {
    catalog.create_sink(name, &config, &creation(host_handle(log.clone())))
}

/// Records of slot 0 with these values, numbered from 1.
pub fn records(values: &[&str]) -> Rc<OwnedBatch> {
    let fields = values.iter().zip(1..).map(|(value, seq)| RecordFields {
        key: None,
        value: Some(value.as_bytes()),
        headers: &[],
        timestamp_ms: 1,
        timestamp_type: 1,
        offset: seq as i64,
        slot: 0,
        seq,
    });
    Rc::new(OwnedBatch::copy_of(fields))
}

fn with_scope<R>(run: impl FnOnce(CallScope<'_>) -> R) -> R {
    let slots = [0, 1].map(|partition| SlotName {
        source: "source".into(),
        topic: "topic".into(),
        partition,
        partition_count: 2,
    });
    let yield_flag = AtomicBool::new(false);
    run(CallScope {
        slots: &slots,
        now_ms: 42,
        yield_flag: &yield_flag,
    })
}

pub fn process(instance: &mut TransformInstance, values: &[&str]) -> (Processed, Collected) {
    let batch = records(values);
    with_scope(|scope| {
        collect(
            &batch,
            0..batch.len(),
            scope,
            Arena::default(),
            |batch, out| instance.process(batch, out),
        )
    })
}

/// A call that is given no records.
pub fn without_records<R>(
    call: impl for<'b> FnOnce(&Batch<'b>, &mut Output<'b>) -> R,
) -> (R, Collected) {
    with_scope(|scope| collect_from(None, scope, Arena::default(), call))
}

pub fn write(instance: &mut SinkInstance, values: &[&str], out: &mut Settlements) -> Processed {
    let records = records(values);
    let yield_flag = AtomicBool::new(false);
    let batch = Batch::new(records.records(), &[], 0, &yield_flag);
    instance.write(&batch, out)
}

/// What came out, as texts.
pub fn values(collected: &Collected) -> Vec<String> {
    let records = collected.batch.records().iter();
    records
        .map(|record| String::from_utf8_lossy(record.value.get().unwrap_or_default()).into_owned())
        .collect()
}
