use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ensync_core::{Result, Settlement};
use futures::Stream;

use super::{Control, ForEach, Handler};
use crate::acker::From;
use crate::lease::Lease;
use crate::session::{DeliveryBuffer, Routed};
use crate::{Event, Unopenable, observe};

/// How many events are passed over before others have their turn.
const AT_ONCE: usize = 16;

/// The events of one name as they are delivered to this client: a [`Stream`] of [`Event`]s, each of which wants to be settled.
///
/// It goes on across reconnects. It ends after [`unsubscribe`](Control::unsubscribe) or [`close`](crate::Client::close), or with
/// one last error when the client gives up or the engine refuses to subscribe again after a reconnect. Dropping it unsubscribes,
/// and hands back what was not read.
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
    buffer: Arc<DeliveryBuffer>,
    unopenable: Unopenable,
    ended: bool,
}

impl Subscription {
    pub(crate) fn new(control: Control, buffer: Arc<DeliveryBuffer>, unopenable: Unopenable) -> Self {
        Self { control, buffer, unopenable, ended: false }
    }

    /// How many events were not handed out because nobody read them in their lease. They went back, and the engine delivers them again.
    /// If it grows, the reader is too slow for its window: see [`max_in_flight`](crate::Subscribe::max_in_flight).
    pub fn ran_out(&self) -> u64 {
        self.buffer.ran_out()
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

    /// What waits is worked off, so it is kept rather than handed back.
    pub(crate) fn keep_waiting(&self) {
        self.buffer.keep();
    }

    /// [`for_each`](Self::for_each) in a task of its own: the peers' `on`. [`ForEach`] says what a handler that blocks its thread needs.
    pub fn on<H, F, E>(self, handler: H) -> Handler
    where
        H: FnMut(Event) -> F + Send + 'static,
        F: Future<Output = std::result::Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        self.for_each(handler).spawn()
    }
}

impl Subscription {
    /// Whether an event comes out. One that cannot be opened is dealt with here if its reader does not want it.
    fn is_taken(&self, event: &Event) -> bool {
        if self.unopenable == Unopenable::HandOver {
            return true;
        }
        let Some(error) = event.unopenable() else { return true };
        observe::unopenable(error.kind(), self.unopenable);
        // Somebody who sends such events decides how many there are, so not each is written down.
        if self.control.client().session.may_log("unopenable") {
            tracing::warn!(event = %event.name(), id = %event.id(), %error, policy = ?self.unopenable, "an event cannot be opened; others may follow unlogged for a minute");
        }
        if self.unopenable == Unopenable::Discard {
            // The reason goes to the engine: a fixed word, that says nothing of the content.
            let how = Settlement::Discard { reason: error.kind().code().into() };
            event.acker().settle_later(how);
        } else {
            event.acker().leave();
        }
        false
    }
}

impl Stream for Subscription {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut passed_over = 0;
        while let Some(Routed { delivery, stream, arrived, until, held }) = ready!(this.buffer.poll_next(cx)) {
            let client = this.control.client();
            if stream.has_ended() || stream.epoch() != client.session.epoch() {
                tracing::debug!(event = %delivery.event, id = %delivery.id, "the stream of this delivery has ended; it will come again");
                continue;
            }
            let (name, reading) = (this.control.name().clone(), this.control.reading().clone());
            let lease = Lease::new(stream, until).observed(arrived, this.buffer.observed().clone());
            let event = Event::new(delivery, name, reading, client.clone(), Some(From { lease, held }));
            if this.is_taken(&event) {
                observe::delivered(&event);
                return Poll::Ready(Some(Ok(event)));
            }
            passed_over += 1;
            if passed_over >= AT_ONCE {
                // Whoever sends what does not open must not keep this thread from all else.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let first = !std::mem::replace(&mut this.ended, true);
        Poll::Ready(this.control.end().filter(|_| first).map(Err))
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
        self.control.leave();
    }
}
