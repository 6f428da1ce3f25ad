use axum::Json;
use axum::extract::State;
use ensync_core::{AppId, EventName};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::apps::{App, unknown};
use super::{PathOfApp, PathOfEvent};
use crate::AppInfo;
use crate::admin::audit::{Caller, Was};
use crate::admin::body::{Named, Read};
use crate::admin::context::Admin;
use crate::admin::error::Result;
use crate::model::{AdminCommand, Rights};

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
    put, path = "/v1/apps/{app}/rights", tag = "rights", params(PathOfApp), request_body = May,
    responses((status = 200, body = App)),
)]
pub(super) async fn set(
    State(admin): State<Admin>,
    caller: Caller,
    Named(app): Named<String>,
    Read(may): Read<May>,
) -> Result<Json<App>> {
    let app = app.parse()?;
    let what = AdminCommand::Grant { app, event: None, rights: may.into() };
    change(&admin, &caller, "app.rights.set", (app, None), what)
        .await?
        .map(|app| Json(app.into()))
        .ok_or_else(|| unknown(app).into())
}

/// Set what an app may do with one event name, percent-encoded.
#[utoipa::path(
    put, path = "/v1/apps/{app}/grants/{event}", tag = "rights", params(PathOfApp, PathOfEvent), request_body = May,
    responses((status = 200, body = App)),
)]
pub(super) async fn grant(
    State(admin): State<Admin>,
    caller: Caller,
    Named((app, event)): Named<(String, String)>,
    Read(may): Read<May>,
) -> Result<Json<App>> {
    let (app, event) = (app.parse()?, EventName::parse(&event)?);
    let what = AdminCommand::Grant { app, event: Some(event.clone()), rights: may.into() };
    let after = change(&admin, &caller, "app.grant.set", (app, Some(event)), what).await?;
    after.map(|app| Json(app.into())).ok_or_else(|| unknown(app).into())
}

/// Take the grant for one event name back.
#[utoipa::path(
    delete, path = "/v1/apps/{app}/grants/{event}", tag = "rights", params(PathOfApp, PathOfEvent),
    responses((status = 204)),
)]
pub(super) async fn revoke(
    State(admin): State<Admin>,
    caller: Caller,
    Named((app, event)): Named<(String, String)>,
) -> Result<StatusCode> {
    let (app, event) = (app.parse()?, EventName::parse_stored(&event)?);
    let what = AdminCommand::Revoke { app, event: event.clone() };
    change(&admin, &caller, "app.grant.delete", (app, Some(event)), what).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes what an app may do with one event name, or with those that have no grant of their own. Says how the app is then.
async fn change(
    admin: &Admin,
    caller: &Caller,
    action: &'static str,
    (app, event): (AppId, Option<EventName>),
    what: AdminCommand,
) -> Result<Option<AppInfo>> {
    let done = admin.broker.change_app(app, what).await;
    let rights = |info: &AppInfo| match &event {
        None => Some(May::from(info.rights)),
        Some(event) => info.grants.iter().find(|(name, _)| name == event).map(|(_, rights)| May::from(*rights)),
    };
    let was = done.as_ref().map(|[before, after]| Was {
        before: before.as_ref().and_then(rights),
        after: after.as_ref().and_then(rights),
    });
    let subject = event.as_ref().map_or_else(|| app.to_string(), |event| format!("{app} {event}"));
    caller.audit(action, subject, &was.map_err(Clone::clone));
    let [_, after] = done?;
    Ok(after)
}
