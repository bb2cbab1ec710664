//! Which request is answered by what.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::answer::{self, Answer, AnswerBody};
use crate::bulk;
use crate::connection::ResetSwitch;
use crate::error::ApiError;
use crate::observations::{Flight, ObservedBulk};
use crate::request::{BodyError, Request};
use crate::search::{self, Indices, Search, shards};
use crate::serve_bulk::{self, Outcome};
use crate::server::{Authentication, OversizeAnswer, Shared};
use crate::storage::check_index_name;

/// The version that this store follows.
const VERSION: &str = "8.19.0";

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the script ends this connection")]
pub(crate) struct Hangup;

pub(crate) async fn handle(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
    switch: ResetSwitch,
) -> Result<Answer, Hangup> {
    let request = match Request::read(request, shared.settings.body_max_bytes).await {
        Ok(request) => request,
        Err(BodyError::Malformed(error)) => return Ok(refusal(&error)),
        Err(BodyError::Gone) => return Err(Hangup),
        Err(BodyError::TooLarge) => match shared.settings.oversize_answer {
            OversizeAnswer::Status413 => return Ok(answer::raw(413, "text/plain", Bytes::new())),
            OversizeAnswer::Reset => {
                switch.reset_when_closed();
                return Err(Hangup);
            }
        },
    };
    if let Err(error) = authenticate(&shared.authentication(), &request) {
        return Ok(unauthorized(&error));
    }
    let segments = request.segments();
    let names: Vec<&str> = segments.iter().map(|segment| &**segment).collect();
    match names.as_slice() {
        ["_bulk"] => handle_bulk(shared, &request, None, switch).await,
        [index, "_bulk"] => handle_bulk(shared, &request, Some(index), switch).await,
        names => {
            let answer = answer_other(&shared, &request, names);
            Ok(answer.unwrap_or_else(|error| refusal(&error)))
        }
    }
}

async fn handle_bulk(
    shared: Arc<Shared>,
    request: &Request,
    index: Option<&str>,
    switch: ResetSwitch,
) -> Result<Answer, Hangup> {
    if request.method != Method::POST && request.method != Method::PUT {
        return Ok(wrong_method(request, "POST, PUT"));
    }
    if let Err(error) = request.check_content_type() {
        return Ok(refusal(&error));
    }
    let operations = bulk::parse(&request.body, index);
    let seen = operations.as_deref().unwrap_or_default();
    let flight = Flight::begin(&shared.observations, seen);
    shared.observations.record_bulk(ObservedBulk {
        sequence: 0,
        received_at: Instant::now(),
        target: request.uri.to_string(),
        headers: request.header_list(),
        body: request.body.clone(),
        operations: seen.to_vec(),
    });
    let fault = shared.faults.next_bulk();
    let parameters = serve_bulk::Parameters {
        filter_path: request.parameter("filter_path"),
        require_alias: request.flag("require_alias"),
    };
    let mut stopped = shared.stops();
    let task = tokio::spawn(async move {
        tokio::select! {
            outcome = serve_bulk::serve(&shared, fault, operations, parameters) => outcome,
            _ = stopped.changed() => Outcome::Silence,
        }
    });
    match task.await {
        Ok(Outcome::Answer(answer)) => Ok(answer.map(|body: AnswerBody| body.with_flight(flight))),
        Ok(Outcome::Silence) => std::future::pending().await,
        Ok(Outcome::Reset) | Err(_) => {
            switch.reset_when_closed();
            Err(Hangup)
        }
    }
}

fn answer_other(shared: &Shared, request: &Request, names: &[&str]) -> Result<Answer, ApiError> {
    if let Some((status, body)) = shared.faults.answer(request.uri.path()) {
        return Ok(answer::json(status, &body));
    }
    match names {
        [] => Ok(root(shared, request)),
        ["_cluster", "health"] | ["_cluster", "health", _] => Ok(health(shared, request)),
        ["_search"] => run_search(shared, request, ""),
        [index, "_search"] => run_search(shared, request, index),
        ["_msearch"] => run_searches(shared, request, ""),
        [index, "_msearch"] => run_searches(shared, request, index),
        ["_count"] => count(shared, request, ""),
        [index, "_count"] => count(shared, request, index),
        ["_refresh"] | [_, "_refresh"] => Ok(reply(request, 200, json!({"_shards": shards(1)}))),
        [index, "_doc", id] => Ok(document(shared, request, index, id)),
        [index] if !index.starts_with('_') => manage_index(shared, request, index),
        _ => Ok(reply(
            request,
            400,
            json!({"error": format!(
                "no handler found for uri [{}] and method [{}]", request.uri, request.method
            )}),
        )),
    }
}

