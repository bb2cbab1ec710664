//! Rights, secrets, compression, proxies.

use std::process::Command;

use serde_json::json;
use weir_document_store::{Authentication, BulkFault, DocumentStore, Settings};

use crate::bench::{Bench, record, records};

fn basic() -> Authentication {
    Authentication::Basic {
        username: "elastic".into(),
        password: "hunter2".into(),
    }
}

#[test]
fn every_kind_of_credentials_lets_in() {
    let key = Authentication::ApiKey {
        encoded: "aWQ6aHVudGVyMg==".into(),
    };
    for (authentication, changes) in [
        (
            basic(),
            json!({ "username": "elastic", "password": "hunter2" }),
        ),
        (key.clone(), json!({ "api_key": "id:hunter2" })),
        (key, json!({ "api_key": "aWQ6aHVudGVyMg==" })),
        (
            Authentication::Bearer {
                token: "hunter2".into(),
            },
            json!({ "bearer_token": "hunter2" }),
        ),
    ] {
        let settings = Settings {
            authentication,
            ..Settings::default()
        };
        let mut bench = Bench::with_store(settings, changes);
        bench.write_and_settle(&records(5));
        assert_eq!(bench.stored_documents(), 5);
    }
}

#[test]
fn case_19_missing_rights_pause_and_reject_nobody() {
    let mut bench = Bench::new(json!({ "username": "elastic", "password": "hunter2" }));
    bench.store.set_authentication(Authentication::Basic {
        username: "elastic".into(),
        password: "other".into(),
    });
    bench.write(&records(20));
    bench.poll_until("refusals", |bench| {
        bench
            .errors
            .get("systemic")
            .is_some_and(|count| *count >= 2)
    });
    let reason = bench.unavailable().expect("a reason");
    assert!(reason.contains("401"), "{reason}");
    assert!(bench.ended.is_empty());
    bench.store.set_authentication(basic());
    bench.settle();
    assert_eq!((bench.count("stored"), bench.stored_documents()), (20, 20));
    // Case 53: nothing that was said on the way shows the secret.
    let text = format!("{:?} {reason}", bench.sink.log());
    assert!(
        !text.contains("hunter2") && !text.contains("aHVudGVyMg"),
        "{text}"
    );
}

#[test]
fn addresses_that_are_no_elasticsearch_pause_and_reject_nobody() {
    for status in [301, 403, 404, 405, 406, 415] {
        let mut bench = Bench::new(json!({}));
        let headers = vec![("location".to_owned(), "/elsewhere".to_owned())];
        let body = "somebody else".to_owned();
        bench.store.faults().set_standing(Some(BulkFault::Status {
            status,
            headers,
            body,
        }));
        bench.write(&[record("a", 1)]);
        bench.poll_until("refusals", |bench| {
            bench
                .errors
                .get("systemic")
                .is_some_and(|count| *count >= 2)
        });
        assert!(bench.ended.is_empty(), "{status}");
        bench.store.faults().clear();
        bench.settle();
        assert_eq!(bench.count("stored"), 1, "{status}");
    }
}

#[test]
fn a_redirect_settles_nothing_even_if_somebody_takes_the_documents() {
    let elsewhere = DocumentStore::start(Settings::default()).expect("a store");
    let mut bench = Bench::new(json!({}));
    let location = format!("{}/_bulk", elsewhere.url());
    bench.store.faults().set_standing(Some(BulkFault::Status {
        status: 307,
        headers: vec![("location".to_owned(), location)],
        body: String::new(),
    }));
    bench.write(&records(5));
    bench.poll_until("refusals", |bench| {
        bench
            .errors
            .get("systemic")
            .is_some_and(|count| *count >= 2)
    });
    let reason = bench.unavailable().expect("a reason");
    assert!(reason.contains("redirects to"), "{reason}");
    assert!(bench.ended.is_empty());
    bench.store.faults().clear();
    bench.settle();
    assert_eq!((bench.count("stored"), bench.stored_documents()), (5, 5));
}

#[test]
fn case_54_compressed_bodies_hold_the_same_bytes() {
    let [plain, compressed] = [false, true].map(|gzip| {
        let mut bench = Bench::new(json!({ "gzip": gzip, "max_in_flight": 1 }));
        bench.write_and_settle(&records(200));
        assert_eq!(bench.stored_documents(), 200);
        let bulks = bench.store.observations().bulks();
        for bulk in &bulks {
            assert_eq!(bulk.header("content-encoding"), gzip.then_some("gzip"));
        }
        bulks
            .iter()
            .flat_map(|bulk| bulk.body.to_vec())
            .collect::<Vec<u8>>()
    });
    assert_eq!(plain, compressed);
}

/// Variables are set for another process of this same test binary, since they belong to a whole process.
#[test]
fn case_57_proxies_of_the_environment_are_ignored() {
    let this = std::env::current_exe().expect("this binary");
    let mut child = Command::new(this);
    child.args(["--exact", "verdicts::case_1_all_items_are_stored"]);
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "all_proxy",
        "ALL_PROXY",
    ] {
        child.env(name, "http://127.0.0.1:1");
    }
    child.env("NO_PROXY", "").env("no_proxy", "");
    let output = child.output().expect("a child process");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[test]
fn case_52_a_rotated_api_key_is_picked_up_without_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api_key");
    std::fs::write(&path, "aWQ6Zmlyc3Q=\n").expect("written");
    let key = |encoded: &str| Authentication::ApiKey {
        encoded: encoded.into(),
    };
    let settings = Settings {
        authentication: key("aWQ6Zmlyc3Q="),
        ..Settings::default()
    };
    let mut bench = Bench::with_store(settings, json!({ "api_key_file": path }));
    bench.write_and_settle(&records(5));
    bench.store.set_authentication(key("aWQ6c2Vjb25k"));
    bench.write(&records(10)[5..]);
    bench.poll_until("a refusal", |bench| bench.unavailable().is_some());
    std::fs::write(&path, "aWQ6c2Vjb25k\n").expect("written");
    bench.settle();
    assert_eq!((bench.count("stored"), bench.stored_documents()), (10, 10));
    std::fs::remove_file(&path).expect("removed");
    bench.write(&[record("later", 9)]);
    bench.poll_until("a reason", |bench| {
        bench
            .unavailable()
            .is_some_and(|reason| reason.contains("the secret file"))
    });
    std::fs::write(&path, "aWQ6c2Vjb25k").expect("written");
    bench.settle();
    assert_eq!(bench.count("stored"), 11);
}

/// The store itself serves as the proxy: a request that came through one names the whole URL of its target.
#[test]
fn a_configured_proxy_is_gone_through() {
    let proxy = DocumentStore::start(Settings::default()).expect("a proxy");
    let config = crate::bench::config(
        &["http://elasticsearch.example:9200".to_owned()],
        json!({ "proxy": { "url": proxy.url(), "username": "u", "password": "p" } }),
    );
    let mut bench = Bench::of(proxy, crate::bench::sink(config));
    bench.write_and_settle(&records(3));
    let bulk = &bench.store.observations().bulks()[0];
    assert!(
        bulk.target
            .starts_with("http://elasticsearch.example:9200/_bulk"),
        "{}",
        bulk.target
    );
    assert_eq!(bulk.header("proxy-authorization"), Some("Basic dTpw"));
}
