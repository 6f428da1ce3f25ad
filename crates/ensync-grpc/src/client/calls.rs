//! Command → call → reply.

use std::sync::Arc;
use std::time::Duration;

use ensync_core::{
    Command, Error, ErrorKind, EventId, EventName, Extension, Reply, Result, Settle, Settlement, Timestamp,
};

use super::connection::Connection;
use super::link::Shared;
use super::outcome::Failure;
use super::{read, write};
use crate::generated::*;

impl Shared {
    /// Carries out a command. `limit` is how long the caller waits for it.
    pub(super) async fn perform(self: &Arc<Self>, command: &Command, limit: Option<Duration>) -> Result<Reply> {
        self.check(command)?;
        let answer = match command {
            Command::Subscribe(subscribe) => self.subscribe(subscribe.clone()).await,
            Command::Unsubscribe { event } => self.unsubscribe(event.clone()).await,
            _ => self.carry(|over| async move { self.perform_over(&over, command, limit).await }).await,
        };
        answer.map_err(|error| error.in_answer_to(command))
    }

    /// What need not be sent to know that it would be refused.
    fn check(&self, command: &Command) -> Result<()> {
        match command {
            Command::Publish(publish) => write::check(publish, self.max_message_bytes),
            Command::Settle(Settle { how: Settlement::Release | Settlement::Extend, .. }) if !self.leases => {
                Err(Extension::Leases.missing())
            }
            _ => Ok(()),
        }
    }

    async fn perform_over(
        &self,
        over: &Connection,
        command: &Command,
        limit: Option<Duration>,
    ) -> Result<Reply, Failure> {
        let id = || self.client_id.clone();
        let rpc = &over.rpc;
        match command {
            Command::Heartbeat => {
                if rpc.heartbeat(HeartbeatRequest { client_id: id() }, limit).await?.success {
                    return Ok(Reply::Done);
                }
                let text = format!("{} no longer knows this session", self.endpoint);
                Err(Error::new(ErrorKind::Unauthenticated, text).into())
            }
            Command::Publish(publish) => {
                let answer = rpc.publish_message(|| write::publish(&self.client_id, publish), limit).await?;
                Ok(read::published(answer)?)
            }
            Command::Settle(settle) => self.settle(over, settle, limit).await,
            Command::Replay { id: event_id, event } => {
                let request = || replay(id(), event_id, event);
                Ok(read::replayed(rpc.replay_message(request, limit).await?, event_id, event)?)
            }
            Command::Pause { event, reason } => {
                let request =
                    || PauseRequest { client_id: id(), message_name: event.to_string(), reason: reason.clone() };
                let answer = rpc.pause_messages(request, limit).await?;
                done(answer.success, &answer.message)
            }
            Command::Continue { event } => {
                let request = || ContinueRequest { client_id: id(), message_name: event.to_string() };
                let answer = rpc.continue_messages(request, limit).await?;
                done(answer.success, &answer.message)
            }
            other => Err(unknown(format_args!("command {}", other.name()))),
        }
    }

    async fn settle(&self, over: &Connection, settle: &Settle, limit: Option<Duration>) -> Result<Reply, Failure> {
        let (id, rpc) = (&self.client_id, &over.rpc);
        match &settle.how {
            Settlement::Ack => {
                let answer = rpc.acknowledge_message(|| write::ack(id, settle), limit).await?;
                done(answer.success, &answer.message)
            }
            Settlement::Discard { reason } => {
                let answer = rpc.discard_message(|| write::discard(id, settle, reason), limit).await?;
                done(answer.success, &answer.message)
            }
            Settlement::Defer { delay, priority, reason } => {
                let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
                let request = || write::defer(id, settle, delay_ms, *priority, reason);
                let answer = rpc.defer_message(request, limit).await?;
                done(answer.success, &answer.message)?;
                let until = u64::try_from(answer.delivery_time).ok().filter(|&at| at > 0);
                Ok(Reply::Deferred { until: until.map(Timestamp::from_millis) })
            }
            // gRPC has no call for it; a defer by 0 also redelivers at once.
            Settlement::Rollback => {
                let answer = rpc.defer_message(|| write::defer(id, settle, 0, 0, ""), limit).await?;
                done(answer.success, &answer.message)
            }
            Settlement::Release => {
                let answer = rpc.release_message(write::release(id, settle), limit).await?;
                done(answer.success, &answer.message)
            }
            Settlement::Extend => {
                let answer = rpc.extend_lease(write::extend(id, settle), limit).await?;
                done(answer.success, &answer.message)?;
                Ok(Reply::Extended { lease: read::lease(answer.lease_ms) })
            }
            other => Err(unknown(format_args!("settlement {}", other.name()))),
        }
    }
}

fn replay(client_id: String, id: &EventId, event: &EventName) -> ReplayRequest {
    ReplayRequest { client_id, message_idem: id.to_string(), message_name: event.to_string() }
}

fn done(success: bool, why: &str) -> Result<Reply, Failure> {
    if success { Ok(Reply::Done) } else { Err(Error::from_refusal(why).into()) }
}

fn unknown(what: impl std::fmt::Display) -> Failure {
    Error::new(ErrorKind::Internal, format!("the gRPC transport does not know the {what}")).into()
}
