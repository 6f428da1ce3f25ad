use axum::Json;
use axum::extract::State;
use ensync_core::{EventId, crypto};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::admin::body::{Asked, Named};
use crate::admin::context::Admin;
use crate::admin::error::Result;
use crate::broker::Seen;
use crate::state::{Sight, Standing};

/// How an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum EventState {
    /// It could be delivered now.
    Ready,
    /// It is with a client.
    InFlight,
    /// It waits for a time.
    Deferred,
    /// It is a dead letter.
    Dead,
    /// Its recipient acknowledged it.
    Acked,
    /// Nobody did in time.
    Expired,
    /// An administrator gave it up.
    Dropped,
    /// It is gone, so long ago that it is not known how.
    Settled,
}

/// How an event stands, and what was counted of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Standings {
    /// The event's id.
    id: String,
    event: String,
    /// The recipient's id.
    app: String,
    state: EventState,
    /// When the engine accepted it: milliseconds since the Unix epoch. Null if its record is gone.
    accepted_at: Option<u64>,
    /// When it is of no use any more: milliseconds since the Unix epoch; null if never.
    expires_at: Option<u64>,
    /// How often it was delivered; null if it is settled.
    deliveries: Option<u32>,
    /// Of those, the ones that do not count towards the most that there may be, as their sessions ended first.
    handed_back: Option<u8>,
    /// Payload and metadata, in bytes.
    bytes: Option<u64>,
    /// The session that has it.
    session: Option<u64>,
    /// Until when that may settle it, or until when it waits: milliseconds since the Unix epoch.
    until: Option<u64>,
    /// Why it is a dead letter: a client's words, or `max deliveries`.
    reason: Option<String>,
    /// Since when it is one: milliseconds since the Unix epoch.
    dead_at: Option<u64>,
    /// Whether it is kept in memory only, and would not outlive the engine.
    in_memory: Option<bool>,
}

impl From<&Sight> for Standings {
    fn from(sight: &Sight) -> Self {
        let entry = sight.entry.as_ref();
        let mut standings = Self {
            id: sight.id.to_string(),
            event: sight.event.to_string(),
            app: sight.recipient.to_string(),
            state: EventState::Ready,
            accepted_at: entry.map(|entry| entry.accepted_at.as_millis()),
            expires_at: entry.and_then(|entry| entry.expires_at).map(|at| at.as_millis()),
            deliveries: entry.map(|entry| entry.deliveries),
            handed_back: entry.map(|entry| entry.handed_back),
            bytes: entry.map(|entry| entry.size.into()),
            session: None,
            until: None,
            reason: None,
            dead_at: None,
            in_memory: entry.map(|entry| entry.transient),
        };
        standings.state = match &sight.standing {
            Standing::Ready => EventState::Ready,
            Standing::InFlight(lease) => {
                standings.session = lease.map(|(session, _)| session);
                standings.until = lease.map(|(_, until)| until.as_millis());
                EventState::InFlight
            }
            Standing::Deferred(until) => {
                standings.until = until.map(|until| until.as_millis());
                EventState::Deferred
            }
            Standing::Dead(reason, at) => {
                (standings.reason, standings.dead_at) = (Some(reason.clone()), Some(at.as_millis()));
                EventState::Dead
            }
            Standing::Acked => EventState::Acked,
            Standing::Expired => EventState::Expired,
            Standing::Dropped => EventState::Dropped,
            Standing::Settled => EventState::Settled,
        };
        standings
    }
}

