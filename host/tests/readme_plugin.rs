//! The plugin of the README, as a stranger builds it: in a folder outside of the repository, against the API and SDK
//! crates alone, for a host that is not built again.

#[path = "fixtures/cargo_build.rs"]
mod cargo_build;
#[path = "fixtures/mask_plugin.rs"]
mod mask_plugin;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use cargo_build::workspace_dir;
use mask_plugin::{LIBRARY, copy_elsewhere, example_dir, read};

/// The README's code blocks of this language.
fn blocks(readme: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    let blocks = readme.split(&opening).skip(1);
    blocks
        .filter_map(|rest| rest.split_once("```"))
        .map(|(block, _)| block.to_owned())
        .collect()
}

#[test]
fn the_readme_shows_the_files_of_the_example() {
    let readme = read(&workspace_dir().join("README.md"));
    for (language, file) in [("rust", "src/lib.rs"), ("toml", "Cargo.toml")] {
        let text = read(&example_dir().join(file));
        assert!(
            blocks(&readme, language).contains(&text),
            "README.md has no block `{language}` that is examples/mask-plugin/{file}"
        );
    }
}

#[test]
fn the_plugin_is_at_most_30_lines() {
    let lines = read(&example_dir().join("src/lib.rs")).lines().count();
    assert!(lines <= 30, "{lines} lines");
}

/// A copy with the library where the plugin's own `cargo build` leaves it.
fn built_elsewhere() -> TempDir {
    let elsewhere = copy_elsewhere();
    let folder = elsewhere.path().join("target/debug");
    fs::create_dir_all(&folder).expect("a folder");
    fs::copy(&*LIBRARY, folder.join("libmask_plugin.so")).expect("the library");
    elsewhere
}

fn weir(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .output()
        .expect("weir runs")
}

fn answer(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{stdout}{stderr}")
}

#[test]
fn the_plugin_is_listed_with_the_schema_of_its_struct() {
    let elsewhere = built_elsewhere();
    let arguments = ["plugins", "mask", "--schema", "-f", "golden/pipeline.yaml"];
    let listed = weir(elsewhere.path(), &arguments);
    let shown = answer(&listed);
    assert_eq!(listed.status.code(), Some(0), "{shown}");
    for part in ["\"type\": \"object\"", "Names of the fields"] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}

#[test]
fn the_plugin_runs_without_a_rebuild_of_the_host() {
    let elsewhere = built_elsewhere();
    let tested = weir(elsewhere.path(), &["test", "golden"]);
    let shown = answer(&tested);
    assert_eq!(tested.status.code(), Some(0), "{shown}");
    assert!(shown.contains("1 passed, 0 failed"), "{shown}");
}

#[test]
fn a_mistake_in_its_configuration_is_shown_as_in_the_readme() {
    let elsewhere = built_elsewhere();
    let file = elsewhere.path().join("golden/pipeline.yaml");
    let misspelt = read(&file).replace("fields: [user_id, email]", "feilds: [user_id]");
    fs::write(&file, misspelt).expect("pipeline.yaml");
    let tested = weir(elsewhere.path(), &["test", "golden"]);
    let shown = answer(&tested);
    assert_eq!(tested.status.code(), Some(2), "{shown}");
    let readme = read(&workspace_dir().join("README.md"));
    let block = blocks(&readme, "text")
        .into_iter()
        .find(|block| block.starts_with("error["))
        .expect("the README shows a diagnostic");
    assert!(shown.contains(&block), "not\n{block}\nbut\n{shown}");
}
