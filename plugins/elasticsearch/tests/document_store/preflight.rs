//! What `weir validate --online` says before anything is written.

use std::net::TcpListener;

use serde_json::{Value, json};
use weir_document_store::{Authentication, DocumentStore, ItemFault, ItemTarget, Settings};
use weir_elasticsearch::{ElasticsearchConfig, ElasticsearchSink};
use weir_plugin_sdk::{Findings, Sink};

use crate::bench::{Bench, INDEX, config, records};

fn store() -> DocumentStore {
    DocumentStore::start(Settings::default()).expect("a store")
}

/// Every finding as `error: message` or `warning: message`; each has a cure.
fn findings(url: &str, changes: Value) -> Vec<String> {
    let config = config(&[url.to_owned()], changes);
    let config: ElasticsearchConfig = serde_json::from_value(config).expect("readable");
    let mut findings = Findings::default();
    ElasticsearchSink::check_target(&config, &mut findings);
    let found = findings.iter().map(|(is_error, message, help)| {
        assert!(
            !help.is_empty() && help.ends_with('.') && message.ends_with('.'),
            "{message} {help}"
        );
        format!("{}: {message}", if is_error { "error" } else { "warning" })
    });
    found.collect()
}

fn only(url: &str, changes: Value, expected: &str) {
    let found = findings(url, changes);
    assert!(
        found.len() == 1 && found[0].contains(expected),
        "{expected}: {found:?}"
    );
}

#[test]
fn a_sound_target_has_no_findings() {
    let store = store();
    assert!(
        findings(&store.url(), json!({})).is_empty(),
        "the index is created by the first write"
    );
    store.create_index(INDEX);
    assert!(findings(&store.url(), json!({ "username": "u", "password": "p" })).is_empty());
    assert_eq!(store.observations().received(), 0, "nothing is written");
}

#[test]
fn case_56_each_product_is_known_also_where_the_root_is_closed() {
    for (number, distribution, expected) in [
        ("7.17.29", None, None),
        ("8.19.20", None, None),
        ("9.3.0", None, None),
        ("1.3.20", Some("opensearch"), None),
        ("2.19.1", Some("opensearch"), None),
        ("3.9.0", Some("opensearch"), None),
        ("7.10.2", Some("opensearch"), None),
        ("7.16.3", None, Some("is Elasticsearch 7.16, which")),
        ("7.10.2", None, Some("is Elasticsearch 7.10, which")),
        ("6.8.23", None, Some("is Elasticsearch 6.8, which")),
        ("10.0.0", None, Some("is Elasticsearch 10.0, which")),
        ("4.0.0", Some("opensearch"), Some("is OpenSearch 4, which")),
    ] {
        let store = store();
        let mut version = json!({ "number": number });
        if let Some(distribution) = distribution {
            version["distribution"] = distribution.into();
        }
        store
            .faults()
            .set_answer("/", 200, json!({ "version": version }));
        match expected {
            None => assert!(findings(&store.url(), json!({})).is_empty(), "{number}"),
            Some(expected) => only(&store.url(), json!({}), expected),
        }
    }
    for root in [403, 404, 405] {
        let store = store();
        store.faults().set_root_status(Some(root));
        assert!(findings(&store.url(), json!({})).is_empty(), "{root}");
        for (number, expected) in [
            ("6.8.23", Some("warning: The node http")),
            ("8.19.20", None),
            ("2.19.1", None),
            ("4.0.0", Some("is OpenSearch 4, which")),
        ] {
            let node = json!({ "nodes": { "x": { "version": number } } });
            store.faults().set_answer("/_nodes/_local", 200, node);
            match expected {
                None => assert!(findings(&store.url(), json!({})).is_empty(), "{number}"),
                Some(expected) => only(&store.url(), json!({}), expected),
            }
        }
    }
}

#[test]
fn case_56_writes_need_no_root_and_no_known_product() {
    for (status, root) in [
        (405, json!({ "error": "Incorrect HTTP method for uri [/]" })),
        (403, json!({ "error": { "type": "security_exception" } })),
        (
            200,
            json!({ "version": { "number": "2.19.1", "distribution": "opensearch" } }),
        ),
        (200, json!({ "version": { "number": "99.0.0" } })),
        (500, json!(null)),
    ] {
        let mut bench = Bench::new(json!({}));
        bench.store.faults().set_answer("/", status, root);
        bench.write_and_settle(&records(10));
        assert_eq!(
            (bench.count("stored"), bench.stored_documents()),
            (10, 10),
            "{status}"
        );
    }
    let mut bench = Bench::new(json!({}));
    let rejected = "opensearch_rejected_execution_exception";
    let fault = ItemFault::new(ItemTarget::Any, 429, rejected, "full").times(4);
    bench.store.faults().push_item(fault);
    bench.write_and_settle(&records(10));
    assert_eq!(
        (bench.count("stored"), bench.errors["item_overload"]),
        (10, 4)
    );
}

