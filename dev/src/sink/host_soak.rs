//! Many records through a real Kafka and a real host while the host's document store fails at random; then the index and
//! the dead letters must equal a model.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use weir_document_store::Settings;

use crate::client::{Kafka, Record, Row, wait_until};
use crate::host::{Command, Folder, Host};
use crate::judge::Delivery;
use crate::scene::StoreScene;
use crate::servers::KafkaServer;

use super::faults::{POISON, REQUEST_POISON, poison, torment};
use super::soak::{BODY_MAX_BYTES, REQUEST_TIMEOUT, SoakOptions, document, document_id};

const PARTITIONS: usize = 4;
/// Rows that are written to Kafka in one go.
const CHUNK: u64 = 5_000;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest time without a commit: the sink's pauses end after half a minute, a rewind takes one more.
const STANDSTILL_MAX: Duration = Duration::from_secs(180);
/// Memory when warm is the most up to this share of the records, and at the end the most after the last such share.
const SHARE: u64 = 5;
/// What the allocator may keep beyond what it kept when warm.
const GROWTH_MAX_BYTES: u64 = 32 << 20;

/// What came of it. All of it held, or [`soak_in_host`] answers an error.
#[derive(Debug)]
pub struct HostSoakReport {
    pub faults: u64,
    pub requests: u64,
    /// Times that the host gave a transaction up and read again.
    pub rewinds: usize,
    pub documents: usize,
    pub dead_letters: usize,
    /// Resident memory of the host, bytes.
    pub warm_bytes: u64,
    pub end_bytes: u64,
    pub elapsed: Duration,
}

/// Starts a Kafka of its own.
///
/// # Errors
/// A record was lost, doubled or ended wrongly, the host stood still, ended or grew; with the difference.
pub fn soak_in_host(options: SoakOptions) -> Result<HostSoakReport> {
    let kafka = KafkaServer::start()?;
    let settings = Settings {
        observed_bulks_max: 0,
        body_max_bytes: BODY_MAX_BYTES,
        ..Settings::default()
    };
    let scene = StoreScene::on("soak", &kafka.bootstrap(), settings)?;
    poison(&scene.store);
    scene.kafka.create_topic(&scene.rows(), PARTITIONS, &[])?;
    let folder = folder(&scene)?;
    let mut host = Command::run(&folder, &scene.pipeline()).start_ready()?;
    let stopped = AtomicBool::new(false);
    let started_at = Instant::now();
    let (memory, faults) = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&scene.kafka, &scene.rows(), options));
        let tormentor = scope.spawn(|| torment(&scene.store, options.seed, &stopped));
        let memory = watch(&scene, &mut host, options);
        stopped.store(true, Ordering::Relaxed);
        let written = writer
            .join()
            .unwrap_or_else(|_| bail!("the writer panicked"));
        (written.and(memory), tormentor.join().unwrap_or_default())
    });
    let memory = memory.with_context(|| host.log.tail(40))?;
    let elapsed = started_at.elapsed();
    host.wait_balanced(as_f64(options.records))?;
    wait_no_lag(&host)?;
    let rewinds = host.log.count(&["rewound"]);
    ensure!(host.drain()? == 0, "the host did not drain");
    let report = scene.judge(&is_poisoned, Delivery::ExactlyOnce)?;
    ensure!(
        memory.end_bytes <= memory.warm_bytes + GROWTH_MAX_BYTES,
        "the host grew: {memory:?}"
    );
    Ok(HostSoakReport {
        faults,
        requests: scene.store.observations().received(),
        rewinds,
        documents: report.counted("documents"),
        dead_letters: report.counted("dead letters"),
        warm_bytes: memory.warm_bytes,
        end_bytes: memory.end_bytes,
        elapsed,
    })
}

fn folder(scene: &StoreScene) -> Result<Folder> {
    scene.folder(|topology, pipeline| {
        let config = &mut topology["pipelines"][pipeline]["sinks"]["documents"]["config"];
        config["request_timeout"] = json!(REQUEST_TIMEOUT);
        config["max_in_flight"] = json!(4);
        config["batch"] = json!({ "age": "10ms", "records": 500, "bytes": "256KiB" });
    })
}

fn write(kafka: &Kafka, topic: &str, options: SoakOptions) -> Result<()> {
    let writer = kafka.writer()?;
    let mut next = 0;
    while next < options.records {
        let until = (next + CHUNK).min(options.records);
        let row = |number| Row::keyed(document_id(options, number), document(number));
        writer.write(topic, &(next..until).map(row).collect::<Vec<Row>>())?;
        next = until;
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Resident {
    warm_bytes: u64,
    end_bytes: u64,
}

/// Waits until the host has committed every record, and looks at its memory meanwhile.
fn watch(scene: &StoreScene, host: &mut Host, options: SoakOptions) -> Result<Resident> {
    let mut memory = Resident::default();
    let (mut committed, mut moved_at) = (0, Instant::now());
    while committed < options.records {
        thread::sleep(LOOK_EVERY);
        ensure!(host.try_exit()?.is_none(), "the host has ended");
        let found = scene.kafka.committed(&scene.group(), &scene.rows())?;
        let found = found.values().map(|offset| offset.unsigned_abs()).sum();
        if found > committed {
            (committed, moved_at) = (found, Instant::now());
            eprintln!("{committed} records committed");
        }
        ensure!(
            moved_at.elapsed() < STANDSTILL_MAX,
            "nothing was committed for {STANDSTILL_MAX:?} after {committed} records"
        );
        let resident = host.memory()?.resident_bytes;
        if committed * SHARE <= options.records {
            memory.warm_bytes = memory.warm_bytes.max(resident);
        } else if committed * SHARE >= options.records * (SHARE - 1) {
            memory.end_bytes = memory.end_bytes.max(resident);
        }
    }
    Ok(memory)
}

/// The host asks for the ends of partitions every so often.
fn wait_no_lag(host: &Host) -> Result<()> {
    wait_until("a lag of nothing", STANDSTILL_MAX, || {
        let metrics = host.metrics().map_err(|error| format!("{error:#}"))?;
        match metrics.sum("weir_source_lag_records", &[]) {
            0.0 => Ok(()),
            lag => Err(format!("{lag} records")),
        }
    })
}

fn is_poisoned(record: &Record) -> bool {
    let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
    value.contains(POISON) || value.contains(REQUEST_POISON)
}

#[allow(clippy::cast_precision_loss)]
fn as_f64(count: u64) -> f64 {
    count as f64
}
