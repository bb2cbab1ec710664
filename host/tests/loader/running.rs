//! Libraries that load, and what they do once loaded.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

use serde_json::json;
use weir::plugin::{Catalog, Found, Kind, code};
use weir_plugin_api::Settlements;

use super::drive::{Log, catalog, process, sink, transform, values, write};
use super::fixtures::{fixtures, folder};

#[test]
fn two_libraries_of_one_interface_run_side_by_side() {
    let folder = folder(&[
        ("a.so", &fixtures().bytes("echo")),
        ("b.so", &fixtures().bytes("allocator")),
    ]);
    let catalog = catalog(folder.path());
    assert_eq!(catalog.names(Kind::Transform), ["echo", "reverse"]);
    assert_eq!(catalog.names(Kind::Sink), ["collect"]);
    let mut echo = transform(&catalog, "echo", json!({"prefix": "> "})).expect("echo");
    let mut reverse = transform(&catalog, "reverse", json!({})).expect("reverse");
    for _ in 0..3 {
        assert_eq!(values(&process(&mut echo, &["abc"]).1), ["> abc"]);
        assert_eq!(values(&process(&mut reverse, &["abc"]).1), ["cba"]);
    }
}

#[test]
fn one_library_holds_a_transform_and_a_sink() {
    let folder = folder(&[("a.so", &fixtures().bytes("echo"))]);
    let catalog = catalog(folder.path());
    let log = Log::default();
    let mut collect = sink(&catalog, "collect", json!({"room": 3}), &log).expect("collect");
    assert_eq!(log.lines(), ["node opened"]);
    let mut out = Settlements::default();
    let taken: Vec<usize> = [["a", "b"], ["c", "d"], ["e", "f"]]
        .iter()
        .map(|values| write(&mut collect, values, &mut out).consumed)
        .collect();
    assert_eq!(taken, [2, 1, 0]);
    assert!(out.settled.is_empty());
    collect.poll(&mut out).expect("poll");
    assert_eq!(out.settled.len(), 3);
    assert!(collect.flush(0, &mut out).expect("flush"));
    collect.stop().expect("stop");
    // A transform is no sink, and a name that nobody offers is neither.
    let wrong = sink(&catalog, "echo", json!({}), &log)
        .err()
        .expect("an error");
    assert_eq!(wrong.code, "plugin.kind");
    assert!(wrong.message.contains("`echo` is no sink"), "{wrong}");
    let missing = transform(&catalog, "mask", json!({}))
        .err()
        .expect("an error");
    assert!(missing.message.contains("`mask`"), "{missing}");
}

#[test]
fn ten_instances_keep_their_own_state() {
    let folder = folder(&[("a.so", &fixtures().bytes("echo"))]);
    let catalog = catalog(folder.path());
    let mut instances: Vec<_> = (0..10)
        .map(|n| transform(&catalog, "echo", json!({"prefix": n.to_string()})).expect("echo"))
        .collect();
    for _ in 0..2 {
        for (n, instance) in instances.iter_mut().enumerate() {
            assert_eq!(values(&process(instance, &["x"]).1), [format!("{n}x")]);
        }
    }
    let moved = std::thread::spawn(move || {
        let mut instance = instances.remove(4);
        values(&process(&mut instance, &["x"]).1)
    });
    assert_eq!(moved.join().expect("a thread"), ["4x"]);
}

#[test]
fn the_same_bytes_load_under_two_names() {
    let bytes = fixtures().bytes("echo");
    let (one, two) = (folder(&[("one.so", &bytes)]), folder(&[("two.so", &bytes)]));
    for folder in [one, two] {
        let catalog = catalog(folder.path());
        let mut echo = transform(&catalog, "echo", json!({})).expect("echo");
        assert_eq!(values(&process(&mut echo, &["x"]).1), ["x"]);
    }
}

#[test]
fn a_plugin_runs_on_while_its_file_is_overwritten_emptied_and_removed() {
    let folder = folder(&[("a.so", &fixtures().bytes("echo"))]);
    let path = folder.path().join("a.so");
    let catalog = catalog(folder.path());
    let mut echo = transform(&catalog, "echo", json!({})).expect("echo");
    assert_eq!(values(&process(&mut echo, &["1"]).1), ["1"]);
    let file = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("a file");
    let len = file.metadata().expect("metadata").len() as usize;
    file.write_all_at(&vec![0xcc; len], 0).expect("a write");
    assert_eq!(values(&process(&mut echo, &["2"]).1), ["2"]);
    file.set_len(0).expect("a length");
    assert_eq!(values(&process(&mut echo, &["3"]).1), ["3"]);
    // Parts that were never touched before come from the private copy too.
    let mut another = transform(&catalog, "echo", json!({"prefix": "!"})).expect("echo");
    assert_eq!(values(&process(&mut another, &["4"]).1), ["!4"]);
    let log = Log::default();
    assert!(sink(&catalog, "collect", json!({"room": 1}), &log).is_ok());
    std::fs::remove_file(&path).expect("a removal");
    assert!(catalog.schema("collect").is_ok());
}

