//! Statuses, bodies and searches of a healthy store.

use super::*;
use crate::{Authentication, OversizeAnswer};
use flate2::Compression;
use flate2::write::GzEncoder;

#[test]
fn external_versions_are_judged_as_elasticsearch_does() {
    let store = store();
    let first = bulk(
        &store,
        &(write("a", 5, "{\"n\":1}") + &write("b", 1, "{\"n\":2}")),
    );
    assert_eq!(first.status, 200);
    assert_eq!(first.json()["errors"], json!(false));
    assert_eq!(statuses(&first.json()), [201, 201]);
    let second = bulk(
        &store,
        &(write("a", 5, "{\"n\":3}") + &write("a", 4, "{\"n\":4}") + &write("a", 6, "{\"n\":5}")),
    )
    .json();
    assert_eq!(statuses(&second), [409, 409, 200]);
    assert_eq!(second["errors"], json!(true));
    let conflict = &second["items"][0]["index"];
    assert_eq!(
        conflict["error"]["type"],
        "version_conflict_engine_exception"
    );
    assert_eq!(conflict["_id"], "a");
    assert_eq!(second["items"][2]["index"]["_version"], 6);
    assert_eq!(second["items"][2]["index"]["result"], "updated");
    let gte = json!({"index": {"_index": "sla", "_id": "a", "version": 6, "version_type": "external_gte"}});
    assert_eq!(
        statuses(&bulk(&store, &format!("{gte}\n{{\"n\":6}}\n")).json()),
        [200]
    );
    assert_eq!(
        store.document("sla", "a").expect("a").json(),
        json!({"n": 6})
    );
}

#[test]
fn create_and_delete_have_their_own_outcomes() {
    let store = store();
    let create = "{\"create\":{\"_index\":\"sla\",\"_id\":\"a\"}}\n{}\n";
    assert_eq!(statuses(&bulk(&store, create).json()), [201]);
    let again = bulk(&store, create).json();
    assert_eq!(
        again["items"][0]["create"]["error"]["type"],
        "version_conflict_engine_exception"
    );
    let delete = "{\"delete\":{\"_index\":\"sla\",\"_id\":\"a\"}}\n";
    let deletes = bulk(&store, &format!("{delete}{delete}")).json();
    assert_eq!(statuses(&deletes), [200, 404]);
    assert_eq!(deletes["items"][1]["delete"]["result"], "not_found");
    // The delete's version stands for the document while it is young.
    assert_eq!(statuses(&bulk(&store, &write("a", 2, "{}")).json()), [409]);
    store.set_gc_deletes(Duration::ZERO);
    assert_eq!(statuses(&bulk(&store, &write("a", 2, "{}")).json()), [201]);
    // A document's own version never grows old.
    assert_eq!(statuses(&bulk(&store, &write("a", 2, "{}")).json()), [409]);
}

#[test]
fn a_source_that_is_no_object_refuses_only_its_item() {
    let store = store();
    let body = write("a", 1, "[1]")
        + &write("b", 1, "{\"n\"")
        + &write("c", 1, "{}")
        + &write("d", 1, "{\"@timestamp\":\"yesterday\"}")
        + &write("", 1, "{}");
    let answer = bulk(&store, &body).json();
    assert_eq!(statuses(&answer), [400, 400, 201, 400, 400]);
    assert_eq!(
        answer["items"][0]["index"]["error"]["type"],
        "document_parsing_exception"
    );
    assert_eq!(
        answer["items"][4]["index"]["error"]["type"],
        "illegal_argument_exception"
    );
    assert_eq!(store.documents("sla").len(), 1);
}

#[test]
fn one_malformed_action_refuses_the_whole_request() {
    let store = store();
    let good = write("a", 1, "{}");
    let long = write(&"x".repeat(513), 1, "{}");
    for (bad, error_type) in [
        ("{\"index\":\n{}\n", "x_content_parse_exception"),
        ("[]\n{}\n", "illegal_argument_exception"),
        ("{\"inedx\":{}}\n{}\n", "illegal_argument_exception"),
        (
            "{\"index\":{\"_idd\":\"1\"}}\n{}\n",
            "illegal_argument_exception",
        ),
        (
            "{\"index\":{\"_index\":\"sla\"}}\n",
            "illegal_argument_exception",
        ),
        (
            "{\"index\":{\"_id\":\"1\"}}\n{}\n",
            "action_request_validation_exception",
        ),
        (
            "{\"index\":{\"_index\":\"sla\",\"_id\":\"1\",\"version\":1}}\n{}\n",
            "action_request_validation_exception",
        ),
        (long.as_str(), "action_request_validation_exception"),
    ] {
        let answer = bulk(&store, &format!("{good}{bad}"));
        assert_eq!(answer.status, 400, "{bad}");
        assert_eq!(answer.json()["error"]["type"], error_type, "{bad}");
    }
    assert_eq!(bulk(&store, good.trim_end()).status, 400);
    assert_eq!(bulk(&store, "").status, 400);
    assert!(store.documents("sla").is_empty());
}

