//! The provisioned alert rule on a real Elasticsearch: Normal, Pending, Alerting and Normal again while the documents of a run with the
//! delay off, on and off arrive. Run it by `weir-dev with-servers --elasticsearch -- cargo test -p weir-dev --test provisioning`.

use serde_json::{Value, json};
use std::path::Path;
use weir_dev::grafana::{ElasticsearchSearch, Evaluation, Observation, Rule};

/// 2026-11-22T15:00:00Z. The evaluator takes the time as an argument, so nobody waits for minutes to pass.
const START_MS: i64 = 1_795_359_600_000;
const MINUTE_MS: i64 = 60_000;

/// A window's document is stored this long after the window's end: `idle_grace` (5 s) and 2 s more.
const STORED_AFTER_MS: i64 = 7_000;

fn elasticsearch_url() -> String {
    std::env::var("WEIR_TEST_ELASTICSEARCH").unwrap_or_else(|_| {
        panic!("WEIR_TEST_ELASTICSEARCH is not set: run `weir-dev with-servers --elasticsearch -- cargo test -p weir-dev --test provisioning`")
    })
}

/// The provisioned rule, pointed at an index of this test's own.
fn rule(index: &str) -> Rule {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/grafana/provisioning");
    let mut rule =
        Rule::load(&folder, "visits-sync-sla-miss").unwrap_or_else(|error| panic!("{error}"));
    for query in &mut rule.queries {
        query.index = index.to_owned();
    }
    rule
}

fn unique_index(purpose: &str) -> String {
    let started = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock after 1970");
    format!(
        "provisioning-{purpose}-{}-{}",
        std::process::id(),
        started.as_nanos()
    )
}

/// The document of the window that starts at `window_ms`, in the shape of CONTRACT's latency window.
fn document(window_ms: i64, p90: f64) -> (String, Value) {
    let minute = (window_ms - START_MS).div_euclid(MINUTE_MS) + 15 * 60;
    let timestamp = format!("2026-11-22T{:02}:{:02}:00+00:00", minute / 60, minute % 60);
    let document = json!({ "@timestamp": timestamp, "p50": p90 * 0.9, "p75": p90 * 0.95, "p90": p90, "p99": p90 * 1.02,
                           "count": 1_200, "min": p90 * 0.8, "max": p90 * 1.05 });
    (timestamp, document)
}

/// Stores documents as the sink does, id and external version included, and makes them visible.
fn store(url: &str, index: &str, documents: &[(String, Value)]) {
    let mut lines = String::new();
    for (id, document) in documents {
        let action = json!({ "index": { "_index": index, "_id": id, "version": document["count"], "version_type": "external" } });
        lines.push_str(&format!("{action}\n{document}\n"));
    }
    let answer = ureq::post(format!("{url}/_bulk?refresh=true"))
        .header("content-type", "application/x-ndjson")
        .send(lines)
        .and_then(|mut response| response.body_mut().read_to_string())
        .unwrap_or_else(|error| panic!("bulk into {url}: {error}"));
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["errors"], false, "{answer}");
}

/// The states without repetitions.
fn changes(timeline: &[Observation]) -> Vec<String> {
    let mut changes: Vec<String> = timeline.iter().map(|seen| seen.state.to_string()).collect();
    changes.dedup();
    changes
}

#[test]
fn a_delay_switched_on_and_off_goes_through_pending_and_alerting_to_normal() {
    let (url, index) = (elasticsearch_url(), unique_index("delay"));
    let rule = rule(&index);
    let search = ElasticsearchSearch::new(&url);
    // Ten minutes: the delay is on in the windows 3 to 6.
    let windows: Vec<(i64, f64)> = (0..10_i32)
        .map(|n| {
            (
                START_MS + i64::from(n) * MINUTE_MS,
                if (3..7).contains(&n) {
                    10_240.5
                } else {
                    212.25
                },
            )
        })
        .collect();
    let mut arriving = windows.iter().peekable();
    let first_ms = START_MS + 2 * MINUTE_MS;
    let timeline = rule.timeline(first_ms, START_MS + 11 * MINUTE_MS, &search, |now_ms| {
        let mut arrived = Vec::new();
        while let Some((window_ms, p90)) =
            arriving.next_if(|(window_ms, _)| window_ms + MINUTE_MS + STORED_AFTER_MS <= now_ms)
        {
            arrived.push(document(*window_ms, *p90));
        }
        if !arrived.is_empty() {
            store(&url, &index, &arrived);
        }
    });
    assert_eq!(
        changes(&timeline),
        ["Normal", "Pending", "Alerting", "Normal"],
        "{timeline:#?}"
    );
    let minutes = |name: &str| -> Vec<i64> {
        timeline
            .iter()
            .filter(|seen| seen.state.to_string() == name)
            .map(|seen| (seen.at_ms - START_MS) / MINUTE_MS)
            .collect()
    };
    // Window 3 is stored 7 s after minute 4, so the evaluation of minute 5 is the first to see it; two minutes later it alerts. Window 7,
    // the first without the delay, is seen by the evaluation of minute 9.
    assert_eq!(minutes("Pending"), [5, 6]);
    assert_eq!(minutes("Alerting"), [7, 8]);
}

#[test]
fn a_corrected_window_replaces_its_document_and_ends_the_alert() {
    let (url, index) = (elasticsearch_url(), unique_index("corrected"));
    let rule = rule(&index);
    let search = ElasticsearchSearch::new(&url);
    store(&url, &index, &[document(START_MS, 10_000.0)]);
    let evaluated = rule.evaluate(START_MS + 2 * MINUTE_MS, &search);
    let Evaluation::Alerting { series } = &evaluated else {
        panic!("{evaluated:?}")
    };
    let points = series["A"].as_ref().expect("a series");
    assert_eq!(
        points.len(),
        11,
        "a bucket for every minute of the closed range of ten: {points:?}"
    );
    assert_eq!(
        points
            .iter()
            .filter_map(|point| point.value)
            .collect::<Vec<f64>>(),
        [10_000.0]
    );

    let (id, mut corrected) = document(START_MS, 300.0);
    corrected["count"] = json!(1_201);
    store(&url, &index, &[(id, corrected)]);
    let evaluated = rule.evaluate(START_MS + 3 * MINUTE_MS, &search);
    assert!(
        matches!(evaluated, Evaluation::Normal { .. }),
        "{evaluated:?}"
    );
}

#[test]
fn a_missing_index_is_no_data_and_an_unreachable_server_an_error() {
    let url = elasticsearch_url();
    let rule = rule(&unique_index("missing"));
    assert_eq!(
        rule.evaluate(START_MS, &ElasticsearchSearch::new(&url)),
        Evaluation::NoData
    );

    // A port that was free a moment ago and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let evaluated = rule.evaluate(
        START_MS,
        &ElasticsearchSearch::new(&format!("http://127.0.0.1:{port}")),
    );
    assert!(
        matches!(evaluated, Evaluation::Error { .. }),
        "{evaluated:?}"
    );
}
