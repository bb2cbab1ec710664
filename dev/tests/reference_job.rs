//! The reference job end to end on real servers, judged from the topics and documents themselves.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_dev::client::{Index, Kafka, Row, wait_until};
use weir_dev::host::{Command, Folder};
use weir_dev::judge::{Delivery, ReduceCase, WindowRules};
use weir_dev::scene::{
    Scene, judge_windows, sample_rows, shared_elasticsearch, shared_kafka, wait_documents,
};

/// Thousands of rows take seconds; a debug build beside another build has taken far longer.
const SETTLED: Duration = Duration::from_secs(120);

#[test]
fn the_whole_sample_goes_through_both_pipelines() -> Result<()> {
    let scene = Scene::shared("sample")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    let mut sla = Command::run(&folder, &scene.sla()).start_ready()?;
    scene.kafka.write(&scene.visits(), &sample_rows()?)?;
    scene.wait_reduced(SETTLED)?;
    scene.wait_measured(SETTLED)?;

    let report = scene.judge_reduced(Delivery::ExactlyOnce)?;
    ensure!(report.counted("good rows") == 4_852, "{report}");
    ensure!(report.counted("bad rows") == 148, "{report}");
    let report = scene.judge_windows()?;
    ensure!(report.counted("records in windows") == 4_852, "{report}");

    let metrics = reduce.wait_balanced(5_000.0)?;
    let settled = |outcome| metrics.sum("weir_records_settled_total", &[("outcome", outcome)]);
    ensure!(
        settled("delivered") == 4_852.0 && settled("dead_lettered") == 148.0,
        "{metrics:?}"
    );
    ensure!(reduce.get("/healthz")?.0 == 200 && reduce.get("/readyz")?.0 == 200);
    ensure!(sla.get("/readyz")?.0 == 200, "{:?}", sla.get("/readyz"));
    let ends = scene.kafka.ends(&scene.visits())?;
    ensure!(
        scene
            .kafka
            .committed(&scene.reduce_group(), &scene.visits())?
            == ends
    );
    ensure!(reduce.drain()? == 0, "reduce-visits did not drain");
    ensure!(sla.drain()? == 0, "visits-sla did not drain");
    Ok(())
}

/// The repository's own topology with its one-minute windows, under the supervisor.
#[test]
fn the_topology_of_the_repository_runs_under_up() -> Result<()> {
    let (bootstrap, url) = (shared_kafka()?, shared_elasticsearch()?);
    let kafka = Kafka::at(&bootstrap);
    let topology = Path::new(env!("CARGO_MANIFEST_DIR")).join("../connectors.yaml");
    let folder = Folder::with_topology(&fs::read_to_string(topology)?)?;
    kafka.create_topic("visits", 2, &[])?;
    kafka.create_topic(
        "reduced_visits",
        2,
        &[("message.timestamp.type", "LogAppendTime")],
    )?;
    let mut up = Command::new(&folder, &["up"])
        .env("KAFKA_BOOTSTRAP", &bootstrap)
        .env("ELASTICSEARCH_URL", &url)
        .start()?;
    kafka.write("visits", &sample_rows()?)?;
    kafka.wait_settled("visits_reader", "visits", SETTLED)?;
    kafka.wait_settled("latency_monitor", "reduced_visits", SETTLED)?;
    let index = Index::at(&url, "visits_sync_sla");
    wait_documents(&kafka, "reduced_visits", "visits-sla.dlq", &index, SETTLED)?;

    let reduced = kafka.read("reduced_visits")?;
    let case = ReduceCase {
        source: &kafka.read("visits")?,
        reduced: &reduced,
        dead_letters: &kafka.read_all("reduce-visits.dlq")?,
        pipeline: "reduce-visits",
        plugin: "reduce-visit",
        delivery: Delivery::ExactlyOnce,
    };
    let report = case.judge().into_result()?;
    ensure!(report.counted("good rows") == 4_852, "{report}");
    let documents = index.documents()?;
    let report = judge_windows(&reduced, &documents, &WindowRules::of_size_s(60))?;
    ensure!(report.counted("records in windows") == 4_852, "{report}");
    ensure!(up.try_exit()?.is_none(), "up has ended");
    ensure!(up.drain()? == 0, "up did not drain");
    Ok(())
}

