//! Whom the sink trusts, and what it shows of itself.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;
use weir_document_store::{Authentication, BulkFault, DocumentStore, Settings};
use weir_test_tls::{Authority, ConnectProxy, Identity, TlsFront};

use crate::bench::{Bench, config, record, records, sink};

/// A store behind TLS under the name `127.0.0.1` or another one, and files for the sink.
struct Front {
    store: DocumentStore,
    authority: Authority,
    folder: TempDir,
    front: TlsFront,
}

impl Front {
    fn new(name: &str, expired: bool, clients: Option<&Authority>) -> Self {
        let store = DocumentStore::start(Settings::default()).expect("a store");
        let authority = Authority::new();
        let identity = match expired {
            true => authority.sign_expired(name),
            false => authority.sign(name),
        };
        let front = TlsFront::start(store.address(), &authority, &identity, clients);
        let folder = tempfile::tempdir().expect("a folder");
        Front {
            store,
            authority,
            folder,
            front,
        }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.front.port)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_str().expect("text").to_owned()
    }

    fn by_ca_file(&self) -> Value {
        json!({ "ca_file": self.file("ca.pem", &self.authority.pem()) })
    }

    fn bench(self, tls: Value, more: Value) -> Bench {
        let mut changes = more;
        changes["tls"] = tls;
        let sink = sink(config(&[self.url()], changes));
        Bench::of(self.store, sink)
    }
}

/// Nothing was stored, and the sink waits with a reason that says `why`.
fn refused(mut bench: Bench, why: &str) {
    bench.write(&records(3));
    bench.poll_until("a refusal", |bench| bench.unavailable().is_some());
    let reason = bench.unavailable().unwrap_or_default();
    assert!(reason.contains(why), "{reason}");
    assert!(bench.ended.is_empty() && bench.store.observations().received() == 0);
}

fn stored(mut bench: Bench) -> Bench {
    bench.write_and_settle(&records(3));
    assert_eq!((bench.count("stored"), bench.stored_documents()), (3, 3));
    bench
}

#[test]
fn case_50_an_authority_by_file_or_fingerprint_is_trusted() {
    let front = Front::new("127.0.0.1", false, None);
    let tls = front.by_ca_file();
    stored(front.bench(tls, json!({})));
    let front = Front::new("127.0.0.1", false, None);
    let tls = json!({ "ca_fingerprint": front.authority.fingerprint() });
    stored(front.bench(tls, json!({})));
}

#[test]
fn case_50_everybody_else_is_refused() {
    let front = Front::new("127.0.0.1", false, None);
    refused(front.bench(json!({}), json!({})), "UnknownIssuer");
    let front = Front::new("127.0.0.1", false, None);
    let tls = json!({ "ca_fingerprint": Authority::new().fingerprint() });
    refused(front.bench(tls, json!({})), "tls.ca_fingerprint");
    let front = Front::new("127.0.0.1", true, None);
    let tls = front.by_ca_file();
    refused(front.bench(tls, json!({})), "expired");
    let front = Front::new("127.0.0.1", true, None);
    let tls = json!({ "ca_fingerprint": front.authority.fingerprint() });
    refused(front.bench(tls, json!({})), "expired");
    let front = Front::new("elsewhere.example", false, None);
    let tls = front.by_ca_file();
    refused(front.bench(tls, json!({})), "not valid for name");
    let front = Front::new("elsewhere.example", false, None);
    let tls = json!({ "ca_fingerprint": front.authority.fingerprint() });
    refused(front.bench(tls, json!({})), "not valid for name");
}

#[test]
fn case_51_a_client_certificate_and_an_api_key_are_both_shown() {
    let clients = Authority::new();
    let Identity {
        certificate_pem,
        key_pem,
    } = clients.sign("sink.example");
    let front = Front::new("127.0.0.1", false, Some(&clients));
    front.store.set_authentication(Authentication::ApiKey {
        encoded: "aWQ6aHVudGVyMg==".into(),
    });
    let mut tls = front.by_ca_file();
    tls["certificate_file"] = front.file("client.pem", &certificate_pem).into();
    tls["key_file"] = front.file("client.key", &key_pem).into();
    let bench = stored(front.bench(tls, json!({ "api_key": "id:hunter2" })));
    let bulk = &bench.store.observations().bulks()[0];
    assert_eq!(
        bulk.header("authorization"),
        Some("ApiKey aWQ6aHVudGVyMg==")
    );

    let front = Front::new("127.0.0.1", false, Some(&clients));
    let tls = front.by_ca_file();
    let mut without = front.bench(tls, json!({}));
    without.write(&records(3));
    without.poll_until("a refusal", |bench| bench.unavailable().is_some());
    assert!(without.ended.is_empty() && without.store.observations().received() == 0);
}

#[test]
fn files_that_are_missing_or_hold_something_else_are_named_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca.pem");
    let make = || {
        let changes = json!({ "tls": { "ca_file": path } });
        let config = config(&["https://127.0.0.1:1".to_owned()], changes);
        weir_plugin_sdk::testing::SinkHarness::new::<weir_elasticsearch::ElasticsearchSink>(config)
            .err()
            .map(|error| format!("{error:?}"))
            .expect("refused")
    };
    assert!(make().contains("cannot be read"));
    fs::write(&path, "no certificate").expect("written");
    assert!(make().contains("holds no PEM certificate"));
}

