//! The Elasticsearch sink, mostly alone, against a real Elasticsearch with security and TLS on, and a real OpenSearch: the
//! answers that the scripted store of its own tests imitates come from the originals here.

mod comparison;
mod methods;
mod online;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use weir_dev::client::Index;
use weir_dev::scene::{Scene, shared_kafka};
use weir_dev::servers::{ElasticsearchOptions, ElasticsearchServer, SearchProduct, TlsFiles};
use weir_elasticsearch::ElasticsearchSink;
use weir_plugin_sdk::Flush;
use weir_plugin_sdk::testing::{SinkHarness, TestRecord};
use weir_test_tls::{Authority, Identity, bridge};

const PASSWORD: &str = "a-test-password";
/// A cold start of the server under a full build, and then some.
const DEADLINE: Duration = Duration::from_secs(300);

/// The certificate with the authority's own behind it.
fn files_of(authority: &Authority, identity: &Identity) -> TlsFiles {
    TlsFiles {
        certificate: format!("{}{}", identity.certificate_pem, authority.pem()),
        key: identity.key_pem.clone(),
        authority: authority.pem(),
    }
}

struct Target {
    server: ElasticsearchServer,
    authority: Authority,
    /// Where the server answers a client that speaks no TLS, with user and password in it where security is on.
    plain_url: String,
    /// Security and TLS are on.
    is_secured: bool,
    /// Holds the sink's files.
    folder: tempfile::TempDir,
    agent: ureq::Agent,
    /// Names in the shared Kafka.
    scene: Scene,
}

impl Target {
    /// Elasticsearch with security and TLS.
    fn secured() -> Result<Target> {
        let authority = Authority::new();
        let server = ElasticsearchServer::start(ElasticsearchOptions {
            password: Some(PASSWORD.to_owned()),
            tls: Some(files_of(&authority, &authority.sign("127.0.0.1"))),
            config_files: online::limited_user(),
            ..ElasticsearchOptions::default()
        })?;
        let port = bridge(([127, 0, 0, 1], server.port()).into(), &authority);
        let plain_url = format!("http://elastic:{PASSWORD}@127.0.0.1:{port}");
        Target::of(server, authority, plain_url, true)
    }

    fn open_search() -> Result<Target> {
        let server = ElasticsearchServer::start(ElasticsearchOptions {
            product: SearchProduct::OpenSearch,
            ..ElasticsearchOptions::default()
        })?;
        let plain_url = server.url();
        Target::of(server, Authority::new(), plain_url, false)
    }

