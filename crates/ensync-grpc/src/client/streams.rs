//! The streams of a link's subscriptions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ensync_core::{Error, EventName, Reply, Result, Subscribe};
use futures::future::{self, Either};
use tokio::task::AbortHandle;
use tonic::{Status, Streaming};

use super::link::{End, Shared};
use super::{read, write};
use crate::generated::*;
use crate::status;

/// A subscription's stream and the task that reads it, which ends with this.
pub(super) struct Stream {
    reader: AbortHandle,
    /// Its end is expected, and no failure of the link.
    leaving: Arc<AtomicBool>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// One lock for each event name, held over a subscribe or an unsubscribe. Of two that overlap, the stream that one starts must be
/// known to the other, or its end would look like the link's.
#[derive(Default)]
pub(super) struct Gates(Mutex<HashMap<EventName, Arc<tokio::sync::Mutex<()>>>>);

impl Gates {
    fn of(&self, event: &EventName) -> Arc<tokio::sync::Mutex<()>> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        gates.entry(event.clone()).or_default().clone()
    }
}

impl Shared {
    pub(super) async fn subscribe(self: &Arc<Self>, subscribe: Subscribe) -> Result<Reply> {
        let event = subscribe.event.clone();
        let gate = self.gates.of(&event);
        let _held = gate.lock().await;
        // An engine that starts a new stream for the same name ends the one of before.
        let before = self.lock().get(&event).map(|stream| stream.leaving.clone());
        let set_before = |leaving| {
            if let Some(flag) = &before {
                flag.store(leaving, Ordering::Release);
            }
        };
        set_before(true);
        let mut head = Box::pin(self.rpc.subscribe(write::subscribe(&self.client_id, &subscribe)));
        let stream = match tokio::time::timeout(self.options.subscribe_grace, &mut head).await {
            Ok(Ok(stream)) => Either::Left(future::ready(Ok(stream))),
            Ok(Err(status)) => {
                set_before(false);
                return Err(self.failed(&status));
            }
            Err(_) => Either::Right(head),
        };
        let leaving = Arc::new(AtomicBool::new(false));
        let mut streams = self.lock();
        // Under the lock: `end` clears the map under it, so no stream outlives the link.
        if self.end.borrow().is_some() {
            return Err(self.interrupted());
        }
        let reader = tokio::spawn(self.clone().read(event.clone(), stream, leaving.clone())).abort_handle();
        streams.insert(event, Stream { reader, leaving });
        Ok(Reply::Done)
    }

    pub(super) async fn unsubscribe(&self, event: EventName) -> Result<Reply> {
        let gate = self.gates.of(&event);
        let _held = gate.lock().await;
        let stream = self.lock().get(&event).map(|stream| stream.leaving.clone());
        let set = |leaving| {
            if let Some(flag) = &stream {
                flag.store(leaving, Ordering::Release);
            }
        };
        set(true);
        let request = UnsubscribeRequest { client_id: self.client_id.clone(), message_name: event.to_string() };
        let answer = self.rpc.unsubscribe(request).await;
        let error = match answer {
            Ok(answer) if answer.success => {
                self.lock().remove(&event);
                return Ok(Reply::Done);
            }
            Ok(answer) => Error::from_refusal(&answer.message),
            Err(status) => self.failed(&status),
        };
        set(false);
        Err(error)
    }

    /// Reads one subscription's stream into the inbox. If it ends unasked, so does the link.
    async fn read(
        self: Arc<Self>,
        event: EventName,
        stream: impl Future<Output = std::result::Result<Streaming<StreamResponse>, Status>>,
        leaving: Arc<AtomicBool>,
    ) {
        let why = async {
            let mut stream = stream.await?;
            while let Some(record) = stream.message().await? {
                match read::delivery(record) {
                    Ok(delivery) => {
                        if self.deliveries.send(delivery).await.is_err() {
                            return Ok(());
                        }
                    }
                    Err(error) => tracing::warn!(
                        endpoint = %self.endpoint, %event, %error, "an event that cannot be understood was skipped"
                    ),
                }
            }
            Ok(())
        };
        let why: std::result::Result<(), Status> = why.await;
        if leaving.load(Ordering::Acquire) {
            return;
        }
        let error = self.lost(format_args!("the stream of {event} ended"));
        self.end(End::Lost(match why {
            Ok(()) => error,
            Err(status) if status::is_local(&status) => error.with_source(status),
            Err(status) => error.with_source(status::from_status(&status)),
        }));
    }
}
