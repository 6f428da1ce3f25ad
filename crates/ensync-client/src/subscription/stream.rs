use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ensync_core::Result;
use futures::Stream;

use super::{Control, ForEach, Handler};
use crate::Event;
use crate::session::{Lane, Routed};

/// The events of one name as they are delivered to this client: a [`Stream`] of [`Event`]s, each of which wants to be settled.
///
/// It goes on across reconnects. It ends after [`unsubscribe`](Control::unsubscribe) or [`close`](crate::Client::close), or with
/// one last error when the client gives up or the engine refuses to subscribe again after a reconnect. Dropping it unsubscribes.
///
/// ```no_run
/// use futures::TryStreamExt;
/// # async fn example(client: ensync_client::Client) -> ensync_client::core::Result<()> {
/// let mut orders = client.subscribe("orders/status/updated").await?;
/// while let Some(event) = orders.try_next().await? {
///     println!("{}", event.json()?);
///     event.ack().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subscription {
    control: Control,
    lane: Lane,
    ended: bool,
}

impl Subscription {
    pub(crate) fn new(control: Control, lane: Lane) -> Self {
        Self { control, lane, ended: false }
    }

    /// The controls, for use beside a handler.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Hands each event to `handler`, and acks it after the handler's `Ok`. Await the result for the loop, or
    /// [`spawn`](ForEach::spawn) it.
    pub fn for_each<H, F, E>(self, handler: H) -> ForEach<H>
    where
        H: FnMut(Event) -> F + Send + 'static,
        F: Future<Output = std::result::Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        ForEach::new(self, handler)
    }

    /// [`for_each`](Self::for_each) in a task of its own: the peers' `on`.
    pub fn on<H, F, E>(self, handler: H) -> Handler
    where
        H: FnMut(Event) -> F + Send + 'static,
        F: Future<Output = std::result::Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        self.for_each(handler).spawn()
    }

    /// What is in the buffer, and will not be read.
    fn unread(&mut self) -> Vec<Routed> {
        self.lane.receiver.close();
        std::iter::from_fn(|| self.lane.receiver.try_recv().ok()).collect()
    }

    /// The end of the stream; the first time with the error that ended it, if there is one.
    fn end(&mut self, unread: Option<Routed>) -> Option<Result<Event>> {
        let session = &self.control.client().session.clone();
        unread.into_iter().chain(self.unread()).for_each(|routed| session.hand_back(routed));
        let first = !std::mem::replace(&mut self.ended, true);
        self.lane.end.get().filter(|_| first).map(|error| Err(error.clone()))
    }
}

impl Stream for Subscription {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let routed = ready!(this.lane.receiver.poll_recv(cx));
            // A sender is dropped when the route is closed; what is still in the buffer then is handed back, not delivered.
            let Routed { delivery, generation } = match routed {
                Some(routed) if !this.lane.receiver.is_closed() => routed,
                unread => return Poll::Ready(this.end(unread)),
            };
            let session = &this.control.client().session;
            if generation == session.generation() {
                let event = Event::new(delivery, this.control.keys().clone(), this.control.client().clone());
                return Poll::Ready(Some(Ok(event)));
            }
            tracing::debug!(event = %delivery.event, id = %delivery.id, "the link of this delivery has ended; it will come again");
        }
    }
}

impl Deref for Subscription {
    type Target = Control;
    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let unread = self.unread();
        self.control.leave(unread);
    }
}
