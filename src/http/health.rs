//! `/healthz`, `/readyz`, `/metrics`: GET and HEAD, and nothing else.
//!
//! Answers are text, or JSON for who asks for it by `?format=json` or by `Accept`. 200 is yes, 503 is no.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::health::judge::{self, Report};
use crate::metrics::{self, Metrics};

/// The routes, answered from `metrics`.
pub fn routes(metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/", get(async || "fnscope: /healthz /readyz /metrics\n"))
        .route("/healthz", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(exposition))
        .with_state(metrics)
}

async fn live(State(metrics): State<Arc<Metrics>>, uri: Uri, headers: HeaderMap) -> Response {
    answer(&judge::live(&metrics, metrics::now_ns()), &uri, &headers)
}

async fn ready(State(metrics): State<Arc<Metrics>>, uri: Uri, headers: HeaderMap) -> Response {
    answer(&judge::ready(&metrics, metrics::now_ns()), &uri, &headers)
}

async fn exposition(State(metrics): State<Arc<Metrics>>) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&metrics)).into_response()
}

fn answer(report: &Report, uri: &Uri, headers: &HeaderMap) -> Response {
    let status = if report.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let (kind, body) = if wants_json(uri, headers) {
        ("application/json", report.json())
    } else {
        ("text/plain; charset=utf-8", report.text())
    };
    (status, [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], body).into_response()
}

fn wants_json(uri: &Uri, headers: &HeaderMap) -> bool {
    let asked = uri.query().is_some_and(|query| query.split('&').any(|part| part == "format=json"));
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    asked || accepted.is_some_and(|kinds| kinds.contains("application/json"))
}
