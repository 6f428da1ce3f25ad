use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::get;
use ensync_core::{Error, ErrorKind, Result};
use http::{StatusCode, header};
use utoipa::OpenApi as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use super::console::Console;
use super::context::{About, Admin, SettingInForce, TOKEN};
use super::error::{Problem, Refusal};
use super::guard::{self, Guard};
use super::tokens::Tokens;
use super::{api, auth, body, bound, console, open};
use crate::Broker;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "EnSync admin API", description = "Apps, event names, queues and dead letters of one EnSync engine."),
    components(schemas(Problem))
)]
struct Document;

/// What a listener serves, and to whom.
pub(crate) struct Served {
    pub(crate) broker: Broker,
    pub(crate) tokens: Tokens,
    /// Whether numbers are shown without the token.
    pub(crate) open_metrics: bool,
    /// The names by which it is called, if that matters.
    pub(crate) hosts: Option<Arc<[String]>>,
    /// What whoever started the engine set.
    pub(crate) settings: Vec<SettingInForce>,
    pub(crate) console: Option<Console>,
}

/// Everything that the listener serves. What it shows of the last hour is read from now on, until the broker stops.
///
/// # Errors
///
/// [`ErrorKind::Internal`] if the routes make no document.
pub(crate) fn router(served: Served) -> Result<Router> {
    let Served { broker, tokens, open_metrics, hosts, settings, console } = served;
    let mut document = Document::openapi();
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    document.components.get_or_insert_default().add_security_scheme(TOKEN, bearer);
    // The last layer is the first to see a request: without the token, no body is read.
    let api = api::routes().merge(api::about());
    let (open, api) = match open_metrics {
        true => (open::routes().merge(open::metrics()), api),
        false => (open::routes(), api.merge(open::metrics())),
    };
    let guarded = api.layer(from_fn(body::whole)).layer(from_fn_with_state(tokens.clone(), auth::require_token));
    let routes = OpenApiRouter::with_openapi(document).merge(open).merge(guarded);
    let (router, document) = routes.split_for_parts();
    let document = document.to_json().map_err(|cause| {
        Error::new(ErrorKind::Internal, "the admin API's document cannot be written").with_source(cause)
    })?;
    let json = [(header::CONTENT_TYPE, "application/json")];
    let router = router.route("/openapi.json", get(|| async move { (json, document).into_response() }));
    let router = match console {
        Some(console) => router.merge(console::router(tokens.clone(), console)),
        None => router,
    };
    let about = Arc::new(About::new(settings));
    tokio::spawn(about.history.clone().keep(broker.clone()));
    let router = finish(router, Admin { broker, about }).layer(from_fn(bound::answer));
    Ok(router.layer(from_fn_with_state(Guard { hosts, tokens, shown: guard::bearer }, guard::check)))
}

/// The routes that need the token, without asking for it.
pub(super) fn unguarded(broker: Broker) -> Router {
    let (router, _) = api::routes().split_for_parts();
    finish(router, Admin::of(broker)).layer(from_fn(bound::whole))
}

fn finish(router: Router<Admin>, admin: Admin) -> Router {
    router.fallback(unknown).method_not_allowed_fallback(not_allowed).with_state(admin)
}

pub(super) async fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here; /openapi.json says what there is")
}

async fn not_allowed() -> Refusal {
    let message = "this path does not take that method; /openapi.json says which it takes";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_input", message)
}
