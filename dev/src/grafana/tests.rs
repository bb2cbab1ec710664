use super::*;
use serde_json::{Value, json};
use std::cell::Cell;
use std::path::{Path, PathBuf};

const RULE_UID: &str = "visits-sync-sla-miss";

/// 2026-11-22T15:00:00Z, the hour in which the real Grafana was watched.
const HOUR_MS: i64 = 1_795_359_600_000;

fn provisioning_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/grafana/provisioning")
}

fn rule() -> Rule {
    Rule::load(&provisioning_folder(), RULE_UID).unwrap()
}

fn clock(minute: i64, second: i64) -> i64 {
    HOUR_MS + minute * 60_000 + second * 1_000
}

/// A document becomes visible at `stored_ms`.
struct Document {
    stored_ms: i64,
    window_ms: i64,
    p90: f64,
}

/// Answers the date histogram of the request as Elasticsearch does: extended bounds, every minute a bucket, null where nothing is.
struct Documents {
    now_ms: Cell<i64>,
    documents: Vec<Document>,
    index_exists: bool,
}

impl Documents {
    fn new(documents: Vec<Document>) -> Self {
        Self {
            now_ms: Cell::new(0),
            documents,
            index_exists: true,
        }
    }

    fn max_of(&self, key_ms: i64, range: (i64, i64)) -> Option<f64> {
        self.documents
            .iter()
            .filter(|document| document.stored_ms <= self.now_ms.get())
            .filter(|document| (range.0..=range.1).contains(&document.window_ms))
            .filter(|document| document.window_ms.div_euclid(60_000) * 60_000 == key_ms)
            .map(|document| document.p90)
            .reduce(f64::max)
    }
}

impl Search for Documents {
    fn msearch(&self, header: &Value, body: &Value) -> Result<Value, SearchError> {
        assert_eq!(
            header,
            &json!({ "ignore_unavailable": true, "index": "visits_sync_sla", "search_type": "query_then_fetch" })
        );
        if !self.index_exists {
            return Ok(json!({ "status": 200, "hits": { "total": { "value": 0 } } }));
        }
        let histogram = &body["aggs"]["2"]["date_histogram"];
        assert_eq!(histogram["fixed_interval"], "1m");
        assert_eq!(histogram["min_doc_count"], 0);
        assert_eq!(
            body["aggs"]["2"]["aggs"]["1"],
            json!({ "max": { "field": "p90" } })
        );
        let range = &body["query"]["bool"]["filter"][0]["range"]["@timestamp"];
        let range = (
            range["gte"].as_i64().unwrap(),
            range["lte"].as_i64().unwrap(),
        );
        assert_eq!(
            histogram["extended_bounds"],
            json!({ "min": range.0, "max": range.1 })
        );
        let first_ms = range.0.div_euclid(60_000) * 60_000;
        let keys = (0..)
            .map(|minute| first_ms + minute * 60_000)
            .take_while(|key| *key <= range.1);
        let buckets: Vec<Value> = keys
            .map(|key| json!({ "key": key, "1": { "value": self.max_of(key, range) } }))
            .collect();
        Ok(json!({ "status": 200, "aggregations": { "2": { "buckets": buckets } } }))
    }
}

/// The states at whole minutes, as `17:00 Normal`.
fn states(rule: &Rule, documents: &Documents, from_ms: i64, to_ms: i64) -> Vec<String> {
    rule.timeline(from_ms, to_ms, documents, |now_ms| {
        documents.now_ms.set(now_ms)
    })
    .iter()
    .map(|seen| format!("{:02}:00 {}", (seen.at_ms - HOUR_MS) / 60_000, seen.state))
    .collect()
}

#[test]
fn the_provisioned_rule_means_what_the_issue_says() {
    let rule = rule();
    assert_eq!(rule.title, "SLA miss visits synchronizer");
    assert_eq!(rule.folder, "alerts");
    assert_eq!(
        (rule.interval_ms, rule.pending_period_ms),
        (60_000, 120_000)
    );
    assert_eq!(
        (rule.no_data_state, rule.exec_err_state),
        (NoDataState::Alerting, ExecErrState::Alerting)
    );
    let [query] = rule.queries.as_slice() else {
        panic!("one query, not {}", rule.queries.len())
    };
    assert_eq!(
        (query.from_ms, query.to_ms, query.index.as_str()),
        (600_000, 0, "visits_sync_sla")
    );
    let [condition] = rule.condition.conditions.as_slice() else {
        panic!("one condition")
    };
    assert_eq!(
        (condition.reducer.kind, condition.evaluator),
        (Reducer::Last, Evaluator::Gt([5_000.0]))
    );
}