#[test]
fn nodes_that_are_away_or_something_else_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let away = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    only(&away, json!({}), "gives no answer");
    let store = store();
    store.faults().set_answer("/", 200, json!("hello"));
    store.faults().set_answer("/_nodes/_local", 404, json!({}));
    only(&store.url(), json!({}), "not as Elasticsearch");
    let tls = json!({ "tls": { "ca_file": "/nowhere/ca.pem" } });
    only(&store.url(), tls, "/nowhere/ca.pem cannot be read");
}

#[test]
fn credentials_and_rights_are_asked_for() {
    let store = store();
    let privileges = json!({ "index": { INDEX: { "index": true, "delete": false } } });
    store
        .faults()
        .set_answer("/_security/user/_has_privileges", 200, privileges);
    assert!(findings(&store.url(), json!({})).is_empty());
    only(
        &store.url(),
        json!({ "tombstones": "delete" }),
        "privilege `delete`",
    );
    store.set_authentication(Authentication::Basic {
        username: "u".into(),
        password: "p".into(),
    });
    let found = findings(
        &store.url(),
        json!({ "username": "u", "password": "hunter2" }),
    );
    assert!(
        found.len() == 1 && found[0].contains("refuses the credentials"),
        "{found:?}"
    );
    assert!(!found[0].contains("hunter2"));
}

#[test]
fn an_index_that_is_something_else_is_named() {
    let store = store();
    store.put_alias("nowhere", None);
    store.put_alias("somewhere", Some("real"));
    store.create_data_stream("stream");
    store.create_index("plain");
    let of = |index: &str, mut changes: Value| {
        changes["index"] = index.into();
        changes
    };
    assert!(
        findings(
            &store.url(),
            of("somewhere", json!({ "require_alias": true }))
        )
        .is_empty()
    );
    assert!(findings(&store.url(), of("stream", json!({ "data_stream": true }))).is_empty());
    only(&store.url(), of("stream", json!({})), "is a data stream");
    only(
        &store.url(),
        of("plain", json!({ "data_stream": true })),
        "is no data stream",
    );
    only(
        &store.url(),
        of("plain", json!({ "require_alias": true })),
        "asks for an alias",
    );
    only(
        &store.url(),
        of("absent", json!({ "require_alias": true })),
        "does not exist",
    );
    only(&store.url(), of("nowhere", json!({})), "has no write index");
    let two = json!({ "a": { "aliases": { "two": {} } }, "b": { "aliases": { "two": {} } } });
    store.faults().set_answer("/two", 200, two);
    only(&store.url(), of("two", json!({})), "has no write index");
    let closed = json!({ "persistent": { "action.auto_create_index": "false" } });
    store.faults().set_answer("/_cluster/settings", 200, closed);
    only(
        &store.url(),
        of("absent", json!({})),
        "writes do not create one",
    );
}

#[test]
fn blocks_durability_and_limits_are_named() {
    let store = store();
    let state = |settings: Value| json!({ INDEX: { "aliases": {}, "settings": settings } });
    let path = format!("/{INDEX}");
    store
        .faults()
        .set_answer(&path, 200, state(json!({ "index.blocks.write": "true" })));
    only(
        &store.url(),
        json!({}),
        "error: The index `visits` is closed for writing",
    );
    store.faults().set_answer(
        &path,
        200,
        state(json!({ "index.translog.durability": "async" })),
    );
    only(
        &store.url(),
        json!({}),
        "warning: The index `visits` acknowledges documents before",
    );
    store.faults().set_answer(&path, 403, json!({}));
    let limit =
        json!({ "nodes": { "x": { "http": { "max_content_length_in_bytes": 1_000_000 } } } });
    store.faults().set_answer("/_nodes/_local/http", 200, limit);
    only(
        &store.url(),
        json!({}),
        "warning: The servers take requests of 1000000 bytes",
    );
    assert!(findings(&store.url(), json!({ "batch": { "bytes": "512KiB" } })).is_empty());
}
