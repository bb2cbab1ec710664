//! The judge on a program that is known to be right in one thing and wrong in another.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use weir_dev::judge::{Delivery, ReduceCase};
use weir_dev::scene::{Scene, sample_rows};
use weir_dev::servers::Guarded;

const SETTLED: Duration = Duration::from_secs(120);

/// The benchmark's bare loop reduces good rows as the contract says and writes no dead letters:
/// the judge has to find all of the latter and nothing else.
#[test]
fn it_finds_what_the_bare_loop_leaves_out_and_nothing_else() -> Result<()> {
    let scene = Scene::shared("judge")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    scene.kafka.write(&scene.visits(), &sample_rows()?)?;
    let bare = Guarded::spawn(env!("CARGO_BIN_EXE_weir-dev"), |command| {
        command
            .args(["bare-loop", "--bootstrap", scene.kafka.bootstrap()])
            .args(["--source", &scene.visits(), "--target", &scene.reduced()])
            .args(["--group", &scene.reduce_group()])
            .stdout(Stdio::null());
    })?;
    scene.wait_reduced(SETTLED)?;
    ensure!(bare.stop(SETTLED)?.success());

    let report = ReduceCase {
        source: &scene.kafka.read(&scene.visits())?,
        reduced: &scene.kafka.read(&scene.reduced())?,
        dead_letters: &[],
        pipeline: &scene.reduce(),
        plugin: "reduce-visit",
        delivery: Delivery::ExactlyOnce,
    }
    .judge();
    ensure!(report.counted("good rows") == 4_852, "{report}");
    ensure!(report.differences().len() == 148, "{report}");
    let misses_letter = |difference: &String| difference.contains("has no dead letter");
    ensure!(report.differences().iter().all(misses_letter), "{report}");
    Ok(())
}
