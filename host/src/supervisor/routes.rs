//! `/healthz`, `/readyz` and `/metrics` of all hosts together. Each request asks the hosts anew, over loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::board::{Board, HostView};
use crate::http::{metrics_text, ready_status, with_fallbacks};
use crate::metrics::{Exposition, HOST_RESTARTS, HOST_UP};

/// How long a host may take to answer. It answers from memory; a scraper's own patience is 10 s.
pub const HOST_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The most that is taken of a host's answer: metrics of 10,000 partitions take about 8 MiB.
pub const MAX_HOST_ANSWER_BYTES: usize = 16 * 1024 * 1024;

pub(super) fn router(board: Arc<Board>) -> Router {
    let for_metrics = Arc::clone(&board);
    let router = Router::new()
        .route("/healthz", get(|| async { Json(json!({"healthy": true})) }))
        .route(
            "/readyz",
            get(move || async move { ready(board.views()).await }),
        )
        .route(
            "/metrics",
            get(move || async move { metrics(for_metrics.views()).await }),
        );
    with_fallbacks(router)
}

type Answer = Result<(StatusCode, String), String>;

async fn ready(views: Vec<HostView>) -> Response {
    let mut hosts = Vec::new();
    for (view, answer) in ask_all(views, "/readyz").await {
        hosts.push(readiness(&view.pipeline, answer));
    }
    let is_ready = hosts
        .iter()
        .all(|host| host.get("ready") == Some(&Value::Bool(true)));
    let answer = json!({"ready": is_ready, "pipelines": hosts});
    (ready_status(is_ready), Json(answer)).into_response()
}

/// What the host says of itself, or why it says nothing.
fn readiness(pipeline: &str, answer: Answer) -> Value {
    let reason = match answer {
        Ok((_, body)) => match serde_json::from_str::<Value>(&body) {
            Ok(host) if host.is_object() => return host,
            _ => "the host's answer is no JSON object".to_owned(),
        },
        Err(reason) => reason,
    };
    json!({"ready": false, "pipeline": pipeline, "tasks": [], "reasons": [reason]})
}

async fn metrics(views: Vec<HostView>) -> Response {
    let mut exposition = Exposition::default();
    let (mut up, mut restarts) = (Vec::new(), Vec::new());
    let answers = ask_all(views, "/metrics").await;
    for (view, answer) in &answers {
        let text = answer
            .as_ref()
            .ok()
            .filter(|(status, _)| status.is_success());
        if let Some((_, text)) = text {
            exposition.add(text);
        }
        up.push((view.pipeline.as_str(), u64::from(text.is_some())));
        restarts.push((view.pipeline.as_str(), view.restarts));
    }
    exposition.add_by_pipeline(HOST_UP, &up);
    exposition.add_by_pipeline(HOST_RESTARTS, &restarts);
    metrics_text(exposition.render())
}

/// Asks every host at the same time; the answers keep the order of the hosts.
async fn ask_all(views: Vec<HostView>, path: &'static str) -> Vec<(HostView, Answer)> {
    let asked: Vec<(HostView, JoinHandle<Answer>)> = views
        .into_iter()
        .map(|view| {
            let http = view.http.clone();
            (view, tokio::spawn(async move { ask(http?, path).await }))
        })
        .collect();
    let mut answers = Vec::new();
    for (view, answer) in asked {
        let answer = answer.await.unwrap_or_else(|error| Err(error.to_string()));
        answers.push((view, answer));
    }
    answers
}

async fn ask(host: SocketAddr, path: &str) -> Answer {
    match tokio::time::timeout(HOST_ANSWER_TIMEOUT, request(host, path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("the host does not answer: {error}")),
        Err(_) => Err(format!(
            "the host has not answered for {} s",
            HOST_ANSWER_TIMEOUT.as_secs()
        )),
    }
}

async fn request(
    host: SocketAddr,
    path: &str,
) -> Result<(StatusCode, String), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(host).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender, or with its first error, which the sender reports too.
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, host.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_HOST_ANSWER_BYTES);
    let bytes = body.collect().await?.to_bytes();
    Ok((status, String::from_utf8(bytes.into())?))
}
