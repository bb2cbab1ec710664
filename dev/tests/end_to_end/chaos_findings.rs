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

/// A standby host and a member without a partition are sent nothing by Kafka; they notice all the same that it is back.
#[test]
fn hosts_without_work_are_ready_again_after_an_outage() -> Result<()> {
    let mut kafka = KafkaServer::start()?;
    let scene = Scene::on("idle", &kafka.bootstrap(), &shared_elasticsearch()?);
    for topic in [scene.visits(), scene.reduced()] {
        scene.kafka.create_topic(&topic, 1, &[])?;
    }
    let folder = scene.folder(|_| {})?;
    let mut hosts = Vec::new();
    for pipeline in [scene.reduce(), scene.sla()] {
        for _ in 0..2 {
            let host = Command::run(&folder, &pipeline).start()?;
            host.wait_ready()?;
            hosts.push(host);
        }
    }
    // They stay ready for a minute; the state is told at once.
    let wait_all = |are_waiting: bool| {
        let what = format!("every host to be waiting for Kafka: {are_waiting}");
        wait_until(&what, SETTLED, || {
            let answers = hosts.iter().map(|host| host.get("/readyz"));
            let answers: Result<Vec<_>> = answers.collect();
            let answers = answers.map_err(|error| format!("{error:#}"))?;
            let is_waiting = |text: &str| text.contains("waiting_for_kafka");
            let is_so = answers
                .iter()
                .all(|(_, text)| is_waiting(text) == are_waiting);
            is_so.then_some(()).ok_or_else(|| format!("{answers:?}"))
        })
    };
    kafka.stop()?;
    wait_all(true)?;
    kafka.restart()?;
    wait_all(false)
}
