//! The scripted store of the sink's own tests against the server that it imitates: the same bulks, the same answers.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_document_store::{DocumentStore, Settings};

use super::Target;

/// Bodies that are sent in this order, to an index `same` that does not exist yet. `strict` maps nothing but `n`.
const BULKS: &[&str] = &[
    r#"{"index":{"_index":"same","_id":"a","version":5,"version_type":"external"}}
{"n":1}
{"index":{"_index":"same","_id":"a","version":5,"version_type":"external"}}
{"n":2}
{"index":{"_index":"same","_id":"a","version":4,"version_type":"external"}}
{"n":2}
{"index":{"_index":"same","_id":"a","version":6,"version_type":"external"}}
{"n":2}
"#,
    r#"{"create":{"_index":"same","_id":"b"}}
{"n":1}
{"create":{"_index":"same","_id":"b"}}
{"n":2}
{"update":{"_index":"same","_id":"c","retry_on_conflict":3}}
{"doc":{"n":1},"doc_as_upsert":true}
{"update":{"_index":"same","_id":"c","retry_on_conflict":3}}
{"doc":{"n":2},"doc_as_upsert":true}
{"update":{"_index":"same","_id":"nowhere"}}
{"doc":{"n":2}}
"#,
    r#"{"delete":{"_index":"same","_id":"a","version":7,"version_type":"external"}}
{"delete":{"_index":"same","_id":"a","version":7,"version_type":"external"}}
{"delete":{"_index":"same","_id":"gone","version":7,"version_type":"external"}}
{"index":{"_index":"same","_id":"a","version":6,"version_type":"external"}}
{"n":1}
{"delete":{"_index":"same","_id":"b"}}
{"delete":{"_index":"same","_id":"b"}}
{"delete":{"_index":"not-there","_id":"b"}}
"#,
    r#"{"index":{"_index":"same","_id":"bad"}}
[1]
{"index":{"_index":"same","_id":"broken"}}
{"n":
{"index":{"_index":"Same","_id":"a"}}
{"n":1}
{"index":{"_index":"alone","_id":"a"}}
{"n":1}
{"index":{"_index":"same","routing":"r"}}
{"n":1}
"#,
    // Refused as a whole.
    "{\"index\":{\"_index\":\"same\",\"_id\":\"a\"}}\n{\"n\":1}",
    "{\"unknown\":{\"_index\":\"same\",\"_id\":\"a\"}}\n{\"n\":1}\n",
    "{\"create\":{\"_index\":\"same\",\"_id\":\"a\",\"version\":1,\"version_type\":\"external\"}}\n{\"n\":1}\n",
    "{\"update\":{\"_index\":\"same\",\"_id\":\"a\",\"version\":1,\"version_type\":\"external\"}}\n{\"doc\":{}}\n",
    "{\"index\":{\"_index\":\"same\",\"_id\":\"a\",\"version\":-1,\"version_type\":\"external\"}}\n{\"n\":1}\n",
    "{\"delete\":{\"_index\":\"same\"}}\n",
    "",
];

/// What Elasticsearch 7 and OpenSearch call a document that does not parse, and what the store does.
const OLDER_NAME: &str = "mapper_parsing_exception";
const NEWER_NAME: &str = "document_parsing_exception";

/// What the sink looks at: the request's status and error type, and those of each item, with its action and result.
fn essence(status: u16, answer: &Value) -> Value {
    let items = answer
        .get("items")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let items = items.flat_map(|item| item.as_object().into_iter().flatten());
    let items = items.map(|(action, item)| {
        json!([
            action,
            item["status"],
            item["result"],
            item.pointer("/error/type")
        ])
    });
    json!({
        "status": status,
        "error": answer.pointer("/error/type"),
        "errors": answer.get("errors"),
        "items": items.collect::<Vec<Value>>(),
    })
}

fn send(agent: &ureq::Agent, url: &str, parameters: &str, body: &str) -> Result<Value> {
    let mut answer = agent
        .post(format!("{url}/_bulk{parameters}"))
        .content_type("application/x-ndjson")
        .send(body)?;
    let status = answer.status().as_u16();
    let text = answer.body_mut().read_to_string()?;
    let body = serde_json::from_str(&text).with_context(|| text.clone())?;
    Ok(essence(status, &body))
}

pub fn the_scripted_store_answers_as_the_server(target: &Target) -> Result<()> {
    let store = DocumentStore::start(Settings::default())?;
    let long_id = "x".repeat(600);
    let long =
        format!("{{\"index\":{{\"_index\":\"same\",\"_id\":\"{long_id}\"}}}}\n{{\"n\":1}}\n");
    let bulks = BULKS
        .iter()
        .map(|bulk| ("", *bulk))
        .chain([("", long.as_str()), ("?require_alias=true", BULKS[0])]);
    let mut differences = Vec::new();
    for (parameters, bulk) in bulks {
        let server = send(&target.agent, &target.plain_url, parameters, bulk)?.to_string();
        let server = server.replace(OLDER_NAME, NEWER_NAME);
        let scripted = send(&target.agent, &store.url(), parameters, bulk)?.to_string();
        if server != scripted {
            differences.push(format!("{bulk}\nserver: {server}\nstore:  {scripted}\n"));
        }
    }
    ensure!(differences.is_empty(), "{}", differences.concat());
    Ok(())
}
