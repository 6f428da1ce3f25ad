use std::fmt;

use axum::Json;
use axum::extract::State;
use ensync_core::{Error, ErrorKind, EventId, EventName, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{MAX_PAGE, Page, event_key, text};
use crate::DeadLetter;
use crate::admin::audit::{Caller, Was};
use crate::admin::body::{Asked, Read};
use crate::admin::context::Admin;
use crate::admin::error::Result;
use crate::broker::{List, Partly};
use crate::state::{LetterAction, LetterFilter};

/// An event that nobody could use. Its payload is the recipient's to read, by a replay.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Letter {
    /// The event's id.
    id: String,
    event: String,
    /// The recipient's id.
    app: String,
    /// The recipient's name.
    app_name: String,
    /// Why it is here: a client's words, or `max deliveries`.
    reason: String,
    /// Since when: milliseconds since the Unix epoch.
    at: u64,
    /// When the engine accepted it: milliseconds since the Unix epoch.
    accepted_at: u64,
    /// How often it was delivered.
    deliveries: u32,
}

impl From<(DeadLetter, String)> for Letter {
    fn from((letter, app_name): (DeadLetter, String)) -> Self {
        Self {
            id: letter.id.to_string(),
            event: letter.event.to_string(),
            app: letter.recipient.to_string(),
            app_name,
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
    /// Partitions that did not answer in time: what they hold is missing. Not there if all have answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unanswered: Vec<usize>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListLetters {
    /// Only those of this event name: at most 255 bytes.
    #[param(min_length = 1, max_length = 255)]
    event: Option<String>,
    /// Only those of this app: its id, or a public key of it that can be published to.
    #[param(pattern = "^[A-Za-z0-9+/]{43}=$")]
    app: Option<String>,
    /// Only those with a reason that holds this, in either case of ASCII letters: at most 256 bytes.
    #[param(min_length = 1)]
    reason: Option<String>,
    /// Only those that became dead letters at this time or later: milliseconds since the Unix epoch.
    since: Option<u64>,
    /// Only those that became dead letters before this time: milliseconds since the Unix epoch.
    before: Option<u64>,
    /// How many at most: 1 to 1,000. 100 if it is not said. There may be fewer on a page that is not the last.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// Which dead letters are meant: one by its `id`, several by their `ids`, those of which all holds that `event`, `app`, `reason`, `since`
/// and `before` say, or, with `all`, every one.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Which {
    /// The event's id.
    id: Option<String>,
    /// The ids of 1 to 1,000 events. Those that are no dead letters any more are left as they are, and not counted.
    #[schema(min_items = 1, max_items = 1_000)]
    ids: Option<Vec<String>>,
    /// The event name: at most 255 bytes.
    #[schema(min_length = 1, max_length = 255)]
    event: Option<String>,
    /// The recipient: its id, or a public key of it that can be published to.
    #[schema(pattern = "^[A-Za-z0-9+/]{43}=$")]
    app: Option<String>,
    /// Only those with a reason that holds this, in either case of ASCII letters: at most 256 bytes.
    #[schema(min_length = 1)]
    reason: Option<String>,
    /// Only those that became dead letters at this time or later: milliseconds since the Unix epoch.
    since: Option<u64>,
    /// Only those that became dead letters before this time: milliseconds since the Unix epoch.
    before: Option<u64>,
    /// Every dead letter of the engine.
    all: bool,
}

/// How many dead letters it was.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Count {
    pub(super) count: usize,
}

/// For the audit.
impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = &self.id {
            return f.write_str(id);
        }
        if let Some(ids) = &self.ids {
            return write!(f, "{} by their ids", ids.len());
        }
        if !self.is_filter() {
            return f.write_str("all");
        }
        let event = self.event.as_deref().unwrap_or("every event name");
        write!(f, "{event} for {}", self.app.as_deref().unwrap_or("every app"))?;
        if let Some(reason) = &self.reason {
            write!(f, ", with the reason {reason:?}")?;
        }
        self.since.map_or(Ok(()), |since| write!(f, ", since {since}"))?;
        self.before.map_or(Ok(()), |before| write!(f, ", before {before}"))
    }
}

enum Meant {
    One(EventId),
    Some(Vec<EventId>),
    Those(LetterFilter),
}

impl Which {
    fn is_filter(&self) -> bool {
        let texts = [&self.event, &self.app, &self.reason];
        texts.into_iter().any(Option::is_some) || self.since.or(self.before).is_some()
    }

    fn meant(self) -> ensync_core::Result<Meant> {
        match (&self.id, &self.ids, self.is_filter(), self.all) {
            (Some(id), None, false, false) => Ok(Meant::One(id.parse()?)),
            (None, Some(ids), false, false) => {
                if !(1..=MAX_PAGE).contains(&ids.len()) {
                    let message = format!("ids has {} of them, it can have 1 to {MAX_PAGE}", ids.len());
                    return Err(Error::new(ErrorKind::InvalidInput, message));
                }
                Ok(Meant::Some(ids.iter().map(|id| id.parse()).collect::<ensync_core::Result<_>>()?))
            }
            (None, None, true, false) | (None, None, false, true) => {
                filter(self.event.as_deref(), self.app.as_deref(), self.reason, (self.since, self.before))
                    .map(Meant::Those)
            }
            _ => {
                let message = "say which dead letters: \"id\", or \"ids\", or one or more of \"event\", \"app\", \"reason\", \
                               \"since\" and \"before\", or \"all\": true";
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
        }
    }
}

fn filter(
    event: Option<&str>,
    app: Option<&str>,
    reason: Option<String>,
    (since, before): (Option<u64>, Option<u64>),
) -> ensync_core::Result<LetterFilter> {
    text("reason", reason.as_deref())?;
    Ok(LetterFilter {
        recipient: app.map(str::parse).transpose()?,
        event: event.map(EventName::parse_stored).transpose()?,
        reason,
        since: since.map(Timestamp::from_millis),
        before: before.map(Timestamp::from_millis),
    })
}

/// List dead letters, the oldest event first per queue.
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "dead letters", params(ListLetters),
    responses((status = 200, body = Letters)),
)]
pub(super) async fn list(State(admin): State<Admin>, Asked(asked): Asked<ListLetters>) -> Result<Json<Letters>> {
    let page = Page { limit: asked.limit, after: asked.after };
    let (limit, after) = (page.limit()?, page.after(event_key)?);
    let filter = filter(asked.event.as_deref(), asked.app.as_deref(), asked.reason, (asked.since, asked.before))?;
    let List { found, next, unanswered } = admin.broker.letters(filter, after, limit).await?;
    let next = next.map(|next| next.to_string());
    Ok(Json(Letters { dead_letters: found.into_iter().map(Letter::from).collect(), next, unanswered }))
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
    let done = match meant {
        Meant::One(id) => Partly::from(admin.broker.settle_dead_letter(what, id).await.map(|()| 1)),
        Meant::Some(ids) => admin.broker.settle_some(what, ids).await,
        Meant::Those(filter) => admin.broker.settle_letters(what, filter).await,
    };
    tell(caller, (action, subject), done)
}

/// Writes the line of what may have been done in part, and answers with how many it was; a refusal names them too.
pub(super) fn tell(
    caller: &Caller,
    (action, subject): (&'static str, impl fmt::Display),
    done: Partly,
) -> Result<Json<Count>> {
    let count = done.count;
    let after = (count > 0 || done.error.is_none()).then_some(Count { count });
    caller.tell(action, subject, &Was::<Count> { before: None, after }, done.error.as_ref());
    Ok(Json(Count { count: done.whole()? }))
}