#[test]
fn case_50_a_fingerprint_is_looked_for_at_every_new_connection() {
    let front = Front::new("127.0.0.1", false, None);
    let tls = json!({ "ca_fingerprint": front.authority.fingerprint() });
    let sink = sink(config(&[front.url()], json!({ "tls": tls })));
    let mut bench = Bench::of(front.store, sink);
    bench.write_and_settle(&records(3));
    let other = Authority::new();
    front.front.show(&other, &other.sign("127.0.0.1"));
    bench.store.faults().push(BulkFault::ResetBeforeApply);
    bench.write(&[record("after", 1)]);
    bench.poll_until("a refusal", |bench| {
        let reason = bench.unavailable().unwrap_or_default();
        reason.contains("tls.ca_fingerprint")
    });
    assert_eq!((bench.count("stored"), bench.stored_documents()), (3, 3));
    let renewed = front.authority.sign("127.0.0.1");
    front.front.show(&front.authority, &renewed);
    bench.settle();
    assert_eq!(
        bench.count("stored"),
        4,
        "a renewed certificate of the same authority"
    );
}

#[test]
fn case_52_a_client_certificate_is_read_again_when_its_files_change() {
    let clients = Authority::new();
    let front = Front::new("127.0.0.1", false, Some(&clients));
    let stranger = Authority::new().sign("sink.example");
    let mut tls = front.by_ca_file();
    tls["certificate_file"] = front.file("client.pem", &stranger.certificate_pem).into();
    tls["key_file"] = front.file("client.key", &stranger.key_pem).into();
    let sink = sink(config(&[front.url()], json!({ "tls": tls })));
    let mut bench = Bench::of(front.store, sink);
    bench.write(&records(3));
    bench.poll_until("a refusal", |bench| bench.unavailable().is_some());
    assert!(bench.ended.is_empty());
    let renewed = clients.sign("sink.example");
    fs::write(
        front.folder.path().join("client.pem"),
        &renewed.certificate_pem,
    )
    .expect("written");
    fs::write(front.folder.path().join("client.key"), &renewed.key_pem).expect("written");
    bench.settle();
    assert_eq!((bench.count("stored"), bench.stored_documents()), (3, 3));
}

/// A front for a host that no resolver knows: only the proxy can lead there.
const FAR_AWAY: &str = "elasticsearch.invalid";

fn through(front: Front, proxy: &ConnectProxy, tls: Value) -> Bench {
    let changes = json!({
        "tls": tls, "username": "elastic", "password": "inner-secret",
        "proxy": {
            "url": format!("http://127.0.0.1:{}", proxy.port), "username": "u", "password": "p",
        },
    });
    let sink = sink(config(&[format!("https://{FAR_AWAY}:9200")], changes));
    Bench::of(front.store, sink)
}

fn proxy_to(front: &Front, authorization: &str) -> ConnectProxy {
    let target = ([127, 0, 0, 1], front.front.port).into();
    ConnectProxy::start(target, Some(authorization))
}

#[test]
fn case_50_an_authority_is_known_by_its_fingerprint_through_a_proxy_too() {
    let clients = Authority::new();
    let client = clients.sign("sink.example");
    let front = Front::new(FAR_AWAY, false, Some(&clients));
    let proxy = proxy_to(&front, "Basic dTpw");
    let tls = json!({
        "ca_fingerprint": front.authority.fingerprint(),
        "certificate_file": front.file("client.pem", &client.certificate_pem),
        "key_file": front.file("client.key", &client.key_pem),
    });
    let bench = stored(through(front, &proxy, tls));
    let bulk = &bench.store.observations().bulks()[0];
    assert_eq!(bulk.header("proxy-authorization"), None);
    assert!(bulk.header("authorization").is_some());
    for head in proxy.requests() {
        assert!(
            head.starts_with(&format!("CONNECT {FAR_AWAY}:9200 ")),
            "{head}"
        );
        assert!(
            !head.to_ascii_lowercase().contains("\r\nauthorization:"),
            "the server's alone: {head}"
        );
    }
    assert!(!proxy.requests().is_empty());
}

#[test]
fn case_50_a_proxy_vouches_for_nobody() {
    for (name, is_other, authorization, why) in [
        (FAR_AWAY, true, "Basic dTpw", "tls.ca_fingerprint"),
        ("127.0.0.1", false, "Basic dTpw", "not valid for name"),
        (FAR_AWAY, false, "Basic another", "proxy"),
    ] {
        let front = Front::new(name, false, None);
        let proxy = proxy_to(&front, authorization);
        let fingerprint = match is_other {
            true => Authority::new().fingerprint(),
            false => front.authority.fingerprint(),
        };
        refused(
            through(front, &proxy, json!({ "ca_fingerprint": fingerprint })),
            why,
        );
        assert!(!proxy.requests().is_empty(), "{why}");
    }
}
