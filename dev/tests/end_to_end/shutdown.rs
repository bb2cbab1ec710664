//! Ends that are not clean, and members that come and go: exit codes, last lines, and nothing lost.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use weir_dev::client::{Index, Row, wait_until};
use weir_dev::host::{Command, Folder, Host, Signal};
use weir_dev::judge::Delivery;
use weir_dev::scene::{Scene, sample_rows, shared_elasticsearch};

const SETTLED: Duration = Duration::from_secs(120);
const TRIES: usize = 4;

/// A host in the middle of a call that lasts 10 s: the record before has just left, and the next follows at once.
fn start_in_a_call(scene: &Scene, folder: &Folder) -> Result<Host> {
    let before = scene.kafka.count(&scene.reduced())?;
    let host = Command::run(folder, &scene.reduce()).start_ready()?;
    wait_until("the first record to leave", SETTLED, || {
        match scene.kafka.count(&scene.reduced()) {
            Ok(count) if count > before => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    Ok(host)
}

/// A host that had to be ended with 1 because a call went on. One that is met between two calls drains with 0: another
/// one is started then.
fn ended_in_a_call(
    scene: &Scene,
    folder: &Folder,
    end: impl Fn(&Host) -> Result<()>,
) -> Result<Host> {
    for _ in 0..TRIES {
        let mut host = start_in_a_call(scene, folder)?;
        end(&host)?;
        let code = host.wait_exit()?;
        if code != 0 {
            ensure!(code == 1, "ended with {code}:\n{}", host.log.tail(10));
            return Ok(host);
        }
    }
    bail!("{TRIES} hosts have drained")
}

fn last_line(host: &Host) -> Result<String> {
    host.log.lines().last().cloned().context("an empty log")
}

#[test]
fn a_missed_drain_deadline_and_a_second_signal_end_with_1_and_lose_nothing() -> Result<()> {
    let scene = Scene::shared("deadline")?;
    scene.kafka.create_topic(&scene.visits(), 1, &[])?;
    scene.create_reduced()?;
    let slow = |shutdown_timeout: &str| {
        scene.folder(|topology| {
            let reduce = scene.reduce_in(topology);
            reduce["transforms"]["reduced"]["config"] = json!({ "processing_delay": "10s" });
            reduce["shutdown_timeout"] = json!(shutdown_timeout);
        })
    };
    let rows: Vec<Row> = sample_rows()?.into_iter().take(10).collect();
    scene.kafka.write(&scene.visits(), &rows)?;

    let host = ended_in_a_call(&scene, &slow("1s")?, |host| host.signal(Signal::Terminate))?;
    let last = last_line(&host)?;
    ensure!(last.contains("shutdown_timeout"), "{last}");

    let host = ended_in_a_call(&scene, &slow("5m")?, |host| {
        host.signal(Signal::Terminate)?;
        host.wait_event("draining", SETTLED)?;
        host.signal(Signal::Interrupt)
    })?;
    let last = last_line(&host)?;
    ensure!(last.contains("second signal"), "{last}");

    let folder = scene.folder(|_| {})?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.wait_reduced(SETTLED)?;
    let report = scene.judge_reduced(Delivery::ExactlyOnce)?;
    ensure!(report.counted("good rows") == rows.len(), "{report}");
    ensure!(host.drain()? == 0);
    Ok(())
}

/// What a sink that is away has not stored is not committed (I1), by a drain that has to end without it either, and that
/// says so (I8).
#[test]
fn a_drain_without_its_sink_ends_with_1_and_commits_nothing() -> Result<()> {
    const ROWS: u64 = 10;
    let scene = Scene::shared("sinkless")?;
    scene.create_visits()?;
    let url = shared_elasticsearch()?;
    let copies = Index::at(&url, &scene.name("copies"));
    let folder = |url: &str| {
        scene.folder(|topology| {
            let reduce = scene.reduce_in(topology);
            reduce["delivery"] = json!("at_least_once");
            reduce["shutdown_timeout"] = json!("10s");
            reduce["sinks"] = json!({ "copies": {
                "type": "elasticsearch", "from": "reduced",
                "config": {
                    "urls": [url], "index": copies.name(), "id": "coordinates", "version": "offset",
                },
            } });
        })
    };
    let rows = (0..ROWS).map(|_| Ok(sample_rows()?.swap_remove(0).on(0)));
    let rows: Vec<Row> = rows.collect::<Result<_>>()?;
    scene.kafka.write(&scene.visits(), &rows)?;
    // Nobody listens there.
    let mut host = Command::run(&folder("http://127.0.0.1:9")?, &scene.reduce()).start_ready()?;
    host.wait_event("sink_unavailable", SETTLED)?;
    host.signal(Signal::Terminate)?;
    let code = host.wait_exit()?;
    let last = last_line(&host)?;
    ensure!(code == 1 && last.contains("host.drain"), "{code}: {last}");
    let committed = scene
        .kafka
        .committed(&scene.reduce_group(), &scene.visits())?;
    let passed: i64 = committed.values().sum();
    ensure!(passed == 0, "committed up to {committed:?}");
    let mut host = Command::run(&folder(&url)?, &scene.reduce()).start_ready()?;
    wait_until("the documents", SETTLED, || match copies.count() {
        Ok(ROWS) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    ensure!(host.drain()? == 0);
    Ok(())
}

/// Hosts join and leave while rows come: what is handed over is neither lost nor doubled.
#[test]
fn members_come_and_go_under_load() -> Result<()> {
    let scene = Scene::shared("members")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let sample = sample_rows()?;
    let mut staying = Command::run(&folder, &scene.reduce()).start_ready()?;
    for _ in 0..3 {
        scene.kafka.write(&scene.visits(), &sample)?;
        let mut passing = Command::run(&folder, &scene.reduce()).start_ready()?;
        scene.kafka.write(&scene.visits(), &sample)?;
        ensure!(passing.drain()? == 0, "the host that goes did not drain");
    }
    scene.wait_reduced(SETTLED)?;
    let report = scene.judge_reduced(Delivery::ExactlyOnce)?;
    ensure!(report.counted("good rows") == 6 * 4_852, "{report}");
    // I4: each has a transactional id of its own, and nobody fences anybody.
    ensure!(
        staying.log.count(&["task_restarts"]) == 0,
        "{}",
        staying.log.tail(10)
    );
    ensure!(staying.drain()? == 0);
    Ok(())
}

/// A member with a name keeps its partitions over a restart, clean or not.
#[test]
fn a_named_member_comes_back() -> Result<()> {
    let scene = Scene::shared("named")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| scene.reduce_in(topology)["tasks"] = json!(2))?;
    let sample = sample_rows()?;
    let named = || {
        let command = Command::run(&folder, &scene.reduce());
        command.argument("--instance").argument("a").start_ready()
    };
    let mut host = named()?;
    scene.kafka.write(&scene.visits(), &sample)?;
    ensure!(host.drain()? == 0);
    let mut host = named()?;
    scene.kafka.write(&scene.visits(), &sample)?;
    scene.wait_reduced(SETTLED)?;
    scene.judge_reduced(Delivery::ExactlyOnce)?;
    host.kill()?;
    let mut host = named()?;
    scene.kafka.write(&scene.visits(), &sample)?;
    scene.wait_reduced(SETTLED)?;
    let report = scene.judge_reduced(Delivery::ExactlyOnce)?;
    ensure!(report.counted("good rows") == 3 * 4_852, "{report}");
    ensure!(scene.kafka.group(&scene.reduce_group())?.0 == 2);
    ensure!(host.drain()? == 0);
    Ok(())
}
