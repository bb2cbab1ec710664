//! What README.md and ARCHITECTURE.md say about the source, compared with the source.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Every Rust file below a folder of the repository, with its path from the root.
fn sources(folder: &str) -> Vec<(String, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("below the root");
                found.push((name.display().to_string(), read(&path)));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} holds no source");
    found
}

/// The part of a file before its tests, without comments.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next());
    lines.flatten().collect::<Vec<_>>().join("\n")
}

/// What stands between backticks in the running text; fenced blocks are left out.
fn quoted(page: &str) -> Vec<&str> {
    let prose = page.split("```").step_by(2);
    let inline = prose.flat_map(|part| part.split('`').skip(1).step_by(2));
    inline.collect()
}

#[test]
fn every_file_that_the_architecture_names_is_there() {
    let page = read(&root().join("ARCHITECTURE.md"));
    let sources: Vec<String> = ["host", "plugins", "demo", "dev"]
        .iter()
        .flat_map(|folder| sources(folder))
        .map(|(name, _)| name)
        .collect();
    let files = quoted(&page)
        .into_iter()
        .filter(|text| text.ends_with(".rs"));
    let missing: Vec<&str> = files
        .filter(|file| {
            !sources
                .iter()
                .any(|name| format!("/{name}").ends_with(&format!("/{file}")))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_function_that_the_architecture_names_is_there() {
    let page = read(&root().join("ARCHITECTURE.md"));
    let sources: Vec<(String, String)> = ["host/src", "plugins"]
        .iter()
        .flat_map(|folder| sources(folder))
        .collect();
    let is_there = |named: &(&str, &str)| {
        let (owner, item) = named;
        let declarations = [
            format!("fn {item}("),
            format!("fn {item}<"),
            format!("    {item} {{"),
            format!("    {item}("),
        ];
        sources.iter().any(|(_, text)| {
            text.contains(owner)
                && declarations
                    .iter()
                    .any(|declaration| text.contains(declaration))
        })
    };
    let named: Vec<(&str, &str)> = quoted(&page)
        .into_iter()
        .filter_map(|text| text.split_once("::"))
        .collect();
    assert!(named.len() > 20, "the page names functions");
    let missing: Vec<&(&str, &str)> = named.iter().filter(|named| !is_there(named)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_link_of_the_pages_leads_to_a_file() {
    let pages = [
        "README.md",
        "ARCHITECTURE.md",
        "dev/README.md",
        "docker/README.md",
    ];
    let mut pages: Vec<PathBuf> = pages.iter().map(|page| root().join(page)).collect();
    let docs = fs::read_dir(root().join("docs")).expect("docs");
    pages.extend(docs.map(|page| page.expect("a page").path()));
    for page in pages {
        let text = read(&page);
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("http")) {
            let file = target.split('#').next().unwrap_or_default();
            let folder = page.parent().expect("a folder");
            let exists = file.is_empty() || folder.join(file).exists();
            assert!(exists, "{} links to {target}", page.display());
        }
    }
}

#[test]
fn unsafe_stands_only_where_the_architecture_says() {
    let allowed = [
        "plugins/api/src/",
        "plugins/sdk/src/shim/",
        "plugins/sdk/src/export.rs",
        "host/src/plugin/load.rs",
        "host/src/kafka/partition_queue.rs",
        "host/src/kafka/produce_batch.rs",
    ];
    for folder in ["host/src", "plugins", "demo", "dev/src", "examples"] {
        for (name, text) in sources(folder) {
            let is_allowed = allowed.iter().any(|place| name.starts_with(place));
            let has_unsafe = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|form| code(&text).contains(form));
            assert!(is_allowed || !has_unsafe, "{name}");
        }
    }
}

/// No file of the folders holds any of the words outside of its tests.
fn assert_absent(folders: &[&str], words: &[&str]) {
    for folder in folders {
        for (name, text) in sources(folder) {
            let code = code(&text);
            let found = words.iter().find(|word| code.contains(**word));
            assert!(found.is_none(), "{name} holds {found:?}");
        }
    }
}

#[test]
fn what_is_absent_on_purpose_is_absent() {
    // The host names no plugin.
    assert_absent(
        &["host/src"],
        &["reduce-visit", "latency-window", "elasticsearch"],
    );
    // It parses no payload, and its data path holds no async code.
    assert_absent(
        &["host/src/kafka", "host/src/task"],
        &["serde_json", "tokio", "async "],
    );
    assert_absent(&["host/src/flow"], &["from_slice", "tokio", "async "]);
    // The topology and the loader know nothing of each other, and reading a file contacts nothing.
    assert_absent(&["host/src/plugin"], &["crate::topology", "crate::kafka"]);
    assert_absent(
        &["host/src/topology"],
        &["crate::plugin", "crate::kafka", "rdkafka::"],
    );
    // Nothing async and no Kafka crosses the boundary.
    assert_absent(
        &["plugins/api/src", "plugins/sdk/src"],
        &["tokio", "async ", "rdkafka"],
    );
}
