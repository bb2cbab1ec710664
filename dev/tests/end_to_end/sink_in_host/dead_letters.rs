//! The broker of the dead letters is away, and nothing else is.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_dev::client::{Row, wait_until};
use weir_dev::host::Command;
use weir_dev::judge::Delivery;
use weir_dev::proxy::{Path, Proxy};
use weir_dev::scene::StoreScene;
use weir_dev::servers::KafkaServer;
use weir_document_store::Settings;

use super::stage::*;

const ROWS: usize = 500;

/// Reads and commits go straight to Kafka; what is produced, which here is dead letters alone, takes the proxy.
fn held_by_its_dead_letter(kafka: &KafkaServer, proxy: &Proxy, delivery: &str) -> Result<()> {
    let settings = Settings::default();
    let scene = StoreScene::on(
        &format!("unburied-{delivery}"),
        &kafka.bootstrap(),
        settings,
    )?;
    scene.kafka.create_topic(&scene.rows(), PARTITIONS, &[])?;
    let folder = scene.folder(|topology, pipeline| {
        topology["pipelines"][pipeline]["delivery"] = json!(delivery);
        let detour = format!("127.0.0.1:{}", proxy.port());
        topology["kafka"]["producer"] =
            json!({ "bootstrap.servers": detour, "reconnect.backoff.max.ms": 500 });
    })?;
    let mut host = Command::run(&folder, &scene.pipeline()).start_ready()?;
    let first: Vec<Row> = (0..ROWS).map(|n| row(n, 4 * ROWS).on(0)).collect();
    scene.kafka.write(&scene.rows(), &first)?;
    scene.wait_settled(SETTLED)?;
    proxy.set(Path::Cut);
    let mut more = vec![no_object("bad").on(0)];
    more.extend((ROWS..3 * ROWS).map(|n| row(n, 4 * ROWS).on(i32::from(n >= 2 * ROWS))));
    scene.kafka.write(&scene.rows(), &more)?;
    let held_at = i64::try_from(ROWS)?;
    let committed = || scene.kafka.committed(&scene.group(), &scene.rows());
    if delivery == AT_LEAST_ONCE {
        wait_until("all good rows", SETTLED, || {
            let (documents, committed) = (scene.documents().len(), committed());
            let committed = committed.map_err(|error| format!("{error:#}"))?;
            let other = committed.get(&1).copied();
            match (documents, other) == (3 * ROWS, Some(held_at)) {
                true => Ok(()),
                false => Err(format!("{documents} documents, {committed:?}")),
            }
        })?;
    }
    host.wait_event("kafka_unreachable", SETTLED)?;
    // The connection may be missed before the rows are read.
    wait_until("the bad row without a verdict", SETTLED, || {
        let metrics = host.metrics().map_err(|error| format!("{error:#}"))?;
        let outcome = [("outcome", "dead_lettered")];
        let settled = metrics.sum("weir_records_settled_total", &outcome);
        let pending = metrics.sum("weir_records_pending", &[]);
        match settled == 0.0 && pending >= 1.0 {
            true => Ok(()),
            false => Err(format!("{settled} settled, {pending} pending")),
        }
    })?;
    let held = committed()?;
    ensure!(
        held.get(&0) == Some(&held_at),
        "{held:?} was committed without the dead letter"
    );
    proxy.set(Path::Open);
    scene
        .wait_settled(SETTLED)
        .with_context(|| host.log.tail(40))?;
    let report = scene.judge(&is_bad, Delivery::ExactlyOnce)?;
    ensure!(report.counted("documents") == 3 * ROWS, "{report}");
    host.wait_event("kafka_back", Duration::from_secs(30))?;
    host.wait_balanced((3 * ROWS + 1) as f64)?;
    ensure!(host.drain()? == 0);
    Ok(())
}

/// I1, I2: the record whose dead letter cannot be written holds its partition's commit, and is not dropped. At least once
/// the others are stored, and the other partition is committed, meanwhile; `a_full_ledger_ends_the_reading` in
/// `host/src/flow/tests` has the limit at which they stop. Exactly once nothing goes on past the cut.
#[test]
fn case_35_a_dead_letter_that_cannot_be_written_holds_the_commit() -> Result<()> {
    let (kafka, proxy) = KafkaServer::start_behind_proxy()?;
    for delivery in [AT_LEAST_ONCE, EXACTLY_ONCE] {
        held_by_its_dead_letter(&kafka, &proxy, delivery).context(delivery)?;
    }
    Ok(())
}
