//! I3 to I7 beyond single kills: standby hosts, sinks that are away, two-stage windows, the state from outside.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use serde_json::{Value, json};
use weir_dev::client::{Index, Row, wait_until};
use weir_dev::host::{Command, Host};
use weir_dev::judge::Delivery;
use weir_dev::scene::{Scene, sample_rows, shared_kafka};
use weir_dev::servers::{ElasticsearchOptions, ElasticsearchServer};

const SETTLED: Duration = Duration::from_secs(120);

fn reduced_by(scene: &Scene, host: &mut Host) -> Result<()> {
    scene.kafka.write(&scene.visits(), &sample_rows()?)?;
    scene.wait_reduced(SETTLED)?;
    ensure!(host.drain()? == 0, "reduce-visits did not drain");
    Ok(())
}

/// I4: a host whose name was used before aborts what may have been left open where it writes. A stranger's open
/// transaction looks the same: it stays as it is, and nothing of the attempt is ever read.
#[test]
fn what_may_have_been_left_open_is_aborted_without_a_trace() -> Result<()> {
    let scene = Scene::shared("leftover")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let stranger = scene.kafka.begin_transaction(&scene.name("stranger"))?;
    stranger.write(&scene.reduced(), &[Row::value("{}").on(0)])?;
    let mut host = Command::run(&folder, &scene.reduce())
        .argument("--instance")
        .argument("one")
        .start_ready()?;
    let found = host.wait_event("transactions_open", SETTLED)?;
    ensure!(
        found["partitions"] == format!("{}-0", scene.reduced()),
        "{found}"
    );
    scene.kafka.write(&scene.visits(), &sample_rows()?)?;
    stranger.abort()?;
    scene.wait_reduced(SETTLED)?;
    scene.judge_reduced(Delivery::ExactlyOnce)?;
    let reduced = scene.kafka.count(&scene.reduced())?;
    ensure!(reduced == 4_852, "{reduced} reduced");
    ensure!(host.drain()? == 0);
    Ok(())
}

/// Kafka and Elasticsearch in one pipeline: no transaction stays open for a sink that is away (I4), and what is taken back
/// includes state (I3).
#[test]
fn a_fan_out_waits_for_elasticsearch_without_an_open_transaction() -> Result<()> {
    let mut elasticsearch = ElasticsearchServer::start(ElasticsearchOptions::default())?;
    let scene = Scene::on("fanout", &shared_kafka()?, &elasticsearch.url());
    scene.create_visits()?;
    scene.create_reduced()?;
    let copies = Index::at(&elasticsearch.url(), &scene.name("copies"));
    let folder = scene.folder(|topology| {
        scene.reduce_in(topology)["sinks"]["copies"] = json!({
            "type": "elasticsearch", "from": "reduced",
            "config": {
                "urls": [elasticsearch.url()], "index": copies.name(), "id": "coordinates",
                "version": "offset",
            },
        });
        scene.sla_in(topology)["sinks"]["windows"] = json!({
            "type": "kafka", "from": "latency", "topic": scene.name("windows"),
            "create": { "partitions": 1 },
        });
    })?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    let mut sla = Command::run(&folder, &scene.sla()).start_ready()?;
    let rows = sample_rows()?;
    scene.kafka.write(&scene.visits(), &rows)?;
    scene.wait_reduced(SETTLED)?;
    scene.wait_first_cut(SETTLED)?;
    elasticsearch.kill();
    scene.kafka.write(&scene.visits(), &rows)?;
    // Given up after a third of the transaction's 15 s, and not tried again while the sink is away. The windows close
    // meanwhile, with records of the last checkpoint in them.
    reduce.wait_event("rewound", SETTLED)?;
    sla.wait_event("rewound", SETTLED)?;
    scene.kafka.wait_stable(&scene.reduced(), SETTLED)?;
    scene.kafka.write(&scene.visits(), &rows)?;
    elasticsearch.restart()?;
    scene.wait_reduced(SETTLED)?;
    let report = scene.judge_reduced(Delivery::ExactlyOnce)?;
    ensure!(report.counted("good rows") == 3 * 4_852, "{report}");
    let stored = copies.count()?;
    ensure!(stored == 3 * 4_852, "{stored} copies");
    scene.wait_measured(SETTLED)?;
    let report = scene.judge_windows()?;
    ensure!(
        report.counted("records in windows") == 3 * 4_852,
        "{report}"
    );
    reduce.wait_balanced(15_000.0)?;
    ensure!(reduce.drain()? == 0, "reduce-visits did not drain");
    ensure!(sla.drain()? == 0, "the windows' host did not drain");
    Ok(())
}