/// What a real Grafana 10.1.5 showed with 10,000 written at 15:17:08 and 200 at 15:21:11.
#[test]
fn follows_the_timings_of_a_real_grafana() {
    let documents = Documents::new(vec![
        Document {
            stored_ms: clock(14, 8),
            window_ms: clock(13, 0),
            p90: 200.0,
        },
        Document {
            stored_ms: clock(17, 8),
            window_ms: clock(16, 0),
            p90: 10_000.0,
        },
        Document {
            stored_ms: clock(21, 11),
            window_ms: clock(20, 0),
            p90: 200.0,
        },
    ]);
    assert_eq!(
        states(&rule(), &documents, clock(16, 1), clock(23, 0)),
        [
            "17:00 Normal",
            "18:00 Pending",
            "19:00 Pending",
            "20:00 Alerting",
            "21:00 Alerting",
            "22:00 Normal",
            "23:00 Normal"
        ]
    );
}

/// A real Grafana on an empty index: pending after a minute, alerting two minutes later.
#[test]
fn no_data_counts_as_alerting_and_waits_like_a_breach() {
    let expected = [
        "01:00 Pending (NoData)",
        "02:00 Pending (NoData)",
        "03:00 Alerting (NoData)",
        "04:00 Alerting (NoData)",
    ];
    let mut documents = Documents::new(Vec::new());
    assert_eq!(
        states(&rule(), &documents, clock(0, 1), clock(4, 0)),
        expected
    );
    documents.index_exists = false;
    assert_eq!(
        states(&rule(), &documents, clock(0, 1), clock(4, 0)),
        expected,
        "a missing index is no data, not an error"
    );
}

#[test]
fn a_stopped_feed_keeps_its_last_value_for_ten_minutes() {
    let documents = Documents::new(vec![Document {
        stored_ms: clock(2, 0),
        window_ms: clock(1, 0),
        p90: 200.0,
    }]);
    let seen = states(&rule(), &documents, clock(2, 0), clock(14, 0));
    assert_eq!(
        seen.iter()
            .filter(|state| state.ends_with(" Normal"))
            .count(),
        10,
        "{seen:?}"
    );
    assert_eq!(
        seen[10..],
        [
            "12:00 Pending (NoData)",
            "13:00 Pending (NoData)",
            "14:00 Alerting (NoData)"
        ]
    );
}

#[test]
fn a_breach_shorter_than_the_pending_period_never_alerts() {
    let documents = Documents::new(vec![
        Document {
            stored_ms: clock(1, 5),
            window_ms: clock(0, 0),
            p90: 5_000.1,
        },
        Document {
            stored_ms: clock(3, 5),
            window_ms: clock(2, 0),
            p90: 5_000.0,
        },
    ]);
    assert_eq!(
        states(&rule(), &documents, clock(1, 30), clock(5, 0)),
        [
            "02:00 Pending",
            "03:00 Pending",
            "04:00 Normal",
            "05:00 Normal"
        ],
        "5000 is not above 5000"
    );
}

struct Unreachable;

impl Search for Unreachable {
    fn msearch(&self, _: &Value, _: &Value) -> Result<Value, SearchError> {
        Err(SearchError("connection refused".to_owned()))
    }
}

struct Refusing;

impl Search for Refusing {
    fn msearch(&self, _: &Value, _: &Value) -> Result<Value, SearchError> {
        Ok(json!({ "status": 400, "error": { "type": "query_shard_exception" } }))
    }
}

#[test]
fn errors_are_mapped_as_the_rule_says() {
    for search in [&Unreachable as &dyn Search, &Refusing] {
        let seen = rule().timeline(clock(0, 0), clock(2, 0), search, |_| ());
        assert!(matches!(seen[0].evaluation, Evaluation::Error { .. }));
        let states: Vec<String> = seen.iter().map(|seen| seen.state.to_string()).collect();
        assert_eq!(
            states,
            ["Pending (Error)", "Pending (Error)", "Alerting (Error)"]
        );
    }
    let mut other = rule();
    (other.no_data_state, other.exec_err_state) = (NoDataState::NoData, ExecErrState::Ok);
    let mut machine = StateMachine::new(&other, 0);
    assert_eq!(
        machine.step(60_000, &Evaluation::NoData).name,
        StateName::NoData
    );
    let state = machine.step(
        120_000,
        &Evaluation::Error {
            message: String::new(),
        },
    );
    assert_eq!(
        (state.name, state.reason, state.since_ms),
        (StateName::Normal, Some(Reason::Error), 120_000)
    );
}

#[test]
fn evaluations_fall_on_whole_intervals() {
    let rule = rule();
    assert_eq!(rule.next_evaluation_ms(clock(5, 0)), clock(5, 0));
    assert_eq!(rule.next_evaluation_ms(clock(5, 1)), clock(6, 0));
}

