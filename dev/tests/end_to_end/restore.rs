//! Item 1: a thousand open windows fit into a checkpoint, and come back from it as they were (I3).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_dev::client::Row;
use weir_dev::host::{Command, Folder};
use weir_dev::scene::Scene;

const SETTLED: Duration = Duration::from_secs(120);
const WINDOWS: i64 = 1_000;
const SIZE_S: i64 = 5;
const PARTITIONS: i64 = 2;
const RECORDS_PER_WINDOW: i64 = 10;
/// A window of five latencies a partition: its number, size, flag, and a few bytes for each value.
const BYTES_PER_WINDOW_MAX: u64 = 100;

/// Two partitions that walk through all windows, the newest of which ends about now.
fn measurements(now_s: i64) -> Vec<Row> {
    let first_ms = (now_s - now_s.rem_euclid(SIZE_S) - WINDOWS * SIZE_S) * 1_000;
    let step_ms = SIZE_S * 1_000 / RECORDS_PER_WINDOW;
    let one = |at: i64| {
        let appended_ms = first_ms + at * step_ms;
        let value = json!({ "start_processing_time_unix_ms": appended_ms - at % 997 });
        let partition = i32::try_from(at % PARTITIONS).unwrap_or(0);
        Row::value(value.to_string()).on(partition).at(appended_ms)
    };
    (0..WINDOWS * RECORDS_PER_WINDOW).map(one).collect()
}

/// Slots and their bytes of state.
fn state_bytes(folder: &Folder, pipeline: &str) -> Result<(usize, u64)> {
    let arguments = ["checkpoints", "show", pipeline, "--format", "json"];
    let ended = Command::new(folder, &arguments).output()?;
    ensure!(ended.code == 0, "{}", ended.stderr);
    let slots: Value = serde_json::from_str(&ended.stdout)?;
    let slots = slots.as_array().context("a list")?;
    let bytes = |slot: &Value| slot["nodes"][0]["bytes"].as_u64().unwrap_or(0);
    Ok((slots.len(), slots.iter().map(bytes).sum()))
}

#[test]
fn a_thousand_open_windows_are_restored() -> Result<()> {
    let scene = Scene::shared("restore")?;
    let config = [("message.timestamp.type", "CreateTime")];
    scene.kafka.create_topic(&scene.reduced(), 2, &config)?;
    let now_s = jiff::Timestamp::now().as_second();
    scene.kafka.write(&scene.reduced(), &measurements(now_s))?;
    let topology = |grace: &str| {
        let mut topology = scene.topology();
        let sla = scene.sla_in(&mut topology);
        let config = &mut sla["transforms"]["latency"]["config"];
        config["size"] = json!(format!("{SIZE_S}s"));
        config["allowed_lateness"] = json!("2h");
        let source = &mut sla["sources"]["reduced"];
        source["max_disorder"] = json!(grace);
        source["idle_grace"] = json!(grace);
        topology
    };
    // No watermark comes near the windows while both wait for two hours.
    let folder = scene.folder(|written| *written = topology("2h"))?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    scene
        .kafka
        .wait_settled(&scene.sla_group(), &scene.reduced(), SETTLED)?;
    ensure!(host.drain()? == 0, "the host did not drain");
    ensure!(scene.index().documents()?.is_empty(), "a window has closed");
    let (slots, bytes) = state_bytes(&folder, &scene.sla())?;
    ensure!(slots == 2, "{slots} slots");

    folder.write_topology(&topology("5s").to_string())?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    let read = host.wait_event("checkpoints_read", SETTLED)?;
    let restored = host.wait_event("restored", SETTLED)?;
    let windows = u64::try_from(WINDOWS * PARTITIONS)?;
    println!(
        "{windows} windows: {bytes} bytes of state, {} a window; {read}; {restored}",
        bytes / windows
    );
    let records = read["records"].as_u64().context("records")?;
    ensure!(
        records >= windows,
        "{records} records hold {windows} windows"
    );
    ensure!(
        bytes <= windows * BYTES_PER_WINDOW_MAX,
        "{bytes} bytes of state"
    );
    // What came back is whole: every window closes with what was counted before the restart.
    scene.wait_measured(SETTLED)?;
    let report = scene.judge_windows()?;
    ensure!(
        report.counted("windows") == usize::try_from(WINDOWS)?,
        "{report}"
    );
    ensure!(host.drain()? == 0, "the host did not drain again");
    Ok(())
}