#[test]
fn gzip_is_read_and_the_limit_is_judged_uncompressed() {
    let settings = Settings {
        body_max_bytes: 1_000,
        ..Settings::default()
    };
    let store = DocumentStore::start(settings.clone()).expect("a store");
    let headers = [
        ("content-type", "application/x-ndjson"),
        ("content-encoding", "gzip"),
    ];
    let send = |store: &DocumentStore, text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).expect("memory");
        let body = encoder.finish().expect("memory");
        exchange(store, "POST", "/_bulk", &headers, &body)
    };
    let small = write("a", 1, "{\"n\":1}");
    assert_eq!(send(&store, &small).expect("an answer").status, 200);
    let seen = store.observations().bulks();
    assert_eq!(seen[0].body, small.as_bytes());
    assert_eq!(seen[0].header("content-encoding"), Some("gzip"));
    let large = write("b", 1, &format!("{{\"text\":\"{}\"}}", "x".repeat(1_000)));
    assert_eq!(send(&store, &large).expect("an answer").status, 413);
    let resetting = DocumentStore::start(Settings {
        oversize_answer: OversizeAnswer::Reset,
        ..settings
    })
    .expect("a store");
    assert!(send(&resetting, &large).is_err());
}

#[test]
fn a_full_store_answers_as_a_full_disk_does() {
    let store = DocumentStore::start(Settings {
        documents_max: 1,
        ..Settings::default()
    })
    .expect("a store");
    let answer = bulk(
        &store,
        &(write("a", 1, "{}") + &write("b", 1, "{}") + &write("a", 2, "{}")),
    )
    .json();
    assert_eq!(statuses(&answer), [201, 429, 200]);
    assert_eq!(
        answer["items"][1]["index"]["error"]["type"],
        "cluster_block_exception"
    );
}

#[test]
fn the_alert_rules_search_gets_a_bucket_for_every_minute() {
    let store = store();
    let minute = |n: i64, p90: f64| {
        write(
            &n.to_string(),
            1,
            &json!({"@timestamp": format!("2024-09-10T13:{n:02}:00+00:00"), "p90": p90})
                .to_string(),
        )
    };
    bulk(
        &store,
        &(minute(37, 12.5) + &minute(39, 6000.0) + &minute(50, 1.0)),
    );
    // 2024-09-10T13:35:10Z to 13:41:10Z.
    let (from, to) = (1_725_975_310_000_i64, 1_725_975_670_000_i64);
    let search = json!({
        "size": 0,
        "query": {"bool": {"filter": [
            {"range": {"@timestamp": {"gte": from, "lte": to, "format": "epoch_millis"}}},
            {"query_string": {"analyze_wildcard": true, "query": "*"}}
        ]}},
        "aggs": {"2": {
            "date_histogram": {"field": "@timestamp", "fixed_interval": "1m", "min_doc_count": 0,
                "extended_bounds": {"min": from, "max": to}, "format": "epoch_millis"},
            "aggs": {"1": {"max": {"field": "p90"}}}
        }}
    });
    let header = json!({"index": "sla", "ignore_unavailable": true});
    let body = format!("{header}\n{search}\n");
    let answer = exchange(
        &store,
        "POST",
        "/_msearch",
        &[("content-type", "application/x-ndjson")],
        body.as_bytes(),
    )
    .expect("an answer")
    .json();
    let buckets = answer["responses"][0]["aggregations"]["2"]["buckets"]
        .as_array()
        .expect("buckets");
    let values: Vec<Value> = buckets
        .iter()
        .map(|bucket| bucket["1"]["value"].clone())
        .collect();
    assert_eq!(
        values,
        [
            json!(null),
            json!(null),
            json!(12.5),
            json!(null),
            json!(6000.0),
            json!(null),
            json!(null)
        ]
    );
    assert_eq!(buckets[0]["key"], 1_725_975_300_000_i64);
    assert_eq!(buckets[0]["key_as_string"], "1725975300000");
    assert_eq!(answer["responses"][0]["status"], 200);
}

