use axum::Json;
use axum::extract::State;
use ensync_core::EventName;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Page;
use crate::QueueStats;
use crate::admin::body::Asked;
use crate::admin::context::Admin;
use crate::admin::error::Result;
use crate::broker::List;

/// A queue: the events of one app under one event name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queue {
    /// The recipient's id.
    app: String,
    /// The recipient's name.
    app_name: String,
    event: String,
    /// Events that could be delivered now.
    ready: usize,
    /// Events that are with clients.
    in_flight: usize,
    /// Events that wait for a time.
    deferred: usize,
    /// Dead letters.
    dead: usize,
    /// Subscriptions, paused ones included.
    consumers: usize,
    /// When the oldest event that is neither settled nor a dead letter was accepted: milliseconds since the Unix epoch.
    oldest: Option<u64>,
    counters: Counters,
}

/// How often things happened to a queue since the engine started.
#[derive(Debug, Serialize, ToSchema)]
struct Counters {
    published: u64,
    delivered: u64,
    /// Deliveries that were not an event's first.
    redelivered: u64,
    acked: u64,
    /// Deliveries that clients deferred.
    deferred: u64,
    /// Events that became dead letters.
    dead: u64,
    expired: u64,
    /// Dead letters that were put back.
    requeued: u64,
    /// Events that administrators gave up: dead letters, and what a purge took.
    dropped: u64,
}

impl Queue {
    pub(super) fn new(stats: QueueStats, app_name: String) -> Self {
        let counters = stats.counters;
        Self {
            app: stats.recipient.to_string(),
            app_name,
            event: stats.event.to_string(),
            ready: stats.ready,
            in_flight: stats.in_flight,
            deferred: stats.deferred,
            dead: stats.dead,
            consumers: stats.consumers,
            oldest: stats.oldest.map(|at| at.as_millis()),
            counters: Counters {
                published: counters.published,
                delivered: counters.delivered,
                redelivered: counters.redelivered,
                acked: counters.acked,
                deferred: counters.deferred,
                dead: counters.dead,
                expired: counters.expired,
                requeued: counters.requeued,
                dropped: counters.dropped,
            },
        }
    }
}

/// Some queues.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queues {
    queues: Vec<Queue>,
    /// What to send as `after` for the next page; null if there is none.
    next: Option<String>,
    /// Partitions that did not answer in time: what they hold is missing. Not there if all have answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unanswered: Vec<usize>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQueues {
    /// Only those of this event name: at most 255 bytes.
    #[param(min_length = 1, max_length = 255)]
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

/// List queues that were ever used.
#[utoipa::path(get, path = "/v1/queues", tag = "queues", params(ListQueues), responses((status = 200, body = Queues)))]
pub(super) async fn list(State(admin): State<Admin>, Asked(asked): Asked<ListQueues>) -> Result<Json<Queues>> {
    let page = Page { limit: asked.limit, after: asked.after };
    let (limit, after) = (page.limit()?, page.after(|text| text.parse::<u32>().map_err(super::no_number))?);
    let event = asked.event.as_deref().map(EventName::parse_stored).transpose()?;
    let app = asked.app.as_deref().map(str::parse).transpose()?;
    let List { found, next, unanswered } = admin.broker.find_queues((app, event), after, limit).await?;
    let queues = found.into_iter().map(|(stats, name)| Queue::new(stats, name)).collect();
    Ok(Json(Queues { queues, next: next.map(|next| next.to_string()), unanswered }))
}
