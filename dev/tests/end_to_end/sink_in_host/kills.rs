//! `kill -9` between the answer of the server, or of the dead letter topic, and the commit.

use std::thread;

use anyhow::{Result, anyhow, ensure};
use weir_dev::client::{Row, wait_until};
use weir_dev::host::{Command, Folder, Host};
use weir_dev::judge::{Delivery, Report};
use weir_dev::scene::StoreScene;
use weir_dev::sink::poison;

use super::stage::*;

const ROWS: usize = 1_000;
const KEYS: usize = 300;

/// A name of its own ends at once what its predecessor left open, and takes its partitions back.
fn start(scene: &StoreScene, folder: &Folder) -> Result<Host> {
    Command::run(folder, &scene.pipeline())
        .argument("--instance")
        .argument("one")
        .start_ready()
}

/// Runs the pipeline until everything is answered, kills it before it commits, and lets a second host finish.
fn killed_before_the_commit(test: &str, delivery: &str, bad: &[Row]) -> Result<(StoreScene, u64)> {
    let scene = StoreScene::shared(&format!("{test}-{delivery}"))?;
    poison(&scene.store);
    scene.kafka.create_topic(&scene.rows(), PARTITIONS, &[])?;
    let folder = scene.folder(|topology, pipeline| never_commits(topology, pipeline, delivery))?;
    let mut first = start(&scene, &folder)?;
    let mut written = rows(ROWS, KEYS);
    for (at, row) in bad.iter().enumerate() {
        written.insert(ROWS / 2 + at, row.clone());
    }
    scene.kafka.write(&scene.rows(), &written)?;
    wait_answered(&first, "stored", ROWS as u64)?;
    wait_until("the dead letters", SETTLED, || {
        // A topic without anything in it is there as well.
        match scene.kafka.ends_with_open(&scene.dead_letters()) {
            Ok(ends) if ends.values().sum::<i64>() >= bad.len() as i64 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    first.kill()?;
    let committed = scene.kafka.committed(&scene.group(), &scene.rows())?;
    let committed: i64 = committed.values().sum();
    ensure!(committed == 0, "the host had committed {committed}");
    let stored = scene.documents();
    let folder = scene.folder(|topology, pipeline| {
        topology["pipelines"][pipeline]["delivery"] = delivery.into();
    })?;
    let mut second = start(&scene, &folder)?;
    scene.wait_settled(SETTLED)?;
    ensure!(scene.documents() == stored, "the replay changed documents");
    second.wait_balanced(written.len() as f64)?;
    let superseded = StoreScene::answered(&second, "superseded")?;
    ensure!(second.drain()? == 0, "the second host did not drain");
    Ok((scene, superseded))
}

/// Both deliveries, side by side: most of their time is waiting.
fn under_both(scene: impl Fn(&'static str, Delivery) -> Result<()> + Sync) -> Result<()> {
    let (exactly, least) = thread::scope(|scope| {
        let exactly = scope.spawn(|| scene(EXACTLY_ONCE, Delivery::ExactlyOnce));
        let least = scope.spawn(|| scene(AT_LEAST_ONCE, Delivery::AtLeastOnce));
        (exactly.join(), least.join())
    });
    exactly.map_err(|_| anyhow!("panicked"))??;
    least.map_err(|_| anyhow!("panicked"))?
}

#[test]
fn case_33_a_kill_between_answer_and_commit_loses_and_doubles_no_document() -> Result<()> {
    under_both(|delivery, judged| {
        let (scene, superseded) = killed_before_the_commit("answered", delivery, &[])?;
        let report = scene.judge(&is_bad, judged)?;
        ensure!(report.counted("documents") == KEYS, "{report}");
        // Each was written again, and found the same or a newer version.
        ensure!(superseded == ROWS as u64, "{superseded} were superseded");
        Ok(())
    })
}

fn dead_letters(report: &Report) -> (usize, usize) {
    (
        report.counted("bad records"),
        report.counted("dead letters"),
    )
}

#[test]
fn case_34_a_kill_between_dead_letter_and_commit_repeats_it_at_least_once_only() -> Result<()> {
    let bad = [
        no_object("a"),
        poisoned("b"),
        poisoned("id1"),
        no_object("id2"),
    ];
    under_both(|delivery, judged| {
        let (scene, superseded) = killed_before_the_commit("buried", delivery, &bad)?;
        ensure!(superseded == ROWS as u64, "{superseded} were superseded");
        let report = scene.judge(&is_bad, judged)?;
        let expected = match judged {
            Delivery::ExactlyOnce => (bad.len(), bad.len()),
            // Every one was acknowledged before the kill, and is written again after it.
            Delivery::AtLeastOnce => (bad.len(), 2 * bad.len()),
        };
        ensure!(dead_letters(&report) == expected, "{report}");
        Ok(())
    })
}
