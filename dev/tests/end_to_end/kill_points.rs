//! I1 to I7 at the places where they are most easily broken: a host ends itself by SIGKILL at a named place of its commit,
//! another one goes on, and what lies in Kafka and Elasticsearch is judged.
//!
//! The hosts that kill themselves are a build of their own (`weir-kill-points`, feature `kill-points`); `dev/check` makes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use weir_dev::host::{Build, Command, Folder, Host};
use weir_dev::judge::Delivery;
use weir_dev::scene::{Scene, sample_rows};

/// A killed transaction is aborted after 5 s, and all scenes share two cores.
const SETTLED: Duration = Duration::from_secs(180);
/// 128 + SIGKILL.
const KILLED: i32 = 137;

/// A place and its visit at which the host ends.
type Place = &'static str;

/// One test for each place, named after it.
macro_rules! killed_at_each {
    ($scene:path: $($name:ident: $place:literal,)*) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                $scene($place)
            }
        )*
    };
}

fn quick_aborts(topology: &mut Value) {
    topology["kafka"]["producer"] = json!({ "transaction.timeout.ms": 5_000 });
}

/// Starts a host that ends at the place, and waits until it has.
fn killed_at(folder: &Folder, pipeline: &str, place: Place) -> Result<Host> {
    Command::run(folder, pipeline)
        .env("WEIR_KILL_AT", place)
        .start()
}

fn ensure_killed(host: &mut Host) -> Result<()> {
    let code = host.wait_exit()?;
    ensure!(code == KILLED, "the host ended with {code}");
    Ok(())
}

/// Visits that keep coming, so that there is always a next cut.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Load {
    fn start(scene: &Scene) -> Result<Load> {
        let stop = Arc::new(AtomicBool::new(false));
        let (scene, stopped, rows) = (scene.clone(), Arc::clone(&stop), sample_rows()?);
        let thread = thread::spawn(move || {
            let mut slices = rows.chunks(200).cycle();
            while !stopped.load(Ordering::Relaxed) {
                scene
                    .kafka
                    .write(&scene.visits(), slices.next().context("rows")?)?;
                // The pace of the load: a few cuts a second get something new.
                thread::sleep(Duration::from_millis(200));
            }
            Ok(())
        });
        Ok(Load { stop, thread })
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the load panicked"))?
    }
}

fn reduce_is_killed(place: Place) -> Result<()> {
    let scene = Scene::shared(&format!("kill-{}", place.replace(':', "-")))?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        quick_aborts(topology);
        // Of the source alone: outputs leave through the transaction's producer all the same.
        scene.reduce_in(topology)["sources"]["visits"]["kafka"] = json!({ "client.id": "reader" });
    })?;
    let killing = folder.with_program(&Build::with_kill_points()?)?;
    let load = Load::start(&scene)?;
    let mut first = killed_at(&killing, &scene.reduce(), place)?;
    if place == "in_revoke" {
        first.wait_ready()?;
    } else {
        ensure_killed(&mut first).with_context(|| first.log.tail(5))?;
    }
    // Joins, so that the first has to give partitions up.
    let mut second = Command::run(&folder, &scene.reduce()).start_ready()?;
    if place == "in_revoke" {
        ensure_killed(&mut first).with_context(|| first.log.tail(5))?;
    }
    load.end()?;
    scene.wait_reduced(SETTLED)?;
    let report = scene.judge_reduced(Delivery::ExactlyOnce)?;
    ensure!(report.counted("good rows") > 0, "{report}");
    ensure!(second.drain()? == 0, "the second host did not drain");
    Ok(())
}

/// Kafka to Kafka is exactly once wherever a host is killed (I4, I6).
mod reduced {
    use super::*;

    killed_at_each! { reduce_is_killed:
        before_flush: "before_flush:2",
        after_flush: "after_flush",
        in_transaction: "in_transaction:2",
        after_offsets_sent: "after_offsets_sent",
        after_offsets_sent_again: "after_offsets_sent:2",
        during_commit: "during_commit",
        during_commit_again: "during_commit:2",
        after_commit: "after_commit",
        after_third_commit: "after_commit:3",
        in_revoke: "in_revoke",
    }
}

fn windows_are_killed(place: Place) -> Result<()> {
    windows_are_killed_under(place, None)
}

fn windows_are_killed_at_least_once(place: Place) -> Result<()> {
    windows_are_killed_under(place, Some("at_least_once"))
}

fn windows_are_killed_under(place: Place, delivery: Option<&str>) -> Result<()> {
    let words = delivery.map_or("exactly", |_| "least");
    let scene = Scene::shared(&format!("kill-{words}-{}", place.replace(':', "-")))?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        quick_aborts(topology);
        if let Some(delivery) = delivery {
            scene.sla_in(topology)["delivery"] = json!(delivery);
        }
    })?;
    let killing = folder.with_program(&Build::with_kill_points()?)?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    let load = Load::start(&scene)?;
    if matches!(place, "in_restore" | "in_take_over") {
        // Something to restore.
        let mut before = Command::run(&folder, &scene.sla()).start_ready()?;
        scene.wait_first_cut(SETTLED)?;
        before.kill()?;
    }
    let mut first = killed_at(&killing, &scene.sla(), place)?;
    ensure_killed(&mut first).with_context(|| first.log.tail(5))?;
    let mut second = Command::run(&folder, &scene.sla()).start_ready()?;
    load.end()?;
    scene.wait_reduced(SETTLED)?;
    scene.wait_measured(SETTLED)?;
    let report = scene.judge_windows()?;
    ensure!(report.counted("records in windows") > 0, "{report}");
    ensure!(second.drain()? == 0, "the second host did not drain");
    ensure!(reduce.drain()? == 0, "reduce-visits did not drain");
    Ok(())
}

/// Windows are the same wherever their host is killed (I3, I5, I7).
mod windows {
    use super::*;

    killed_at_each! { windows_are_killed:
        before_flush: "before_flush:3",
        after_flush: "after_flush:2",
        in_transaction: "in_transaction:2",
        checkpoint_written: "checkpoint_written",
        checkpoint_written_third: "checkpoint_written:3",
        after_offsets_sent: "after_offsets_sent:2",
        during_commit: "during_commit:2",
        after_commit: "after_commit:2",
        in_restore: "in_restore",
        in_take_over: "in_take_over",
    }
}

/// Without transactions too (I3).
mod windows_at_least_once {
    use super::*;

    killed_at_each! { windows_are_killed_at_least_once:
        in_transaction: "in_transaction:2",
        checkpoint_written: "checkpoint_written",
        checkpoint_written_again: "checkpoint_written:2",
        after_commit: "after_commit",
    }
}