#[test]
fn searches_sort_page_and_count() {
    let store = store();
    for (id, minute) in [("a", 2), ("b", 3), ("c", 1)] {
        let source = json!({"@timestamp": format!("2024-09-10T13:0{minute}:00Z"), "p90": minute});
        bulk(&store, &write(id, 1, &source.to_string()));
    }
    let answer = post(
        &store,
        "/sla/_search",
        &json!({"size": 2, "sort": [{"@timestamp": {"order": "desc"}}]}),
    )
    .json();
    let ids: Vec<&str> = answer["hits"]["hits"]
        .as_array()
        .expect("hits")
        .iter()
        .filter_map(|hit| hit["_id"].as_str())
        .collect();
    assert_eq!(ids, ["b", "a"]);
    assert_eq!(answer["hits"]["total"]["value"], 3);
    assert_eq!(
        get(&store, "/sla/_search?q=*&size=1&sort=@timestamp:asc").json()["hits"]["hits"][0]["_id"],
        "c"
    );
    assert_eq!(get(&store, "/sla/_count").json()["count"], 3);
    assert_eq!(get(&store, "/sla/_doc/a").json()["_source"]["p90"], 2);
    assert_eq!(get(&store, "/sla/_doc/x").status, 404);
    assert_eq!(get(&store, "/none/_search").status, 404);
    assert_eq!(
        get(&store, "/none/_search?ignore_unavailable=true").status,
        200
    );
    assert_eq!(
        post(&store, "/sla/_search", &json!({"query": {"fuzzy": {}}})).status,
        400
    );
    assert_eq!(get(&store, "/_cluster/health").json()["status"], "green");
}

#[test]
fn filter_path_keeps_what_it_names() {
    let store = store();
    let headers = [("content-type", "application/json")];
    let target = "/sla/_bulk?filter_path=errors,items.*.status,items.*.error";
    let body = "{\"index\":{\"_id\":\"a\"}}\n{}\n{\"index\":{\"_id\":\"b\"}}\n[]\n";
    let answer = exchange(&store, "POST", target, &headers, body.as_bytes())
        .expect("an answer")
        .json();
    assert_eq!(answer["errors"], true);
    assert_eq!(answer["items"][0], json!({"index": {"status": 201}}));
    assert_eq!(
        answer["items"][1]["index"]["error"]["type"],
        "document_parsing_exception"
    );
    assert!(answer.get("took").is_none());
}

#[test]
fn credentials_are_asked_for() {
    let store = DocumentStore::start(Settings {
        authentication: Authentication::Basic {
            username: "elastic".to_owned(),
            password: "secret".to_owned(),
        },
        ..Settings::default()
    })
    .expect("a store");
    assert_eq!(get(&store, "/").status, 401);
    let with = |value: &str| {
        exchange(&store, "GET", "/", &[("authorization", value)], b"")
            .expect("an answer")
            .status
    };
    assert_eq!(with("Basic ZWxhc3RpYzpzZWNyZXQ="), 200);
    assert_eq!(with("Basic ZWxhc3RpYzp3cm9uZw=="), 401);
    store.set_authentication(Authentication::ApiKey {
        encoded: "aWQ6a2V5".to_owned(),
    });
    assert_eq!(with("ApiKey aWQ6a2V5"), 200);
    store.faults().set_root_status(Some(405));
    assert_eq!(with("ApiKey aWQ6a2V5"), 405);
}

#[test]
fn strange_requests_get_an_answer() {
    let store = store();
    assert_eq!(get(&store, "/_bulk").status, 405);
    assert_eq!(get(&store, "/a/b/c/d").status, 400);
    assert_eq!(
        exchange(&store, "POST", "/_bulk", &[], b"x")
            .expect("an answer")
            .status,
        406
    );
    assert_eq!(post(&store, "/_msearch", &json!({})).status, 400);
    assert_eq!(
        exchange(&store, "PUT", "/Upper", &[], b"")
            .expect("an answer")
            .status,
        400
    );
    assert_eq!(
        exchange(&store, "PUT", "/sla", &[], b"")
            .expect("an answer")
            .status,
        200
    );
    assert_eq!(
        exchange(&store, "DELETE", "/sla", &[], b"")
            .expect("an answer")
            .status,
        200
    );
    assert_eq!(
        exchange(&store, "HEAD", "/sla", &[], b"")
            .expect("an answer")
            .status,
        404
    );
}
