//! A topic that is deleted and made again under the same name.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_dev::client::{Row, wait_until};
use weir_dev::host::{Command, Host};
use weir_dev::scene::Scene;

use super::stage::*;

fn visits(count: usize, name: &str) -> Vec<Row> {
    let row = |n: usize| {
        let value = json!({ "visit_id": format!("{name}{n}"), "event_time": 1_717_200_000 });
        Row::value(value.to_string()).on(i32::from(n % 2 == 1))
    };
    (0..count).map(row).collect()
}

fn recreate_visits(scene: &Scene) -> Result<()> {
    scene.kafka.delete_topic(&scene.visits())?;
    scene.create_visits()
}

/// Ids of reduced visits that begin with `name`: each once.
fn reduced(scene: &Scene, name: &str) -> Result<usize> {
    let mut ids = Vec::new();
    for record in scene.kafka.read_all(&scene.reduced())? {
        let value = record.value.context("a value")?;
        let value: serde_json::Value = serde_json::from_slice(&value)?;
        let id = value["visit"]["id"].as_str().context("an id")?.to_owned();
        ids.push(id);
    }
    ids.retain(|id| id.starts_with(name));
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == count, "{} of {count} are distinct", ids.len());
    Ok(count)
}

fn last_line(host: &Host) -> String {
    host.log.lines().last().cloned().unwrap_or_default()
}

/// A stateless pipeline reads the new topic from its beginning: the broker forgot the group's offsets with the old one.
#[test]
fn a_topic_made_again_while_stopped_is_read_from_its_beginning() -> Result<()> {
    let scene = Scene::shared("again")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    scene.kafka.write(&scene.visits(), &visits(200, "old"))?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.wait_reduced(SETTLED)?;
    ensure!(host.drain()? == 0);
    recreate_visits(&scene)?;
    scene.kafka.write(&scene.visits(), &visits(300, "new"))?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.wait_reduced(SETTLED)?;
    let (old, new) = (reduced(&scene, "old")?, reduced(&scene, "new")?);
    ensure!((old, new) == (200, 300), "{old} old, {new} new");
    ensure!(host.drain()? == 0);
    Ok(())
}

/// I3: state belongs to offsets of the topic that is gone: a stateful pipeline stops, names the slot and the cure.
#[test]
fn state_of_a_topic_that_is_gone_stops_the_host() -> Result<()> {
    let scene = Scene::shared("stateagain")?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        scene.sla_in(topology)["transforms"]["latency"]["config"]["size"] = json!("1h");
    })?;
    let rows: Vec<Row> = (0..20).map(|n| measured(n % 2, now_ms(), 1)).collect();
    scene.kafka.write(&scene.reduced(), &rows)?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    scene
        .kafka
        .wait_settled(&scene.sla_group(), &scene.reduced(), SETTLED)?;
    ensure!(host.drain()? == 0);
    scene.kafka.delete_topic(&scene.reduced())?;
    scene.create_reduced()?;
    scene.kafka.write(&scene.reduced(), &rows)?;
    let mut host = Command::run(&folder, &scene.sla()).start()?;
    ensure!(
        host.wait_exit()? == 1,
        "it goes on with another topic's state"
    );
    let last = last_line(&host);
    for part in [
        "checkpoint.no_offset",
        &scene.reduced(),
        "checkpoints reset",
    ] {
        ensure!(last.contains(part), "no {part:?} in {last}");
    }
    // The cure that it names.
    let reset = Command::new(&folder, &["checkpoints", "reset", &scene.sla()]).output()?;
    ensure!(reset.code == 0, "{}", reset.stderr);
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    scene
        .kafka
        .wait_settled(&scene.sla_group(), &scene.reduced(), SETTLED)?;
    ensure!(host.drain()? == 0);
    Ok(())
}

/// I2: made again under a running host, fewer or more records than before: each of the new topic is read, or the host
/// says why not and ends. None is passed over because the old topic had reached further.
#[test]
fn a_topic_made_again_under_a_running_host_loses_nothing_in_silence() -> Result<()> {
    let scene = Scene::shared("underneath")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    for (round, count) in [200, 40, 1_000].into_iter().enumerate() {
        if round > 0 {
            recreate_visits(&scene)?;
        }
        let name = format!("r{round}x");
        scene.kafka.write(&scene.visits(), &visits(count, &name))?;
        wait_until(&format!("round {round}"), SETTLED, || {
            if host.try_exit().map_err(|e| e.to_string())?.is_some() {
                return Ok(());
            }
            match reduced(&scene, &name) {
                Ok(found) if found == count => Ok(()),
                other => Err(format!("{other:?} of {count}:\n{}", host.log.tail(12))),
            }
        })?;
        if host.try_exit()?.is_some() {
            let last = last_line(&host);
            ensure!(last.contains("source.topic_recreated"), "{last}");
            host = Command::run(&folder, &scene.reduce()).start_ready()?;
            wait_until(
                &format!("round {round} after a restart"),
                SETTLED,
                || match reduced(&scene, &name) {
                    Ok(found) if found == count => Ok(()),
                    other => Err(format!("{other:?} of {count}:\n{}", host.log.tail(12))),
                },
            )?;
        }
    }
    ensure!(host.drain()? == 0);
    Ok(())
}
