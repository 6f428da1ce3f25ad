use std::num::NonZeroU32;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use ensync_core::{Error, ErrorKind, EventName};
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{Page, PathOfEvent};
use crate::admin::audit::{Caller, Was};
use crate::admin::body::{Asked, Named, Read};
use crate::admin::context::Admin;
use crate::admin::error::Result;
use crate::admin::schema::{Fields, Types};
use crate::model::AdminCommand;
use crate::{EventChange, EventOptions};

/// An event name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Event {
    /// The name, such as `company/service/action`.
    name: String,
    /// What payloads must look like: the type of each field. Null if they may look like anything.
    #[schema(value_type = Option<Object>)]
    schema: Option<Types>,
    /// How long an event is of use, in milliseconds. Null leaves it to the engine's default.
    ttl_ms: Option<u64>,
    /// After how many deliveries an event that nobody settles goes to the dead letters. Null leaves it to the engine's default.
    #[schema(value_type = Option<u32>, minimum = 1)]
    max_deliveries: Option<NonZeroU32>,
    /// How long a client may take to settle a delivery, in milliseconds. Null leaves it to the engine's default.
    ack_timeout_ms: Option<u64>,
}

impl Event {
    fn new(name: &EventName, options: EventOptions) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            name: name.to_string(),
            schema: options.schema.map(Types),
            ttl_ms: options.ttl.map(ms),
            max_deliveries: options.max_deliveries,
            ack_timeout_ms: options.ack_timeout.map(ms),
        }
    }
}

/// Some event names.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Events {
    events: Vec<Event>,
    /// What to send as `after` for the next page; null if there is none.
    next: Option<String>,
}

/// A new event name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateEvent {
    /// The name, such as `company/service/action`: at most 255 bytes.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// What payloads must look like: the type of each field, such as `{"order": "string", "total": "double"}`.
    #[schema(value_type = Option<Object>)]
    schema: Option<Fields>,
    /// How long an event is of use, in milliseconds: at least 100.
    #[schema(minimum = 100)]
    ttl_ms: Option<u64>,
    /// After how many deliveries an event that nobody settles goes to the dead letters.
    #[schema(value_type = Option<u32>, minimum = 1)]
    max_deliveries: Option<NonZeroU32>,
    /// How long a client may take to settle a delivery, in milliseconds: 100 to 86,400,000.
    #[schema(minimum = 100, maximum = 86_400_000)]
    ack_timeout_ms: Option<u64>,
}

/// New options: what is left out stays, what is null is left to the engine's default.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ChangeEvent {
    /// What payloads must look like: the type of each field.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<Object>)]
    schema: Option<Option<Fields>>,
    /// How long an event is of use, in milliseconds: at least 100. Holds for later events.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<u64>, minimum = 100)]
    ttl_ms: Option<Option<u64>>,
    /// After how many deliveries an event that nobody settles goes to the dead letters.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    max_deliveries: Option<Option<NonZeroU32>>,
    /// How long a client may take to settle a delivery, in milliseconds: 100 to 86,400,000.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<u64>, minimum = 100, maximum = 86_400_000)]
    ack_timeout_ms: Option<Option<u64>>,
}

/// List event names.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(Page), responses((status = 200, body = Events)))]
pub(super) async fn list(State(admin): State<Admin>, Asked(page): Asked<Page>) -> Result<Json<Events>> {
    let (limit, after) = (page.limit()?, page.after(EventName::parse_stored)?);
    let events = admin.broker.inspect(move |state| state.events_after(after.as_ref(), limit)).await?;
    let next = events.last().filter(|_| events.len() == limit).map(|(name, _)| name.to_string());
    let events = events.into_iter().map(|(name, options)| Event::new(&name, options)).collect();
    Ok(Json(Events { events, next }))
}

/// Register an event name.
#[utoipa::path(
    post, path = "/v1/events", tag = "events", request_body = CreateEvent, responses((status = 201, body = Event)),
)]
pub(super) async fn create(
    State(admin): State<Admin>,
    caller: Caller,
    Read(new): Read<CreateEvent>,
) -> Result<(StatusCode, Json<Event>)> {
    let name = EventName::parse(&new.name)?;
    let options = EventOptions {
        schema: new.schema.map(|fields| fields.0),
        ttl: new.ttl_ms.map(Duration::from_millis),
        max_deliveries: new.max_deliveries,
        ack_timeout: new.ack_timeout_ms.map(Duration::from_millis),
    };
    let what = AdminCommand::CreateEvent { name: name.clone(), options };
    Ok((StatusCode::CREATED, changed(&admin, &caller, "event.create", name, what).await?))
}

/// Show an event name. Here and below it is percent-encoded in the path.
#[utoipa::path(
    get, path = "/v1/events/{event}", tag = "events", params(PathOfEvent),
    responses((status = 200, body = Event)),
)]
pub(super) async fn show(State(admin): State<Admin>, Named(event): Named<String>) -> Result<Json<Event>> {
    shown(&admin, EventName::parse_stored(&event)?).await
}

/// Change some options of an event name.
#[utoipa::path(
    patch, path = "/v1/events/{event}", tag = "events", params(PathOfEvent),
    request_body = ChangeEvent, responses((status = 200, body = Event)),
)]
pub(super) async fn change(
    State(admin): State<Admin>,
    caller: Caller,
    Named(event): Named<String>,
    Read(new): Read<ChangeEvent>,
) -> Result<Json<Event>> {
    let event = EventName::parse_stored(&event)?;
    let change = EventChange {
        schema: new.schema.map(|new| new.map(|fields| fields.0)),
        ttl: new.ttl_ms.map(|ms| ms.map(Duration::from_millis)),
        max_deliveries: new.max_deliveries,
        ack_timeout: new.ack_timeout_ms.map(|ms| ms.map(Duration::from_millis)),
    };
    let what = AdminCommand::ChangeEvent { name: event.clone(), change };
    changed(&admin, &caller, "event.change", event, what).await
}

/// Delete an event name that nothing waits under and nobody subscribes to, with the grants for it.
#[utoipa::path(
    delete, path = "/v1/events/{event}", tag = "events", params(PathOfEvent), responses((status = 204)),
)]
pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Named(event): Named<String>,
) -> Result<StatusCode> {
    let name = EventName::parse_stored(&event)?;
    apply(&admin, &caller, "event.delete", &name, AdminCommand::DeleteEvent { name: name.clone() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn changed(
    admin: &Admin,
    caller: &Caller,
    action: &'static str,
    name: EventName,
    what: AdminCommand,
) -> Result<Json<Event>> {
    Ok(Json(apply(admin, caller, action, &name, what).await?.ok_or_else(|| unknown(&name))?))
}

/// Carries out a change of an event name, and says how it is then.
async fn apply(
    admin: &Admin,
    caller: &Caller,
    action: &'static str,
    name: &EventName,
    what: AdminCommand,
) -> Result<Option<Event>> {
    let done = admin.broker.change_name(name.clone(), what).await;
    let was = done.map(|was| {
        let [before, after] = was.map(|options| options.map(|options| Event::new(name, options)));
        Was { before, after }
    });
    caller.audit(action, name, &was);
    Ok(was?.after)
}

fn unknown(name: &EventName) -> Error {
    Error::new(ErrorKind::UnknownEvent, format!("the event name {name} is not registered"))
}

async fn shown(admin: &Admin, name: EventName) -> Result<Json<Event>> {
    let asked = name.clone();
    let options = admin.broker.inspect(move |state| state.event(&asked)).await?;
    Ok(Json(Event::new(&name, options.ok_or_else(|| unknown(&name))?)))
}

/// Tells null from what is left out.
fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
