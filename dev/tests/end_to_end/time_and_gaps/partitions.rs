//! Topics that grow while they are read.

use anyhow::{Result, ensure};
use serde_json::json;
use weir_dev::client::{Row, wait_until};
use weir_dev::host::Command;
use weir_dev::scene::{Scene, sample_rows};

use super::stage::*;

/// A partition that is added is read from its beginning: where the group assigns partitions as soon as the client has
/// seen it (`topic.metadata.refresh.interval.ms`), in a pipeline with one active host within 30 s. It holds nothing
/// up until then, and what it brings late is corrected.
#[test]
fn a_partition_that_is_added_is_read_from_its_beginning() -> Result<()> {
    let scene = Scene::shared("grows")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        topology["kafka"]["consumer"] = json!({ "topic.metadata.refresh.interval.ms": 1_000 });
    })?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    let mut sla = Command::run(&folder, &scene.sla()).start_ready()?;
    let rows = sample_rows()?;
    let (before, after) = rows.split_at(2_500);
    scene.kafka.write(&scene.visits(), before)?;
    scene.wait_reduced(SETTLED)?;
    scene.kafka.add_partitions(&scene.visits(), 3)?;
    scene.kafka.add_partitions(&scene.reduced(), 3)?;
    let added: Vec<Row> = after.iter().map(|row| row.clone().on(2)).collect();
    scene.kafka.write(&scene.visits(), &added)?;
    let measurements: Vec<Row> = (0..100).map(|n| measured(2, now_ms(), n)).collect();
    scene.kafka.write(&scene.reduced(), &measurements)?;
    scene.wait_reduced(SETTLED)?;
    scene.wait_measured(SETTLED)?;
    let report = scene.judge_windows()?;
    ensure!(
        report.counted("records in windows") == 4_852 + 100,
        "{report}"
    );
    // The measurements were written by nobody's visit: judged without them.
    let reduced = scene.kafka.count(&scene.reduced())?;
    ensure!(reduced == 4_852 + 100, "{reduced} reduced");
    let dead = scene.kafka.read_all(&scene.reduce_dead_letters())?;
    ensure!(dead.len() == 148, "{} dead letters", dead.len());
    for (host, of) in [(&reduce, 3), (&sla, 3)] {
        wait_until(
            "every partition to have a watermark or a lag",
            SETTLED,
            || {
                let metrics = host.metrics().map_err(|error| format!("{error:#}"))?;
                let samples = metrics.0.iter();
                let known = samples
                    .filter(|sample| sample.name == "weir_source_lag_records")
                    .count();
                (known == of).then_some(()).ok_or_else(|| known.to_string())
            },
        )?;
    }
    ensure!(reduce.drain()? == 0 && sla.drain()? == 0);
    Ok(())
}

/// The same while the task has nothing committed of it, over a restart: the new partition's offset is its first.
#[test]
fn a_partition_that_was_added_while_stopped_is_read_too() -> Result<()> {
    let scene = Scene::shared("grown")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let rows = sample_rows()?;
    let (before, after) = rows.split_at(2_500);
    for (rows, partitions) in [(before, 2), (after, 3)] {
        if partitions > 2 {
            scene.kafka.add_partitions(&scene.visits(), partitions)?;
            scene.kafka.add_partitions(&scene.reduced(), partitions)?;
        }
        scene.kafka.write(&scene.visits(), rows)?;
        let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
        let mut sla = Command::run(&folder, &scene.sla()).start_ready()?;
        scene.wait_reduced(SETTLED)?;
        scene.wait_measured(SETTLED)?;
        ensure!(reduce.drain()? == 0 && sla.drain()? == 0);
    }
    let report = scene.judge_windows()?;
    ensure!(report.counted("records in windows") == 4_852, "{report}");
    let dead = scene.kafka.read_all(&scene.reduce_dead_letters())?;
    ensure!(dead.len() == 148, "{} dead letters", dead.len());
    // Keys change their partition when a topic grows, so order over the growth is nobody's promise; the rest is judged.
    let reduced = scene.kafka.count(&scene.reduced())?;
    ensure!(reduced == 4_852, "{reduced} reduced");
    Ok(())
}

/// Late is late over a restart (I3): the pipeline's watermark is the checkpoint's, also when a partition came meanwhile that
/// has none yet. An old record of it opens no window anew, whose document it would replace.
#[test]
fn a_partition_that_was_added_while_stopped_reopens_no_window() -> Result<()> {
    let scene = Scene::shared("reopens")?;
    create_timed(&scene, 2)?;
    let folder = folder(&scene, &Rules::of_records("5s"))?;
    let first_ms = window_start_ms(now_ms()) - 20 * WINDOW_MS;
    let row = |partition: i32, second: i64| measured(partition, first_ms + second * 1_000, 7);
    let write = |rows: &[Row]| scene.kafka.write(&scene.reduced(), rows);
    let settled = || {
        let kafka = &scene.kafka;
        kafka.wait_settled(&scene.sla_group(), &scene.reduced(), SETTLED)
    };
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    write(&[row(0, 1), row(1, 2), row(0, 60), row(1, 60)])?;
    wait_watermark(&host, 0, first_ms + 60_000)?;
    wait_watermark(&host, 1, first_ms + 60_000)?;
    settled()?;
    ensure!(host.drain()? == 0);
    scene.kafka.add_partitions(&scene.reduced(), 3)?;
    write(&[row(2, 3), row(2, 61), row(0, 61), row(1, 61)])?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    settled()?;
    let dead = scene.kafka.read_all(&scene.sla_dead_letters())?;
    ensure!(
        codes(&dead) == [("latency-window.late", 1)].into(),
        "{:?}",
        codes(&dead)
    );
    ensure!(host.drain()? == 0);
    Ok(())
}