#[test]
fn a_file_that_changed_between_listing_and_opening_is_refused() {
    let folder = folder(&[("a.so", &fixtures().bytes("echo"))]);
    let catalog = catalog(folder.path());
    let other = fixtures().bytes("panics");
    std::fs::write(folder.path().join("a.so"), other).expect("a file");
    let Found::Refused(refused) = catalog.find("echo") else {
        panic!("echo is found");
    };
    assert_eq!(refused.code, code::CHANGED);
    assert!(catalog.names(Kind::Transform).is_empty());
}

#[test]
fn a_plugin_with_its_own_allocator_shares_nothing_that_the_other_side_frees() {
    let folder = folder(&[("a.so", &fixtures().bytes("allocator"))]);
    let catalog = catalog(folder.path());
    for _ in 0..3 {
        let mut reverse = transform(&catalog, "reverse", json!({})).expect("reverse");
        let (processed, collected) = process(&mut reverse, &["abc", "", "de"]);
        assert_eq!((processed.consumed, processed.error), (3, None));
        assert_eq!(values(&collected), ["cba", "ed"]);
        assert_eq!(collected.failures[0].message.as_str(), "the value is empty");
        assert_eq!(collected.timers.len(), 2);
        assert_eq!(
            reverse.snapshot(0).expect("a snapshot").parts,
            BTreeMap::from([(3, Some(vec![7; 100_000]))])
        );
    }
    assert!(catalog.schema("reverse").expect("a schema").is_object());
    let wrong = transform(&catalog, "reverse", json!(7))
        .err()
        .expect("an error");
    assert!(wrong.message.contains("plugin `reverse` failed"), "{wrong}");
}

#[test]
fn configuration_is_described_checked_and_refused_with_paths() {
    let folder = folder(&[("a.so", &fixtures().bytes("echo"))]);
    let catalog = catalog(folder.path());
    let schema = catalog.schema("echo").expect("a schema");
    assert_eq!(
        schema["properties"]["prefix"]["description"],
        "What stands before the value."
    );
    let errors = |config| catalog.validate("echo", &config).expect("an answer");
    assert_eq!(errors(json!({})), []);
    let long = errors(json!({"prefix": "far too long"}));
    assert_eq!(
        (long[0].path.as_str(), long[0].message.as_str()),
        ("/prefix", "must be shorter than 10")
    );
    assert_eq!(errors(json!({"prefix": 7}))[0].path, "/prefix");
    assert!(errors(json!({"prefx": "a"}))[0].message.contains("prefx"));
    let refused = catalog
        .describe("echo", &json!({"prefix": 7}))
        .expect_err("a refusal");
    assert!(refused.reason.contains("`echo`"), "{refused}");
}

#[test]
fn a_library_with_an_undefined_symbol_is_refused_with_its_name() {
    let folder = folder(&[("a.so", &fixtures().bytes("undefined"))]);
    let catalog = catalog(folder.path());
    // Listing opens nothing, so it is still there.
    assert_eq!(catalog.names(Kind::Transform), ["undefined"]);
    let Found::Refused(refused) = catalog.find("undefined") else {
        panic!("a library with an undefined symbol loads");
    };
    assert_eq!(refused.code, code::OPEN);
    for says in ["weir_fixture_function_that_nobody_offers", "this host"] {
        assert!(refused.reason.contains(says), "{refused}");
    }
    assert!(!refused.reason.contains("/proc/"), "{refused}");
    assert!(catalog.names(Kind::Transform).is_empty());
}

#[test]
fn a_module_that_is_not_what_its_manifest_says_is_refused() {
    let bytes = fixtures().bytes("echo");
    let at = bytes
        .windows(b"plugin=transform:echo".len())
        .position(|window| window == b"plugin=transform:echo")
        .expect("a manifest");
    let mut lying = bytes;
    lying[at + b"plugin=transform:".len()] = b'o';
    let folder = folder(&[("a.so", &lying)]);
    let catalog = Catalog::search(&[folder.path().to_owned()]);
    let Found::Refused(refused) = catalog.find("ocho") else {
        panic!("a lying manifest is believed");
    };
    assert_eq!(refused.code, code::MODULE);
    assert!(
        refused.reason.contains("echo, collect") && refused.reason.contains("ocho, collect"),
        "{refused}"
    );
}
