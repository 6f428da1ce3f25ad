use axum::Json;
use axum::extract::State;
use ensync_core::{Error, ErrorKind};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Page;
use crate::admin::audit::{Caller, Was};
use crate::admin::body::{Asked, Named};
use crate::admin::context::Admin;
use crate::admin::error::Result;
use crate::broker::{List, Origin};
use crate::state::{SessionNumber, SessionSeen};

/// A client that is logged in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Session {
    /// Its number, as the engine's log has it: given out once in the life of the process.
    session: SessionNumber,
    /// Its app's id.
    app: String,
    /// Its app's name.
    app_name: String,
    /// `grpc`, `websocket`, or `local` for the engine's own process.
    transport: String,
    /// Where it comes from, as the engine sees it: of a proxy in front of it that is the proxy's address. Null in the same process.
    remote: Option<String>,
    /// Since when it is logged in: milliseconds since the Unix epoch.
    since: u64,
    /// To how many event names it is subscribed, paused ones included.
    subscriptions: usize,
    /// Events that it has and has not settled.
    held: usize,
    /// Their payloads and metadata, in bytes.
    held_bytes: u64,
}

/// A client that is logged in, and what it is subscribed to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionDetails {
    session: Session,
    subscriptions: Vec<Subscription>,
}

/// What a session has to do with one of its queues.
#[derive(Debug, Serialize, ToSchema)]
struct Subscription {
    event: String,
    /// Whether it gets events now.
    active: bool,
    paused: bool,
    held: usize,
    held_bytes: u64,
}

/// Some sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sessions {
    sessions: Vec<Session>,
    /// What to send as `after` for the next page; null if there is none.
    next: Option<String>,
    /// Partitions that did not answer in time: what their sessions take is missing. Not there if all have answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unanswered: Vec<usize>,
}

impl From<(SessionSeen, Origin)> for Session {
    fn from((seen, origin): (SessionSeen, Origin)) -> Self {
        let live = seen.subscribed.iter().filter(|subscribed| subscribed.active || subscribed.paused);
        Self {
            session: seen.number,
            app: seen.app.to_string(),
            app_name: seen.app_name,
            transport: origin.transport.to_owned(),
            remote: origin.remote.map(|remote| remote.to_string()),
            since: origin.since.as_millis(),
            subscriptions: live.count(),
            held: seen.subscribed.iter().map(|subscribed| subscribed.held).sum(),
            held_bytes: seen.subscribed.iter().map(|subscribed| subscribed.bytes).sum(),
        }
    }
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListSessions {
    /// Only those of this app: its id, or a public key of it that can be published to.
    #[param(pattern = "^[A-Za-z0-9+/]{43}=$")]
    app: Option<String>,
    /// How many at most: 1 to 1,000. 100 if it is not said.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// List the clients that are logged in, in the order in which they came.
#[utoipa::path(
    get, path = "/v1/sessions", tag = "sessions", params(ListSessions), responses((status = 200, body = Sessions)),
)]
pub(super) async fn list(State(admin): State<Admin>, Asked(asked): Asked<ListSessions>) -> Result<Json<Sessions>> {
    let page = Page { limit: asked.limit, after: asked.after };
    let (limit, after) = (page.limit()?, page.after(|text| text.parse::<SessionNumber>().map_err(super::no_number))?);
    let app = asked.app.as_deref().map(str::parse).transpose()?;
    let List { found, next, unanswered } = admin.broker.sessions_after(app, after, limit).await?;
    let next = next.map(|next| next.to_string());
    Ok(Json(Sessions { sessions: found.into_iter().map(Session::from).collect(), next, unanswered }))
}

/// Show a client that is logged in, with what it is subscribed to.
#[utoipa::path(
    get, path = "/v1/sessions/{session}", tag = "sessions", params(("session" = u64, Path, description = "Its number.")),
    responses((status = 200, body = SessionDetails)),
)]
pub(super) async fn show(
    State(admin): State<Admin>,
    Named(session): Named<SessionNumber>,
) -> Result<Json<SessionDetails>> {
    let (seen, origin) = admin.broker.session(session).await?.ok_or_else(|| unknown(session))?;
    let subscriptions = seen.subscribed.iter().map(|subscribed| Subscription {
        event: subscribed.event.to_string(),
        active: subscribed.active,
        paused: subscribed.paused,
        held: subscribed.held,
        held_bytes: subscribed.bytes,
    });
    let subscriptions = subscriptions.collect();
    Ok(Json(SessionDetails { session: (seen, origin).into(), subscriptions }))
}

/// End a session: what it holds goes back to its queues. Its client may log in again; to keep it out, disable its app.
#[utoipa::path(
    delete, path = "/v1/sessions/{session}", tag = "sessions",
    params(("session" = u64, Path, description = "Its number.")), responses((status = 204)),
)]
pub(super) async fn end(
    State(admin): State<Admin>,
    caller: Caller,
    Named(session): Named<SessionNumber>,
) -> Result<StatusCode> {
    let ended = admin.broker.end_session(session).await.and_then(|ended| match ended {
        true => Ok(Was::<(), _>::only(())),
        false => Err(unknown(session)),
    });
    caller.audit("session.end", session, &ended);
    ended?;
    Ok(StatusCode::NO_CONTENT)
}

fn unknown(session: SessionNumber) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no session {session}; it may have ended"))
}