fn root(shared: &Shared, request: &Request) -> Answer {
    match shared.faults.root_status() {
        Some(405) => wrong_method(request, "DELETE"),
        Some(status) => reply(request, status, json!({"status": status})),
        None => reply(
            request,
            200,
            json!({
                "name": "weir-document-store",
                "cluster_name": "weir-document-store",
                "version": {"number": VERSION, "build_flavor": "default"},
                "tagline": "You Know, for Search",
            }),
        ),
    }
}

fn health(shared: &Shared, request: &Request) -> Answer {
    let indices = shared.storage().names().count();
    reply(
        request,
        200,
        json!({
            "cluster_name": "weir-document-store", "status": "green", "timed_out": false,
            "number_of_nodes": 1, "number_of_data_nodes": 1, "active_primary_shards": indices,
            "active_shards": indices, "relocating_shards": 0, "initializing_shards": 0,
            "unassigned_shards": 0, "active_shards_percent_as_number": 100.0,
        }),
    )
}

fn run_search(shared: &Shared, request: &Request, pattern: &str) -> Result<Answer, ApiError> {
    let search = Search::parse_with_url(request.json()?, |name| request.parameter(name))?;
    let answer = search.run(&shared.storage(), &indices(request, pattern))?;
    Ok(match request.parameter("filter_path") {
        Some(_) => reply(
            request,
            200,
            serde_json::to_value(&answer).unwrap_or_default(),
        ),
        None => answer::json(200, &answer),
    })
}

/// Pairs of lines: which indices, then the search. A search that fails is an answer of its own.
fn run_searches(shared: &Shared, request: &Request, pattern: &str) -> Result<Answer, ApiError> {
    let mut lines = request
        .body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.iter().all(u8::is_ascii_whitespace));
    let mut answers = Vec::new();
    while let Some(header) = lines.next() {
        let body = lines
            .next()
            .ok_or_else(|| ApiError::validation(&["the last search has no body".to_owned()]))?;
        let answer = search_pair(shared, header, body, &indices(request, pattern));
        answers.push(answer.unwrap_or_else(|error| error.body()));
    }
    if answers.is_empty() {
        return Err(ApiError::validation(&["no requests added".to_owned()]));
    }
    Ok(reply(
        request,
        200,
        json!({"took": 0, "responses": answers}),
    ))
}

fn search_pair(
    shared: &Shared,
    header: &[u8],
    body: &[u8],
    default: &Indices,
) -> Result<Value, ApiError> {
    let parse = |line: &[u8]| {
        serde_json::from_slice::<Value>(line)
            .map_err(|error| ApiError::new(400, "x_content_parse_exception", error.to_string()))
    };
    let header = parse(header)?;
    let pattern = match header.get("index") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            names.join(",")
        }
        _ => default.pattern.clone(),
    };
    let ignore_unavailable = header
        .get("ignore_unavailable")
        .and_then(Value::as_bool)
        .unwrap_or(default.ignore_unavailable);
    let indices = Indices {
        pattern,
        ignore_unavailable,
    };
    let mut answer = Search::parse(&parse(body)?)?.run(&shared.storage(), &indices)?;
    answer.status = Some(200);
    Ok(serde_json::to_value(&answer).unwrap_or_default())
}

fn count(shared: &Shared, request: &Request, pattern: &str) -> Result<Answer, ApiError> {
    let body = request.json()?;
    let counted = search::run_count(&body, &shared.storage(), &indices(request, pattern))?;
    Ok(reply(request, 200, counted))
}

fn indices(request: &Request, pattern: &str) -> Indices {
    Indices {
        pattern: pattern.to_owned(),
        ignore_unavailable: request.flag("ignore_unavailable"),
    }
}

