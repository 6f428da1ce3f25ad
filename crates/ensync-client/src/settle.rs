//! One settlement, from its command to its answer.

use std::sync::Arc;
use std::time::Duration;

use ensync_core::{
    Block, Command, EventId, EventName, Redact, Reply, Result, Settle, Settlement, Timestamp, redacted, secret_in,
};
use tracing::Instrument;

use crate::Client;
use crate::client::unexpected;
use crate::observe::Settling;
use crate::session::{LinkLife, Meant, Request};

/// For how long a settlement that is refused in passing is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    OfACall,
    OfTheLease,
}

/// For how long a settlement may take, unless as long as any call, the link that it is bound to, and for how long it is meant.
#[derive(Default)]
pub(crate) struct Within {
    pub(crate) limit: Option<Duration>,
    pub(crate) bound: Option<Arc<LinkLife>>,
    pub(crate) meant: Option<Meant>,
}

/// A reason as it goes out. An engine keeps it and shows it in its lists, so what is a secret for certain is left out of it.
pub(crate) fn shown_reason(reason: String) -> String {
    match secret_in(&reason) {
        Some(_) => redacted(&reason, Redact::Secrets).into_owned(),
        None => reason,
    }
}

/// Settles a delivery; tells when it comes again if it was deferred and the engine said.
pub(crate) async fn settle(
    client: &Client,
    event: EventName,
    id: EventId,
    block: Option<Block>,
    how: Settlement,
    within: Within,
) -> Result<Option<Timestamp>> {
    let how = match how {
        Settlement::Defer { delay, priority, reason } => {
            Settlement::Defer { delay, priority, reason: shown_reason(reason) }
        }
        Settlement::Discard { reason } => Settlement::Discard { reason: shown_reason(reason) },
        how => how,
    };
    let settling = Settling::begin(&event, &id, &how);
    let settled = settle_now(client, event, id, block, how, within).instrument(settling.span()).await;
    settling.end(&settled);
    settled
}

async fn settle_now(
    client: &Client,
    event: EventName,
    id: EventId,
    block: Option<Block>,
    how: Settlement,
    within: Within,
) -> Result<Option<Timestamp>> {
    let context = format!("{} {event} {id} at {}", how.name(), client.endpoint());
    let command = Command::Settle(Settle { id, event: Some(event), block, how });
    let limit = within.limit.unwrap_or_else(|| client.session.request_timeout());
    let reply = client.session.request(Request::new(command, limit).bound_to(within.bound).meant(within.meant)).await;
    match reply.map_err(|error| error.context(&context))? {
        Reply::Done => Ok(None),
        Reply::Deferred { until } => Ok(until),
        other => Err(unexpected(&context, &other)),
    }
}
