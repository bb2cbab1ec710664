//! Write methods, aliases, TLS and the online check against the real server.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_elasticsearch::{ElasticsearchConfig, ElasticsearchSink};
use weir_plugin_sdk::testing::TestRecord;
use weir_plugin_sdk::{Findings, Sink};

use super::{Target, numbered, record};

fn tombstone(id: &str, version: i64) -> TestRecord {
    TestRecord {
        value: None,
        ..record(id, version, &json!({}))
    }
}

pub fn creations_find_their_own_documents(target: &Target) -> Result<()> {
    for (on_conflict, second) in [
        ("supersede", "superseded"),
        ("reject", "elasticsearch.document_exists"),
    ] {
        let index = format!("created-{on_conflict}");
        let changes = json!({ "write": "create", "on_conflict": on_conflict });
        let mut run = target.sink(&index, changes)?;
        for n in [1, 2] {
            run.write(&[record("a", n, &json!({ "n": n }))])?;
            run.settle()?;
        }
        ensure!(run.how() == ["stored", second], "{:?}", run.how());
        let documents = target.index(&index).documents()?;
        let document = documents.get("a").context("the document")?;
        ensure!(
            document.source == json!({ "n": 1 }),
            "{:?}",
            document.source
        );
    }
    Ok(())
}

pub fn upserts_merge(target: &Target) -> Result<()> {
    let mut run = target.sink("merged", json!({ "write": "upsert" }))?;
    let parts = [
        json!({ "x": 1, "o": { "p": 1 } }),
        json!({ "y": 2, "o": { "q": 2 } }),
    ];
    let parts = parts.map(|part| record("a", 1, &part));
    run.write(&parts)?;
    run.settle()?;
    run.write(&parts[1..])?;
    run.settle()?;
    ensure!(run.how() == ["stored"; 3], "{:?}", run.how());
    let documents = target.index("merged").documents()?;
    let document = documents.get("a").context("the document")?;
    let expected = json!({ "x": 1, "y": 2, "o": { "p": 1, "q": 2 } });
    ensure!(document.source == expected, "{:?}", document.source);
    Ok(())
}

pub fn tombstones_delete(target: &Target) -> Result<()> {
    let mut run = target.sink(
        "deleted",
        json!({ "tombstones": "delete", "routing": "key" }),
    )?;
    run.write(&[record("a", 1, &json!({})), record("b", 2, &json!({}))])?;
    run.settle()?;
    run.write(&[
        tombstone("a", 3),
        tombstone("nowhere", 4),
        record("a", 1, &json!({})),
    ])?;
    run.settle()?;
    let expected = ["stored", "stored", "stored", "stored", "superseded"];
    ensure!(run.how() == expected, "{:?}", run.how());
    let documents = target.index("deleted").documents()?;
    ensure!(documents.keys().eq(["b"]), "{:?}", documents.keys());

    // A plain delete creates no index: it must end all the same.
    let changes = json!({ "tombstones": "delete", "version": "none" });
    let mut unversioned = target.sink("never-created", changes)?;
    unversioned.write(&[tombstone("a", 1)])?;
    unversioned.settle()?;
    ensure!(unversioned.how() == ["stored"], "{:?}", unversioned.how());
    Ok(())
}

pub fn aliases_need_a_write_index(target: &Target) -> Result<()> {
    target
        .index("rolled-1")
        .create(&json!({ "properties": {} }))?;
    target
        .index("rolled-2")
        .create(&json!({ "properties": {} }))?;
    target.put("rolled-1/_alias/rolled", &json!({}))?;
    target.put("rolled-2/_alias/rolled", &json!({}))?;
    let changes = json!({ "require_alias": true, "max_rejections": 3 });
    let mut run = target.sink("rolled", changes.clone())?;
    run.write(&numbered(20))?;
    run.wait_for_reason("index `rolled` rejected")?;
    ensure!(run.ended.len() == 3, "{:?}", run.how());
    target.put("rolled-2/_alias/rolled", &json!({ "is_write_index": true }))?;
    run.settle()?;
    ensure!(target.index("rolled-2").documents()?.len() == 17);
    let mut missing = target.sink("no-alias-at-all", changes)?;
    missing.write(&numbered(1))?;
    missing.wait_for_reason("index_not_found_exception")
}

