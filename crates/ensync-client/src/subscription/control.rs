use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ensync_core::{Block, Command, Delay, Error, ErrorKind, EventId, EventName, Result, Settlement, Timestamp};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::reading::Reading;
use crate::settle::{Within, settle, shown_reason};
use crate::{Client, Event};

/// The controls of a subscription, apart from its events: for use beside a running handler. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    client: Client,
    event: EventName,
    reading: Reading,
    /// Which subscription to the name it is.
    end: Arc<OnceLock<Error>>,
}

impl Control {
    pub(crate) fn new(client: Client, event: EventName, reading: Reading, end: Arc<OnceLock<Error>>) -> Self {
        Self { client, event, reading, end }
    }

    /// The event name.
    pub fn name(&self) -> &EventName {
        &self.event
    }

    /// Halts the deliveries to this client; other clients of the app go on. What was delivered already still comes out. Lasts until
    /// [`resume`](Control::resume): after a reconnect the client pauses again.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) if the subscription has ended; what any call can fail with: see [`Client::publish`].
    pub async fn pause(&self, reason: impl Into<String>) -> Result<()> {
        self.say(Some(shown_reason(reason.into()))).await
    }

    /// Ends a pause.
    ///
    /// # Errors
    ///
    /// What any call can fail with: see [`Client::publish`].
    pub async fn resume(&self) -> Result<()> {
        self.say(None).await
    }

    /// Asks for one event again: see [`Client::replay`].
    ///
    /// # Errors
    ///
    /// As [`Client::replay`].
    pub async fn replay<I: TryInto<EventId, Error: Into<Error>>>(&self, id: I) -> Result<Event> {
        let id = id.try_into().map_err(Into::into)?;
        self.client.replay_with(self.event.clone(), id, self.reading.clone()).await
    }

    /// Ends the subscription. Its stream ends; what nobody took yet goes back to the engine; what was taken can still be settled.
    ///
    /// # Errors
    ///
    /// What any call can fail with: see [`Client::publish`]. The stream ends nevertheless.
    pub async fn unsubscribe(&self) -> Result<()> {
        let unsubscribed = self.client.session.unsubscribe(&self.event, &self.end).await;
        unsubscribed
            .map_err(|error| error.context(format_args!("unsubscribe {} at {}", self.event, self.client.endpoint())))
    }

    /// Settles by id and block, as the peers do; [`Event::ack`] is the same for an event at hand.
    ///
    /// # Errors
    ///
    /// As [`Event::ack`].
    pub async fn ack(&self, id: &EventId, block: Block) -> Result<()> {
        self.settle(id, Some(block), Settlement::Ack).await.map(drop)
    }

    /// Defers by id: see [`Event::defer`].
    ///
    /// # Errors
    ///
    /// As [`Event::defer`].
    pub async fn defer(&self, id: &EventId, delay: Duration, reason: impl Into<String>) -> Result<Option<Timestamp>> {
        let named = |error: Error| error.context(format_args!("defer {} {id}", self.event));
        let delay = Delay::new(delay).map_err(named)?;
        self.settle(id, None, Settlement::Defer { delay, priority: 0, reason: reason.into() }).await
    }

    /// Discards by id: see [`Event::discard`].
    ///
    /// # Errors
    ///
    /// As [`Event::ack`].
    pub async fn discard(&self, id: &EventId, reason: impl Into<String>) -> Result<()> {
        self.settle(id, None, Settlement::Discard { reason: reason.into() }).await.map(drop)
    }

    /// Rolls back by id and block: see [`Event::rollback`].
    ///
    /// # Errors
    ///
    /// As [`Event::ack`].
    pub async fn rollback(&self, id: &EventId, block: Block) -> Result<()> {
        self.settle(id, Some(block), Settlement::Rollback).await.map(drop)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Ends the stream and tells the engine in the background; what was not read is handed back.
    pub(crate) fn leave(&self) {
        self.client.session.leave(&self.event, &self.end);
    }

    /// Why the stream ended, if not on request.
    pub(crate) fn end(&self) -> Option<Error> {
        self.end.get().cloned()
    }

    async fn settle(&self, id: &EventId, block: Option<Block>, how: Settlement) -> Result<Option<Timestamp>> {
        settle(&self.client, self.event.clone(), id.clone(), block, how, Within::default()).await
    }

    /// Remembers a pause, or its end, and tells the engine.
    async fn say(&self, paused: Option<String>) -> Result<()> {
        let deadline = Instant::now() + self.client.session.request_timeout();
        let word = self.word(paused.clone());
        let context = format!("{} {} at {}", word.name(), self.event, self.client.endpoint());
        let named = |error: Error| error.context(context.clone());
        let turn = self.turn(deadline).await.map_err(named)?;
        let registry = self.client.session.registry();
        if !registry.is_open(&self.event, &self.end) {
            return Err(Error::new(ErrorKind::Closed, format!("{context}: this subscription has ended")));
        }
        // Before the engine is told, so that a link that comes up meanwhile restores it.
        let before = registry.set_paused(&self.event, &self.end, paused.clone());
        let said = self.tell(word, &paused, turn, deadline).await.map_err(named);
        if said.is_err() && paused.is_some() {
            registry.unpause(&self.event, &self.end, &paused, before);
        }
        said
    }

    /// Tells the engine, over a link that is there for as long as the turn is held: without one, the next one's restoring needs the turn.
    async fn tell(
        &self,
        word: Command,
        paused: &Option<String>,
        turn: OwnedMutexGuard<()>,
        deadline: Instant,
    ) -> Result<()> {
        let (session, mut turn) = (&self.client.session, Some(turn));
        loop {
            if let Some(live) = session.live_link() {
                if paused.is_none() && session.is_full(&self.event, &self.end) {
                    // The engine goes on by itself when there is room again.
                    return Ok(());
                }
                return session.tell(word, &live, deadline).await;
            }
            drop(turn.take());
            session.live_until(deadline).await?;
            turn = Some(self.turn(deadline).await?);
            if session.registry().paused(&self.event, &self.end) != *paused {
                // Somebody has said something else since, which is what is meant; or it was left.
                return Ok(());
            }
        }
    }

    fn word(&self, paused: Option<String>) -> Command {
        let event = self.event.clone();
        match paused {
            Some(reason) => Command::Pause { event, reason },
            None => Command::Continue { event },
        }
    }

    /// Waits until nobody else tells the engine anything of this subscription.
    async fn turn(&self, deadline: Instant) -> Result<OwnedMutexGuard<()>> {
        let turn = self.client.session.registry().turn(&self.event, &self.end).unwrap_or_default();
        tokio::time::timeout_at(deadline, turn.lock_owned()).await.map_err(|_| {
            let text =
                "what was said of this subscription before was not answered until the deadline; this was not sent";
            Error::new(ErrorKind::Unavailable, text)
        })
    }
}
