//! One host works, the others stand by (I7), however the active one goes: killed, drained, or standing still for a while
//! and then going on as if nothing had happened.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use weir_dev::host::{Build, Command, Folder, Host, Signal};
use weir_dev::scene::{Scene, sample_rows};

const SETTLED: Duration = Duration::from_secs(120);

/// Both pipelines of the reference job: a host that reduces, and two of the windows, of which the first is active.
struct Pair {
    scene: Scene,
    reduce: Host,
    first: Host,
    second: Host,
}

impl Pair {
    /// `command` makes the first host's.
    fn start(
        test: &str,
        transaction_timeout_ms: u64,
        start_first: impl Fn(&Folder, &str) -> Result<Host>,
    ) -> Result<Pair> {
        let scene = Scene::shared(test)?;
        scene.create_visits()?;
        scene.create_reduced()?;
        let folder = scene.folder(|topology| {
            topology["kafka"]["producer"] =
                json!({ "transaction.timeout.ms": transaction_timeout_ms });
        })?;
        let reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
        let first = start_first(&folder, &scene.sla())?;
        ensure!(first.wait_ready()?.role == "active");
        let second = Command::run(&folder, &scene.sla()).start_ready()?;
        ensure!(second.wait_ready()?.role == "standby", "two are active");
        Ok(Pair {
            scene,
            reduce,
            first,
            second,
        })
    }

    fn write(&self) -> Result<()> {
        let sample = sample_rows()?;
        self.scene.kafka.write(&self.scene.visits(), &sample)
    }

    /// Waits until every window is stored, and compares them with those of one host that nothing happens to.
    fn judge(&self, samples: usize) -> Result<()> {
        self.scene.wait_reduced(SETTLED)?;
        self.scene.wait_measured(SETTLED)?;
        let report = self.scene.judge_windows()?;
        ensure!(
            report.counted("records in windows") == samples * 4_852,
            "{report}"
        );
        Ok(())
    }

    fn drain(mut self) -> Result<()> {
        for host in [&mut self.first, &mut self.second, &mut self.reduce] {
            ensure!(host.drain()? == 0, "a host did not drain");
        }
        Ok(())
    }
}

#[test]
fn a_standby_host_takes_over_and_the_windows_are_the_same() -> Result<()> {
    let scene = Scene::shared("standby")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    let mut first = Command::run(&folder, &scene.sla()).start_ready()?;
    // Two rebalances in which the active one keeps everything: it has to answer both.
    let mut gone = Command::run(&folder, &scene.sla()).start()?;
    ensure!(gone.wait_ready()?.role == "standby", "two are active");
    gone.kill()?;
    let mut second = Command::run(&folder, &scene.sla()).start()?;
    ensure!(second.wait_ready()?.role == "standby", "two are active");
    for host in [&first, &second] {
        ensure!(host.get("/readyz")?.0 == 200, "a host is not ready");
    }
    scene.kafka.write(&scene.visits(), &sample_rows()?)?;
    scene.wait_counted(1, SETTLED)?;
    // Committed, and most likely in a window that is still open: only its state knows of these (I3).
    scene.kafka.write(&scene.visits(), &sample_rows()?)?;
    scene.wait_reduced(SETTLED)?;
    scene
        .kafka
        .wait_settled(&scene.sla_group(), &scene.reduced(), SETTLED)?;
    first.kill()?;
    let killed = Instant::now();
    second.wait_event("active", SETTLED)?;
    println!("taken over after {:.1} s", killed.elapsed().as_secs_f64());
    let mut third = Command::run(&folder, &scene.sla()).start()?;
    ensure!(third.wait_ready()?.role == "standby", "two are active");
    scene.kafka.write(&scene.visits(), &sample_rows()?)?;
    // An orderly end hands over too.
    ensure!(second.drain()? == 0, "the second host did not drain");
    third.wait_event("active", SETTLED)?;
    scene.wait_reduced(SETTLED)?;
    scene.wait_measured(SETTLED)?;
    let report = scene.judge_windows()?;
    ensure!(
        report.counted("records in windows") == 3 * 4_852,
        "{report}"
    );
    ensure!(third.drain()? == 0 && reduce.drain()? == 0);
    Ok(())
}

/// Somebody else is active by then. A host that wakes up without anything begun just stands by.
#[test]
fn an_active_host_that_stood_still_stands_by() -> Result<()> {
    let pair = Pair::start("stoodstill", 15_000, |folder, pipeline| {
        Command::run(folder, pipeline).start_ready()
    })?;
    let Pair {
        scene,
        first,
        second,
        ..
    } = &pair;
    pair.write()?;
    pair.judge(1)?;
    let group = (scene.sla_group(), scene.reduced());
    scene.kafka.wait_settled(&group.0, &group.1, SETTLED)?;
    // Every transaction commits an offset of the election's group, which only its member may: the fence.
    let checkpoints = format!("__weir.{}.checkpoints", scene.sla());
    let election = format!("__weir.{}.active", scene.sla());
    let fence = scene.kafka.committed(&election, &checkpoints)?;
    ensure!(fence.get(&0) == Some(&0), "{fence:?}");
    first.signal(Signal::Stop)?;
    second.wait_event("active", SETTLED)?;
    first.signal(Signal::Continue)?;
    let restart = first.wait_event("task_restarts", SETTLED)?;
    let reason = restart["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("host.stand_by"), "{restart}");
    pair.write()?;
    pair.judge(2)?;
    ensure!(second.log.count(&["task_restarts"]) == 0);
    pair.drain()
}

/// It stood still in the middle of a commit, for longer than its session but not its transaction, and goes on with it: nothing
/// of it may count, and its successor need not wait for its transaction to time out.
#[test]
fn the_commit_of_a_former_active_host_is_refused() -> Result<()> {
    let mut pair = Pair::start("latecommit", 900_000, |folder, pipeline| {
        let stopping = folder.with_program(&Build::with_kill_points()?)?;
        Command::run(&stopping, pipeline)
            .env("WEIR_STOP_AT", "checkpoint_written:2")
            .start_ready()
    })?;
    let scene = pair.scene.clone();
    pair.write()?;
    scene.wait_first_cut(SETTLED)?;
    pair.write()?;
    pair.first.wait_stopped(SETTLED)?;
    pair.second.wait_event("active", SETTLED)?;
    pair.judge(2)?;
    let group = (scene.sla_group(), scene.reduced());
    scene.kafka.wait_settled(&group.0, &group.1, SETTLED)?;
    pair.first.signal(Signal::Continue)?;
    let restart = pair.first.wait_event("task_restarts", SETTLED)?;
    let reason = restart["reason"].as_str().unwrap_or_default();
    println!("refused: {reason}");
    ensure!(
        !reason.contains("host.stand_by"),
        "it never tried: {restart}"
    );
    scene.kafka.wait_settled(&group.0, &group.1, SETTLED)?;
    ensure!(pair.second.log.count(&["task_restarts"]) == 0);
    // The state that the first one takes over is the second one's.
    ensure!(pair.second.drain()? == 0);
    pair.write()?;
    pair.judge(3)?;
    ensure!(pair.first.drain()? == 0 && pair.reduce.drain()? == 0);
    Ok(())
}
