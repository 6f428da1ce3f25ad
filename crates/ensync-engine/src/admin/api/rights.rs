use axum::Json;
use axum::extract::State;
use ensync_core::EventName;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::apps::{App, shown};
use crate::admin::body::{Named, Read};
use crate::admin::error::Result;
use crate::admin::router::Admin;
use crate::model::Rights;

/// What an app may do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct May {
    /// Publish.
    publish: bool,
    /// Subscribe and replay.
    subscribe: bool,
}

impl From<Rights> for May {
    fn from(rights: Rights) -> Self {
        Self { publish: rights.publish, subscribe: rights.subscribe }
    }
}

impl From<May> for Rights {
    fn from(may: May) -> Self {
        Self { publish: may.publish, subscribe: may.subscribe }
    }
}

/// What an app may do with one event name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Grant {
    /// The name.
    event: String,
    rights: May,
}

impl From<(EventName, Rights)> for Grant {
    fn from((event, rights): (EventName, Rights)) -> Self {
        Self { event: event.to_string(), rights: rights.into() }
    }
}

/// Set what an app may do with event names for which it has no grant of its own.
#[utoipa::path(
    put, path = "/v1/apps/{app}/rights", tag = "rights", params(("app" = String, Path)), request_body = May,
    responses((status = 200, body = App)),
)]
pub(super) async fn set(
    State(admin): State<Admin>,
    Named(app): Named<String>,
    Read(may): Read<May>,
) -> Result<Json<App>> {
    let app = app.parse()?;
    admin.broker.grant(app, None, may.into()).await?;
    shown(&admin, app).await
}

/// Set what an app may do with one event name, percent-encoded.
#[utoipa::path(
    put, path = "/v1/apps/{app}/grants/{event}", tag = "rights",
    params(("app" = String, Path), ("event" = String, Path)), request_body = May,
    responses((status = 200, body = App)),
)]
pub(super) async fn grant(
    State(admin): State<Admin>,
    Named((app, event)): Named<(String, String)>,
    Read(may): Read<May>,
) -> Result<Json<App>> {
    let app = app.parse()?;
    admin.broker.grant(app, Some(event.parse()?), may.into()).await?;
    shown(&admin, app).await
}

/// Take the grant for one event name back.
#[utoipa::path(
    delete, path = "/v1/apps/{app}/grants/{event}", tag = "rights",
    params(("app" = String, Path), ("event" = String, Path)), responses((status = 204)),
)]
pub(super) async fn revoke(
    State(admin): State<Admin>,
    Named((app, event)): Named<(String, String)>,
) -> Result<StatusCode> {
    admin.broker.revoke(app.parse()?, event.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}
