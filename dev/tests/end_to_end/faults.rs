//! Hosts that are killed, stopped and drained; servers that are away. One at a time: most of these
//! tests run a Kafka of their own.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, kill_process};
use serde_json::json;
use weir_dev::client::{Row, wait_until};
use weir_dev::host::{Command, Host, Signal};
use weir_dev::judge::{Delivery, Report};
use weir_dev::scene::{Scene, sample_rows, shared_elasticsearch, shared_kafka};
use weir_dev::servers::{ElasticsearchOptions, ElasticsearchServer, KafkaServer};

const SETTLED: Duration = Duration::from_secs(180);

/// What a pipeline promises after a crash or a broker's restart, as delivery stands today.
const AFTER_A_FAULT: Delivery = Delivery::ExactlyOnce;

/// How long a server stays away: long with `WEIR_LONG=1`.
fn outage() -> Duration {
    let is_long = std::env::var("WEIR_LONG").is_ok_and(|v| v == "1");
    Duration::from_secs(if is_long { 120 } else { 10 })
}

/// The sample several times over: enough to be in the middle of it.
fn many_rows(times: usize) -> Result<Vec<Row>> {
    let sample = sample_rows()?;
    Ok((0..times).flat_map(|_| sample.clone()).collect())
}

/// Waits until a host has written something, so that what follows meets it at work.
fn wait_for_output(scene: &Scene) -> Result<()> {
    wait_until("the first reduced record", SETTLED, || {
        match scene.kafka.ends(&scene.reduced()) {
            Ok(ends) if ends.values().any(|&end| end > 0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

fn ensure_rows(report: &Report, good: usize, bad: usize) -> Result<()> {
    ensure!(report.counted("good rows") == good, "{report}");
    ensure!(report.counted("bad rows") == bad, "{report}");
    Ok(())
}

fn ensure_runs(host: &mut Host) -> Result<()> {
    ensure!(
        host.try_exit()?.is_none(),
        "the host has ended:\n{}",
        host.log.tail(40)
    );
    Ok(())
}

/// Each outage is said once when it begins and once when it is over.
fn ensure_outages_are_said_once(host: &Host) -> Result<()> {
    let said = || -> Vec<bool> {
        let lines = host.log.objects().into_iter();
        lines
            .filter_map(|line| match line.get("event")?.as_str()? {
                "kafka_unreachable" => Some(true),
                "kafka_back" => Some(false),
                _ => None,
            })
            .collect()
    };
    let said = wait_until("the end of the outage to be said", SETTLED, || {
        let said = said();
        match said.last() {
            Some(true) => Err(format!("{said:?}")),
            // One of a few seconds may pass unnoticed.
            _ => Ok(said),
        }
    })?;
    let mut in_turn = said.iter().enumerate();
    ensure!(
        in_turn.all(|(at, &is_away)| is_away == at.is_multiple_of(2)),
        "{said:?}:\n{}",
        host.log.tail(40)
    );
    Ok(())
}

#[test]
fn kafka_and_the_source_topic_may_be_away_at_start() -> Result<()> {
    let mut kafka = KafkaServer::start_later()?;
    let scene = Scene::on("late", &kafka.bootstrap(), &shared_elasticsearch()?);
    let folder = scene.folder(|_| {})?;
    let mut host = Command::run(&folder, &scene.reduce()).start()?;
    // It says so: some line names the broker that does not answer.
    let bootstrap = kafka.bootstrap();
    let said = host.log.wait_for(Duration::from_secs(60), |line| {
        line.contains(&bootstrap).then(|| line.to_owned())
    });
    ensure!(
        said.is_some(),
        "no line names {bootstrap}:\n{}",
        host.log.tail(40)
    );
    ensure_runs(&mut host)?;
    kafka.restart()?;
    // Now only the topic is missing.
    let visits = scene.visits();
    let said = host.log.wait_for(Duration::from_secs(60), |line| {
        line.contains(&visits).then(|| line.to_owned())
    });
    ensure!(
        said.is_some(),
        "no line names {visits}:\n{}",
        host.log.tail(40)
    );
    ensure_runs(&mut host)?;
    scene.create_visits()?;
    scene.kafka.write(&visits, &sample_rows()?)?;
    scene.wait_reduced(SETTLED)?;
    host.wait_ready()?;
    ensure_rows(&scene.judge_reduced(Delivery::ExactlyOnce)?, 4_852, 148)?;
    ensure!(host.drain()? == 0);
    Ok(())
}

#[test]
fn kafka_may_be_restarted_and_killed_in_the_middle() -> Result<()> {
    let mut kafka = KafkaServer::start()?;
    let scene = Scene::on("restart", &kafka.bootstrap(), &shared_elasticsearch()?);
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        // Over before Kafka is back: it ends the transaction itself, and may do so badly (dev/README.md, "A defect of
        // Kafka's"), which the hosts make good.
        topology["kafka"]["producer"] = json!({ "transaction.timeout.ms": 3_000 });
    })?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    let mut sla = Command::run(&folder, &scene.sla()).start_ready()?;
    let rows = many_rows(2)?;
    scene.kafka.write(&scene.visits(), &rows)?;
    wait_for_output(&scene)?;
    kafka.stop()?;
    kafka.restart()?;
    scene.kafka.write(&scene.visits(), &rows)?;
    kafka.kill();
    kafka.restart()?;
    scene.kafka.write(&scene.visits(), &rows)?;
    scene
        .wait_reduced(SETTLED)
        .with_context(|| reduce.log.tail(60))?;
    scene
        .wait_measured(SETTLED)
        .with_context(|| sla.log.tail(60))?;
    let judged = scene.judge_reduced(AFTER_A_FAULT);
    let judged = judged.with_context(|| reduce.log.tail(60))?;
    ensure_rows(&judged, 6 * 4_852, 6 * 148)?;
    scene.judge_windows()?;
    for host in [&mut reduce, &mut sla] {
        ensure_outages_are_said_once(host)?;
        ensure_runs(host)?;
        ensure!(host.drain()? == 0);
    }
    Ok(())
}

#[test]
fn elasticsearch_may_be_away() -> Result<()> {
    let mut elasticsearch = ElasticsearchServer::start(ElasticsearchOptions::default())?;
    let scene = Scene::on("noes", &shared_kafka()?, &elasticsearch.url());
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    let mut sla = Command::run(&folder, &scene.sla()).start_ready()?;
    let sample = sample_rows()?;
    scene.kafka.write(&scene.visits(), &sample)?;
    scene.wait_measured(SETTLED)?;
    elasticsearch.kill();
    scene.kafka.write(&scene.visits(), &sample)?;
    // The length of the outage is what is tested, not a wait for luck.
    thread::sleep(outage());
    scene.kafka.write(&scene.visits(), &sample)?;
    ensure_runs(&mut sla)?;
    if outage() > Duration::from_secs(60) {
        let (status, body) = sla.get("/readyz")?;
        ensure!(status == 503, "away for over a minute: {status} {body}");
    }
    elasticsearch.restart()?;
    scene.wait_reduced(SETTLED)?;
    scene.wait_measured(SETTLED)?;
    ensure_rows(
        &scene.judge_reduced(Delivery::ExactlyOnce)?,
        3 * 4_852,
        3 * 148,
    )?;
    let report = scene.judge_windows()?;
    ensure!(
        report.counted("records in windows") == 3 * 4_852,
        "{report}"
    );
    // Being away is nobody's bad record.
    ensure!(scene.kafka.read_all(&scene.sla_dead_letters())?.is_empty());
    for host in [&mut reduce, &mut sla] {
        ensure!(host.drain()? == 0);
    }
    Ok(())
}

#[test]
fn sigterm_under_load_drains_and_loses_and_doubles_nothing() -> Result<()> {
    let scene = Scene::shared("drain")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    scene.kafka.write(&scene.visits(), &many_rows(20)?)?;
    let folder = scene.folder(|_| {})?;
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let before = scene.kafka.count(&scene.reduced())?;
        let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
        wait_until("more output", SETTLED, || {
            match scene.kafka.ends(&scene.reduced()) {
                Ok(ends) if ends.values().sum::<i64>() > i64::try_from(before).unwrap_or(0) => {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        })?;
        host.signal(signal)?;
        ensure!(host.wait_exit()? == 0, "{signal:?} did not drain");
    }
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.wait_reduced(SETTLED)?;
    ensure_rows(
        &scene.judge_reduced(Delivery::ExactlyOnce)?,
        20 * 4_852,
        20 * 148,
    )?;
    ensure!(host.drain()? == 0);
    Ok(())
}

#[test]
fn kill_9_loses_nothing_and_leaves_the_documents_right() -> Result<()> {
    let scene = Scene::shared("kill")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let rows = many_rows(4)?;
    for round in 0..3 {
        let before = scene.kafka.count(&scene.reduced())?;
        let mut reduce = Command::run(&folder, &scene.reduce()).start()?;
        let mut sla = Command::run(&folder, &scene.sla()).start()?;
        scene.kafka.write(&scene.visits(), &rows)?;
        wait_until("more output", SETTLED, || {
            match scene.kafka.count(&scene.reduced()) {
                Ok(count) if count > before => Ok(()),
                other => Err(format!("round {round}: {other:?} after {before}")),
            }
        })?;
        reduce.kill()?;
        sla.kill()?;
    }
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    let mut sla = Command::run(&folder, &scene.sla()).start_ready()?;
    scene.wait_reduced(SETTLED)?;
    scene.wait_measured(SETTLED)?;
    ensure_rows(&scene.judge_reduced(AFTER_A_FAULT)?, 12 * 4_852, 12 * 148)?;
    scene.judge_windows()?;
    ensure!(reduce.drain()? == 0);
    ensure!(sla.drain()? == 0);
    Ok(())
}

/// A host that was stopped for longer than its session comes back to a group that went on
/// without it.
#[test]
fn a_stopped_host_comes_back() -> Result<()> {
    let scene = Scene::shared("stop")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let rows = many_rows(4)?;
    let mut stopped = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.kafka.write(&scene.visits(), &rows)?;
    wait_for_output(&scene)?;
    stopped.signal(Signal::Stop)?;
    let mut other = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.kafka.write(&scene.visits(), &rows)?;
    scene
        .wait_reduced(SETTLED)
        .context("the other host alone")?;
    stopped.signal(Signal::Continue)?;
    wait_until("both to be members", SETTLED, || {
        match scene.kafka.group(&scene.reduce_group()) {
            Ok((2, state)) if state == "Stable" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    scene.kafka.write(&scene.visits(), &rows)?;
    scene.wait_reduced(SETTLED).with_context(|| {
        let (stopped, other) = (stopped.log.tail(40), other.log.tail(40));
        format!("both hosts; the logs end:\n{stopped}\n----\n{other}")
    })?;
    ensure_rows(&scene.judge_reduced(AFTER_A_FAULT)?, 12 * 4_852, 12 * 148)?;
    ensure!(stopped.drain()? == 0);
    ensure!(other.drain()? == 0);
    Ok(())
}

/// The hosts of `weir up`: one that dies is replaced, and none outlives the supervisor.
#[test]
fn up_replaces_a_host_that_died_and_leaves_none_behind() -> Result<()> {
    let scene = Scene::shared("up")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let mut up = Command::new(&folder, &["up"]).start()?;
    let two_hosts = |what: &str, but_not: Option<u32>| {
        wait_until(what, SETTLED, || match up.children() {
            Ok(hosts) if hosts.len() == 2 && but_not.is_none_or(|pid| !hosts.contains(&pid)) => {
                Ok(hosts)
            }
            other => Err(format!("{other:?}")),
        })
    };
    let hosts = two_hosts("two hosts", None)?;
    let victim = *hosts.first().context("a host")?;
    kill(victim)?;
    let hosts = two_hosts("a host in place of the one that died", Some(victim))?;
    scene.kafka.write(&scene.visits(), &sample_rows()?)?;
    scene.wait_reduced(SETTLED)?;
    scene.wait_measured(SETTLED)?;
    ensure_rows(&scene.judge_reduced(Delivery::ExactlyOnce)?, 4_852, 148)?;
    scene.judge_windows()?;

    up.kill()?;
    wait_until("the hosts to end with their supervisor", SETTLED, || {
        let left: Vec<&u32> = hosts.iter().filter(|&&pid| runs(pid)).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
}

fn kill(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .context("a pid")?;
    Ok(kill_process(pid, rustix::process::Signal::KILL)?)
}

/// A process that was not reaped yet has ended all the same.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
