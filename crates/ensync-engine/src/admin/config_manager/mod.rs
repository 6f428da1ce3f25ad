//! The makers' Config Manager, as far as this engine can be it: the HTTP API that their command line and people's automation speak.
//!
//! ```text
//! connection ── limit ── TLS ── hyper ── router ─┬─ open: /ping, the OpenAPI document
//!                                                └─ X-ACCESS-KEY ── body ── /api/v1/ensync routes ── Broker
//! ```
//!
//! It keeps nothing: each route asks the broker what the admin API asks it. Their words for ours: an access key of type SERVICE is
//! an app, one of type ACCOUNT is the admin token; an event is an event name, its payload a schema; a workspace is what a name has
//! before its last slash. Where there is no word for what is asked, the answer is a refusal that says so.

mod caller;
mod changes;
mod events;
mod keys;
mod listing;
mod permissions;
mod time;
mod workspaces;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::get;
use ensync_core::{Error, ErrorKind, Result};
use http::{StatusCode, header};
use utoipa::OpenApi as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Ref, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::context::Admin;
use super::error::{Problem, Refusal};
use super::guard::{self, Guard};
use super::{Tokens, body, bound};
use crate::{Broker, Limits};
use caller::Gate;

/// Where everything is.
pub(crate) const BASE: &str = "/api/v1/ensync";
/// Where the permissions of an access key are, and where they were.
const PERMISSIONS: &str = "/access-key/{id}/permissions";
const EARLIER: &str = "/access-key/permissions/{id}";
/// The security scheme's name in the document.
const KEY: &str = "access key";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "EnSync Config Manager API",
        description = "What the makers' command line asks of their Config Manager, answered by an EnSync engine. New programs are \
                       better served by the engine's admin API."
    ),
    components(schemas(Problem))
)]
struct Document;

/// Everything that the listener serves. `hosts`: the names by which it is called, if that matters.
///
/// # Errors
///
/// [`ErrorKind::Internal`] if the routes make no document.
pub(crate) fn router(broker: Broker, tokens: Tokens, limits: &Limits, hosts: Option<Arc<[String]>>) -> Result<Router> {
    let guard = Guard { hosts, tokens: tokens.clone(), shown: caller::shows_account };
    let gate = Gate::new(broker.clone(), tokens, limits);
    // The last layer is the first to see a request: without a key, no body is read.
    let guarded = guarded().layer(from_fn(body::whole)).layer(from_fn_with_state(gate, caller::know));
    let mut document = Document::openapi();
    let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(caller::HEADER)));
    document.components.get_or_insert_default().add_security_scheme(KEY, key);
    let all = OpenApiRouter::new().routes(routes!(ping)).merge(guarded);
    let (router, document) = OpenApiRouter::with_openapi(document).nest(BASE, all).split_for_parts();
    let document = document.to_json().map_err(|cause| {
        Error::new(ErrorKind::Internal, "the Config Manager's document cannot be written").with_source(cause)
    })?;
    let json = [(header::CONTENT_TYPE, "application/json")];
    let router = router.route("/openapi.json", get(|| async move { (json, document).into_response() }));
    let router = router.fallback(unknown).method_not_allowed_fallback(not_allowed).with_state(Admin::of(broker));
    Ok(router.layer(from_fn(bound::answer)).layer(from_fn_with_state(guard, guard::check)))
}

fn guarded() -> OpenApiRouter<Admin> {
    let mut router = OpenApiRouter::new()
        .routes(routes!(events::list, events::create))
        .routes(routes!(events::show, events::change))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::show, keys::delete))
        .routes(routes!(keys::permissions, keys::set_permissions))
        // The same, at their earlier path.
        .route(EARLIER, get(keys::permissions).post(keys::set_permissions))
        .routes(routes!(keys::new_pair))
        .routes(routes!(keys::verify))
        .routes(routes!(workspaces::list, workspaces::create));
    let paths = &mut router.get_openapi_mut().paths.paths;
    if let Some(mut same) = paths.get(PERMISSIONS).cloned() {
        for operation in [&mut same.get, &mut same.post].into_iter().flatten() {
            operation.operation_id = operation.operation_id.take().map(|id| id + "_as_before");
        }
        paths.insert(EARLIER.to_owned(), same);
    }
    for item in paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten();
        operations.for_each(complete);
    }
    router
}

/// Says what holds for every operation here: the key, and what refusals look like.
fn complete(operation: &mut Operation) {
    operation.security = Some(vec![SecurityRequirement::new(KEY, Vec::<String>::new())]);
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    for (status, what) in [("4XX", "It was refused."), ("5XX", "It was not carried out, or only in part.")] {
        let mut response = Response::new(what);
        response.content.insert("application/json".to_owned(), problem.clone());
        operation.responses.responses.insert(status.to_owned(), response.into());
    }
}

/// Whether this is here.
#[utoipa::path(get, path = "/ping", tag = "health", responses((status = 200, description = "It is.", body = String)))]
async fn ping() -> &'static str {
    "pong\n"
}

async fn unknown() -> Refusal {
    let message = format!("there is nothing here; the API is under {BASE}, and /openapi.json says what there is");
    Refusal::new(StatusCode::NOT_FOUND, "not_found", message)
}

async fn not_allowed() -> Refusal {
    let message = "this path does not take that method; /openapi.json says which it takes";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_input", message)
}
