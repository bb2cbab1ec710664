//! What chaos has found, each reduced to its smallest scene.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_dev::client::wait_until;
use weir_dev::host::{Command, Signal};
use weir_dev::scene::{Scene, sample_rows, shared_elasticsearch};
use weir_dev::servers::KafkaServer;

const SETTLED: Duration = Duration::from_secs(120);

/// The active host is stopped in the middle of its work for longer than its session and its transaction, and Kafka
/// restarts meanwhile: it comes to itself in a cluster that has forgotten both.
#[test]
fn a_host_that_slept_through_a_restart_of_kafka_goes_on() -> Result<()> {
    let mut kafka = KafkaServer::start()?;
    let scene = Scene::on("slept", &kafka.bootstrap(), &shared_elasticsearch()?);
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        topology["kafka"]["consumer"] = json!({ "session.timeout.ms": 6_000 });
        topology["kafka"]["producer"] = json!({ "transaction.timeout.ms": 5_000 });
    })?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    let sla = Command::run(&folder, &scene.sla())
        .argument("--log-level")
        .argument("debug");
    let mut sla = sla.start_ready()?;
    let rows = sample_rows()?;
    scene.kafka.write(&scene.visits(), &rows)?;
    scene.wait_first_cut(SETTLED)?;
    scene.kafka.write(&scene.visits(), &rows)?;
    sla.signal(Signal::Stop)?;
    // Its session and its transaction end while nobody is there to see it.
    wait_until("the host to be put out of its group", SETTLED, || {
        let group = format!("__weir.{}.active", scene.sla());
        match scene.kafka.group(&group) {
            Ok((0, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    kafka.stop()?;
    sla.signal(Signal::Continue)?;
    kafka.restart()?;
    scene.kafka.write(&scene.visits(), &rows)?;
    scene.wait_reduced(SETTLED)?;
    scene.wait_measured(SETTLED)?;
    let report = scene.judge_windows()?;
    ensure!(
        report.counted("records in windows") == 3 * 4_852,
        "{report}"
    );
    ensure!(sla.drain()? == 0 && reduce.drain()? == 0);
    Ok(())
}
