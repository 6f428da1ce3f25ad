//! What whoever reaches the listener may see, without the token: for what watches the engine.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::context::Admin;
use super::error::Result;
use crate::metrics::CONTENT_TYPE;

/// The routes that need no token: what they show is of no use to an attacker.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(alive)).routes(routes!(ready))
}

/// Numbers are open as well, unless the engine was told otherwise.
pub(super) fn metrics() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(numbers))
}

/// Whether the process is alive.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "It is.", body = String)))]
async fn alive() -> &'static str {
    "ok\n"
}

/// Whether commands are carried out: the log can be written, the broker answers, the engine is not stopping.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, description = "They are.", body = String),
        (status = 503, description = "They are not; the text says why.", body = String),
    )
)]
async fn ready(State(admin): State<Admin>) -> Response {
    match admin.broker.ready().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {error}\n")).into_response(),
    }
}

/// Numbers, in the text format of OpenMetrics.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((status = 200, description = "The numbers.", body = String, content_type = "application/openmetrics-text"))
)]
async fn numbers(State(admin): State<Admin>) -> Result<Response> {
    let text = admin.broker.metrics().await?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