#[test]
fn a_delay_of_10_s_shows_as_10_s_and_no_delay_as_almost_none() -> Result<()> {
    let p90s = |delay: &str, rows: &[Row]| -> Result<Vec<f64>> {
        let scene = Scene::shared(&format!("delay{delay}"))?;
        scene.create_visits()?;
        scene.create_reduced()?;
        let folder = scene.folder(|topology| {
            let reduce = scene.reduce_in(topology);
            reduce["transforms"]["reduced"]["config"] = json!({ "processing_delay": delay });
        })?;
        let _reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
        let _sla = Command::run(&folder, &scene.sla()).start_ready()?;
        scene.kafka.write(&scene.visits(), rows)?;
        scene.wait_reduced(SETTLED)?;
        scene.wait_measured(SETTLED)?;
        scene.judge_reduced(Delivery::ExactlyOnce)?;
        scene.judge_windows()?;
        let documents = scene.index().documents()?;
        documents
            .values()
            .map(|d| d.source["p90"].as_f64().context("p90 is no number"))
            .collect()
    };
    let sample = sample_rows()?;
    // The first lines of the sample are good rows: 10 s each.
    let slow = p90s("10s", sample.get(..4).context("four rows")?)?;
    ensure!(slow.len() >= 4, "records left in a lump: {slow:?}");
    ensure!(
        slow.iter().all(|p90| (10_000.0..=11_000.0).contains(p90)),
        "{slow:?}"
    );
    let fast = p90s("0s", sample.get(..100).context("a hundred rows")?)?;
    ensure!(
        !fast.is_empty() && fast.iter().all(|&p90| p90 < 500.0),
        "{fast:?}"
    );
    Ok(())
}

#[test]
fn two_hosts_share_the_work_of_one_group() -> Result<()> {
    let scene = Scene::shared("share")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let sample = sample_rows()?;
    let (first, rest) = sample.split_at_checked(2_500).context("5,000 rows")?;
    let mut one = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.kafka.write(&scene.visits(), first)?;
    let mut two = Command::run(&folder, &scene.reduce()).start_ready()?;
    wait_until("two members", SETTLED, || {
        match scene.kafka.group(&scene.reduce_group()) {
            Ok((2, state)) if state == "Stable" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    scene.kafka.write(&scene.visits(), rest)?;
    scene.wait_reduced(SETTLED)?;
    // Records were in flight when the second host came: handing over must neither lose nor double.
    let report = scene.judge_reduced(Delivery::ExactlyOnce)?;
    ensure!(report.counted("good rows") == 4_852, "{report}");
    for host in [&one, &two] {
        let read = host.metrics()?.sum("weir_source_records_total", &[]);
        ensure!(read > 0.0, "a host has read nothing");
    }
    ensure!(one.drain()? == 0);
    ensure!(two.drain()? == 0);
    Ok(())
}

#[test]
fn two_tasks_in_one_host_keep_the_order_of_keys() -> Result<()> {
    let scene = Scene::shared("tasks")?;
    scene.create_visits()?;
    let folder = scene.folder(|topology| scene.reduce_in(topology)["tasks"] = json!(2))?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    let rows: Vec<Row> = (0..20_000)
        .map(|i| {
            let value = format!(r#"{{"visit_id":"v{i}","event_time":{i}}}"#);
            Row::keyed(format!("key{}", i % 50), value)
        })
        .collect();
    scene.kafka.write(&scene.visits(), &rows)?;
    scene.wait_reduced(SETTLED)?;
    // The judge checks the order of each key. The pipeline has made its own topic here.
    let report = scene.judge_reduced(Delivery::ExactlyOnce)?;
    ensure!(report.counted("good rows") == 20_000, "{report}");
    ensure!(scene.kafka.partitions(&scene.reduced())?.len() == 2);
    ensure!(host.drain()? == 0);
    Ok(())
}

/// Nothing has to follow a window for it to close.
#[test]
fn windows_close_without_traffic_and_go_on_with_it() -> Result<()> {
    let scene = Scene::shared("windows")?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let mut sla = Command::run(&folder, &scene.sla()).start_ready()?;
    let mut records = 0;
    // The last round leaves one partition silent: it is read to its end and holds nothing up.
    for partitions in [2, 2, 1] {
        let rows: Vec<Row> = (0..40)
            .map(|i| latency_row(i * 7 % 23).on(i32::from(i % partitions)))
            .collect();
        records += rows.len();
        scene.kafka.write(&scene.reduced(), &rows)?;
        scene.wait_measured(SETTLED)?;
        let report = scene.judge_windows()?;
        ensure!(report.counted("records in windows") == records, "{report}");
    }
    ensure!(sla.drain()? == 0);
    Ok(())
}

/// A reduced record whose processing started `ago_ms` before now.
fn latency_row(ago_ms: u16) -> Row {
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_millis());
    let start_ms = now_ms.saturating_sub(u128::from(ago_ms));
    Row::value(format!(r#"{{"start_processing_time_unix_ms":{start_ms}}}"#))
}
