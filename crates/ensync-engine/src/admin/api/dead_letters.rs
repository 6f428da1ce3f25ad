use std::fmt;

use axum::Json;
use axum::extract::State;
use ensync_core::{AppId, Error, ErrorKind, EventId, EventName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Page;
use crate::DeadLetter;
use crate::admin::audit::{Caller, Was};
use crate::admin::body::{Asked, Read};
use crate::admin::context::Admin;
use crate::admin::error::Result;
use crate::state::LetterAction;

/// An event that nobody could use. Its payload is the recipient's to read, by a replay.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Letter {
    /// The event's id.
    id: String,
    event: String,
    /// The recipient's id.
    app: String,
    /// Why it is here: a client's words, or `max deliveries`.
    reason: String,
    /// Since when: milliseconds since the Unix epoch.
    at: u64,
    /// When the engine accepted it: milliseconds since the Unix epoch.
    accepted_at: u64,
    /// How often it was delivered.
    deliveries: u32,
}

impl From<DeadLetter> for Letter {
    fn from(letter: DeadLetter) -> Self {
        Self {
            id: letter.id.to_string(),
            event: letter.event.to_string(),
            app: letter.recipient.to_string(),
            reason: letter.reason,
            at: letter.at.as_millis(),
            accepted_at: letter.accepted_at.as_millis(),
            deliveries: letter.deliveries,
        }
    }
}

/// Some dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Letters {
    dead_letters: Vec<Letter>,
    /// What to send as `after` for the next page; null if there is none.
    next: Option<String>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListLetters {
    /// Only those of this event name.
    #[param(min_length = 1, max_length = 256)]
    event: Option<String>,
    /// Only those of this app: its id, or a public key of it that can be published to.
    #[param(pattern = "^[A-Za-z0-9+/]{43}=$")]
    app: Option<String>,
    /// How many at most: 1 to 1,000. 100 if it is not said.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// Which dead letters are meant: one by its `id`, those of an `event`, of an `app` or of both, or, with `all`, every one.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Which {
    /// The event's id.
    id: Option<String>,
    /// The event name.
    #[schema(min_length = 1, max_length = 256)]
    event: Option<String>,
    /// The recipient: its id, or a public key of it that can be published to.
    #[schema(pattern = "^[A-Za-z0-9+/]{43}=$")]
    app: Option<String>,
    /// Every dead letter of the engine.
    all: bool,
}

/// How many dead letters it was.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Count {
    count: usize,
}

/// For the audit.
impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.id, &self.event, &self.app) {
            (Some(id), ..) => write!(f, "{id}"),
            (None, None, None) => f.write_str("all"),
            (None, event, app) => {
                let event = event.as_deref().unwrap_or("every event name");
                write!(f, "{event} for {}", app.as_deref().unwrap_or("every app"))
            }
        }
    }
}

enum Meant {
    One(EventId),
    Those(Option<EventName>, Option<AppId>),
}

impl Which {
    fn meant(self) -> ensync_core::Result<Meant> {
        let some = self.event.is_some() || self.app.is_some();
        match (self.id, some, self.all) {
            (Some(id), false, false) => Ok(Meant::One(id.parse()?)),
            (None, true, false) | (None, false, true) => {
                let event = self.event.as_deref().map(str::parse).transpose()?;
                Ok(Meant::Those(event, self.app.as_deref().map(str::parse).transpose()?))
            }
            _ => {
                let message =
                    "say which dead letters: \"id\", or \"event\" and \"app\" or one of them, or \"all\": true";
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
        }
    }
}

/// List dead letters, the oldest event first per queue.
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "dead letters", params(ListLetters),
    responses((status = 200, body = Letters)),
)]
pub(super) async fn list(State(admin): State<Admin>, Asked(asked): Asked<ListLetters>) -> Result<Json<Letters>> {
    let page = Page { limit: asked.limit, after: asked.after };
    let (limit, after) = (page.limit()?, page.after::<EventId>()?);
    let event = asked.event.as_deref().map(str::parse).transpose()?;
    let app = asked.app.as_deref().map(str::parse).transpose()?;
    let look = move |state: &crate::state::State| {
        state.dead_letters_after(app.as_ref(), event.as_ref(), after.as_ref(), limit)
    };
    let letters = admin.broker.inspect(look).await?;
    let next = letters.last().filter(|_| letters.len() == limit).map(|letter| letter.id.to_string());
    Ok(Json(Letters { dead_letters: letters.into_iter().map(Letter::from).collect(), next }))
}

/// Have dead letters delivered again: their deliveries and their time to live count anew.
#[utoipa::path(
    post, path = "/v1/dead-letters/requeue", tag = "dead letters", request_body = Which,
    responses((status = 200, body = Count)),
)]
pub(super) async fn requeue(
    State(admin): State<Admin>,
    caller: Caller,
    Read(which): Read<Which>,
) -> Result<Json<Count>> {
    settle(&admin, &caller, ("dead-letter.requeue", LetterAction::Requeue), which).await
}

/// Give dead letters up.
#[utoipa::path(
    post, path = "/v1/dead-letters/drop", tag = "dead letters", request_body = Which,
    responses((status = 200, body = Count)),
)]
pub(super) async fn drop_them(
    State(admin): State<Admin>,
    caller: Caller,
    Read(which): Read<Which>,
) -> Result<Json<Count>> {
    settle(&admin, &caller, ("dead-letter.drop", LetterAction::Drop), which).await
}

/// Does it to all that are meant.
async fn settle(
    admin: &Admin,
    caller: &Caller,
    (action, what): (&'static str, LetterAction),
    which: Which,
) -> Result<Json<Count>> {
    let (subject, meant) = (which.to_string(), which.meant()?);
    let count = match meant {
        Meant::One(id) => admin.broker.settle_dead_letter(what, id).await.map(|()| 1),
        Meant::Those(event, app) => admin.broker.settle_dead_letters(what, event, app).await,
    };
    let done = count.map(|count| Was::<Count>::only(Count { count }));
    caller.audit(action, subject, &done);
    let count = done?.after.map_or(0, |after| after.count);
    Ok(Json(Count { count }))
}
