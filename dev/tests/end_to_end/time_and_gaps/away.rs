//! Kafka, or the host itself, stands still for longer than windows wait for late records.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal as Raw, kill_process};
use weir_dev::client::Kafka;
use weir_dev::host::{Command, Host, Signal};
use weir_dev::scene::{Scene, shared_elasticsearch};
use weir_dev::servers::KafkaServer;

use super::stage::*;

/// Longer than `idle_grace` and `allowed_lateness` together, and than the session.
const STANDSTILL: Duration = Duration::from_secs(15);
const RULES: Rules = Rules {
    idle_grace: "2s",
    allowed_lateness: "5s",
};

/// Two records each for both partitions, then a pause, as often as that.
fn trickle(kafka: &Kafka, topic: &str, rounds: i64) -> Result<()> {
    let writer = kafka.writer()?;
    for round in 0..rounds {
        let rows: Vec<_> = (0..4).map(|n| measured(n % 2, now_ms(), round)).collect();
        writer.write(topic, &rows)?;
        // The pace of the traffic.
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn ensure_nothing_late(scene: &Scene, host: &mut Host) -> Result<()> {
    let measured = scene.wait_measured(SETTLED);
    measured.with_context(|| host.log.tail(60))?;
    let dead = scene.kafka.read_all(&scene.sla_dead_letters())?;
    ensure!(dead.is_empty(), "{:?}", codes(&dead));
    scene.judge_windows()?;
    ensure!(host.drain()? == 0);
    Ok(())
}

/// A partition's silence counts only with the broker's word that there is nothing: a broker that does not answer gives
/// none, so no record that it takes afterwards is late.
#[test]
fn kafka_away_for_longer_than_allowed_lateness_makes_nothing_late() -> Result<()> {
    let kafka = KafkaServer::start()?;
    let scene = Scene::on("away", &kafka.bootstrap(), &shared_elasticsearch()?);
    scene.create_reduced()?;
    let folder = folder(&scene, &RULES)?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    let writing = {
        let (kafka, topic) = (scene.kafka.clone(), scene.reduced());
        // Beyond the standstill.
        thread::spawn(move || trickle(&kafka, &topic, 60))
    };
    wait_watermark(&host, 0, now_ms())?;
    let broker = kafka.id().and_then(|id| i32::try_from(id).ok());
    let broker = broker.and_then(Pid::from_raw).context("the broker's id")?;
    kill_process(broker, Raw::STOP)?;
    // The length of the standstill is what is tested.
    thread::sleep(STANDSTILL);
    kill_process(broker, Raw::CONT)?;
    let written = writing.join();
    written.map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    trickle(&scene.kafka, &scene.reduced(), 10)?;
    ensure_nothing_late(&scene, &mut host)
}

/// A host that was stopped has proved nothing meanwhile: what was written while it stood is in time.
#[test]
fn a_host_stopped_for_longer_than_allowed_lateness_makes_nothing_late() -> Result<()> {
    let scene = Scene::shared("stopped")?;
    scene.create_reduced()?;
    let folder = folder(&scene, &RULES)?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    let writing = {
        let (kafka, topic) = (scene.kafka.clone(), scene.reduced());
        thread::spawn(move || trickle(&kafka, &topic, 80))
    };
    wait_watermark(&host, 0, now_ms())?;
    host.signal(Signal::Stop)?;
    // The length of the standstill is what is tested.
    thread::sleep(STANDSTILL);
    host.signal(Signal::Continue)?;
    let written = writing.join();
    written.map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    ensure_nothing_late(&scene, &mut host)
}
