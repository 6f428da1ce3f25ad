//! What whoever reaches the listener may see, without the token: for what watches the engine.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::context::Admin;
use super::error::Result;
use crate::metrics::Format;

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

/// Numbers, in the text format of OpenMetrics for whoever names that in `Accept`, else in that of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((status = 200, description = "The numbers.", content(
        (String = "text/plain; version=0.0.4; charset=utf-8"),
        (String = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    )))
)]
async fn numbers(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response> {
    // Several lines are one list: RFC 9110, section 5.3.
    let accept: Vec<_> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::wanted(&accept.join(","));
    let text = format.of(admin.broker.metrics().await?);
    Ok(([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], text).into_response())
}
