//! Offsets without records: what compaction removed, markers of transactions, and records that are not visible yet.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_dev::client::{Index, Row, wait_until};
use weir_dev::host::Command;
use weir_dev::judge::{Delivery, Report, StoredCase};
use weir_dev::scene::Scene;

use super::stage::*;

fn visit(n: i64, partition: i32) -> Row {
    let value = json!({ "visit_id": format!("v{n}"), "event_time": 1_717_200_000 + n });
    Row::keyed(format!("k{partition}-{}", n % 7), value.to_string()).on(partition)
}

fn visits(count: i64, partition: i32) -> Vec<Row> {
    (0..count).map(|n| visit(n, partition)).collect()
}

/// A pipeline beside the scene's two, which writes each visit as the document of its key.
struct Copies {
    pipeline: String,
    group: String,
    index: Index,
}

impl Copies {
    fn of(scene: &Scene) -> Copies {
        Copies {
            pipeline: scene.name("copies"),
            group: scene.name("copies_reader"),
            index: scene.index_named("copies"),
        }
    }

    fn add_to(&self, scene: &Scene, topology: &mut Value) {
        topology["pipelines"][&self.pipeline] = json!({
            "sources": { "visits": {
                "type": "kafka", "topics": [scene.visits()], "group": self.group,
            } },
            "sinks": { "copies": {
                "type": "elasticsearch", "from": "visits",
                "config": { "urls": [self.index.url()], "index": self.index.name() },
            } },
            "on_error": { "policy": "dead_letter" },
        });
    }

    fn judge(&self, scene: &Scene) -> Result<Report> {
        let (kafka, visits) = (&scene.kafka, scene.visits());
        kafka.wait_settled(&self.group, &visits, SETTLED)?;
        let documents = self.index.documents()?.into_values();
        let documents =
            documents.map(|found| (found.id, (found.version, found.source.to_string())));
        StoredCase {
            source: &kafka.read(&visits)?,
            documents: &documents.collect(),
            dead_letters: &kafka.read_all(&format!("{}.dlq", self.pipeline))?,
            pipeline: &self.pipeline,
            is_bad: &|_| false,
            delivery: Delivery::ExactlyOnce,
        }
        .judge()
        .into_result()
    }
}

/// I1, I2: an offset that holds no record is passed over. Compaction's gaps, control records and aborted records are
/// neither lost nor counted, and the lag ends at nothing although the last offset is a marker; through transforms and
/// straight into Elasticsearch.
#[test]
fn case_41_gaps_of_compaction_and_markers_are_no_records() -> Result<()> {
    let scene = Scene::shared("compacted")?;
    let config = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "500"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    scene.kafka.create_topic(&scene.visits(), 2, &config)?;
    scene.create_reduced()?;
    for _ in 0..3 {
        for partition in [0, 1] {
            scene
                .kafka
                .write(&scene.visits(), &visits(200, partition))?;
        }
    }
    let written = 3 * 2 * 200;
    wait_until("the cleaner", SETTLED, || {
        // A segment is closed by the next record after its time.
        let row = [visit(0, 0), visit(0, 1)];
        let wrote = scene.kafka.write(&scene.visits(), &row);
        wrote.map_err(|error| format!("{error:#}"))?;
        std::thread::sleep(Duration::from_millis(500));
        let kept = scene.kafka.count(&scene.visits());
        let kept = kept.map_err(|error| format!("{error:#}"))?;
        (kept < written / 2)
            .then_some(())
            .ok_or_else(|| format!("{kept} of {written}"))
    })?;
    // So that what is judged stands still.
    let still = [
        ("cleanup.policy", "compact"),
        ("min.compaction.lag.ms", "3600000"),
    ];
    scene.kafka.alter_topic(&scene.visits(), &still)?;
    for (end, commits) in [("aborted", false), ("committed", true), ("none", false)] {
        let name = scene.name(end);
        let transaction = scene.kafka.begin_transaction(&name)?;
        transaction.write(&scene.visits(), &visits(30, 0))?;
        match commits {
            true => transaction.commit()?,
            false => transaction.abort()?,
        }
    }
    let copies = Copies::of(&scene);
    let folder = scene.folder(|topology| copies.add_to(&scene, topology))?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    let mut sla = Command::run(&folder, &scene.sla()).start_ready()?;
    let mut copying = Command::run(&folder, &copies.pipeline).start_ready()?;
    scene.wait_reduced(SETTLED)?;
    scene.wait_measured(SETTLED)?;
    copies.judge(&scene)?;
    let readable = scene.kafka.count(&scene.visits())?;
    let report = scene.judge_reduced(Delivery::ExactlyOnce)?;
    ensure!(
        u64::try_from(report.counted("good rows"))? == readable,
        "{readable} readable: {report}"
    );
    scene.judge_windows()?;
    for host in [&reduce, &sla, &copying] {
        wait_sum(host, "weir_source_lag_records", 0.0)?;
        wait_sum(host, "weir_source_lost_records_total", 0.0)?;
    }
    for host in [&reduce, &copying] {
        #[allow(clippy::cast_precision_loss)]
        let metrics = host.wait_balanced(readable as f64)?;
        let read = metrics.sum("weir_source_records_total", &[]);
        #[allow(clippy::cast_precision_loss)]
        let is_exact = (read - readable as f64).abs() < f64::EPSILON;
        ensure!(is_exact, "{read} read, {readable} readable");
    }
    for host in [&mut reduce, &mut sla, &mut copying] {
        ensure!(host.drain()? == 0);
    }
    Ok(())
}