    fn of(
        server: ElasticsearchServer,
        authority: Authority,
        plain_url: String,
        is_secured: bool,
    ) -> Result<Target> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("ca.pem"), authority.pem())?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        let target = Target {
            server,
            authority,
            plain_url,
            is_secured,
            folder,
            agent,
            scene: Scene::on("sink", &shared_kafka()?, ""),
        };
        target.wait_until_it_answers()?;
        Ok(target)
    }

    /// Its log said that it is up; a first answer may take a moment more.
    fn wait_until_it_answers(&self) -> Result<()> {
        let url = format!("{}/_cluster/health?timeout=1s", self.plain_url);
        let started_at = Instant::now();
        loop {
            match self.agent.get(&url).call() {
                Ok(answer) if answer.status() == 200 => return Ok(()),
                other => ensure!(started_at.elapsed() < DEADLINE, "no answer: {other:?}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn index(&self, name: &str) -> Index {
        Index::at(&self.plain_url, name)
    }

    fn put(&self, path: &str, body: &Value) -> Result<()> {
        let url = format!("{}/{path}", self.plain_url);
        let mut response = self.agent.put(&url).send_json(body)?;
        let status = response.status();
        let text = response.body_mut().read_to_string()?;
        ensure!(status == 200, "PUT {path} was answered {status}: {text}");
        Ok(())
    }

    fn post(&self, path: &str) -> Result<()> {
        let url = format!("{}/{path}", self.plain_url);
        let status = self.agent.post(&url).send_empty()?.status();
        ensure!(status == 200, "POST {path} was answered {status}");
        Ok(())
    }

    fn config(&self, index: &str, changes: Value) -> Value {
        let mut config = json!({
            "urls": [self.server.url()], "index": index, "batch": { "age": "10ms" },
        });
        if self.is_secured {
            config["username"] = json!("elastic");
            config["password"] = json!(PASSWORD);
            config["tls"] = json!({ "ca_file": self.file("ca.pem") });
        }
        if let (Some(config), Value::Object(changes)) = (config.as_object_mut(), changes) {
            config.extend(changes);
        }
        config
    }

    fn sink(&self, index: &str, changes: Value) -> Result<Run> {
        let sink = SinkHarness::new::<ElasticsearchSink>(self.config(index, changes))
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(Run {
            sink,
            ended: BTreeMap::new(),
        })
    }
}

/// A sink and how its records ended, by `seq` from 1.
struct Run {
    sink: SinkHarness,
    ended: BTreeMap<u64, String>,
}

impl Run {
    fn write(&mut self, records: &[TestRecord]) -> Result<()> {
        let (accepted, _) = self.sink.write(records).map_err(anyhow::Error::msg)?;
        ensure!(accepted == records.len(), "only {accepted} were accepted");
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        let started_at = Instant::now();
        while self.flush()? == Flush::Pending {
            ensure!(
                started_at.elapsed() < DEADLINE,
                "not settled: {:?}",
                self.ended
            );
        }
        Ok(())
    }

    /// Waits until the sink says that it waits, and that its reason names `what`.
    fn wait_for_reason(&mut self, what: &str) -> Result<()> {
        let started_at = Instant::now();
        loop {
            ensure!(self.flush()? == Flush::Pending, "settled: {:?}", self.ended);
            let reason = self.sink.settlements().unavailable.as_ref().into_option();
            if reason.is_some_and(|reason| reason.contains(what)) {
                return Ok(());
            }
            if started_at.elapsed() > DEADLINE {
                bail!("never waited for {what}");
            }
        }
    }

    fn flush(&mut self) -> Result<Flush> {
        let answer = self.sink.flush(200).map_err(anyhow::Error::msg)?;
        let settlements = self.sink.settlements();
        for end in settlements.settled.drain(..) {
            let how = if end.verdict == 1 {
                "stored"
            } else {
                "superseded"
            };
            ensure!(
                self.ended.insert(end.seq, how.to_owned()).is_none(),
                "settled twice"
            );
        }
        for end in settlements.rejections.drain(..) {
            let earlier = self.ended.insert(end.seq, end.code.to_string());
            ensure!(earlier.is_none(), "settled twice");
        }
        Ok(answer)
    }

    fn how(&self) -> Vec<&str> {
        self.ended.values().map(String::as_str).collect()
    }
}

fn record(id: &str, version: i64, source: &Value) -> TestRecord {
    TestRecord::value(source.to_string())
        .with_key(id)
        .offset(version)
}

fn numbered(count: i64) -> Vec<TestRecord> {
    (0..count)
        .map(|n| record(&format!("id{n}"), n, &json!({ "n": n })))
        .collect()
}

/// One server for all: its start takes longer than all the rest.
#[test]
fn a_real_server_answers_as_the_scripted_one() -> Result<()> {
    let mut target = Target::secured()?;
    every_product_answers_as_the_scripted_one(&target)?;
    wrong_passwords_pause(&target)?;
    methods::fingerprints_and_client_certificates_are_taken(&target)?;
    methods::the_target_is_checked_without_its_root(&target)?;
    online::validate_online_says_what_would_keep_documents_waiting(&target)?;
    online::a_missing_privilege_is_waited_for(&target)?;
    a_killed_server_loses_and_doubles_nothing(&mut target)
}

#[test]
fn case_56_opensearch_answers_as_the_scripted_one() -> Result<()> {
    let target = Target::open_search()?;
    methods::the_product_is_known(&target)?;
    every_product_answers_as_the_scripted_one(&target)
}

fn every_product_answers_as_the_scripted_one(target: &Target) -> Result<()> {
    versions_are_external(target)?;
    mapping_errors_reject_their_own_item(target)?;
    compressed_and_large_documents_arrive(target)?;
    blocks_are_waited_for(target)?;
    missing_indices_are_waited_for(target)?;
    methods::creations_find_their_own_documents(target)?;
    methods::upserts_merge(target)?;
    methods::tombstones_delete(target)?;
    methods::aliases_need_a_write_index(target)?;
    methods::a_strict_mapping_trips_the_breaker(target)?;
    comparison::the_scripted_store_answers_as_the_server(target)
}

fn versions_are_external(target: &Target) -> Result<()> {
    let mut run = target.sink("versions", json!({}))?;
    let rows = [("a", 5), ("a", 4), ("a", 5), ("a", 6), ("b", 0)];
    let records = rows.map(|(id, version)| record(id, version, &json!({ "version": version })));
    run.write(&records)?;
    run.settle()?;
    ensure!(
        run.how() == ["stored", "superseded", "superseded", "stored", "stored"],
        "{:?}",
        run.how()
    );
    let documents = target.index("versions").documents()?;
    let versions: Vec<i64> = documents
        .values()
        .map(|document| document.version)
        .collect();
    ensure!(versions == [6, 0], "{versions:?}");

    let mut unversioned =
        target.sink("versions", json!({ "version": "none", "id": "field:/id" }))?;
    unversioned
        .write(&[1, 2].map(|n| TestRecord::value(json!({ "id": 7, "n": n }).to_string())))?;
    unversioned.settle()?;
    let documents = target.index("versions").documents()?;
    let document = documents.get("7").context("document 7")?;
    ensure!(document.source == json!({ "id": 7, "n": 2 }) && document.version == 2);
    Ok(())
}

fn mapping_errors_reject_their_own_item(target: &Target) -> Result<()> {
    let index = target.index("strict");
    index.create(&json!({ "dynamic": "strict", "properties": { "n": { "type": "integer" } } }))?;
    let mut run = target.sink("strict", json!({}))?;
    let rows = [
        json!({ "n": 1 }),
        json!({ "n": "x" }),
        json!({ "m": 1 }),
        json!({ "n": 2 }),
    ];
    let records: Vec<TestRecord> = rows
        .iter()
        .zip(0..)
        .map(|(row, n)| record(&format!("id{n}"), n, row))
        .collect();
    run.write(&records)?;
    run.settle()?;
    let mapping = "elasticsearch.mapping";
    ensure!(
        run.how() == ["stored", mapping, mapping, "stored"],
        "{:?}",
        run.how()
    );
    ensure!(index.documents()?.len() == 2);
    Ok(())
}

fn compressed_and_large_documents_arrive(target: &Target) -> Result<()> {
    // A mapping of its own choice would refuse a number above 2^63-1, and be right.
    let index = target.index("large");
    index.create(&json!({ "dynamic": false }))?;
    let mut run = target.sink("large", json!({ "gzip": true }))?;
    let text = "ä".repeat(1_000_000);
    let odd = TestRecord::value("{\"n\":\n18446744073709551615,\r\n\"f\":12.0}")
        .with_key("odd \" \u{1f40e}")
        .offset(1);
    run.write(&[record("large", 1, &json!({ "text": text })), odd])?;
    run.settle()?;
    ensure!(run.how() == ["stored"; 2], "{:?}", run.how());
    let documents = index.documents()?;
    let large = documents.get("large").context("the large document")?;
    ensure!(
        large.source.get("text").and_then(Value::as_str) == Some(&text),
        "another text"
    );
    let odd = documents.get("odd \" \u{1f40e}").context("the odd id")?;
    ensure!(
        odd.source == json!({ "n": u64::MAX, "f": 12.0 }),
        "{:?}",
        odd.source
    );
    Ok(())
}

fn wrong_passwords_pause(target: &Target) -> Result<()> {
    let mut run = target.sink("locked", json!({ "password": "wrong" }))?;
    run.write(&numbered(3))?;
    run.wait_for_reason("401")?;
    ensure!(run.ended.is_empty() && target.index("locked").documents()?.is_empty());
    Ok(())
}

fn blocks_are_waited_for(target: &Target) -> Result<()> {
    target
        .index("blocked")
        .create(&json!({ "properties": {} }))?;
    let block = |on: bool| target.put("blocked/_settings", &json!({ "index.blocks.write": on }));
    let mut run = target.sink("blocked", json!({}))?;
    block(true)?;
    run.write(&numbered(3))?;
    run.wait_for_reason("cluster_block_exception")?;
    block(false)?;
    run.settle()?;
    target.post("blocked/_close")?;
    run.write(&[record("later", 9, &json!({ "n": 9 }))])?;
    run.wait_for_reason("index_closed_exception")?;
    target.post("blocked/_open")?;
    run.settle()?;
    ensure!(run.how() == ["stored"; 4], "{:?}", run.how());
    Ok(())
}

fn missing_indices_are_waited_for(target: &Target) -> Result<()> {
    let auto = |on: Value| {
        target.put(
            "_cluster/settings",
            &json!({ "persistent": { "action.auto_create_index": on } }),
        )
    };
    auto(json!("false"))?;
    let mut run = target.sink("missing", json!({}))?;
    run.write(&numbered(3))?;
    run.wait_for_reason("index_not_found_exception")?;
    auto(Value::Null)?;
    run.settle()?;
    ensure!(target.index("missing").documents()?.len() == 3);
    Ok(())
}

fn a_killed_server_loses_and_doubles_nothing(target: &mut Target) -> Result<()> {
    let mut run = target.sink(
        "killed",
        json!({ "batch": { "records": 50, "age": "10ms" }, "max_in_flight": 8 }),
    )?;
    run.write(&numbered(400))?;
    target.server.kill();
    run.wait_for_reason("127.0.0.1")
        .or_else(|error| match run.ended.len() {
            // Everything was stored before the kill: the write below meets the server that is away.
            400 => Ok(()),
            _ => Err(error),
        })?;
    let more: Vec<TestRecord> = numbered(440).split_off(400);
    let (accepted, _) = run.sink.write(&more).map_err(anyhow::Error::msg)?;
    target.server.restart()?;
    run.settle()?;
    let documents = target.index("killed").documents()?;
    ensure!(run.ended.len() == 400 + accepted && documents.len() == run.ended.len());
    ensure!(
        run.how()
            .iter()
            .all(|how| ["stored", "superseded"].contains(how))
    );
    let right = documents
        .values()
        .all(|document| document.source == json!({ "n": document.version }));
    ensure!(right, "a document has another version's source");
    Ok(())
}
