//! `weir validate --online` through the command line, and a user who may not write.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_dev::host::{Command, Folder};

use super::{PASSWORD, Target, numbered};

/// This build keeps users in files only.
const LIMITED_USER: &str = "reader";
const ONLINE_SINK: &str = "online.sink";

/// May see the indices `checked-*`, and write to none. The hash, made by `elasticsearch-users`, is of [`PASSWORD`].
pub fn limited_user() -> Vec<(&'static str, String)> {
    let hash = "$2a$10$/bXz0aS4QRhJl0fAEgJqdeZW22hi1eR2CV81rUn8wUv.ThU3wcfUa";
    let role = json!({
        "cluster": ["monitor"],
        "indices": [{ "names": ["checked-*"], "privileges": ["read", "view_index_metadata"] }],
    });
    vec![
        ("users", format!("{LIMITED_USER}:{hash}\n")),
        ("users_roles", format!("looks:{LIMITED_USER}\n")),
        // JSON is YAML.
        ("roles.yml", json!({ "looks": role }).to_string()),
    ]
}

/// The sink on a topic that is there; answers the exit code and what was found.
fn validate(target: &Target, index: &str, changes: Value) -> Result<(i32, Vec<(String, String)>)> {
    let scene = &target.scene;
    let topology = json!({
        "version": 1,
        "plugins": ["./plugins.d"],
        "kafka": { "bootstrap.servers": scene.kafka.bootstrap() },
        "pipelines": { "checked": {
            "sources": { "rows": { "type": "kafka", "topics": [scene.visits()] } },
            "sinks": { "documents": {
                "type": "elasticsearch", "from": "rows", "config": target.config(index, changes),
            } },
        } },
    });
    let folder = Folder::with_topology(&topology.to_string())?;
    let arguments = ["validate", "--online", "--format", "json"];
    let ended = Command::new(&folder, &arguments).output()?;
    ensure!(!format!("{ended:?}").contains(PASSWORD), "{ended:?}");
    Ok((ended.code, ended.diagnostics()?))
}

pub fn validate_online_says_what_would_keep_documents_waiting(target: &Target) -> Result<()> {
    target.scene.create_visits()?;
    let plain = json!({ "properties": {} });
    target.index("checked-plain").create(&plain)?;
    for index in ["checked-one", "checked-two"] {
        target.index(index).create(&plain)?;
        target.put(&format!("{index}/_alias/checked-alias"), &json!({}))?;
    }
    let sound = validate(target, "checked-plain", json!({}))?;
    ensure!(sound == (0, vec![]), "{sound:?}");
    let away = "http://127.0.0.1:9";
    for (index, changes, expected) in [
        (
            "checked-plain",
            json!({ "password": "wrong" }),
            vec!["refuses the credentials (status 401)."],
        ),
        (
            "checked-plain",
            json!({ "username": LIMITED_USER, "tombstones": "delete" }),
            vec![
                "The credentials lack the privilege `index` on `checked-plain`.",
                "The credentials lack the privilege `delete` on `checked-plain`.",
            ],
        ),
        (
            "checked-alias",
            json!({}),
            vec!["The alias `checked-alias` has no write index"],
        ),
        // One of the nodes; the other is asked all the same.
        (
            "checked-alias",
            json!({ "urls": [away, target.server.url()] }),
            vec![
                "The node http://127.0.0.1:9 gives no answer: ",
                "The alias `checked-alias` has no write index",
            ],
        ),
    ] {
        let (code, found) = validate(target, index, changes)?;
        let mut both = found.iter().zip(&expected);
        let is_right = |((code, message), expected): (&(String, String), &&str)| {
            code == ONLINE_SINK && message.contains(*expected)
        };
        ensure!(
            code == 2 && found.len() == expected.len() && both.all(is_right),
            "{expected:?}: {code}, {found:?}"
        );
    }
    Ok(())
}

/// Case 20 with the server's own refusal.
pub fn a_missing_privilege_is_waited_for(target: &Target) -> Result<()> {
    let mut run = target.sink("checked-plain", json!({ "username": LIMITED_USER }))?;
    run.write(&numbered(3))?;
    run.wait_for_reason("security_exception")?;
    ensure!(run.ended.is_empty(), "{:?}", run.ended);
    Ok(())
}
