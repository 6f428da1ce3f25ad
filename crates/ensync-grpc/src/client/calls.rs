//! Command → call → reply.

use std::sync::Arc;

use ensync_core::{Command, Error, ErrorKind, Extension, Reply, Result, Settle, Settlement, Timestamp};
use tonic::Status;

use super::link::Shared;
use super::{read, write};
use crate::generated::*;

impl Shared {
    pub(super) async fn perform(self: &Arc<Self>, command: Command) -> Result<Reply> {
        let id = || self.client_id.clone();
        let rpc = &self.rpc;
        let answered = |answer: std::result::Result<(bool, String), Status>| match answer {
            Ok((true, _)) => Ok(Reply::Done),
            Ok((false, why)) => Err(Error::from_refusal(&why)),
            Err(status) => Err(self.failed(&status)),
        };
        match command {
            Command::Heartbeat => match rpc.heartbeat(HeartbeatRequest { client_id: id() }).await {
                Ok(answer) if answer.success => Ok(Reply::Done),
                Ok(_) => Err(Error::new(
                    ErrorKind::Unauthenticated,
                    format!("{} no longer knows this session", self.endpoint),
                )),
                Err(status) => Err(self.failed(&status)),
            },
            Command::Publish(publish) => {
                write::check_size(&publish, self.options.max_message_bytes)?;
                let request = || write::publish(&self.client_id, &publish);
                let answer = rpc.publish_message(request).await.map_err(|status| self.failed(&status))?;
                read::published(answer)
            }
            Command::Subscribe(subscribe) => self.subscribe(subscribe).await,
            Command::Unsubscribe { event } => self.unsubscribe(event).await,
            Command::Settle(settle) => self.settle(settle).await,
            Command::Replay { id: event_id, event } => {
                let request = || ReplayRequest {
                    client_id: id(),
                    message_idem: event_id.to_string(),
                    message_name: event.to_string(),
                };
                let answer = rpc.replay_message(request).await.map_err(|status| self.failed(&status))?;
                read::replayed(answer, &event_id, &event)
            }
            Command::Pause { event, reason } => {
                let request =
                    || PauseRequest { client_id: id(), message_name: event.to_string(), reason: reason.clone() };
                answered(rpc.pause_messages(request).await.map(|answer| (answer.success, answer.message)))
            }
            Command::Continue { event } => {
                let request = || ContinueRequest { client_id: id(), message_name: event.to_string() };
                answered(rpc.continue_messages(request).await.map(|answer| (answer.success, answer.message)))
            }
            other => Err(Error::new(
                ErrorKind::Internal,
                format!("the gRPC transport does not know the command {}", other.name()),
            )),
        }
    }

    async fn settle(&self, settle: Settle) -> Result<Reply> {
        let id = &self.client_id;
        let answer = match &settle.how {
            Settlement::Ack => self
                .rpc
                .acknowledge_message(|| write::ack(id, &settle))
                .await
                .map(|answer| (answer.success, answer.message, Reply::Done)),
            Settlement::Discard { reason } => self
                .rpc
                .discard_message(|| write::discard(id, &settle, reason))
                .await
                .map(|answer| (answer.success, answer.message, Reply::Done)),
            Settlement::Defer { delay, priority, reason } => {
                let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
                self.rpc.defer_message(|| write::defer(id, &settle, delay_ms, *priority, reason)).await.map(|answer| {
                    let until = u64::try_from(answer.delivery_time).ok().filter(|&at| at > 0);
                    (answer.success, answer.message, Reply::Deferred { until: until.map(Timestamp::from_millis) })
                })
            }
            // gRPC has no call for it; a defer by 0 also redelivers at once.
            Settlement::Rollback => self
                .rpc
                .defer_message(|| write::defer(id, &settle, 0, 0, ""))
                .await
                .map(|answer| (answer.success, answer.message, Reply::Done)),
            Settlement::Release | Settlement::Extend if !self.leases => return Err(Extension::Leases.missing()),
            Settlement::Release => self
                .rpc
                .release_message(write::release(id, &settle))
                .await
                .map(|answer| (answer.success, answer.message, Reply::Done)),
            Settlement::Extend => self.rpc.extend_lease(write::extend(id, &settle)).await.map(|answer| {
                (answer.success, answer.message, Reply::Extended { lease: read::lease(answer.lease_ms) })
            }),
            other => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!("the gRPC transport does not know the settlement {}", other.name()),
                ));
            }
        };
        match answer {
            Ok((true, _, reply)) => Ok(reply),
            Ok((false, why, _)) => Err(Error::from_refusal(&why)),
            Err(status) => Err(self.failed(&status)),
        }
    }
}
