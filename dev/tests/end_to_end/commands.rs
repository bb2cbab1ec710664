//! Exit codes of the command line and the answers of a host over HTTP.

use std::net::TcpListener;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_dev::host::{Command, Folder};
use weir_dev::scene::Scene;

/// A scene that no server is needed for.
fn offline(test: &str) -> Scene {
    Scene::on(test, "127.0.0.1:9", "http://127.0.0.1:9")
}

#[test]
fn refusals_exit_with_2_before_anything_starts() -> Result<()> {
    let scene = offline("refuse");
    let folder = scene.folder(|_| {})?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?.to_string();
    let cases: [&[&str]; 5] = [
        &["run", "no-such-pipeline"],
        // Two pipelines: which one?
        &["run"],
        &["no-such-command"],
        &["run", &scene.reduce(), "--no-such-option"],
        &["run", &scene.reduce(), "--http", &taken],
    ];
    for arguments in cases {
        let ended = Command::new(&folder, arguments).output()?;
        ensure!(
            ended.code == 2,
            "{arguments:?} gave {}: {}",
            ended.code,
            ended.stderr
        );
        ensure!(
            !ended.stderr.is_empty() && ended.stdout.is_empty(),
            "{arguments:?}: {ended:?}"
        );
    }
    Ok(())
}

#[test]
fn a_wrong_topology_exits_with_2_and_says_where() -> Result<()> {
    let scene = offline("wrong");
    let folder = scene.folder(|topology| {
        scene.reduce_in(topology)["sinks"]["reduced_visits"]["topc"] = json!("x");
        scene.sla_in(topology)["transforms"]["latency"]["config"]["size"] = json!("1 fortnight");
    })?;
    for arguments in [
        vec!["run".to_owned(), scene.reduce()],
        vec!["validate".to_owned()],
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ended = Command::new(&folder, &arguments).output()?;
        ensure!(
            ended.code == 2,
            "{arguments:?} gave {}: {}",
            ended.code,
            ended.stderr
        );
        let said = ended.stderr + &ended.stdout;
        ensure!(
            said.contains("topc") && said.contains("connectors.yaml:"),
            "{said}"
        );
    }
    let ended = Command::new(&folder, &["validate", "--format", "json"]).output()?;
    let found: Value = serde_json::from_str(&ended.stdout)?;
    let errors = found.as_array().map_or(0, Vec::len);
    ensure!(ended.code == 2 && errors >= 2, "{found}");
    for error in found.as_array().into_iter().flatten() {
        for key in [
            "code", "severity", "file", "line", "column", "path", "message", "help",
        ] {
            ensure!(error.get(key).is_some(), "no {key} in {error}");
        }
    }
    Ok(())
}

#[test]
fn a_right_topology_is_valid_and_drawn() -> Result<()> {
    let scene = offline("valid");
    let folder = scene.folder(|_| {})?;
    ensure!(Command::new(&folder, &["validate"]).output()?.code == 0);
    let json = Command::new(&folder, &["validate", "--format", "json"]).output()?;
    ensure!(
        serde_json::from_str::<Value>(&json.stdout)? == json!([]),
        "{json:?}"
    );
    for format in ["mermaid", "dot"] {
        let graph = Command::new(&folder, &["graph", "--format", format]).output()?;
        ensure!(
            graph.code == 0 && graph.stdout.contains("latency"),
            "{graph:?}"
        );
    }
    Ok(())
}

#[test]
fn the_plugins_are_listed_with_their_schemas() -> Result<()> {
    let folder = offline("plugins").folder(|_| {})?;
    let list = Command::new(&folder, &["plugins", "--format", "json"]).output()?;
    ensure!(list.code == 0, "{list:?}");
    for name in ["reduce-visit", "latency-window", "elasticsearch"] {
        ensure!(
            list.stdout.contains(name),
            "{name} is not listed: {}",
            list.stdout
        );
        let schema = Command::new(&folder, &["plugins", name, "--schema"]).output()?;
        ensure!(schema.code == 0, "{schema:?}");
        ensure!(
            serde_json::from_str::<Value>(&schema.stdout)?.is_object(),
            "{schema:?}"
        );
    }
    Ok(())
}

/// The files that the README shows.
#[test]
fn the_example_topologies_are_valid() -> Result<()> {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/two-stages.yaml");
    let yaml = std::fs::read_to_string(examples)?;
    let folder = Folder::with_topology(&yaml.replace("../plugins.d", "./plugins.d"))?;
    let ended = Command::new(&folder, &["validate"]).output()?;
    ensure!(ended.code == 0, "{ended:?}");
    Ok(())
}

#[test]
fn a_missing_file_exits_with_2() -> Result<()> {
    let folder = Folder::with_topology("")?;
    std::fs::remove_file(folder.topology())?;
    let ended = Command::new(&folder, &["validate"]).output()?;
    ensure!(
        ended.code == 2 && ended.stderr.contains("connectors.yaml"),
        "{ended:?}"
    );
    Ok(())
}

#[test]
fn a_host_that_waits_for_kafka_drains_at_once() -> Result<()> {
    let scene = offline("alone");
    let folder = scene.folder(|_| {})?;
    let mut host = Command::run(&folder, &scene.reduce()).start()?;
    let address = "127.0.0.1:9";
    let said = host.log.wait_for(std::time::Duration::from_secs(60), |l| {
        l.contains(address).then_some(())
    });
    ensure!(
        said.is_some(),
        "no line names {address}:\n{}",
        host.log.tail(40)
    );
    ensure!(host.drain()? == 0);
    Ok(())
}

#[test]
fn validate_online_says_that_kafka_is_away() -> Result<()> {
    let scene = offline("online");
    let folder = scene.folder(|_| {})?;
    let ended = Command::new(&folder, &["validate", "--online"]).output()?;
    ensure!(
        ended.code == 2 && ended.stderr.contains("online.kafka"),
        "{ended:?}"
    );
    ensure!(ended.stderr.contains("127.0.0.1:9"), "{ended:?}");
    Ok(())
}

#[test]
fn validate_online_warns_of_a_missing_source_topic() -> Result<()> {
    let scene = Scene::shared("online-topics")?;
    scene.create_visits()?;
    let folder = scene.folder(|_| {})?;
    let ended = Command::new(&folder, &["validate", "--online"]).output()?;
    ensure!(
        ended.code == 0 && ended.stderr.contains("online.topic"),
        "{ended:?}"
    );
    // The visits are there, the reduced ones not yet.
    let missing = format!("The source topic `{}` does not exist.", scene.reduced());
    ensure!(ended.stderr.contains(&missing), "{ended:?}");
    ensure!(
        !ended
            .stderr
            .contains(&format!("`{}` does not", scene.visits())),
        "{ended:?}"
    );
    Ok(())
}
