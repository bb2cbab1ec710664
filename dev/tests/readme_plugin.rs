//! The plugin of the README on a real Kafka: built outside of the repository, dropped into a plugin folder, named in
//! the YAML, and running in the host that was there before.

#[path = "../../host/tests/fixtures/cargo_build.rs"]
mod cargo_build;
#[path = "../../host/tests/fixtures/mask_plugin.rs"]
mod mask_plugin;

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_dev::client::Row;
use weir_dev::host::Command;
use weir_dev::scene::{Scene, shared_kafka};

const SETTLED: Duration = Duration::from_secs(60);

#[test]
fn a_dropped_in_plugin_works_on_a_real_kafka() -> Result<()> {
    // No Elasticsearch takes part.
    let scene = Scene::on("mask", &shared_kafka()?, "http://127.0.0.1:9");
    let (pipeline, visits, masked) = (
        scene.name("masked-visits"),
        scene.visits(),
        scene.name("masked"),
    );
    let group = scene.name("masker");
    let folder = scene.folder(|topology| {
        topology["pipelines"] = json!({ pipeline.as_str(): {
            "sources": { "visits": { "type": "kafka", "topics": [visits], "group": group } },
            "transforms": {
                "masked": { "type": "mask", "from": "visits", "config": { "fields": ["user_id"] } },
            },
            "sinks": { "masked_visits": { "type": "kafka", "from": "masked", "topic": masked } },
            "on_error": { "policy": "dead_letter" },
        } });
    })?;
    let before = Command::new(&folder, &["validate"]).output()?;
    ensure!(
        before.code == 2 && before.stderr.contains("plugin.missing"),
        "{before:?}"
    );
    fs::copy(
        &*mask_plugin::LIBRARY,
        folder.path().join("plugins.d/libmask_plugin.so"),
    )?;

    scene.create_visits()?;
    let rows = [
        Row::keyed("a", r#"{"visit_id":"1","user_id":17}"#),
        Row::keyed("a", "no JSON"),
        Row::keyed("a", r#"{"visit_id":"2"}"#),
    ];
    scene.kafka.write(&visits, &rows)?;
    let mut host = Command::run(&folder, &pipeline).start_ready()?;
    scene.kafka.wait_settled(&group, &visits, SETTLED)?;
    ensure!(host.drain()? == 0, "it drains");

    let values = |topic: &str| -> Result<Vec<Option<Vec<u8>>>> {
        let records = scene.kafka.read_all(topic)?;
        Ok(records.into_iter().map(|record| record.value).collect())
    };
    let expected = [r#"{"user_id":"***","visit_id":"1"}"#, r#"{"visit_id":"2"}"#];
    let expected = expected.map(|value| Some(value.as_bytes().to_vec()));
    ensure!(values(&masked)? == expected, "{:?}", values(&masked)?);
    let refused = values(&format!("{pipeline}.dlq"))?;
    ensure!(refused == [Some(b"no JSON".to_vec())], "{refused:?}");
    Ok(())
}
