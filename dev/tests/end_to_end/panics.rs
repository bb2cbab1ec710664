//! A plugin that panics inside a running host: the record at fault is refused, the others pass, the host goes on.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_dev::client::{Row, wait_until};
use weir_dev::host::{Command, Folder};
use weir_dev::judge::{DeadLetterRules, Report, check_dead_letter};
use weir_dev::scene::Scene;

const SETTLED: Duration = Duration::from_secs(120);
const LIBRARY: &str = "libweir_dev_unsteady.so";
/// Far apart, so that each is found by itself; more than the breaks that end a task.
const ROUNDS: usize = 10;

/// Cargo has built it beside this test, which depends on it.
fn library() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let beside = test.parent().context("a folder")?.join(LIBRARY);
    ensure!(beside.is_file(), "{} is not there", beside.display());
    Ok(beside)
}

fn folder(scene: &Scene, stateful: bool) -> Result<Folder> {
    let folder = scene.folder(|topology| {
        scene.reduce_in(topology)["transforms"]["reduced"] = json!({
            "type": "unsteady", "from": "visits", "config": { "stateful": stateful },
        });
    })?;
    add_library(&folder)?;
    Ok(folder)
}

fn add_library(folder: &Folder) -> Result<()> {
    Ok(symlink(
        library()?,
        folder.path().join("plugins.d").join(LIBRARY),
    )?)
}

/// A hundred rows, one of which makes the plugin panic.
fn rows(round: usize) -> Vec<Row> {
    let value = |i: usize| match i {
        42 => "panic".to_owned(),
        _ => format!("{round}-{i}"),
    };
    (0..100).map(|i| Row::value(value(i)).on(0)).collect()
}

fn panics_cost_one_record_each(stateful: bool) -> Result<()> {
    let scene = Scene::shared(if stateful { "panicstate" } else { "panic" })?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = folder(&scene, stateful)?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    for round in 0..ROUNDS {
        scene.kafka.write(&scene.visits(), &rows(round))?;
        scene
            .wait_reduced(SETTLED)
            .with_context(|| format!("round {round}; the log ends:\n{}", host.log.tail(20)))?;
    }
    let source = scene.kafka.read_all(&scene.visits())?;
    let reduced = scene.kafka.read_all(&scene.reduced())?;
    let mut values: Vec<_> = reduced.iter().map(|record| record.value.clone()).collect();
    // State that was lost is made again from records that were read before.
    ensure!(
        stateful || values.len() == ROUNDS * 99,
        "{} records",
        values.len()
    );
    values.sort_unstable();
    values.dedup();
    let mut wanted: Vec<_> = (0..ROUNDS)
        .flat_map(rows)
        .filter_map(|row| row.value)
        .filter(|value| value != b"panic")
        .map(Some)
        .collect();
    wanted.sort_unstable();
    ensure!(values == wanted, "{} different records", values.len());

    let letters = scene.kafka.read_all(&scene.reduce_dead_letters())?;
    ensure!(letters.len() == ROUNDS, "{} dead letters", letters.len());
    let rules = DeadLetterRules {
        pipeline: &scene.reduce(),
        stage: "TRANSFORMATION",
        plugin: Some("unsteady"),
    };
    let mut report = Report::default();
    for letter in &letters {
        let offset = letter.header_text("__connect.errors.offset");
        let record = source
            .iter()
            .find(|record| record.partition == 0 && Some(&*record.offset.to_string()) == offset)
            .with_context(|| format!("a letter of no record: {letter:?}"))?;
        check_dead_letter(letter, record, &rules, &mut report);
        let code = letter.header_text("__connect.errors.exception.class.name");
        ensure!(code == Some("plugin.panic"), "{code:?}");
        let message = letter.header_text("__connect.errors.exception.message");
        let message = message.context("a message")?;
        ensure!(message.contains("the record says so"), "{message}");
        ensure!(message.contains("lib.rs:"), "{message}");
    }
    report.into_result()?;
    host.wait_balanced(1_000.0)?;
    ensure!(host.get("/readyz")?.0 == 200);
    ensure!(host.drain()? == 0);
    Ok(())
}

#[test]
fn a_stateless_plugin_is_made_anew_in_its_place() -> Result<()> {
    panics_cost_one_record_each(false)
}

#[test]
fn a_stateful_plugin_sends_its_task_back() -> Result<()> {
    panics_cost_one_record_each(true)
}

/// No record explains it, so the task breaks again and again: that shows in `/readyz`, and then the host gives up.
#[test]
fn a_crash_loop_shows_and_ends_the_host() -> Result<()> {
    let scene = Scene::shared("crashloop")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        let pipeline = scene.reduce_in(topology);
        pipeline["task_restarts"] = json!(2);
        pipeline["transforms"]["reduced"] = json!({
            "type": "unsteady", "from": "visits", "config": { "stateful": true, "always": true },
        });
    })?;
    add_library(&folder)?;
    let mut host = Command::run(&folder, &scene.reduce()).start()?;
    scene.kafka.write(&scene.visits(), &rows(0)[..42])?;
    host.wait_event("task_restarts", SETTLED)?;
    wait_until("/readyz to show it", SETTLED, || {
        let (status, body) = host.get("/readyz").map_err(|error| format!("{error:#}"))?;
        let shows = status == 503 && body.contains("whatever the records are");
        shows
            .then_some(())
            .ok_or_else(|| format!("{status} {body}\n{}", host.log.tail(40)))
    })?;
    let code = host.wait_exit()?;
    let last = host.log.tail(1);
    ensure!(
        code == 1 && last.contains("task.crash_loop") && last.contains("whatever the records are"),
        "{code}: {last}"
    );
    ensure!(
        host.log.count(&["task_restarts"]) == 2,
        "{}",
        host.log.tail(20)
    );
    Ok(())
}
