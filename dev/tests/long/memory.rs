//! I9 and item 6: what a host holds is bounded, whatever is away and however much waits.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use weir_dev::client::{Index, Row, wait_until};
use weir_dev::host::{Command, Host, Memory};
use weir_dev::scene::{Scene, sample_rows, shared_kafka};
use weir_dev::servers::{ElasticsearchOptions, ElasticsearchServer};

use super::is_wanted;
use super::load::{Load, good_rows};

const MIB: u64 = 1 << 20;
/// The full load of the chaos runs.
const VISITS_PER_SECOND: usize = 2_000;
const AWAY: Duration = Duration::from_secs(600);
/// Every buffer has filled up by then.
const FILLED: Duration = Duration::from_secs(60);
const CATCH_UP: Duration = Duration::from_secs(1_200);
const BACKLOG_RECORDS: usize = 1_000_000;

/// What docs/limits.md and the plugins' defaults allow beyond an idle host.
const ALLOWED_MIB: [(&str, u64); 5] = [
    ("prefetch", 16),
    ("a fetch that arrives above it, 1 MiB a partition", 2),
    ("unsettled records in the ledger", 12),
    (
        "inputs of two nodes, 8,192 records of at most 1 KiB each",
        16,
    ),
    (
        "bulks of the Elasticsearch sink, or the producer's queue",
        64,
    ),
];
/// Between two moments under the same conditions: what an allocator gives back late.
const GROWTH_MAX: u64 = 8 * MIB;

fn ensure_bounded(what: &str, idle: Memory, now: Memory) -> Result<()> {
    let allowed: u64 = ALLOWED_MIB.iter().map(|(_, mib)| mib * MIB).sum();
    let most = idle.resident_bytes + allowed;
    println!(
        "{what}: idle {} KiB, now {} KiB, peak {} KiB, bound {} KiB",
        idle.resident_bytes / 1024,
        now.resident_bytes / 1024,
        now.peak_bytes / 1024,
        most / 1024
    );
    ensure!(
        now.peak_bytes <= most,
        "{what}: the peak is above {ALLOWED_MIB:?}"
    );
    Ok(())
}

fn ensure_flat(what: &str, before: Memory, after: Memory) -> Result<()> {
    let (before, after) = (before.resident_bytes, after.resident_bytes);
    println!("{what}: from {} to {} KiB", before / 1024, after / 1024);
    ensure!(
        after <= before + GROWTH_MAX,
        "{what}: grew from {before} to {after} bytes"
    );
    Ok(())
}

/// Elasticsearch away for ten minutes at 2,000 visits a second: a pipeline that writes every record to it, and one that
/// writes windows, hold what they held after the first minute; afterwards everything arrives.
#[test]
fn memory_is_flat_while_elasticsearch_is_away() -> Result<()> {
    if !is_wanted("memory_is_flat_while_elasticsearch_is_away") {
        return Ok(());
    }
    let mut elasticsearch = ElasticsearchServer::start(ElasticsearchOptions::default())?;
    let scene = Scene::on("long-away", &shared_kafka()?, &elasticsearch.url());
    scene.create_visits()?;
    scene.create_reduced()?;
    let copies = Index::at(&elasticsearch.url(), &scene.name("copies"));
    let direct = scene.name("direct");
    let folder = scene.folder(|topology| {
        let mut pipeline = scene.reduce_in(topology).clone();
        pipeline["sources"]["visits"]["group"] = json!(scene.name("direct_reader"));
        pipeline["sinks"] = json!({ "copies": {
            "type": "elasticsearch", "from": "reduced",
            "config": {
                "urls": [elasticsearch.url()], "index": copies.name(), "id": "coordinates",
                "version": "offset",
            },
        } });
        topology["pipelines"][&direct] = pipeline;
    })?;
    let start = |pipeline: &str| Command::run(&folder, pipeline).start_ready();
    let mut hosts = [
        start(&scene.reduce())?,
        start(&scene.sla())?,
        start(&direct)?,
    ];
    let memory =
        |hosts: &[Host; 3]| -> Result<Vec<Memory>> { hosts.iter().map(Host::memory).collect() };
    let idle = memory(&hosts)?;
    let load = Load::start(
        &scene.kafka,
        &scene.visits(),
        good_rows()?,
        VISITS_PER_SECOND,
    );
    wait_until("a first document", FILLED, || match copies.count() {
        Ok(count) if count > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    elasticsearch.kill();
    let began = Instant::now();
    thread::sleep(FILLED);
    let filled = memory(&hosts)?;
    thread::sleep(AWAY.saturating_sub(began.elapsed()));
    let at_end = memory(&hosts)?;
    let written = load.end()?;
    println!("{written} visits were written");
    elasticsearch.restart()?;
    for (at, name) in ["reduce-visits", "visits-sla", "direct"].iter().enumerate() {
        ensure_bounded(name, idle[at], at_end[at])?;
        ensure_flat(name, filled[at], at_end[at])?;
    }
    scene.wait_reduced(CATCH_UP)?;
    scene.wait_measured(CATCH_UP)?;
    let group = scene.name("direct_reader");
    scene
        .kafka
        .wait_settled(&group, &scene.visits(), CATCH_UP)?;
    let stored = copies.count()?;
    ensure!(
        stored == written as u64,
        "{stored} of {written} stand in the index"
    );
    scene.judge_windows()?;
    for host in &mut hosts {
        ensure!(host.drain()? == 0, "a host did not drain");
    }
    Ok(())
}

/// A million records wait when the host starts: it holds as much in the middle of them as near their end.
#[test]
fn memory_is_flat_with_a_backlog_of_a_million() -> Result<()> {
    if !is_wanted("memory_is_flat_with_a_backlog_of_a_million") {
        return Ok(());
    }
    let scene = Scene::shared("long-backlog")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    let idle = host.memory()?;
    ensure!(host.drain()? == 0, "the idle host did not drain");
    let sample = sample_rows()?;
    for _ in 0..BACKLOG_RECORDS / (sample.len() * 10) {
        let rows: Vec<Row> = (0..10).flat_map(|_| sample.clone()).collect();
        scene.kafka.write(&scene.visits(), &rows)?;
    }
    let backlog = scene.kafka.count(&scene.visits())?;
    ensure!(backlog == BACKLOG_RECORDS as u64, "{backlog} records wait");
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    let reached = |part: f64| -> Result<Memory> {
        wait_until(&format!("{part} of the backlog"), CATCH_UP, || {
            let committed = scene
                .kafka
                .committed(&scene.reduce_group(), &scene.visits());
            let committed = committed.map_err(|error| format!("{error:#}"))?;
            let done: i64 = committed.values().sum();
            // Far below 2^53.
            #[allow(clippy::cast_precision_loss)]
            let is_reached = done as f64 >= BACKLOG_RECORDS as f64 * part;
            is_reached.then_some(()).ok_or_else(|| done.to_string())
        })?;
        host.memory()
    };
    let early = reached(0.25)?;
    let late = reached(0.9)?;
    ensure_bounded("a million of backlog", idle, late)?;
    ensure_flat(
        "a million of backlog, from a quarter to nine tenths",
        early,
        late,
    )?;
    scene.wait_reduced(CATCH_UP)?;
    ensure!(host.drain()? == 0, "the host did not drain");
    Ok(())
}
