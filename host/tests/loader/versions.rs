//! Plugins of other versions of the plugin ABI, in this host and in a newer one.

use std::process::Command;

use serde_json::json;
use weir::plugin::{Found, code, inspect};
use weir_plugin_api::API_VERSION;

use super::drive::{catalog, process, transform, values};
use super::fixtures::{fixtures, folder};

#[test]
fn a_plugin_of_a_newer_minor_version_loads_and_sees_that_the_host_is_older() {
    let folder = folder(&[("a.so", &fixtures().bytes("newer"))]);
    let catalog = catalog(folder.path());
    let mut newer = transform(&catalog, "newer", json!({})).expect("newer");
    assert_eq!(
        values(&process(&mut newer, &["x"]).1),
        ["added service: None"]
    );
    newer.release(0).expect("release");
    assert!(catalog.schema("newer").is_ok());
    newer.stop().expect("stop");
}

#[test]
fn a_newer_host_loads_older_and_newer_plugins_in_any_order() {
    for (first, second) in [("a.so", "b.so"), ("b.so", "a.so")] {
        let folder = folder(&[
            (first, &fixtures().bytes("newer")),
            (second, &fixtures().bytes("echo")),
            ("c.so", &fixtures().bytes("other_layout")),
            ("d.so", &fixtures().bytes("other_major")),
        ]);
        let output = Command::new(&fixtures().newer_host)
            .arg(folder.path())
            .output()
            .expect("a newer host");
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "echo: in", "{said}");
        assert_eq!(lines[1], "newer: added service: Some(42)", "{said}");
        assert!(
            lines[2].starts_with("variant: Refused") && lines[2].contains(code::ABI_LAYOUT),
            "{said}"
        );
        assert!(said.contains("unusable: plugin.abi.version"), "{said}");
    }
}

#[test]
fn old_and_new_plugins_live_in_one_process() {
    for order in [["echo", "newer"], ["newer", "echo"]] {
        for name in order {
            let folder = folder(&[("a.so", &fixtures().bytes(name))]);
            let catalog = catalog(folder.path());
            assert!(transform(&catalog, name, json!({})).is_ok(), "{order:?}");
        }
    }
}

#[test]
fn another_major_version_is_refused_unopened_with_both_versions() {
    let refused = inspect(fixtures().file("other_major"))
        .err()
        .expect("a refusal");
    assert_eq!(refused.code, code::ABI_VERSION);
    let major = API_VERSION
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    let theirs = format!("{}.0.0", major.expect("a number") + 1);
    assert!(
        refused.reason.contains(API_VERSION) && refused.reason.contains(&theirs),
        "{refused}"
    );
}

#[test]
fn a_changed_record_is_refused_in_one_line_that_names_it() {
    let folder = folder(&[("a.so", &fixtures().bytes("other_layout"))]);
    let catalog = catalog(folder.path());
    let Found::Refused(refused) = catalog.find("variant") else {
        panic!("a changed record loads");
    };
    assert_eq!(refused.code, code::ABI_LAYOUT);
    let record = size_of::<weir_plugin_api::Record<'static>>();
    let says = format!(
        "Record: field count 9 where this host has 8, size {} where this host has {record}",
        record + 8
    );
    assert!(refused.reason.contains(&says), "{refused}");
    assert!(refused.reason.contains(API_VERSION), "{refused}");
    assert!(
        !refused.reason.contains('\n') && refused.reason.len() < 400,
        "{refused}"
    );
}