/// One event, whole: its payload is sealed, and is its recipient's to open.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventDetails {
    standing: Standings,
    /// The recipient's name.
    app_name: String,
    /// The public key that it was sealed for.
    recipient: Option<String>,
    /// The id of the app that published it.
    sender_app: Option<String>,
    /// Its name; null if it is gone.
    sender_name: Option<String>,
    /// The public key that its publisher had then.
    sender: Option<String>,
    /// The key under which its publisher may repeat the publish.
    idempotency_key: Option<String>,
    /// What travels in clear. Numbers that a double does not hold are others here: they are as they were sent in `metadata_text`. Null also
    /// if it is nested so deep that readers might not take this answer.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// The same as it was sent: JSON.
    metadata_text: Option<String>,
    metadata_bytes: Option<usize>,
    /// The length of the sealed payload, as it travels.
    payload_bytes: Option<usize>,
    /// The length of what is sealed in it, as far as the envelope tells.
    plaintext_bytes: Option<usize>,
    /// How it is sealed: `nacl`, `nacl-hybrid` or `aes-256-gcm`; null for what is no envelope.
    suite: Option<String>,
    /// The sealed payload, as it travels; null if it was not asked for, or its record is gone.
    payload: Option<String>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LookUp {
    /// Whether the sealed payload is wanted too. It is not if that is not said.
    payload: bool,
}

/// Find an event by its id, whosoever it is, settled or not.
#[utoipa::path(
    get, path = "/v1/lookup/{id}", tag = "events by id",
    params(LookUp, ("id" = String, Path, description = "The event's id.")),
    responses((status = 200, body = EventDetails)),
)]
pub(super) async fn show(
    State(admin): State<Admin>,
    Named(id): Named<String>,
    Asked(asked): Asked<LookUp>,
) -> Result<Json<EventDetails>> {
    let seen = admin.broker.look_up(EventId::parse_stored(&id)?).await?;
    Ok(Json(details(seen, asked.payload)))
}

/// How deep metadata may be that stands in an answer: 127 levels are what every reader takes, and this leaves room for those around it.
const DEEPEST: usize = 100;

/// Whether an object has no more levels than that.
fn is_readable(object: &Map<String, Value>, most: usize) -> bool {
    fn value(of: &Value, most: usize) -> bool {
        match of {
            Value::Array(items) => most > 0 && items.iter().all(|item| value(item, most - 1)),
            Value::Object(members) => most > 0 && members.values().all(|member| value(member, most - 1)),
            _ => true,
        }
    }
    object.values().all(|member| value(member, most - 1))
}

fn details(seen: Seen, with_payload: bool) -> EventDetails {
    let publish = seen.publish();
    let mut standing = Standings::from(&seen.sight);
    if let Some(publish) = publish {
        standing.accepted_at = Some(publish.accepted_at.as_millis());
        standing.expires_at = standing.expires_at.or(publish.expires_at.map(|at| at.as_millis()));
        standing.bytes = u64::try_from(publish.size()).ok();
    }
    let inspected = publish.and_then(|publish| crypto::inspect(&publish.payload).ok());
    let suite = inspected.as_ref().and_then(|inspected| match inspected {
        crypto::Inspected::Single { plaintext_bytes } => Some(("nacl", *plaintext_bytes)),
        crypto::Inspected::Hybrid { plaintext_bytes, .. } => Some(("nacl-hybrid", *plaintext_bytes)),
        crypto::Inspected::Sealed { plaintext_bytes, .. } => Some(("aes-256-gcm", *plaintext_bytes)),
        _ => None,
    });
    EventDetails {
        standing,
        app_name: seen.recipient.clone(),
        recipient: publish.map(|publish| publish.recipient.to_string()),
        sender_app: publish.map(|publish| publish.sender_id.to_string()),
        sender_name: seen.sender.clone().filter(|name| !name.is_empty()),
        sender: publish.map(|publish| publish.sender.to_string()),
        idempotency_key: publish
            .and_then(|publish| publish.idempotency_key.as_ref())
            .map(|key| key.as_str().to_owned()),
        metadata: publish.map(|publish| publish.metadata.fields()).filter(|fields| is_readable(fields, DEEPEST)),
        metadata_text: publish.map(|publish| publish.metadata.as_str().to_owned()),
        metadata_bytes: publish.map(|publish| publish.metadata.as_str().len()),
        payload_bytes: publish.map(|publish| publish.payload.len()),
        plaintext_bytes: suite.map(|(_, bytes)| bytes),
        suite: suite.map(|(suite, _)| suite.to_owned()),
        payload: publish.filter(|_| with_payload).and_then(|publish| publish.payload.as_str()).map(str::to_owned),
    }
}