fn document(shared: &Shared, request: &Request, index: &str, id: &str) -> Answer {
    if request.method != Method::GET && request.method != Method::HEAD {
        return wrong_method(request, "GET, HEAD");
    }
    let storage = shared.storage();
    let Some(found) = storage.index(index) else {
        return refusal(&ApiError::index_not_found(index));
    };
    let Some(document) = found.document(id) else {
        return reply(
            request,
            404,
            json!({"_index": index, "_id": id, "found": false}),
        );
    };
    answer::json(
        200,
        &FoundDocument {
            _index: index,
            _id: id,
            _version: document.version,
            _seq_no: document.seq_no,
            _primary_term: 1,
            found: true,
            _source: &document.source,
        },
    )
}

#[derive(serde::Serialize)]
struct FoundDocument<'a> {
    _index: &'a str,
    _id: &'a str,
    _version: i64,
    _seq_no: u64,
    _primary_term: u64,
    found: bool,
    _source: &'a serde_json::value::RawValue,
}

fn manage_index(shared: &Shared, request: &Request, index: &str) -> Result<Answer, ApiError> {
    let mut storage = shared.storage();
    if matches!(request.method, Method::GET | Method::HEAD)
        && let Some(found) = storage.describe(index)
    {
        return Ok(reply(request, 200, found));
    }
    let absent = storage.index(index).is_none();
    match request.method {
        Method::PUT => {
            check_index_name(index)?;
            if !storage.create_index(index) {
                return Err(ApiError::new(
                    400,
                    "resource_already_exists_exception",
                    format!("index [{index}] already exists"),
                ));
            }
            let body = json!({"acknowledged": true, "shards_acknowledged": true, "index": index});
            Ok(reply(request, 200, body))
        }
        Method::GET | Method::HEAD | Method::DELETE if absent => {
            Err(ApiError::index_not_found(index))
        }
        Method::DELETE => {
            storage.delete_index(index);
            Ok(reply(request, 200, json!({"acknowledged": true})))
        }
        _ => Ok(wrong_method(request, "GET, HEAD, PUT, DELETE")),
    }
}

fn authenticate(wanted: &Authentication, request: &Request) -> Result<(), ApiError> {
    let wanted = match wanted {
        Authentication::None => return Ok(()),
        Authentication::Basic { username, password } => {
            format!(
                "Basic {}",
                BASE64_STANDARD.encode(format!("{username}:{password}"))
            )
        }
        Authentication::ApiKey { encoded } => format!("ApiKey {encoded}"),
        Authentication::Bearer { token } => format!("Bearer {token}"),
    };
    let path = request.uri.path();
    let reason = match request.headers.get(AUTHORIZATION) {
        Some(given) if given.as_bytes() == wanted.as_bytes() => return Ok(()),
        Some(_) => format!("unable to authenticate for REST request [{path}]"),
        None => format!("missing authentication credentials for REST request [{path}]"),
    };
    Err(ApiError::new(401, "security_exception", reason))
}

fn unauthorized(error: &ApiError) -> Answer {
    let headers = [(
        "www-authenticate".to_owned(),
        "Basic realm=\"security\", charset=\"UTF-8\"".to_owned(),
    )];
    let body = AnswerBody::whole(Bytes::from(error.body().to_string()));
    answer::with_headers(error.status, &headers, body)
}

fn refusal(error: &ApiError) -> Answer {
    answer::json(error.status, &error.body())
}

fn wrong_method(request: &Request, allowed: &str) -> Answer {
    let reason = format!(
        "Incorrect HTTP method for uri [{}] and method [{}], allowed: [{allowed}]",
        request.uri, request.method
    );
    let headers = [("allow".to_owned(), allowed.to_owned())];
    let body = json!({"error": reason, "status": 405}).to_string();
    answer::with_headers(405, &headers, AnswerBody::whole(Bytes::from(body)))
}

fn reply(request: &Request, status: u16, body: Value) -> Answer {
    match request.parameter("filter_path") {
        Some(paths) => answer::json(status, &answer::filter_path(body, &paths)),
        None => answer::json(status, &body),
    }
}