/// Each record takes seconds: it is committed by itself, and its host stays in the group (I4, slow plugins).
#[test]
fn a_slow_plugin_is_committed_record_by_record() -> Result<()> {
    let scene = Scene::shared("slow")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        scene.reduce_in(topology)["transforms"]["reduced"]["config"] =
            json!({ "processing_delay": "7s" });
        // Shorter than one record takes.
        topology["kafka"]["producer"] = json!({ "transaction.timeout.ms": 5_000 });
    })?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.kafka.write(&scene.visits(), &sample_rows()?[..6])?;
    scene.wait_reduced(SETTLED)?;
    scene.judge_reduced(Delivery::ExactlyOnce)?;
    ensure!(
        reduce.log.count(&["task_restarts"]) == 0,
        "{}",
        reduce.log.tail(10)
    );
    ensure!(reduce.drain()? == 0, "reduce-visits did not drain");
    Ok(())
}

/// What a quick record leaves is not held back by the slow call that follows: its transaction is closed before it (I4).
#[test]
fn no_transaction_is_open_during_a_slow_call() -> Result<()> {
    let scene = Scene::shared("quick")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        scene.reduce_in(topology)["transforms"]["reduced"]["config"] =
            json!({ "processing_delay": "10s" });
    })?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    let slow = || Ok::<_, anyhow::Error>(sample_rows()?.swap_remove(0).on(0));
    let rows = [slow()?, Row::value("no visit").on(0), slow()?];
    scene.kafka.write(&scene.visits(), &rows)?;
    wait_until("the dead letter", SETTLED, || {
        match scene.kafka.count(&scene.reduce_dead_letters()) {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    // The call of the last visit goes on for seconds.
    let reduced = scene.kafka.count(&scene.reduced())?;
    ensure!(reduced == 1, "{reduced} reduced with the dead letter");
    scene.wait_reduced(SETTLED)?;
    scene.judge_reduced(Delivery::ExactlyOnce)?;
    ensure!(reduce.drain()? == 0, "reduce-visits did not drain");
    Ok(())
}

/// Stage one on two hosts, stage two on one; the documents are those that one host would make.
#[test]
fn two_stages_make_the_same_windows() -> Result<()> {
    let scene = Scene::shared("stages")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let (sketches, merge) = (scene.name("sketches"), scene.name("merge"));
    let folder = scene.folder(|topology| {
        let sla = scene.sla_in(topology);
        let mut second = sla.clone();
        sla["transforms"]["latency"]["config"]["emit"] = json!("sketch");
        sla["sinks"] = json!({
            "sketches": { "type": "kafka", "from": "latency", "topic": sketches },
        });
        second["sources"]["reduced"] =
            json!({ "type": "kafka", "topics": [sketches], "group": scene.name("merger") });
        second["transforms"]["latency"]["config"]["merge"] = json!(true);
        topology["pipelines"][&merge] = second;
    })?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    let mut one = Command::run(&folder, &scene.sla()).start_ready()?;
    let mut two = Command::run(&folder, &scene.sla()).start_ready()?;
    let mut merging = Command::run(&folder, &merge).start_ready()?;
    scene.kafka.write(&scene.visits(), &sample_rows()?)?;
    scene.wait_counted(1, SETTLED)?;
    one.kill()?;
    scene.kafka.write(&scene.visits(), &sample_rows()?)?;
    scene.wait_reduced(SETTLED)?;
    scene.wait_counted(2 * 4_852, SETTLED)?;
    scene.judge_windows()?;
    for host in [&mut reduce, &mut two, &mut merging] {
        ensure!(host.drain()? == 0, "a host did not drain");
    }
    Ok(())
}

/// `weir checkpoints` on a pipeline that has run: shown, saved, given up, brought back.
#[test]
fn state_can_be_seen_saved_given_up_and_brought_back() -> Result<()> {
    let scene = Scene::shared("checkpoints")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        // Longer than the test: everything stays in state.
        scene.sla_in(topology)["transforms"]["latency"]["config"]["size"] = json!("1h");
    })?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    reduced_by(&scene, &mut reduce)?;
    let pipeline = scene.sla();
    let checkpoints = |arguments: &[&str]| -> Result<(i32, String, String)> {
        let arguments = [&["checkpoints"], arguments, &[pipeline.as_str()]].concat();
        let ended = Command::new(&folder, &arguments).output()?;
        Ok((ended.code, ended.stdout, ended.stderr))
    };
    let mut sla = Command::run(&folder, &pipeline).start_ready()?;
    scene
        .kafka
        .wait_settled(&scene.sla_group(), &scene.reduced(), SETTLED)?;
    let (code, _, stderr) = checkpoints(&["reset"])?;
    ensure!(
        code == 1 && stderr.contains("checkpoints.active"),
        "{code} {stderr}"
    );
    ensure!(sla.drain()? == 0);

    let shown = |what: &str| -> Result<u64> {
        let (code, stdout, stderr) = checkpoints(&["show", "--format", "json"])?;
        ensure!(code == 0, "{what}: {stderr}");
        let slots: Value = serde_json::from_str(&stdout)?;
        let slots = slots.as_array().context("a list")?;
        let bytes = |slot: &Value| slot["nodes"][0]["bytes"].as_u64().unwrap_or(0);
        Ok(slots.iter().map(bytes).sum())
    };
    let before = shown("before")?;
    ensure!(before > 0, "no state");
    let file = folder.path().join("saved.json");
    let file = file.to_str().context("a path")?;
    let (code, _, stderr) = checkpoints(&["export", "--output", file])?;
    ensure!(code == 0, "{stderr}");
    let (code, _, stderr) = checkpoints(&["reset", "--node", "nonsense"])?;
    ensure!(
        code == 1 && stderr.contains("checkpoints.unknown_node"),
        "{code} {stderr}"
    );
    let (code, _, stderr) = checkpoints(&["reset"])?;
    ensure!(code == 0, "{stderr}");
    ensure!(
        shown("after the reset")? == 0,
        "there is state after the reset"
    );
    let mut sla = Command::run(&folder, &pipeline).start_ready()?;
    ensure!(sla.drain()? == 0, "it does not start without its state");
    let (code, _, stderr) = checkpoints(&["import", "--input", file])?;
    ensure!(code == 0, "{stderr}");
    ensure!(shown("after the import")? == before, "not all came back");
    let mut sla = Command::run(&folder, &pipeline).start_ready()?;
    let restored = sla.wait_event("restored", SETTLED)?;
    ensure!(restored["offset"].as_i64() > Some(0), "{restored}");
    ensure!(sla.drain()? == 0);

    // Moved by hand: noticed and named.
    scene
        .kafka
        .commit(&scene.sla_group(), &scene.reduced(), 1)?;
    let mut sla = Command::run(&folder, &pipeline).start()?;
    ensure!(
        sla.wait_exit()? == 1,
        "it starts at another offset than its state's"
    );
    ensure!(
        sla.log.tail(3).contains("checkpoint.offset_mismatch"),
        "{}",
        sla.log.tail(3)
    );
    Ok(())
}

