//! A panic in every entry point: an error that names plugin, file and line, and a host that goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use weir::plugin::{CallError, CallErrorKind, Catalog, Refused, Replay, Scope, code};
use weir_plugin_api::{SEQ_DERIVED, Settlements};

use super::drive::{Log, catalog, process, sink, transform, values, without_records, write};
use super::fixtures::{fixtures, folder};

fn panics() -> (tempfile::TempDir, Catalog) {
    let folder = folder(&[("panics.so", &fixtures().bytes("panics"))]);
    let catalog = catalog(folder.path());
    (folder, catalog)
}

fn assert_panic(error: &CallError, plugin: &str, here: &str) {
    assert_eq!(error.kind, CallErrorKind::Panic, "{error}");
    assert_eq!(error.code, "plugin.panic");
    let says = format!("plugin `{plugin}` panicked: asked to panic in {here} at ");
    assert!(error.message.starts_with(&says), "{error}");
    assert!(error.message.contains("src/lib.rs:"), "{error}");
}

fn assert_refused(refused: &Refused, plugin: &str, here: &str) {
    assert_eq!(refused.code, code::CALL);
    assert!(refused.file.ends_with("panics.so"), "{refused}");
    for says in [
        plugin,
        &format!("asked to panic in {here} at "),
        "src/lib.rs:",
    ] {
        assert!(refused.reason.contains(says), "{refused}");
    }
}

/// The host is none the worse: an instance that does not panic works.
fn assert_goes_on(catalog: &Catalog) {
    let mut good = transform(catalog, "panic-transform", json!({"at": "nowhere"})).expect("good");
    assert_eq!(values(&process(&mut good, &["a", "boom"]).1), ["a", "boom"]);
    good.stop().expect("stop");
}

#[test]
fn in_schema_validate_and_describe() {
    let (_folder, catalog) = panics();
    assert_refused(
        &catalog.schema("panic-schema").expect_err("schema"),
        "panic-schema",
        "schema",
    );
    for name in ["panic-transform", "panic-sink"] {
        let refused = catalog.validate(name, &json!({"at": "validate"}));
        assert_refused(&refused.expect_err("validate"), name, "validate");
        let refused = catalog.validate(name, &json!({"at": "deserialize"}));
        assert_refused(&refused.expect_err("deserialize"), name, "deserialize");
        let refused = catalog.describe(name, &json!({"at": "describe"}));
        assert_refused(&refused.expect_err("describe"), name, "describe");
        assert_eq!(
            catalog.validate(name, &json!({"at": "x"})).expect("valid"),
            []
        );
    }
    let described = catalog
        .describe("panic-transform", &json!({"at": "x"}))
        .expect("described");
    assert_eq!(
        (described.scope, described.timers),
        (Scope::Partition, true)
    );
    let described = catalog
        .describe("panic-sink", &json!({"at": "x"}))
        .expect("described");
    assert_eq!(described.replay, Replay::Idempotent);
    assert_goes_on(&catalog);
}

#[test]
fn in_create() {
    let (_folder, catalog) = panics();
    let error = transform(&catalog, "panic-transform", json!({"at": "create"})).err();
    assert_panic(&error.expect("an error"), "panic-transform", "create");
    let error = sink(
        &catalog,
        "panic-sink",
        json!({"at": "create"}),
        &Log::default(),
    )
    .err();
    assert_panic(&error.expect("an error"), "panic-sink", "create");
    assert_goes_on(&catalog);
}

#[test]
fn in_process_and_after_it() {
    let (_folder, catalog) = panics();
    for (at, here) in [("process", "process"), ("after_batch", "after_batch")] {
        let mut instance = transform(&catalog, "panic-transform", json!({"at": at})).expect("made");
        let (processed, _) = process(&mut instance, &["a", "boom", "b"]);
        assert_eq!(processed.consumed, 0);
        assert_panic(&processed.error.expect("an error"), "panic-transform", here);
    }
    assert_goes_on(&catalog);
}

#[test]
fn with_a_payload_that_is_no_text_or_panics_itself() {
    let (_folder, catalog) = panics();
    for at in ["payload", "payload_drop"] {
        let mut instance = transform(&catalog, "panic-transform", json!({"at": at})).expect("made");
        let (processed, _) = process(&mut instance, &["boom"]);
        let error = processed.error.expect("an error");
        assert_eq!(error.kind, CallErrorKind::Panic);
        assert!(
            error
                .message
                .contains("payload that is no text at panics/src/lib.rs:"),
            "{error}"
        );
    }
    assert_goes_on(&catalog);
}

#[test]
fn of_several_lines() {
    let (_folder, catalog) = panics();
    let mut instance =
        transform(&catalog, "panic-transform", json!({"at": "lines"})).expect("made");
    let error = process(&mut instance, &["boom"]).0.error.expect("an error");
    assert!(
        error
            .message
            .contains("asked to panic in several lines left: 1 right: 2 at panics/src/lib.rs:"),
        "{error}"
    );
}