/// An open transaction of somebody else hides what stands behind it: that is lag, nothing is committed past it, and the
/// other partition goes on. Committed, everything comes; aborted, only what was not in it.
#[test]
fn an_open_transaction_holds_the_offset_and_the_lag() -> Result<()> {
    let scene = Scene::shared("held")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    let mut behind = 0;
    for commits in [true, false] {
        let transaction = scene.kafka.begin_transaction(&scene.name("foreign"))?;
        transaction.write(&scene.visits(), &visits(50, 0))?;
        for partition in [0, 1] {
            scene
                .kafka
                .write(&scene.visits(), &visits(100, partition))?;
        }
        let ends = scene.kafka.ends(&scene.visits())?;
        let end = *ends.get(&1).context("partition 1")?;
        wait_until("partition 1 to be committed", SETTLED, || {
            let committed = scene
                .kafka
                .committed(&scene.reduce_group(), &scene.visits());
            let committed = committed.map_err(|error| format!("{error:#}"))?;
            (committed.get(&1) == Some(&end))
                .then_some(())
                .ok_or_else(|| format!("{committed:?}"))
        })?;
        wait_sum(&host, "weir_source_lag_records", 150.0)?;
        let committed = scene
            .kafka
            .committed(&scene.reduce_group(), &scene.visits())?;
        let held = committed.get(&0).copied().unwrap_or(0);
        ensure!(held <= behind, "committed {held}, stable to {behind}");
        match commits {
            true => transaction.commit()?,
            false => transaction.abort()?,
        }
        scene.wait_reduced(SETTLED)?;
        wait_sum(&host, "weir_source_lag_records", 0.0)?;
        behind = *scene
            .kafka
            .ends(&scene.visits())?
            .get(&0)
            .context("partition 0")?;
    }
    let report = scene.judge_reduced(Delivery::ExactlyOnce)?;
    ensure!(report.counted("good rows") == 2 * 200 + 50, "{report}");
    ensure!(host.drain()? == 0);
    Ok(())
}

/// What an open transaction hides is not late when it shows: its partition's watermark has waited, because its end was
/// not reached, for longer than any window takes late records.
#[test]
fn an_open_transaction_holds_the_watermark() -> Result<()> {
    let scene = Scene::shared("hidden")?;
    scene.create_reduced()?;
    let folder = folder(
        &scene,
        &Rules {
            idle_grace: "1s",
            allowed_lateness: "5s",
        },
    )?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    let transaction = scene.kafka.begin_transaction(&scene.name("foreign"))?;
    let rows = |partition: i32| -> Vec<Row> {
        (0..20).map(|n| measured(partition, now_ms(), n)).collect()
    };
    transaction.write(&scene.reduced(), &rows(0))?;
    let written_ms = now_ms();
    scene.kafka.write(&scene.reduced(), &rows(0))?;
    scene.kafka.write(&scene.reduced(), &rows(1))?;
    // By its own time partition 1 could close, and forget, the windows of all of them.
    wait_watermark(&host, 1, written_ms + 2 * WINDOW_MS + 5_000)?;
    ensure!(
        scene.index().documents()?.is_empty(),
        "a window closed without the hidden records"
    );
    transaction.commit()?;
    scene.wait_measured(SETTLED)?;
    let dead = scene.kafka.read_all(&scene.sla_dead_letters())?;
    ensure!(dead.is_empty(), "{:?}", codes(&dead));
    let report = scene.judge_windows()?;
    ensure!(report.counted("records in windows") == 60, "{report}");
    ensure!(host.drain()? == 0);
    Ok(())
}
