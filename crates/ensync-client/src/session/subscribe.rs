//! Subscribing and leaving, as a session's user asks for it.

use std::sync::{Arc, OnceLock};

use ensync_core::{Command, Error, ErrorKind, EventName, Result, Subscribe};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Opened, Request, Session};

impl Session {
    /// Opens a route and subscribes. The route outlives the link: from then on the supervisor restores it.
    pub(crate) async fn subscribe(&self, subscribe: Subscribe) -> Result<Opened> {
        if self.is_draining() {
            return Err(self.shared().closed());
        }
        let limit = self.request_timeout();
        let deadline = Instant::now() + limit;
        // Whoever is asked first at the deadline knows what was waited for.
        match tokio::time::timeout_at(deadline, self.open_buffer(&subscribe, deadline)).await {
            Ok(buffer) => buffer,
            Err(_) => {
                Err(Error::new(ErrorKind::Timeout, format!("no answer from {} within {limit:?}", self.endpoint())))
            }
        }
    }

    async fn open_buffer(&self, subscribe: &Subscribe, deadline: Instant) -> Result<Opened> {
        let event = &subscribe.event;
        let buffer = loop {
            match self.registry().open(subscribe)? {
                Ok(buffer) => break buffer,
                Err(left) => left.cancelled().await,
            }
        };
        // If the caller gives up, the route must not stay behind, here or at the engine.
        let guard = OnDrop(Some(|| self.leave(event, &buffer.end)));
        loop {
            let request = Request::until(Command::Subscribe(subscribe.clone()), deadline);
            let (answer, epoch) = self.shared().call(request).await;
            match answer {
                Ok(_) => self.registry().set_subscribed(event, &buffer.end, epoch),
                // The engine may have subscribed: the guard tells it otherwise.
                Err(error) if error.may_have_happened() => return Err(error),
                Err(error) => {
                    guard.disarm();
                    self.registry().close(event, &buffer.end, None);
                    return Err(error);
                }
            }
            // Another link may have come up in between, without the supervisor having known of this subscription.
            let live = self.shared().live().await?.epoch();
            if self.registry().subscribed_epoch(event, &buffer.end).is_none_or(|told| told == live) {
                break;
            }
        }
        guard.disarm();
        Ok(buffer)
    }

    /// Ends a subscription's stream and tells the engine in the background; what was not read is handed back after that.
    pub(crate) fn leave(&self, event: &EventName, end: &Arc<OnceLock<Error>>) {
        self.shared().leave(event, end, None);
    }

    /// Ends a subscription's stream, and waits until the engine knows. The word is for the link that is up: with that link's end it
    /// is done, for the engine has forgotten the subscription, and the next is not told of it.
    pub(crate) async fn unsubscribe(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> Result<()> {
        let (said, answer) = oneshot::channel();
        self.shared().leave(event, end, Some(said));
        let limit = self.request_timeout();
        match tokio::time::timeout(limit, answer).await {
            // Said, or dropped with the link; an error of a link that ended, or of a session that the engine forgot, is its end.
            Ok(Ok(Err(error)))
                if error.is_read_from_words()
                    || (!error.may_have_happened()
                        && !matches!(error.kind(), ErrorKind::Closed | ErrorKind::Unauthenticated)) =>
            {
                Err(error)
            }
            Ok(_) => Ok(()),
            Err(_) => {
                let text = format!("no answer from {} within {limit:?}", self.endpoint());
                Err(Error::new(ErrorKind::Timeout, text))
            }
        }
    }
}

struct OnDrop<F: FnMut()>(Option<F>);

impl<F: FnMut()> OnDrop<F> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(action) = &mut self.0 {
            action();
        }
    }
}