/// KIP-848: rebalances by the broker, two hosts that come and go.
#[test]
fn the_new_consumer_protocol_works_too() -> Result<()> {
    let scene = Scene::shared("kip848")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        topology["kafka"]["consumer"] = json!({ "group.protocol": "consumer" });
    })?;
    let mut first = Command::run(&folder, &scene.reduce())
        .argument("--instance")
        .argument("one")
        .start_ready()?;
    let mut sla = Command::run(&folder, &scene.sla()).start_ready()?;
    let rows = sample_rows()?;
    for rows in rows.chunks(500) {
        scene.kafka.write(&scene.visits(), rows)?;
        thread::yield_now();
    }
    let mut second = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.kafka.write(&scene.visits(), &rows)?;
    ensure!(first.drain()? == 0, "the first host did not drain");
    scene.wait_reduced(SETTLED)?;
    scene.wait_measured(SETTLED)?;
    scene.judge_reduced(Delivery::ExactlyOnce)?;
    scene.judge_windows()?;
    ensure!(second.drain()? == 0);
    // Its members cannot be counted; that they work is noticed all the same.
    let pipeline = scene.sla();
    let reset = ["checkpoints", "reset", pipeline.as_str()];
    let ended = Command::new(&folder, &reset).output()?;
    ensure!(
        ended.code == 1 && ended.stderr.contains("checkpoints.active"),
        "{} {}",
        ended.code,
        ended.stderr
    );
    ensure!(sla.drain()? == 0);
    let ended = Command::new(&folder, &reset).output()?;
    ensure!(ended.code == 0, "{}", ended.stderr);
    Ok(())
}

/// librdkafka's mock cluster takes transactions and keeps no offset of them: the host notices after its first commit.
#[test]
fn a_broker_that_keeps_no_transaction_is_found_out() -> Result<()> {
    let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1)?;
    let scene = Scene::on(
        "keepsnone",
        &cluster.bootstrap_servers(),
        "http://127.0.0.1:9",
    );
    for topic in [scene.visits(), scene.reduced(), scene.reduce_dead_letters()] {
        cluster.create_topic(&topic, 1, 1)?;
    }
    let folder = scene.folder(|_| {})?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.kafka.write(&scene.visits(), &sample_rows()?[..20])?;
    let code = host.wait_exit()?;
    let last = host.log.tail(1);
    ensure!(
        code == 1 && last.contains("kafka.transactions_not_kept") && last.contains("at_least_once"),
        "{code}: {last}"
    );
    Ok(())
}
