//! Folders: which files count, names that two files offer, and what `weir plugins` says of them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir::commands::plugins::{Format, run};
use weir::plugin::{Catalog, Found, Kind, code};

use super::drive::{catalog, transform};
use super::fixtures::{fixtures, folder};

fn search(folders: &[&Path]) -> Catalog {
    let folders: Vec<PathBuf> = folders.iter().map(|folder| folder.to_path_buf()).collect();
    Catalog::search(&folders)
}

#[test]
fn only_libraries_directly_in_the_folder_count() {
    let echo = fixtures().bytes("echo");
    let folder = folder(&[
        ("a.txt", b"text"),
        ("b.so.bak", &echo),
        ("libc.so.6", &echo),
        (".so", &echo),
    ]);
    let deeper = folder.path().join("deeper");
    std::fs::create_dir(&deeper).expect("a folder");
    std::fs::write(deeper.join("c.so"), &echo).expect("a file");
    let empty = catalog(folder.path());
    assert!(empty.entries().is_empty() && empty.unusable().is_empty());
    // A folder that ends in `.so` is a file that cannot be used, a folder that is not there holds none.
    std::fs::rename(&deeper, folder.path().join("deeper.so")).expect("a name");
    let unusable = search(&[folder.path(), &folder.path().join("none")]).unusable();
    assert_eq!(unusable.len(), 1);
    assert_eq!(unusable[0].code, code::UNREADABLE);
}

#[test]
fn two_files_that_offer_one_name_are_both_unusable_wherever_they_stand() {
    let (echo, reverse) = (fixtures().bytes("echo"), fixtures().bytes("allocator"));
    let first = folder(&[("a.so", &echo), ("r.so", &reverse)]);
    let second = folder(&[("b.so", &echo)]);
    for folders in [[first.path(), second.path()], [second.path(), first.path()]] {
        let catalog = search(&folders);
        let Found::Duplicate(mut files) = catalog.find("echo") else {
            panic!("one of two wins");
        };
        files.sort();
        let mut expected = [first.path().join("a.so"), second.path().join("b.so")];
        expected.sort();
        assert_eq!(files, expected);
        assert_eq!(catalog.names(Kind::Transform), ["reverse"]);
        assert!(catalog.names(Kind::Sink).is_empty());
        let unusable = catalog.unusable();
        let names: Vec<&str> = unusable
            .iter()
            .map(|unusable| unusable.names[0].as_str())
            .collect();
        assert_eq!(names, ["collect", "echo"]);
        assert!(unusable[1].reason.contains("`echo`") && unusable[1].reason.contains("this host"));
        let error = transform(&catalog, "echo", json!({}))
            .err()
            .expect("an error");
        assert_eq!(error.code, "plugin.duplicate");
        assert!(transform(&catalog, "reverse", json!({})).is_ok());
    }
}

#[test]
fn two_ways_to_one_file_are_no_duplicate() {
    let folder = folder(&[("a.so", &fixtures().bytes("echo"))]);
    std::os::unix::fs::symlink(folder.path().join("a.so"), folder.path().join("b.so"))
        .expect("a link");
    let catalog = search(&[folder.path(), folder.path()]);
    assert_eq!(catalog.find("echo"), Found::Known(Kind::Transform));
    assert!(catalog.unusable().is_empty());
    assert_eq!(catalog.find("nobody"), Found::Missing);
}

fn command(catalog: &Catalog, name: Option<&str>, format: Format, schema: bool) -> (i32, String) {
    let mut out = Vec::new();
    let code = run(catalog, name, format, schema, &mut out).expect("a command");
    (code, String::from_utf8(out).expect("a text"))
}

#[test]
fn the_command_lists_what_is_usable() {
    let folder = folder(&[
        ("a.so", &fixtures().bytes("echo")),
        ("b.so", &fixtures().bytes("panics")),
    ]);
    let catalog = catalog(folder.path());
    let (exit, text) = command(&catalog, None, Format::Text, false);
    assert_eq!(exit, 0, "{text}");
    for says in [
        "echo (transform) 0.0.1: Writes a text before each value\n",
        &format!(
            "  scope record, ABI {}, rustc 1.",
            weir_plugin_api::API_VERSION
        ),
        "collect (sink) 0.0.1: Settles when it is polled\n",
        "  replay depends on its settings, ABI ",
        "a.so",
    ] {
        assert!(text.contains(says), "{says:?} in\n{text}");
    }
    let (exit, text) = command(&catalog, Some("echo"), Format::Json, true);
    assert_eq!(exit, 0, "{text}");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    let [plugin] = answer["plugins"].as_array().expect("a list").as_slice() else {
        panic!("one plugin: {text}");
    };
    assert_eq!(plugin["name"], "echo");
    assert_eq!(plugin["kind"], "transform");
    assert_eq!(plugin["scope"], "record");
    assert_eq!(plugin["abi_version"], weir_plugin_api::API_VERSION);
    assert_eq!(plugin["schema"]["properties"]["prefix"]["type"], "string");
    assert!(answer["refused"].as_array().expect("a list").is_empty());
}

#[test]
fn the_schema_of_one_plugin_is_printed_alone() {
    let folder = folder(&[("a.so", &fixtures().bytes("echo"))]);
    let catalog = catalog(folder.path());
    let (exit, text) = command(&catalog, Some("echo"), Format::Text, true);
    assert_eq!(exit, 0, "{text}");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(schema["properties"]["prefix"]["type"], "string");
}

#[test]
fn the_command_lists_what_is_refused_and_exits_2() {
    let folder = folder(&[
        ("a.so", &fixtures().bytes("echo")),
        ("b.so", b"text"),
        ("c.so", &fixtures().bytes("other_layout")),
    ]);
    let catalog = catalog(folder.path());
    let (exit, text) = command(&catalog, None, Format::Text, false);
    assert_eq!(exit, 2, "{text}");
    for says in [
        "b.so: it is a text file",
        "c.so: its plugin ABI",
        "echo (transform)",
    ] {
        assert!(text.contains(says), "{says:?} in\n{text}");
    }
    let (exit, text) = command(&catalog, None, Format::Json, false);
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    let codes: Vec<&Value> = answer["refused"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|refused| &refused["code"])
        .collect();
    assert_eq!(
        (exit, codes),
        (2, vec![&json!(code::NOT_ELF), &json!(code::ABI_LAYOUT)])
    );
    // Who asks for one plugin need not care for the others.
    assert_eq!(command(&catalog, Some("echo"), Format::Text, false).0, 0);
    assert_eq!(command(&catalog, Some("variant"), Format::Text, false).0, 2);
    let (exit, text) = command(&catalog, Some("ehco"), Format::Text, false);
    assert_eq!(exit, 2);
    assert!(text.contains("did you mean `echo`?"), "{text}");
}

#[test]
fn a_panic_in_a_schema_is_a_refusal_in_the_list() {
    let folder = folder(&[("b.so", &fixtures().bytes("panics"))]);
    let catalog = catalog(folder.path());
    let (exit, text) = command(&catalog, None, Format::Text, true);
    assert_eq!(exit, 2, "{text}");
    assert!(
        text.contains("`panic-schema` could not give its schema: it panicked"),
        "{text}"
    );
    assert!(text.contains("panic-sink (sink)"), "{text}");
}