/// Every pitfall that a real Grafana answered with a refusal, a false alarm or a false peace, as an edit of the real file.
#[test]
fn refuses_the_files_that_grafana_refuses_or_misreads() {
    let cases = [
        ("interval: 1m\n", "interval: 15s\n", "grafana.rule.wrong"),
        ("for: 2m", "for: 120", "grafana.rule.wrong"),
        ("        for: 2m\n", "", "grafana.file.malformed"),
        (
            "noDataState: Alerting",
            "noDataState: alerting",
            "grafana.file.malformed",
        ),
        (
            "execErrState: Alerting",
            "execErrState: KeepLast",
            "grafana.file.malformed",
        ),
        (
            "            relativeTimeRange: { from: 600, to: 0 }\n",
            "",
            "grafana.file.malformed",
        ),
        (
            "{ from: 600, to: 0 }",
            "{ from: 0, to: 600 }",
            "grafana.rule.query",
        ),
        ("    folder: alerts\n", "", "grafana.file.malformed"),
        (
            "    folder: alerts\n",
            "    folder: \"\"\n",
            "grafana.rule.wrong",
        ),
        (
            "{ id: \"1\", type: max, field: p90 }",
            "{ type: max, field: p90 }",
            "grafana.rule.model",
        ),
        ("params: [A]", "params: [C]", "grafana.rule.condition"),
        ("condition: B", "condition: A", "grafana.rule.condition"),
        ("condition: B", "condition: C", "grafana.rule.condition"),
        (
            "datasourceUid: visits-sla-es",
            "datasourceUid: elsewhere",
            "grafana.rule.query",
        ),
        ("        panelId: 1\n", "", "grafana.rule.wrong"),
        ("bucketAggs:", "bucketAgg:", "grafana.rule.model"),
        (
            "reducer: { type: last",
            "reducer: { type: newest",
            "grafana.rule.model",
        ),
        ("trimEdges: \"0\"", "trimEdges: \"1\"", "grafana.rule.query"),
        ("apiVersion: 1", "apiVersion: 2", "grafana.file.version"),
        (
            "uid: visits-sync-sla-miss",
            "uid: other",
            "grafana.rule.unknown",
        ),
    ];
    let good =
        std::fs::read_to_string(provisioning_folder().join("alerting/sla-miss.yaml")).unwrap();
    for (written, edited, code) in cases {
        assert!(good.contains(written), "the file holds no `{written}`");
        let folder = tempfile::tempdir().unwrap();
        for kind in ["datasources", "dashboards", "alerting"] {
            std::fs::create_dir(folder.path().join(kind)).unwrap();
        }
        std::fs::copy(
            provisioning_folder().join("datasources/elasticsearch.yaml"),
            folder.path().join("datasources/elasticsearch.yaml"),
        )
        .unwrap();
        std::fs::write(
            folder.path().join("alerting/sla-miss.yaml"),
            good.replacen(written, edited, 1),
        )
        .unwrap();
        let error = Rule::load(folder.path(), RULE_UID).expect_err(edited);
        assert_eq!(error.code, code, "`{edited}`: {error}");
    }
}

#[test]
fn reducers_leave_nulls_out() {
    let series: Series = [Some(3.0), None, Some(5.0), Some(1.0), None]
        .iter()
        .zip(0..)
        .map(|(value, at_ms)| Point {
            at_ms,
            value: *value,
        })
        .collect();
    let reduced = |reducer: Reducer| reducer.reduce(&series);
    assert_eq!(reduced(Reducer::Last), Some(1.0));
    assert_eq!(reduced(Reducer::Max), Some(5.0));
    assert_eq!(reduced(Reducer::Min), Some(1.0));
    assert_eq!(reduced(Reducer::Sum), Some(9.0));
    assert_eq!(reduced(Reducer::Avg), Some(3.0));
    assert_eq!(reduced(Reducer::Count), Some(5.0));
    assert_eq!(
        Reducer::Last.reduce(&vec![Point {
            at_ms: 0,
            value: None
        }]),
        None
    );
}

#[test]
fn conditions_join_with_and_and_or() {
    let conditions = |operator: &str| -> ClassicConditions {
        let condition = |ref_id: &str, kind: &str, params: Value| {
            json!({ "type": "query", "query": { "params": [ref_id] }, "reducer": { "type": "last", "params": [] },
                    "operator": { "type": operator }, "evaluator": { "type": kind, "params": params } })
        };
        serde_json::from_value(json!({ "refId": "C", "type": "classic_conditions",
            "conditions": [condition("A", "gt", json!([5])), condition("B", "within_range", json!([1, 3]))] }))
        .unwrap()
    };
    let point = |value: Option<f64>| Some(vec![Point { at_ms: 0, value }]);
    let cases = [
        ("and", Some(6.0), Some(2.0), Outcome::Firing),
        ("and", Some(6.0), Some(4.0), Outcome::Quiet),
        ("or", Some(6.0), Some(4.0), Outcome::Firing),
        ("or", Some(5.0), Some(3.0), Outcome::Quiet),
        ("and", None, Some(2.0), Outcome::Quiet),
        ("or", None, Some(2.0), Outcome::NoData),
        ("and", None, None, Outcome::NoData),
    ];
    for (operator, a, b, outcome) in cases {
        let series = [("A".to_owned(), point(a)), ("B".to_owned(), point(b))].into();
        assert_eq!(
            conditions(operator).evaluate(&series),
            outcome,
            "{a:?} {operator} {b:?}"
        );
    }
}
