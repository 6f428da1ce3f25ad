//! Which subscription an event goes to. Only its name is read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ensync_core::{Delivery, Error, ErrorKind, EventName, Result, Subscribe};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// An event on its way to a subscription.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) delivery: Delivery,
    /// The link it came over. What an earlier link brought is no longer this client's: the engine handed it back.
    pub(crate) generation: u64,
}

/// The subscriptions of a client by event name.
#[derive(Debug, Default)]
pub(crate) struct Routes(Mutex<HashMap<EventName, Route>>);

#[derive(Debug)]
enum Route {
    Open(Open),
    /// Its reader is gone, the engine is being told. Nobody may subscribe to the name until it is, or the late word would end
    /// the new subscription.
    Leaving(CancellationToken),
}

#[derive(Debug)]
struct Open {
    sender: mpsc::Sender<Routed>,
    subscribe: Subscribe,
    /// The link over which the engine was last told of the subscription; 0 before the first time.
    told: u64,
    /// The reason of a pause that the user has not ended.
    paused: Option<String>,
    /// Why the stream ends, for its reader. Also tells one subscription to the name from a later one.
    end: Arc<OnceLock<Error>>,
}

/// A subscription's end of a route.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) receiver: mpsc::Receiver<Routed>,
    pub(crate) end: Arc<OnceLock<Error>>,
}

impl Routes {
    /// Opens a route with room for `buffer` events, or says what to wait for before trying again.
    pub(crate) fn open(&self, subscribe: &Subscribe, buffer: usize) -> Result<Result<Lane, CancellationToken>> {
        let mut routes = self.lock();
        match routes.get(&subscribe.event) {
            Some(Route::Leaving(left)) => return Ok(Err(left.clone())),
            Some(Route::Open(_)) => {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!(
                        "this client is subscribed to {} already; read that subscription, raise its concurrency, or create \
                         another client",
                        subscribe.event
                    ),
                ));
            }
            None => {}
        }
        let (sender, receiver) = mpsc::channel(buffer.max(1));
        let end = Arc::new(OnceLock::new());
        let open = Open { sender, subscribe: subscribe.clone(), told: 0, paused: None, end: end.clone() };
        routes.insert(subscribe.event.clone(), Route::Open(open));
        Ok(Ok(Lane { receiver, end }))
    }

    /// Where events of this name go.
    pub(crate) fn sender(&self, event: &EventName) -> Option<mpsc::Sender<Routed>> {
        match self.lock().get(event) {
            Some(Route::Open(open)) => Some(open.sender.clone()),
            _ => None,
        }
    }

    /// Ends the reader's stream, if the route is still the one that `end` belongs to. Until [`left`](Routes::left) is called,
    /// nobody can subscribe to the name. False if there was nothing to end.
    pub(crate) fn leave(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> bool {
        match self.lock().get_mut(event) {
            Some(route @ Route::Open(_)) if route.is(end) => {
                *route = Route::Leaving(CancellationToken::new());
                true
            }
            _ => false,
        }
    }

    /// The engine knows that the name was left, or never will.
    pub(crate) fn left(&self, event: &EventName) {
        let mut routes = self.lock();
        if let Some(Route::Leaving(left)) = routes.get(event) {
            left.cancel();
            routes.remove(event);
        }
    }

    /// The link is gone, and with it what the engine was to be told over it.
    pub(crate) fn all_left(&self) {
        self.lock().retain(|_, route| match route {
            Route::Open(_) => true,
            Route::Leaving(left) => {
                left.cancel();
                false
            }
        });
    }

    /// Removes an open route; its reader's stream ends, with `error` first if there is one.
    pub(crate) fn close(&self, event: &EventName, error: Option<Error>) {
        let mut routes = self.lock();
        if matches!(routes.get(event), Some(Route::Open(_)))
            && let Some(Route::Open(open)) = routes.remove(event)
            && let Some(error) = error
        {
            // Set before the sender drops, so that the reader, woken by the drop, finds it.
            let _ = open.end.set(error);
        }
    }

    /// Removes every open route, and tells which there were.
    pub(crate) fn close_all(&self, error: Option<&Error>) -> Vec<EventName> {
        let open = |(name, route): (&EventName, &Route)| matches!(route, Route::Open(_)).then(|| name.clone());
        let names: Vec<_> = self.lock().iter().filter_map(open).collect();
        for name in &names {
            self.close(name, error.cloned());
        }
        names
    }

    /// Remembers a pause, or its end, for the next link.
    pub(crate) fn set_paused(&self, event: &EventName, reason: Option<String>) {
        if let Some(Route::Open(open)) = self.lock().get_mut(event) {
            open.paused = reason;
        }
    }

    /// The engine was told of the subscription over this link.
    pub(crate) fn set_told(&self, event: &EventName, generation: u64) {
        if let Some(Route::Open(open)) = self.lock().get_mut(event) {
            open.told = generation;
        }
    }

    /// The link over which the engine was last told of the subscription; `None` if there is none.
    pub(crate) fn told(&self, event: &EventName) -> Option<u64> {
        match self.lock().get(event) {
            Some(Route::Open(open)) => Some(open.told),
            _ => None,
        }
    }

    /// What to tell an engine after a login: the subscriptions it was told of before, each with its pause.
    pub(crate) fn to_restore(&self) -> Vec<(Subscribe, Option<String>)> {
        let restorable = |route: &Route| match route {
            Route::Open(open) if open.told > 0 => Some((open.subscribe.clone(), open.paused.clone())),
            _ => None,
        };
        self.lock().values().filter_map(restorable).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EventName, Route>> {
        // Nothing panics while it is held, and a map is whole after every call anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Route {
    fn is(&self, end: &Arc<OnceLock<Error>>) -> bool {
        matches!(self, Self::Open(open) if Arc::ptr_eq(&open.end, end))
    }
}
