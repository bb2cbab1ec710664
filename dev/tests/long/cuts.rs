//! Item 1: an hour's worth of checkpoints costs a restart no more than a minute's worth (I3).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_dev::client::{Row, wait_until};
use weir_dev::host::{Command, Folder};
use weir_dev::scene::Scene;

use super::is_wanted;

/// One a second for an hour.
const CUTS: u64 = 3_600;
/// A commit takes tens of milliseconds on shared cores.
const FED: Duration = Duration::from_secs(1_800);
const SETTLED: Duration = Duration::from_secs(600);
/// As the host makes the checkpoint topic.
const SEGMENT_BYTES: u64 = 16 << 20;
/// One segment is being written, one waits for the cleaner, and what comes before has become little.
const SEGMENTS_READ_MAX: u64 = 3;
const PARTITIONS: i32 = 2;
const ROWS_PER_CUT: i64 = 20;

/// Measurements whose latencies differ, so that a window's state is as large as it becomes.
fn measurements(round: i64, now_ms: i64) -> Vec<Row> {
    let one = |at: i64| {
        let latency_ms = (round * ROWS_PER_CUT + at) * 7_919 % 50_000;
        let value = json!({ "start_processing_time_unix_ms": now_ms - latency_ms });
        Row::value(value.to_string()).on(i32::try_from(at).unwrap_or(0) % PARTITIONS)
    };
    (0..ROWS_PER_CUT).map(one).collect()
}

fn checkpoints(folder: &Folder, pipeline: &str) -> Result<Value> {
    let arguments = ["checkpoints", "show", pipeline, "--format", "json"];
    let ended = Command::new(folder, &arguments).output()?;
    ensure!(ended.code == 0, "{}", ended.stderr);
    Ok(serde_json::from_str(&ended.stdout)?)
}

/// Checkpoints of both slots together, as far as the topic has them.
fn generations(folder: &Folder, pipeline: &str) -> Result<u64> {
    let shown = checkpoints(folder, pipeline)?;
    let slots = shown.as_array().context("a list")?;
    Ok(slots
        .iter()
        .filter_map(|slot| slot["generation"].as_u64())
        .sum())
}

/// Writes until the host has made so many cuts.
fn feed(scene: &Scene, folder: &Folder) -> Result<()> {
    let writer = scene.kafka.writer()?;
    let began = Instant::now();
    for round in 0.. {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        writer.write(&scene.reduced(), &measurements(round, now_ms))?;
        if round % 250 == 0 {
            let generations = generations(folder, &scene.sla())?;
            if generations >= CUTS * u64::from(PARTITIONS.unsigned_abs()) {
                break;
            }
            ensure!(began.elapsed() < FED, "{generations} checkpoints only");
        }
    }
    println!("{CUTS} cuts in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

#[test]
fn a_restore_reads_little_after_an_hours_worth_of_checkpoints() -> Result<()> {
    if !is_wanted("a_restore_reads_little_after_an_hours_worth_of_checkpoints") {
        return Ok(());
    }
    let scene = Scene::shared("long-cuts")?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        let sla = scene.sla_in(topology);
        sla["checkpoint_interval"] = json!("10ms");
        sla["transforms"]["latency"]["config"]["size"] = json!("1m");
    })?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    feed(&scene, &folder)?;
    ensure!(host.drain()? == 0, "the host did not drain");
    // Each wrote at least a part and a head.
    let written = 2 * generations(&folder, &scene.sla())?;
    let topic = format!("__weir.{}.checkpoints", scene.sla());
    let kept = wait_until("the cleaner", Duration::from_secs(120), || {
        let kept = scene.kafka.count(&topic).map_err(|e| format!("{e:#}"))?;
        let is_cleaned = kept <= written / 2;
        is_cleaned
            .then_some(kept)
            .ok_or_else(|| format!("{kept} of {written}"))
    })?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    let read = host.wait_event("checkpoints_read", SETTLED)?;
    println!("{written} records written, {kept} kept; {read}");
    let records = read["records"].as_u64().context("records")?;
    let bytes = read["bytes"].as_u64().context("bytes")?;
    ensure!(records <= kept, "{records} read, {kept} kept");
    ensure!(
        bytes <= SEGMENTS_READ_MAX * SEGMENT_BYTES,
        "a restore reads {bytes} bytes"
    );
    ensure!(host.drain()? == 0, "the host did not drain again");
    Ok(())
}
