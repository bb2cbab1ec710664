//! What a host answers.

use std::sync::Arc;
use std::time::Instant;

use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::metrics::HostMetrics;
use crate::status::HostStatus;

/// The content type of `/metrics`.
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The routes of one host.
pub fn host_router(status: Arc<HostStatus>, metrics: Arc<HostMetrics>) -> Router {
    let ready = move || async move {
        let readiness = status.readiness(Instant::now());
        (ready_status(readiness.ready), Json(readiness))
    };
    let router = Router::new()
        .route("/healthz", get(|| async { Json(json!({"healthy": true})) }))
        .route("/readyz", get(ready))
        .route(
            "/metrics",
            get(move || async move { metrics_answer(&metrics) }),
        );
    with_fallbacks(router)
}

/// Answers what no route takes with JSON, as the routes do.
pub fn with_fallbacks(router: Router) -> Router {
    router
        .fallback(|uri: Uri| async move {
            error(
                StatusCode::NOT_FOUND,
                &format!("there is nothing at {}", uri.path()),
            )
        })
        .method_not_allowed_fallback(|| async {
            error(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path takes another method",
            )
        })
}

pub(crate) fn ready_status(is_ready: bool) -> StatusCode {
    match is_ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

pub(crate) fn metrics_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response()
}

fn metrics_answer(metrics: &HostMetrics) -> Response {
    match metrics.render() {
        Ok(text) => metrics_text(text),
        Err(cause) => error(StatusCode::INTERNAL_SERVER_ERROR, &cause.to_string()),
    }
}

/// Kafka Connect's shape of an error, which its clients know.
fn error(status: StatusCode, message: &str) -> Response {
    let body = json!({"error_code": status.as_u16(), "message": message});
    (status, Json(body)).into_response()
}