#[test]
fn for_more_memory_than_an_output_may_take() {
    let (_folder, catalog) = panics();
    let mut instance =
        transform(&catalog, "panic-transform", json!({"at": "arena"})).expect("made");
    let error = process(&mut instance, &["boom"]).0.error.expect("an error");
    assert_eq!(error.kind, CallErrorKind::Panic);
    assert!(
        error
            .message
            .contains("the arena of a call's outputs has no room"),
        "{error}"
    );
    assert_goes_on(&catalog);
}

#[test]
fn in_a_thread_of_the_plugins_own() {
    let (_folder, catalog) = panics();
    let mut instance =
        transform(&catalog, "panic-transform", json!({"at": "thread"})).expect("made");
    let (processed, collected) = process(&mut instance, &["boom"]);
    assert_eq!((processed.consumed, processed.error), (1, None));
    assert_eq!(values(&collected), ["boom"]);
    assert_goes_on(&catalog);
}

#[test]
fn in_event_time() {
    let (_folder, catalog) = panics();
    let made = |at| transform(&catalog, "panic-transform", json!({"at": at})).expect("made");
    let mut instance = made("on_watermark");
    let (answer, _) = without_records(|batch, out| instance.on_watermark(batch, 1, 5, out));
    assert_panic(
        &answer.expect_err("an error"),
        "panic-transform",
        "on_watermark",
    );
    let mut instance = made("on_timer");
    let (answer, _) = without_records(|batch, out| instance.on_timer(batch, 1, 9, 5, out));
    assert_panic(
        &answer.expect_err("an error"),
        "panic-transform",
        "on_timer",
    );

    let mut instance = made("nowhere");
    let (answer, collected) = without_records(|batch, out| instance.on_watermark(batch, 1, 5, out));
    answer.expect("no error");
    let record = collected.batch.records()[0];
    assert_eq!((record.slot, record.seq), (1, SEQ_DERIVED));
    let (answer, collected) = without_records(|batch, out| instance.on_timer(batch, 1, 9, 5, out));
    answer.expect("no error");
    let timer = collected.timers[0];
    assert_eq!((timer.slot, timer.id, timer.at_ms), (1, 9, 6));
}

#[test]
fn in_state() {
    let (_folder, catalog) = panics();
    let made = |at| transform(&catalog, "panic-transform", json!({"at": at})).expect("made");
    let parts = |state: &[u8]| BTreeMap::from([(7, Arc::from(state))]);
    let good = parts(&[1, 0, 0, 0]);
    let name = "panic-transform";
    assert_panic(
        &made("snapshot").snapshot(1).expect_err("snapshot"),
        name,
        "snapshot",
    );
    assert_panic(
        &made("restore").restore(1, 1, &good).expect_err("restore"),
        name,
        "restore",
    );
    assert_panic(
        &made("release").release(1).expect_err("release"),
        name,
        "release",
    );
    assert_panic(&made("stop").stop().expect_err("stop"), name, "stop");

    let mut instance = made("nowhere");
    let saved = instance.snapshot(1).expect("a snapshot");
    assert_eq!(saved.version, 1);
    assert_eq!(saved.parts, BTreeMap::from([(7, Some(vec![1, 0, 0, 0]))]));
    instance.restore(1, 1, &good).expect("restore");
    instance.release(1).expect("release");
    let error = instance.restore(1, 1, &parts(&[1])).expect_err("an error");
    assert_eq!(
        (error.kind, error.code.as_str()),
        (CallErrorKind::State, "panics.state")
    );
}

#[test]
fn in_a_sink() {
    let (_folder, catalog) = panics();
    let made = |at| sink(&catalog, "panic-sink", json!({"at": at}), &Log::default()).expect("made");
    let mut out = Settlements::default();
    let name = "panic-sink";
    let processed = write(&mut made("write"), &["a"], &mut out);
    assert_eq!(processed.consumed, 0);
    assert_panic(&processed.error.expect("an error"), name, "write");
    assert_panic(
        &made("poll").poll(&mut out).expect_err("poll"),
        name,
        "poll",
    );
    assert_panic(
        &made("flush").flush(0, &mut out).expect_err("flush"),
        name,
        "flush",
    );
    assert_panic(&made("stop").stop().expect_err("stop"), name, "stop");
    let mut good = made("nowhere");
    assert_eq!(write(&mut good, &["a", "b"], &mut out).consumed, 2);
    assert!(good.flush(0, &mut out).expect("flush"));
    assert_eq!(out.settled.len(), 2);
    drop(made("drop"));
    assert_goes_on(&catalog);
}

#[test]
fn in_drop() {
    let (_folder, catalog) = panics();
    let mut instance = transform(&catalog, "panic-transform", json!({"at": "drop"})).expect("made");
    assert_eq!(process(&mut instance, &["a"]).0.consumed, 1);
    drop(instance);
    assert_goes_on(&catalog);
}
