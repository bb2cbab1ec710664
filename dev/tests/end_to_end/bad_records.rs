//! Bad input and refused output: what lands in the dead letters, and what the policies do.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_dev::client::{Record, Row, wait_until};
use weir_dev::host::Command;
use weir_dev::judge::{DeadLetterRules, Delivery, Report, check_dead_letter};
use weir_dev::scene::{Scene, sample_rows};

const SETTLED: Duration = Duration::from_secs(120);

fn visit(id: &str) -> String {
    format!(r#"{{"visit_id":{id},"event_time":"2024-06-01T00:00:00+00:00","page":"index"}}"#)
}

fn at(event_time: &str) -> String {
    format!(r#"{{"visit_id":"v","event_time":{event_time}}}"#)
}

/// Every kind of bad row of the contract.
fn catalogue() -> Vec<Row> {
    let texts = [
        String::new(),
        "no JSON".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "\"text\"".to_owned(),
        // Truncated.
        r#"{"visit_id":"v","event_time":"2024-06-01T00:00:00+00"#.to_owned(),
        visit("null"),
        visit("\"\""),
        visit("true"),
        visit("1.5"),
        visit("1e3"),
        visit("18446744073709551616"),
        visit("[\"v\"]"),
        visit("{}"),
        r#"{"event_time":"2024-06-01T00:00:00+00:00"}"#.to_owned(),
        r#"{"visit_id":"v"}"#.to_owned(),
        at("null"),
        at("true"),
        at("1.0"),
        at("1e3"),
        at("[]"),
        at("{}"),
        at("\"\""),
        at("\"yesterday\""),
        at("\"1717200000\""),
        at("\"2024-06-01\""),
        at("\"2024-06-01T00:00:00\""),
        at("\"2024-02-30T00:00:00Z\""),
        at("\"2024-06-01T25:00:00Z\""),
        // Milliseconds are no seconds.
        at("1717200000000"),
        // Long, and cut off: the limit of a message must not be the limit of a row.
        format!(r#"{{"visit_id":"{}""#, "x".repeat(200_000)),
    ];
    let mut rows: Vec<Row> = texts.into_iter().map(Row::value).collect();
    let mut invalid = visit("\"v\"").into_bytes();
    // In the ignored field.
    if let Some(byte) = invalid.iter_mut().rev().nth(3) {
        *byte = 0xff;
    }
    rows.push(Row::value(invalid));
    rows.push(Row::default());
    rows
}

#[test]
fn every_bad_row_lands_in_the_dead_letters_and_its_neighbours_pass() -> Result<()> {
    let scene = Scene::shared("catalogue")?;
    scene.create_visits()?;
    // The dead letter keeps the original timestamp where the topic lets the producer set it.
    let config = [("message.timestamp.type", "CreateTime")];
    scene
        .kafka
        .create_topic(&scene.reduce_dead_letters(), 1, &config)?;
    let bad = catalogue();
    let mut rows = Vec::new();
    for (i, row) in bad.iter().enumerate() {
        rows.push(Row::keyed("good", visit(&format!("\"before-{i}\""))).header("trace", "g"));
        rows.push(
            Row {
                key: Some(format!("bad{i}").into_bytes()),
                ..row.clone()
            }
            .header("trace", "b"),
        );
    }
    // Good, whatever their looks: large, and nested as deep as is certain.
    rows.push(Row::keyed(
        "good",
        format!(
            r#"{{"pad":"{}",{}"#,
            "x".repeat(200_000),
            &visit("\"large\"")[1..]
        ),
    ));
    let nested = format!(
        r#"{{"deep":{}{},{}"#,
        "[".repeat(100),
        "]".repeat(100),
        &visit("\"deep\"")[1..]
    );
    rows.push(Row::keyed("good", nested));
    // Deeper than that: either way, but never lost.
    let deeper = format!(
        r#"{{"deep":{}{},{}"#,
        "[".repeat(5_000),
        "]".repeat(5_000),
        &visit("\"deeper\"")[1..]
    );
    rows.push(Row::keyed("deep", deeper));
    rows.push(Row::keyed("good", visit("12345678901")));
    scene.kafka.write(&scene.visits(), &rows)?;

    let folder = scene.folder(|_| {})?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.wait_reduced(SETTLED)?;
    let report = scene.judge_reduced(Delivery::ExactlyOnce)?;
    ensure!(
        report.counted("good rows") + report.counted("bad rows") == rows.len(),
        "{report}"
    );
    ensure!(report.counted("bad rows") >= bad.len(), "{report}");
    host.wait_balanced(f64::from(u32::try_from(rows.len())?))?;
    ensure!(host.drain()? == 0);
    Ok(())
}

#[test]
fn bad_reduced_records_land_in_the_dead_letters_of_the_windows() -> Result<()> {
    let scene = Scene::shared("badwindow")?;
    scene.create_reduced()?;
    let folder = scene.folder(|_| {})?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    let good = r#"{"start_processing_time_unix_ms":1717200000000.25}"#;
    let bad = [
        "{}",
        "no JSON",
        "[]",
        r#"{"start_processing_time_unix_ms":null}"#,
        r#"{"start_processing_time_unix_ms":"1717200000000"}"#,
        r#"{"start_processing_time_unix_ms":-1}"#,
        r#"{"start_processing_time_unix_ms":253402300800000}"#,
    ];
    let mut rows = Vec::new();
    for (i, value) in bad.iter().enumerate() {
        rows.push(Row::keyed("good", good));
        rows.push(Row::keyed(format!("bad{i}"), *value));
    }
    rows.push(Row {
        key: Some(b"null".to_vec()),
        ..Row::default()
    });
    scene.kafka.write(&scene.reduced(), &rows)?;
    scene.wait_measured(SETTLED)?;
    let report = scene.judge_windows()?;
    ensure!(
        report.counted("records in windows") == bad.len(),
        "{report}"
    );
    let source = scene.kafka.read_all(&scene.reduced())?;
    let letters = scene.kafka.read_all(&scene.sla_dead_letters())?;
    ensure!(
        letters.len() == bad.len() + 1,
        "{} dead letters",
        letters.len()
    );
    let rules = DeadLetterRules {
        pipeline: &scene.sla(),
        stage: "TRANSFORMATION",
        plugin: Some("latency-window"),
    };
    let mut report = Report::default();
    for letter in &letters {
        check_dead_letter(letter, record_of(letter, &source)?, &rules, &mut report);
    }
    report.into_result()?;
    ensure!(host.drain()? == 0);
    Ok(())
}

/// The record that has the key of the letter; keys are unique among the bad ones.
fn record_of<'a>(letter: &Record, source: &'a [Record]) -> Result<&'a Record> {
    let found = source.iter().find(|r| r.key == letter.key);
    found.with_context(|| format!("a letter of no record: {letter:?}"))
}

#[test]
fn policy_fail_stops_at_the_record_and_names_it() -> Result<()> {
    let scene = Scene::shared("fail")?;
    scene.kafka.create_topic(&scene.visits(), 1, &[])?;
    let mut rows: Vec<Row> = (0..100)
        .map(|i| Row::keyed("k", visit(&i.to_string())))
        .collect();
    rows.insert(60, Row::keyed("k", "no JSON"));
    scene.kafka.write(&scene.visits(), &rows)?;
    let folder = scene.folder(|topology| {
        scene.reduce_in(topology)["on_error"] = json!({ "policy": "fail" });
    })?;
    let place = format!("{}-0@60", scene.visits());
    // Again and again: the record stays in the way until someone does something about it.
    for _ in 0..2 {
        let mut host = Command::run(&folder, &scene.reduce()).start()?;
        ensure!(host.wait_exit()? == 1, "the exit code of a failure is 1");
        let log = host.log.lines();
        let last = log.last().context("an empty log")?;
        ensure!(
            last.contains(&place),
            "the last line does not name {place}: {last}"
        );
        let committed = scene
            .kafka
            .committed(&scene.reduce_group(), &scene.visits())?;
        // What stands before it is delivered and committed, itself and what follows is neither.
        ensure!(committed.get(&0) == Some(&60), "{committed:?}");
    }
    ensure!(scene.kafka.count(&scene.reduced())? == 60);
    ensure!(
        scene
            .kafka
            .partitions(&scene.reduce_dead_letters())?
            .is_empty()
    );
    Ok(())
}

#[test]
fn policy_skip_leaves_bad_rows_out_and_counts_them() -> Result<()> {
    let scene = Scene::shared("skip")?;
    scene.create_visits()?;
    let rows: Vec<Row> = (0..1_000)
        .map(|i| match i % 10 {
            3 => Row::keyed("k", "no JSON"),
            _ => Row::keyed("k", visit(&i.to_string())),
        })
        .collect();
    scene.kafka.write(&scene.visits(), &rows)?;
    let folder = scene.folder(|topology| {
        scene.reduce_in(topology)["on_error"] = json!({ "policy": "skip" });
    })?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.wait_reduced(SETTLED)?;
    ensure!(scene.kafka.count(&scene.reduced())? == 900);
    let metrics = host.wait_balanced(1_000.0)?;
    let settled = |outcome| metrics.sum("weir_records_settled_total", &[("outcome", outcome)]);
    ensure!(
        settled("skipped") == 100.0 && settled("delivered") == 900.0,
        "{metrics:?}"
    );
    ensure!(
        scene
            .kafka
            .partitions(&scene.reduce_dead_letters())?
            .is_empty()
    );
    ensure!(host.drain()? == 0);
    Ok(())
}

#[test]
fn a_record_that_kafka_refuses_lands_in_the_dead_letters() -> Result<()> {
    let scene = Scene::shared("large")?;
    let large = [("max.message.bytes", "4000000")];
    scene.kafka.create_topic(&scene.visits(), 1, &large)?;
    scene
        .kafka
        .create_topic(&scene.reduce_dead_letters(), 1, &large)?;
    // Broker default: 1,048,588 bytes.
    scene.create_reduced()?;
    let mut rows: Vec<Row> = (0..500)
        .map(|i| Row::keyed("k", visit(&i.to_string())))
        .collect();
    let long_id = visit(&format!("\"{}\"", "x".repeat(1_500_000)));
    rows.insert(250, Row::keyed("long", long_id).header("trace", "l"));
    scene.kafka.write(&scene.visits(), &rows)?;
    let folder = scene.folder(|topology| {
        // The client would refuse it first; the dead letter topic takes it.
        topology["kafka"]["producer"] = json!({ "message.max.bytes": 4_000_000 });
    })?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    scene.wait_reduced(SETTLED)?;
    let letters = scene.kafka.read_all(&scene.reduce_dead_letters())?;
    ensure!(letters.len() == 1, "{} dead letters", letters.len());
    let source = scene.kafka.read_all(&scene.visits())?;
    let letter = letters.first().context("one letter")?;
    let rules = DeadLetterRules {
        pipeline: &scene.reduce(),
        stage: "KAFKA_PRODUCE",
        plugin: None,
    };
    let mut report = Report::default();
    check_dead_letter(letter, record_of(letter, &source)?, &rules, &mut report);
    report.into_result()?;
    let reduced = scene.kafka.read_all(&scene.reduced())?;
    let ids: BTreeSet<&[u8]> = reduced.iter().filter_map(|r| r.value.as_deref()).collect();
    ensure!(
        reduced.len() >= 500 && ids.len() >= 500,
        "{} reduced records",
        reduced.len()
    );
    host.wait_balanced(501.0)?;
    ensure!(host.drain()? == 0);
    Ok(())
}

/// Each one sends the task back to look for it. That is progress, not a crash loop.
#[test]
fn any_number_of_records_that_kafka_refuses_is_survived() -> Result<()> {
    let scene = Scene::shared("manylarge")?;
    let large = [("max.message.bytes", "4000000")];
    scene.kafka.create_topic(&scene.visits(), 1, &large)?;
    scene
        .kafka
        .create_topic(&scene.reduce_dead_letters(), 1, &large)?;
    scene.create_reduced()?;
    let folder = scene.folder(|topology| {
        topology["kafka"]["producer"] = json!({ "message.max.bytes": 4_000_000 });
    })?;
    let mut host = Command::run(&folder, &scene.reduce()).start_ready()?;
    let rounds = 10;
    for round in 0..rounds {
        let long_id = visit(&format!("\"{}\"", "x".repeat(1_500_000 + round)));
        let rows = [
            Row::keyed("k", visit(&round.to_string())),
            Row::keyed("long", long_id),
        ];
        scene.kafka.write(&scene.visits(), &rows)?;
        scene.wait_reduced(SETTLED).with_context(|| {
            let log = host.log.tail(20);
            format!("round {round}; the log ends:\n{log}")
        })?;
    }
    let letters = scene.kafka.read_all(&scene.reduce_dead_letters())?;
    let offsets: BTreeSet<Option<&str>> = letters
        .iter()
        .map(|letter| letter.header_text("__connect.errors.offset"))
        .collect();
    ensure!(
        offsets.len() == rounds,
        "{offsets:?} lie in the dead letters"
    );
    ensure!(host.drain()? == 0);
    Ok(())
}

/// A window has no offset to be found by: its transaction is lost, and it is refused when it is made again (I4).
#[test]
fn windows_that_kafka_refuses_land_in_the_dead_letters() -> Result<()> {
    let scene = Scene::shared("largewindow")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let windows = scene.name("windows");
    // No window fits.
    let small = [("max.message.bytes", "150")];
    scene.kafka.create_topic(&windows, 1, &small)?;
    let folder = scene.folder(|topology| {
        scene.sla_in(topology)["sinks"]["windows"] =
            json!({ "type": "kafka", "from": "latency", "topic": windows });
    })?;
    let mut reduce = Command::run(&folder, &scene.reduce()).start_ready()?;
    let mut sla = Command::run(&folder, &scene.sla()).start_ready()?;
    scene.kafka.write(&scene.visits(), &sample_rows()?)?;
    scene.wait_reduced(SETTLED)?;
    scene.wait_measured(SETTLED)?;
    scene.judge_windows()?;
    let documents = scene.index().count()?;
    let letters = wait_until("every window in the dead letters", SETTLED, || {
        let letters = scene.kafka.read_all(&scene.sla_dead_letters());
        let letters = letters.map_err(|error| format!("{error:#}"))?;
        match letters.len() as u64 >= documents {
            true => Ok(letters),
            false => Err(format!("{} of {documents}", letters.len())),
        }
    })?;
    let contents: BTreeSet<_> = letters.iter().map(|l| (&l.key, &l.value)).collect();
    ensure!(contents.len() == letters.len(), "a letter came twice");
    for letter in &letters {
        let stage = letter.header_text("__connect.errors.stage");
        ensure!(stage == Some("KAFKA_PRODUCE"), "{stage:?}");
        let node = letter.header_text("__connect.errors.topic");
        ensure!(node == Some("latency"), "{node:?}");
    }
    ensure!(scene.kafka.count(&windows)? == 0, "a window fitted");
    for host in [&mut sla, &mut reduce] {
        ensure!(host.drain()? == 0, "a host did not drain");
    }
    Ok(())
}

/// A document that the index refuses (its mapping says otherwise) is a dead letter of the sink.
#[test]
fn a_document_that_elasticsearch_refuses_lands_in_the_dead_letters() -> Result<()> {
    let scene = Scene::shared("mapping")?;
    scene.create_reduced()?;
    // A percentile is no date in this format: every document is refused.
    let mapping = json!({ "properties": { "p50": { "type": "date", "format": "strict_date" } } });
    scene.index().create(&mapping)?;
    let folder = scene.folder(|_| {})?;
    let mut host = Command::run(&folder, &scene.sla()).start_ready()?;
    let good = r#"{"start_processing_time_unix_ms":1717200000000}"#;
    scene
        .kafka
        .write(&scene.reduced(), &[Row::value(good).on(0)])?;
    scene.wait_measured(SETTLED)?;
    let letters = scene.kafka.read_all(&scene.sla_dead_letters())?;
    ensure!(letters.len() == 1, "{} dead letters", letters.len());
    let letter = letters.first().context("one letter")?;
    for (name, value) in [
        ("__connect.errors.topic", "latency"),
        ("__connect.errors.partition", "-1"),
        ("__connect.errors.offset", "-1"),
        ("__connect.errors.connector.name", scene.sla().as_str()),
        ("__connect.errors.stage", "TASK_PUT"),
        ("__connect.errors.class.name", "elasticsearch"),
        ("weir.errors.derived", "true"),
    ] {
        ensure!(
            letter.header_text(name) == Some(value),
            "{name}: {:?}",
            letter.header_text(name)
        );
    }
    let document: serde_json::Value =
        serde_json::from_slice(letter.value.as_deref().context("a value")?)?;
    ensure!(document["count"] == json!(1), "{document}");
    let key = letter.key.as_deref().context("a key")?;
    ensure!(document["@timestamp"].as_str().map(str::as_bytes) == Some(key));
    ensure!(scene.index().documents()?.is_empty());
    ensure!(host.drain()? == 0);
    Ok(())
}
