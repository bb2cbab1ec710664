//! SIGTERM under load, with a request that is not answered, and in a long pause.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_dev::client::wait_until;
use weir_dev::host::{Command, Host, Signal};
use weir_dev::judge::{Delivery, Documents};
use weir_dev::scene::StoreScene;
use weir_document_store::{BulkFault, Gate};

use super::stage::*;

/// More than a debug build writes before the signal.
const LOAD: usize = 30_000;
/// How long the process may take to go once its time is over, on shared cores; far below the pause.
const GOING: Duration = Duration::from_secs(10);

/// SIGTERM; the exit code, and how long the end took.
fn terminate(host: &mut Host) -> Result<(i32, Duration)> {
    let asked_at = Instant::now();
    host.signal(Signal::Terminate)?;
    let code = host.wait_exit()?;
    Ok((code, asked_at.elapsed()))
}

fn wait_documents(scene: &StoreScene, count: usize) -> Result<()> {
    let enough = |documents: &[&_]| documents.len() >= count;
    let index = scene.index();
    ensure!(
        scene.store.wait_for_documents(&index, SETTLED, enough),
        "{} documents, not {count}",
        scene.store.documents(&index).len()
    );
    Ok(())
}

/// The first offset of each partition whose row is no document; each row has a key of its own.
fn stored_prefix(scene: &StoreScene, documents: &Documents) -> Result<BTreeMap<i32, i64>> {
    let rows = scene.kafka.read(&scene.rows())?.into_iter();
    Ok(rows
        .map(|(partition, rows)| {
            let is_missing = |key: &[u8]| !documents.contains_key(&*String::from_utf8_lossy(key));
            let end = rows.last().map_or(0, |row| row.offset + 1);
            let mut rows = rows.iter();
            let first = rows.find(|row| row.key.as_deref().is_none_or(is_missing));
            (partition, first.map_or(end, |row| row.offset))
        })
        .collect())
}

fn committed(scene: &StoreScene) -> Result<BTreeMap<i32, i64>> {
    let mut committed = scene.kafka.committed(&scene.group(), &scene.rows())?;
    for partition in 0..i32::try_from(PARTITIONS)? {
        committed.entry(partition).or_insert(0);
    }
    Ok(committed)
}

/// The rest comes with the next host, which is drained too.
fn finish(scene: &StoreScene, delivery: &str) -> Result<()> {
    let folder = scene.folder(|topology, pipeline| {
        topology["pipelines"][pipeline]["delivery"] = json!(delivery);
        topology["pipelines"][pipeline]["sinks"]["documents"]["config"]["batch"] = json!({});
    })?;
    let mut host = Command::run(&folder, &scene.pipeline()).start_ready()?;
    scene.wait_settled(SETTLED)?;
    scene.judge(&is_bad, Delivery::ExactlyOnce)?;
    ensure!(host.drain()? == 0, "the last host did not drain");
    Ok(())
}

#[test]
fn case_38_sigterm_under_load_commits_exactly_what_is_stored() -> Result<()> {
    let scene = StoreScene::shared("loaded")?;
    scene.kafka.create_topic(&scene.rows(), PARTITIONS, &[])?;
    scene.kafka.write(&scene.rows(), &rows(LOAD, LOAD))?;
    // Requests are on their way whenever the signal comes.
    scene.store.faults().set_standing(Some(BulkFault::Latency {
        before_apply: Duration::from_millis(5),
        before_answer: Duration::from_millis(20),
    }));
    for (delivery, documents) in [(EXACTLY_ONCE, 1_000), (AT_LEAST_ONCE, 5_000)] {
        let folder = scene.folder(|topology, pipeline| {
            topology["pipelines"][pipeline]["delivery"] = json!(delivery);
            // Only the last commit counts, whenever the signal comes.
            topology["pipelines"][pipeline]["checkpoint_interval"] = json!("1h");
        })?;
        let mut host = Command::run(&folder, &scene.pipeline()).start_ready()?;
        wait_documents(&scene, documents)?;
        let (code, took) = terminate(&mut host)?;
        ensure!(
            code == 0,
            "{delivery}: ended with {code}:\n{}",
            host.log.tail(10)
        );
        println!("{delivery}: drained in {:.2} s", took.as_secs_f64());
        let documents = scene.documents();
        let committed = committed(&scene)?;
        ensure!(
            documents.len() < LOAD,
            "everything was stored before the signal"
        );
        ensure!(
            committed == stored_prefix(&scene, &documents)?,
            "{delivery}: {committed:?} was committed, {:?} is stored",
            stored_prefix(&scene, &documents)?
        );
        let sum: i64 = committed.values().sum();
        ensure!(sum == documents.len() as i64, "stored beyond the commit");
    }
    scene.store.faults().clear();
    finish(&scene, AT_LEAST_ONCE)
}

