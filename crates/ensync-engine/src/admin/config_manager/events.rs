use axum::extract::State;
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ensync_core::{Error, ErrorKind, EventName, Given, Schema};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Caller;
use super::changes::Changes;
use super::listing::{Listing, Page};
use crate::admin::body::{Asked, Named, Read};
use crate::admin::context::Admin;
use crate::admin::error::Result;
use crate::admin::schema::{Fields, Types};
use crate::model::{AdminCommand, Rights};
use crate::{AppInfo, EventChange, EventOptions};

/// An event name.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    /// Made of the name, so that it stays what it is.
    id: String,
    name: String,
    /// The type of each field that a payload must have; empty if it may look like anything.
    #[schema(value_type = Object)]
    payload: Types,
    /// Null: an engine does not keep it.
    created_at: Option<String>,
    /// Null: an engine does not keep it.
    updated_at: Option<String>,
}

impl Event {
    fn new(name: &EventName, options: &EventOptions) -> Self {
        Self {
            id: id_of(name.as_str()),
            name: name.to_string(),
            payload: Types(options.schema.clone().unwrap_or_default()),
            created_at: None,
            updated_at: None,
        }
    }
}

/// A new event name, or new options of one. Other members are passed over: their command line sends times.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Wanted {
    /// The name, such as `company/service/action`. Of an event name that is there, empty or what it is.
    #[serde(default)]
    name: String,
    /// The type of each field, such as `{"order": "string", "total": "double"}`. Empty: payloads may look like anything. That has to be
    /// said: a body without it, or with another spelling of it, would take the schema away.
    #[schema(value_type = Object)]
    payload: Fields,
}

impl Wanted {
    fn schema(&self) -> Option<Schema> {
        Some(self.payload.0.clone()).filter(|schema| schema.fields().next().is_some())
    }
}

/// An id that fits into a path as it is: their command line does not escape it.
pub(super) fn id_of(path: &str) -> String {
    URL_SAFE_NO_PAD.encode(path)
}

/// List event names: all of them, or those that the caller may publish or subscribe to.
#[utoipa::path(get, path = "/event", tag = "events", params(Listing), responses((status = 200, body = Page<Event>)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<Listing>,
) -> Result<Json<Page<Event>>> {
    let names = visible(&admin, &caller).await?.into_iter().filter(|(name, _)| asked.wants(name.as_str()));
    Ok(Json(asked.page(names.map(|(name, options)| Event::new(&name, &options)).collect())?))
}

/// Show an event name, percent-encoded in the path.
#[utoipa::path(
    get, path = "/event/{event}", tag = "events", params(("event" = String, Path)), responses((status = 200, body = Event)),
)]
pub(super) async fn show(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
) -> Result<Json<Event>> {
    let name = EventName::parse_stored(&name)?;
    let found = visible(&admin, &caller).await?.into_iter().find(|(known, _)| *known == name);
    let (name, options) = found.ok_or_else(|| unknown(&name))?;
    Ok(Json(Event::new(&name, &options)))
}

/// Register an event name.
#[utoipa::path(post, path = "/event", tag = "events", request_body = Wanted, responses((status = 201, body = Event)))]
pub(super) async fn create(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Extension(changes): Extension<Changes>,
    Read(wanted): Read<Wanted>,
) -> Result<(StatusCode, Json<Event>)> {
    caller.administers()?;
    changes.begins("event.create", &wanted.name);
    let name = EventName::parse(&wanted.name)?;
    let options = EventOptions { schema: wanted.schema(), ..EventOptions::default() };
    admin.broker.create_event(name.clone(), options.clone()).await?;
    let event = Event::new(&name, &options);
    changes.made(None::<Event>, Some(&event));
    Ok((StatusCode::CREATED, Json(event)))
}

/// Change what payloads of an event name, which the path names by its id, must look like. The name itself stays: it is what publishers and subscribers call it by.
#[utoipa::path(
    put, path = "/event/{event}", tag = "events", params(("event" = String, Path)), request_body = Wanted,
    responses((status = 200, body = Event)),
)]
pub(super) async fn change(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Extension(changes): Extension<Changes>,
    Named(id): Named<String>,
    Read(wanted): Read<Wanted>,
) -> Result<Json<Event>> {
    caller.administers()?;
    let no_such = || Error::new(ErrorKind::NotFound, "no event of this engine has that id; list them to see the ids");
    let text = URL_SAFE_NO_PAD.decode(&id).ok().and_then(|name| String::from_utf8(name).ok()).ok_or_else(no_such)?;
    let name = EventName::parse_stored(&text).map_err(|_| no_such())?;
    changes.begins("event.change", &name);
    if !wanted.name.is_empty() && wanted.name != name.as_str() {
        let message = format!(
            "an event name cannot be changed, for events wait under it and clients call it by it: register {} beside {name}, \
             let the clients change, and delete {name} with `ensync event delete`",
            Given(&wanted.name)
        );
        return Err(Error::new(ErrorKind::Conflict, message).into());
    }
    let change = EventChange { schema: Some(wanted.schema()), ..EventChange::default() };
    let command = AdminCommand::ChangeEvent { name: name.clone(), change };
    let [before, after] = admin.broker.change_name(name.clone(), command).await?;
    let shown = |options: &EventOptions| Event::new(&name, options);
    let event = after.as_ref().map(shown).ok_or_else(|| unknown(&name))?;
    changes.made(before.as_ref().map(shown), Some(&event));
    Ok(Json(event))
}

fn unknown(name: &EventName) -> Error {
    Error::new(ErrorKind::UnknownEvent, format!("the event name {name} is not registered"))
}

/// The event names that a caller may know of.
pub(super) async fn visible(admin: &Admin, caller: &Caller) -> ensync_core::Result<Vec<(EventName, EventOptions)>> {
    let all = admin.broker.events().await?;
    let Caller::Service(app) = caller else { return Ok(all) };
    let Some(app) = admin.broker.app(*app).await? else { return Ok(Vec::new()) };
    Ok(all.into_iter().filter(|(name, _)| may(&app, name) != Rights::NONE).collect())
}

/// What an app may do with a name.
fn may(app: &AppInfo, name: &EventName) -> Rights {
    app.grants.iter().find(|(granted, _)| granted == name).map_or(app.rights, |(_, rights)| *rights)
}
