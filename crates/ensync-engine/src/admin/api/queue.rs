use axum::Json;
use axum::extract::State;
use ensync_core::{AppId, Error, ErrorKind, EventName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::dead_letters::{Count, tell};
use super::lookup::{EventState, Standings};
use super::queues::Queue;
use super::{Page, PathOfApp, PathOfEvent, event_key};
use crate::admin::audit::Caller;
use crate::admin::body::{Asked, Named};
use crate::admin::context::Admin;
use crate::admin::error::Result;
use crate::broker::Partly;
use crate::state::Peeked;

/// Some events of a queue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Peek {
    events: Vec<Standings>,
    /// What to send as `after` for the next page; null if there is none.
    next: Option<String>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PeekAt {
    /// Only those that stand so: `ready`, `in_flight`, `deferred` or `dead`.
    state: Option<EventState>,
    /// How many at most: 1 to 1,000. 100 if it is not said. There may be fewer on a page that is not the last.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
    /// The last ones instead, so many of them: 1 to 1,000. It goes with nothing else of these.
    #[param(minimum = 1, maximum = 1_000)]
    last: Option<usize>,
}

/// Show a queue.
#[utoipa::path(
    get, path = "/v1/queues/{app}/{event}", tag = "queues", params(PathOfApp, PathOfEvent),
    responses((status = 200, body = Queue)),
)]
pub(super) async fn show(
    State(admin): State<Admin>,
    Named((app, event)): Named<(String, String)>,
) -> Result<Json<Queue>> {
    let (app, event) = (app.parse::<AppId>()?, EventName::parse_stored(&event)?);
    let name = event.clone();
    let found = admin.broker.queue_of(app, event).await?;
    let (stats, app_name) = found.ok_or_else(|| unknown(&app, &name))?;
    Ok(Json(Queue::new(stats, app_name)))
}

/// Look at the events of a queue that are not settled, in their order. Nothing is delivered by that.
#[utoipa::path(
    get, path = "/v1/queues/{app}/{event}/events", tag = "queues", params(PathOfApp, PathOfEvent, PeekAt),
    responses((status = 200, body = Peek)),
)]
pub(super) async fn peek(
    State(admin): State<Admin>,
    Named((app, event)): Named<(String, String)>,
    Asked(asked): Asked<PeekAt>,
) -> Result<Json<Peek>> {
    let (app, event) = (app.parse::<AppId>()?, EventName::parse_stored(&event)?);
    if let Some(last) = asked.last {
        if asked.state.is_some() || asked.limit.is_some() || asked.after.is_some() {
            let message = "last goes with none of state, limit and after";
            return Err(Error::new(ErrorKind::InvalidInput, message).into());
        }
        let limit = Page { limit: Some(last), after: None }.limit().map_err(|error| error.context("last"))?;
        let events = admin.broker.last(app, event.clone(), limit).await?.ok_or_else(|| unknown(&app, &event))?;
        return Ok(Json(Peek { events: events.iter().map(Standings::from).collect(), next: None }));
    }
    let page = Page { limit: asked.limit, after: asked.after };
    let (limit, after) = (page.limit()?, page.after(event_key)?);
    let wanted = asked.state.map(peeked).transpose()?;
    let found = admin.broker.peek((app, event.clone()), wanted, after, limit).await?;
    let (events, next) = found.ok_or_else(|| unknown(&app, &event))?;
    Ok(Json(Peek { events: events.iter().map(Standings::from).collect(), next: next.map(|next| next.to_string()) }))
}

/// Give up all events of a queue that wait now: they are gone, and nobody is told. What is with clients stays theirs, and dead letters stay.
#[utoipa::path(
    post, path = "/v1/queues/{app}/{event}/purge", tag = "queues", params(PathOfApp, PathOfEvent),
    responses((status = 200, body = Count)),
)]
pub(super) async fn purge(
    State(admin): State<Admin>,
    caller: Caller,
    Named((app, event)): Named<(String, String)>,
) -> Result<Json<Count>> {
    let (app, event) = (app.parse::<AppId>()?, EventName::parse_stored(&event)?);
    let done = admin.broker.purge(app, event.clone()).await;
    let done = done.and_then(|done| done.ok_or_else(|| unknown(&app, &event)));
    let done = done.unwrap_or_else(|error| Partly::from(Err(error)));
    tell(&caller, ("queue.purge", format_args!("{event} for {app}")), done)
}

fn peeked(state: EventState) -> ensync_core::Result<Peeked> {
    Ok(match state {
        EventState::Ready => Peeked::Ready,
        EventState::InFlight => Peeked::InFlight,
        EventState::Deferred => Peeked::Deferred,
        EventState::Dead => Peeked::Dead,
        EventState::Acked | EventState::Expired | EventState::Dropped | EventState::Settled => {
            let message = "no event of a queue stands so; state is ready, in_flight, deferred or dead";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
    })
}

fn unknown(app: &AppId, event: &EventName) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("there is no queue of {event} for {app}: it was never used, or its app is gone"),
    )
}