/// One request of many is never answered: others are stored behind it, and none of them is committed.
#[test]
fn case_38_a_missed_deadline_commits_the_contiguous_prefix() -> Result<()> {
    const ROWS: usize = 2_000;
    let scene = StoreScene::shared("held")?;
    scene.kafka.create_topic(&scene.rows(), PARTITIONS, &[])?;
    let gate = Gate::closed();
    let mut script = vec![BulkFault::None; 3];
    script.push(BulkFault::HoldBeforeApply(gate.clone()));
    scene.store.faults().extend(script);
    let folder = scene.folder(|topology, pipeline| {
        topology["pipelines"][pipeline]["delivery"] = json!(AT_LEAST_ONCE);
        topology["pipelines"][pipeline]["checkpoint_interval"] = json!("1h");
        topology["pipelines"][pipeline]["shutdown_timeout"] = json!("3s");
    })?;
    let mut host = Command::run(&folder, &scene.pipeline()).start_ready()?;
    scene.kafka.write(&scene.rows(), &rows(ROWS, ROWS))?;
    let held = || -> Option<usize> {
        let bulks = scene.store.observations().bulks();
        Some(bulks.get(3)?.operations.len())
    };
    let held = wait_until("the fourth bulk", SETTLED, || {
        held().ok_or_else(String::new)
    })?;
    wait_documents(&scene, ROWS - held)?;
    let (code, took) = terminate(&mut host)?;
    let last = host.log.lines().last().cloned().context("an empty log")?;
    ensure!(code == 1 && last.contains("host.drain"), "{code}: {last}");
    ensure!(took < Duration::from_secs(3) + GOING, "it took {took:?}");
    let documents = scene.documents();
    let (committed, prefix) = (committed(&scene)?, stored_prefix(&scene, &documents)?);
    ensure!(
        committed == prefix,
        "{committed:?} was committed, not {prefix:?}"
    );
    let (sum, stored) = (committed.values().sum::<i64>(), documents.len() as i64);
    ensure!(0 < sum && sum < stored, "{sum} committed, {stored} stored");
    gate.open();
    finish(&scene, AT_LEAST_ONCE)
}

#[test]
fn case_39_sigterm_in_a_long_pause_ends_in_time_and_commits_what_was_stored_before() -> Result<()> {
    const ROWS: usize = 200;
    let scene = StoreScene::shared("paused")?;
    scene.kafka.create_topic(&scene.rows(), PARTITIONS, &[])?;
    let folder = scene.folder(|topology, pipeline| {
        topology["pipelines"][pipeline]["delivery"] = json!(AT_LEAST_ONCE);
        topology["pipelines"][pipeline]["shutdown_timeout"] = json!("3s");
    })?;
    let mut host = Command::run(&folder, &scene.pipeline()).start_ready()?;
    scene.kafka.write(&scene.rows(), &rows(ROWS, ROWS))?;
    scene.wait_settled(SETTLED)?;
    let before = committed(&scene)?;
    scene.store.faults().set_standing(Some(BulkFault::Status {
        status: 503,
        headers: vec![("retry-after".to_owned(), "30".to_owned())],
        body: String::new(),
    }));
    let more: Vec<_> = (ROWS..2 * ROWS).map(|n| row(n, 2 * ROWS)).collect();
    scene.kafka.write(&scene.rows(), &more)?;
    host.wait_event("sink_unavailable", SETTLED)?;
    let (code, took) = terminate(&mut host)?;
    println!("ended in {:.2} s", took.as_secs_f64());
    let last = host.log.lines().last().cloned().context("an empty log")?;
    ensure!(code == 1 && last.contains("host.drain"), "{code}: {last}");
    ensure!(took < Duration::from_secs(3) + GOING, "it took {took:?}");
    ensure!(
        committed(&scene)? == before,
        "{:?}, not {before:?}",
        committed(&scene)?
    );
    ensure!(scene.documents().len() == ROWS);
    scene.store.faults().clear();
    finish(&scene, AT_LEAST_ONCE)
}
