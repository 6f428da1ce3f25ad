use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::get;
use ensync_core::{Error, ErrorKind, Result};
use http::{StatusCode, header};
use utoipa::OpenApi as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use super::error::Refusal;
use super::{AdminToken, auth, body, open};
use crate::Broker;

/// What every handler has at hand.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(super) broker: Broker,
    pub(super) token: AdminToken,
}

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "EnSync admin API",
    description = "Apps, event names, queues and dead letters of one EnSync engine."
))]
struct Document;

/// The security scheme's name in the document.
pub(super) const TOKEN: &str = "token";

/// Everything that the listener serves. `open_metrics`: without the token.
///
/// # Errors
///
/// [`ErrorKind::Internal`] if the routes make no document.
pub(crate) fn router(broker: Broker, token: AdminToken, open_metrics: bool) -> Result<Router> {
    let mut document = Document::openapi();
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    document.components.get_or_insert_default().add_security_scheme(TOKEN, bearer);
    let admin = Admin { broker, token };
    // The last layer is the first to see a request: without the token, no body is read.
    let (open, api) = match open_metrics {
        true => (open::routes().merge(open::metrics()), api()),
        false => (open::routes(), api().merge(open::metrics())),
    };
    let guarded = api.layer(from_fn(body::whole)).layer(from_fn_with_state(admin.clone(), auth::require_token));
    let routes = OpenApiRouter::with_openapi(document).merge(open).merge(guarded);
    let (router, document) = routes.split_for_parts();
    let document = document.to_json().map_err(|cause| {
        Error::new(ErrorKind::Internal, "the admin API's document cannot be written").with_source(cause)
    })?;
    let json = [(header::CONTENT_TYPE, "application/json")];
    let router = router.route("/openapi.json", get(|| async move { (json, document).into_response() }));
    Ok(router.fallback(unknown).method_not_allowed_fallback(not_allowed).with_state(admin))
}

/// The routes that need the token.
fn api() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
}

async fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here; /openapi.json says what there is")
}

async fn not_allowed() -> Refusal {
    let message = "this path does not take that method; /openapi.json says which it takes";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_input", message)
}
