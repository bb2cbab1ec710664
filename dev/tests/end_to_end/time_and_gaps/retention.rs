//! Records that are deleted before they are read.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_dev::client::Row;
use weir_dev::host::{Command, Signal};
use weir_dev::scene::Scene;

use super::stage::*;

/// Good rows, alternating over two partitions.
fn visits(count: i64) -> Vec<Row> {
    let row = |n: i64| {
        let value = json!({ "visit_id": format!("v{n}"), "event_time": 1_717_200_000 + n });
        Row::value(value.to_string()).on(i32::try_from(n % 2).unwrap_or(0))
    };
    (0..count).map(row).collect()
}

/// I2: what retention took before it was read is named, with both offsets, and nothing is read; `on_gap: skip` goes on
/// behind the gap and counts what is lost, exactly.
#[test]
fn a_gap_left_by_retention_is_named_and_counted() -> Result<()> {
    let scene = Scene::shared("gap")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let failing = scene.folder(|_| {})?;
    let skipping = scene.folder(|topology| {
        scene.reduce_in(topology)["sources"]["visits"]["on_gap"] = json!("skip");
    })?;
    scene.kafka.write(&scene.visits(), &visits(200))?;
    let mut host = Command::run(&failing, &scene.reduce()).start_ready()?;
    scene.wait_reduced(SETTLED)?;
    ensure!(host.drain()? == 0);
    scene.kafka.write(&scene.visits(), &visits(200))?;
    // Partition 0 is committed at 100 and ends at 200.
    scene.kafka.delete_records(&scene.visits(), 0, 130)?;
    let mut host = Command::run(&failing, &scene.reduce()).start()?;
    ensure!(host.wait_exit()? == 1, "it goes on over a gap");
    let lines = host.log.lines();
    let last = lines.last().context("a reason")?;
    let partition = format!("{}-0", scene.visits());
    for part in ["source.gap", &partition, "100", "130", "on_gap"] {
        ensure!(last.contains(part), "no {part:?} in {last}");
    }
    ensure!(
        scene.kafka.count(&scene.reduced())? == 200,
        "something was read all the same"
    );
    let mut host = Command::run(&skipping, &scene.reduce()).start_ready()?;
    let skipped = host.wait_event("source_gap_skipped", SETTLED)?;
    ensure!(number(&skipped, "lost")? == 30, "{skipped}");
    scene.wait_reduced(SETTLED)?;
    wait_sum(&host, "weir_source_lost_records_total", 30.0)?;
    let reduced = scene.kafka.count(&scene.reduced())?;
    ensure!(reduced == 400 - 30, "{reduced} reduced");
    host.wait_balanced(170.0)?;
    ensure!(host.drain()? == 0);
    Ok(())
}

/// I3: behind a gap that is skipped a stateful pipeline goes on with the state it had; the windows hold what was counted
/// before, and what came behind the gap.
#[test]
fn state_is_kept_over_a_gap_that_is_skipped() -> Result<()> {
    let scene = Scene::shared("stategap")?;
    create_timed(&scene, 2)?;
    let folder = scene.folder(|topology| {
        let sla = scene.sla_in(topology);
        sla["sources"]["reduced"]["on_gap"] = json!("skip");
        // Open over the restart.
        sla["sources"]["reduced"]["idle_grace"] = json!("20s");
    })?;
    let at_ms = now_ms();
    let rows = |count: i64| -> Vec<Row> {
        (0..count)
            .map(|n| measured(i32::try_from(n % 2).unwrap_or(0), at_ms, n))
            .collect()
    };
    scene.kafka.write(&scene.reduced(), &rows(20))?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    scene
        .kafka
        .wait_settled(&scene.sla_group(), &scene.reduced(), SETTLED)?;
    let before = scene.kafka.read(&scene.reduced())?;
    ensure!(host.drain()? == 0);
    scene.kafka.write(&scene.reduced(), &rows(20))?;
    scene.kafka.delete_records(&scene.reduced(), 0, 14)?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    let skipped = host.wait_event("source_gap_skipped", SETTLED)?;
    ensure!(number(&skipped, "lost")? == 4, "{skipped}");
    let mut counted = scene.kafka.read(&scene.reduced())?;
    for (partition, earlier) in before {
        let records = counted.entry(partition).or_default();
        records.retain(|record| record.offset >= 10);
        records.extend(earlier);
    }
    let rules = weir_dev::judge::WindowRules::of_size_s(weir_dev::scene::WINDOW_SIZE_S);
    weir_dev::client::wait_until("the document", SETTLED, || {
        let documents = scene.index().documents().map_err(|e| format!("{e:#}"))?;
        let judged = weir_dev::scene::judge_windows(&counted, &documents, &rules);
        judged.map(drop).map_err(|error| format!("{error:#}"))
    })?;
    ensure!(host.drain()? == 0);
    Ok(())
}

/// The same while the host runs, and stands still at the wrong moment: its position is gone, which is no reset.
#[test]
fn a_gap_that_opens_before_a_running_host_is_named_too() -> Result<()> {
    let scene = Scene::shared("rungap")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    scene.kafka.write(&scene.visits(), &visits(200))?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.wait_reduced(SETTLED)?;
    host.signal(Signal::Stop)?;
    scene.kafka.write(&scene.visits(), &visits(200))?;
    for partition in [0, 1] {
        scene
            .kafka
            .delete_records(&scene.visits(), partition, 150)?;
    }
    host.signal(Signal::Continue)?;
    ensure!(host.wait_exit()? == 1, "it goes on over a gap");
    let lines = host.log.lines();
    let last = lines.last().context("a reason")?;
    ensure!(last.contains("source.gap"), "{last}");
    ensure!(
        scene.kafka.count(&scene.reduced())? == 200,
        "something was read behind the gap"
    );
    Ok(())
}
