//! Which subscription an event goes to. Only its name is read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ensync_core::{Delivery, Error, ErrorKind, EventName, Result, Subscribe};
use tokio::sync::mpsc;

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
struct Route {
    sender: mpsc::Sender<Routed>,
    subscribe: Subscribe,
    /// The reason of a pause that the user has not ended.
    paused: Option<String>,
    /// Why the stream ends, for its reader.
    end: Arc<OnceLock<Error>>,
}

/// A subscription's end of a route.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) receiver: mpsc::Receiver<Routed>,
    pub(crate) end: Arc<OnceLock<Error>>,
}

impl Routes {
    /// Opens a route with room for `buffer` events.
    pub(crate) fn open(&self, subscribe: Subscribe, buffer: usize) -> Result<Lane> {
        let mut routes = self.lock();
        if routes.contains_key(&subscribe.event) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "this client is subscribed to {} already; read that subscription, raise its concurrency, or create another client",
                    subscribe.event
                ),
            ));
        }
        let (sender, receiver) = mpsc::channel(buffer.max(1));
        let end = Arc::new(OnceLock::new());
        let route = Route { sender, subscribe, paused: None, end: end.clone() };
        routes.insert(route.subscribe.event.clone(), route);
        Ok(Lane { receiver, end })
    }

    /// Where events of this name go.
    pub(crate) fn sender(&self, event: &EventName) -> Option<mpsc::Sender<Routed>> {
        self.lock().get(event).map(|route| route.sender.clone())
    }

    /// Removes the route; its reader's stream ends, with `error` first if there is one. False if there was none.
    pub(crate) fn close(&self, event: &EventName, error: Option<Error>) -> bool {
        let Some(route) = self.lock().remove(event) else { return false };
        if let Some(error) = error {
            // Set before the sender drops, so that the reader, woken by the drop, finds it.
            let _ = route.end.set(error);
        }
        true
    }

    /// The same, if the route is still the one that `end` belongs to: a later subscription may have taken the name.
    pub(crate) fn close_own(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> bool {
        let mut routes = self.lock();
        let own = routes.get(event).is_some_and(|route| Arc::ptr_eq(&route.end, end));
        own && routes.remove(event).is_some()
    }

    /// Removes every route.
    pub(crate) fn close_all(&self, error: Option<&Error>) -> Vec<EventName> {
        let names: Vec<_> = self.lock().keys().cloned().collect();
        for name in &names {
            self.close(name, error.cloned());
        }
        names
    }

    /// Remembers a pause, or its end, for the next link.
    pub(crate) fn set_paused(&self, event: &EventName, reason: Option<String>) {
        if let Some(route) = self.lock().get_mut(event) {
            route.paused = reason;
        }
    }

    /// What to tell an engine after a login: the subscriptions, each with its pause.
    pub(crate) fn to_restore(&self) -> Vec<(Subscribe, Option<String>)> {
        self.lock().values().map(|route| (route.subscribe.clone(), route.paused.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EventName, Route>> {
        // Nothing panics while it is held, and a map is whole after every call anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