pub fn a_strict_mapping_trips_the_breaker(target: &Target) -> Result<()> {
    let mapping = json!({ "dynamic": "strict", "properties": { "m": { "type": "long" } } });
    target.index("storm").create(&mapping)?;
    let mut run = target.sink("storm", json!({ "max_rejections": 5 }))?;
    run.write(&numbered(100))?;
    run.wait_for_reason("index `storm` rejected")?;
    ensure!(run.how() == ["elasticsearch.mapping"; 5], "{:?}", run.how());
    target.put(
        "storm/_mapping",
        &json!({ "properties": { "n": { "type": "long" } } }),
    )?;
    run.settle()?;
    ensure!(target.index("storm").documents()?.len() == 95);
    Ok(())
}

pub fn fingerprints_and_client_certificates_are_taken(target: &Target) -> Result<()> {
    let client = target.authority.sign("sink.example");
    std::fs::write(
        target.folder.path().join("client.pem"),
        client.certificate_pem,
    )?;
    std::fs::write(target.folder.path().join("client.key"), client.key_pem)?;
    let tls = json!({
        "ca_fingerprint": target.authority.fingerprint(),
        "certificate_file": target.file("client.pem"),
        "key_file": target.file("client.key"),
    });
    let mut run = target.sink("pinned", json!({ "tls": tls }))?;
    run.write(&numbered(3))?;
    run.settle()?;
    ensure!(run.how() == ["stored"; 3], "{:?}", run.how());
    let mut wrong = target.sink(
        "pinned",
        json!({ "tls": { "ca_fingerprint": "ab".repeat(32) } }),
    )?;
    wrong.write(&numbered(3))?;
    wrong.wait_for_reason("tls.ca_fingerprint")?;
    let mut public = target.sink("pinned", json!({ "tls": {} }))?;
    public.write(&numbered(3))?;
    public.wait_for_reason("UnknownIssuer")
}

fn findings(target: &Target, changes: Value) -> Result<Vec<String>> {
    let config = target.config("checked", changes);
    let config: ElasticsearchConfig = serde_json::from_value(config)?;
    let mut findings = Findings::default();
    ElasticsearchSink::check_target(&config, &mut findings);
    Ok(findings
        .iter()
        .map(|(_, message, _)| message.to_owned())
        .collect())
}

/// Nothing to say of the product, and what is said of the index is right.
pub fn the_product_is_known(target: &Target) -> Result<()> {
    let none = findings(target, json!({}))?;
    ensure!(none.is_empty(), "{none:?}");
    let found = findings(target, json!({ "require_alias": true }))?;
    ensure!(
        found == ["The alias `checked` does not exist, and `require_alias` asks for it."],
        "{found:?}"
    );
    Ok(())
}

/// This build answers 405 to `GET /`.
pub fn the_target_is_checked_without_its_root(target: &Target) -> Result<()> {
    let none = findings(target, json!({}))?;
    ensure!(none.is_empty(), "{none:?}");
    let only = |changes: Value, expected: &str| -> Result<()> {
        let found = findings(target, changes)?;
        ensure!(
            found.len() == 1 && found[0].contains(expected),
            "{expected}: {found:?}"
        );
        Ok(())
    };
    only(json!({ "password": "wrong" }), "refuses the credentials")?;
    only(
        json!({ "require_alias": true }),
        "The alias `checked` does not exist",
    )?;
    let settings = json!({ "settings": { "index": {
        "blocks": { "write": true }, "translog": { "durability": "async" }
    } } });
    target.put("checked", &settings)?;
    let found = findings(target, json!({ "data_stream": true }))?;
    ensure!(
        found.len() == 3
            && found[0].contains("is no data stream")
            && found[1].contains("index.blocks.write")
            && found[2].contains("index.translog.durability"),
        "{found:?}"
    );
    Ok(())
}
