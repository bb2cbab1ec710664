//! `weir validate --online` through the command line: the exit code, and one sentence for each thing that is wrong.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_dev::host::Command;
use weir_dev::scene::StoreScene;
use weir_document_store::Authentication;

use super::stage::*;

const PASSWORD: &str = "a-test-password";

/// Checks the scene's file with these changes of the sink's settings.
fn expect(scene: &StoreScene, changes: Value, expected: &[&str]) -> Result<()> {
    let folder = scene.folder(|topology, pipeline| {
        let sink = &mut topology["pipelines"][pipeline]["sinks"]["documents"];
        for (name, value) in changes.as_object().into_iter().flatten() {
            sink["config"][name] = value.clone();
        }
    })?;
    let arguments = ["validate", "--online", "--format", "json"];
    let ended = Command::new(&folder, &arguments).output()?;
    let found = ended.diagnostics()?;
    let mut both = found.iter().zip(expected);
    let is_right =
        both.all(|((code, message), expected)| code == "online.sink" && message.contains(expected));
    let wanted_code = if expected.is_empty() { 0 } else { 2 };
    ensure!(
        ended.code == wanted_code && found.len() == expected.len() && is_right,
        "{changes}: {expected:?}: {ended:?}"
    );
    ensure!(!format!("{ended:?}").contains(PASSWORD), "{ended:?}");
    Ok(())
}

#[test]
fn validate_online_names_what_would_keep_documents_waiting() -> Result<()> {
    let scene = StoreScene::shared("online")?;
    scene.kafka.create_topic(&scene.rows(), PARTITIONS, &[])?;
    scene.store.put_alias("nowhere", None);
    scene.store.create_index(&scene.index());
    expect(&scene, json!({}), &[])?;
    expect(
        &scene,
        json!({ "index": "nowhere" }),
        &["The alias `nowhere` has no write index"],
    )?;
    let away = "http://127.0.0.1:9";
    expect(
        &scene,
        json!({ "urls": [away] }),
        &["The node http://127.0.0.1:9 gives no answer: "],
    )?;
    let held = json!({ "index": { scene.index(): { "index": false } } });
    let path = "/_security/user/_has_privileges";
    scene.store.faults().set_answer(path, 200, held);
    expect(
        &scene,
        json!({}),
        &["The credentials lack the privilege `index` on "],
    )?;
    scene.store.faults().clear();

    scene.store.set_authentication(Authentication::Basic {
        username: "writer".to_owned(),
        password: "another".to_owned(),
    });
    let credentials = json!({ "username": "writer", "password": PASSWORD });
    expect(
        &scene,
        credentials.clone(),
        &["refuses the credentials (status 401)."],
    )?;
    scene.store.set_authentication(Authentication::Basic {
        username: "writer".to_owned(),
        password: PASSWORD.to_owned(),
    });
    expect(&scene, credentials, &[])
}
