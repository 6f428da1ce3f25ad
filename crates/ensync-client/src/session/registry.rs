//! Which subscription an event goes to. Only its name is read.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ensync_core::{Error, ErrorKind, EventName, Result, Subscribe};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::buffer::{DeliveryBuffer, Routed};
use super::flow::FlowControl;

/// The subscriptions of a client by event name.
#[derive(Debug, Default)]
pub(crate) struct SubscriptionRegistry(Mutex<BTreeMap<EventName, Slot>>);

#[derive(Debug)]
enum Slot {
    Open(Open),
    /// Its reader is gone, the engine is being told. Nobody may subscribe to the name until it is, or the late word would end
    /// the new subscription.
    Leaving(CancellationToken),
}

#[derive(Debug)]
struct Open {
    buffer: Arc<DeliveryBuffer>,
    subscribe: Subscribe,
    /// What of it is unsettled, over the link that last brought something.
    window: Option<Arc<FlowControl>>,
    /// Held while the engine is told to pause or to go on, so that its last word is the one that is meant.
    gate: Arc<tokio::sync::Mutex<()>>,
    /// The link over which the engine was last told of the subscription; 0 before the first time.
    subscribed: u64,
    /// The reason of a pause that the user has not ended.
    paused: Option<String>,
    /// Why the stream ends, for its reader. Also tells one subscription to the name from a later one.
    end: Arc<OnceLock<Error>>,
}

/// A subscription that the next link must be told of.
#[derive(Debug)]
pub(crate) struct Restore {
    pub(crate) subscribe: Subscribe,
    /// The reason of a pause.
    pub(crate) paused: Option<String>,
    /// Which subscription to the name it is.
    pub(crate) end: Arc<OnceLock<Error>>,
}

/// A subscription's end of a route.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) buffer: Arc<DeliveryBuffer>,
    pub(crate) end: Arc<OnceLock<Error>>,
}

impl SubscriptionRegistry {
    /// Opens a route, or says what to wait for before trying again.
    pub(crate) fn open(&self, subscribe: &Subscribe) -> Result<Result<Opened, CancellationToken>> {
        let mut registry = self.lock();
        match registry.get(&subscribe.event) {
            Some(Slot::Leaving(left)) => return Ok(Err(left.clone())),
            Some(Slot::Open(_)) => {
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
        let opened = Opened { buffer: Arc::default(), end: Arc::default() };
        let open = Open {
            buffer: opened.buffer.clone(),
            subscribe: subscribe.clone(),
            window: None,
            gate: Arc::default(),
            subscribed: 0,
            paused: None,
            end: opened.end.clone(),
        };
        registry.insert(subscribe.event.clone(), Slot::Open(open));
        Ok(Ok(opened))
    }

    /// Where events of this name go that a link brings, and what counts them: made by `window` for each link anew.
    pub(crate) fn buffer(
        &self,
        event: &EventName,
        epoch: u64,
        window: impl FnOnce(&Subscribe) -> Arc<FlowControl>,
    ) -> Option<(Arc<DeliveryBuffer>, Arc<FlowControl>)> {
        let mut registry = self.lock();
        let Some(Slot::Open(open)) = registry.get_mut(event) else { return None };
        let window = match &open.window {
            Some(known) if known.epoch == epoch => known.clone(),
            _ => open.window.insert(window(&open.subscribe)).clone(),
        };
        Some((open.buffer.clone(), window))
    }

    /// What is held while the engine is told to pause an open route, or to go on.
    pub(crate) fn gate(&self, event: &EventName) -> Option<Arc<tokio::sync::Mutex<()>>> {
        match self.lock().get(event) {
            Some(Slot::Open(open)) => Some(open.gate.clone()),
            _ => None,
        }
    }

    /// Whether the user paused the route.
    pub(crate) fn is_paused(&self, event: &EventName) -> bool {
        matches!(self.lock().get(event), Some(Slot::Open(open)) if open.paused.is_some())
    }

    /// Whether the engine is paused over this link because the reader is slow.
    pub(crate) fn is_full(&self, event: &EventName, epoch: u64) -> bool {
        match self.lock().get(event) {
            Some(Slot::Open(open)) => {
                open.window.as_ref().is_some_and(|window| window.epoch == epoch && window.pauses())
            }
            _ => false,
        }
    }

    /// Takes out of every buffer what was not read and whose lease runs out before `limit`.
    pub(crate) fn take_ending(&self, limit: Instant) -> Vec<Routed> {
        let ending = |route: &Slot| match route {
            Slot::Open(open) => open.buffer.take_ending(limit),
            Slot::Leaving(_) => Vec::new(),
        };
        self.lock().values().flat_map(ending).collect()
    }

    /// How many events nobody has read.
    pub(crate) fn unread(&self) -> usize {
        let unread = |route: &Slot| match route {
            Slot::Open(open) => open.buffer.len(),
            Slot::Leaving(_) => 0,
        };
        self.lock().values().map(unread).sum()
    }

    /// Ends the reader's stream, if the route is still the one that `end` belongs to, and gives what was not read. Until
    /// [`left`](SubscriptionRegistry::left) is called, nobody can subscribe to the name. `None` if there was nothing to end.
    pub(crate) fn leave(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> Option<Vec<Routed>> {
        match self.lock().get_mut(event) {
            Some(route) if route.is(end) => Some(route.leave()),
            _ => None,
        }
    }

    /// The same with every open route.
    pub(crate) fn leave_all(&self) -> Vec<(EventName, Vec<Routed>)> {
        let mut registry = self.lock();
        let open = registry.iter_mut().filter(|(_, route)| matches!(route, Slot::Open(_)));
        open.map(|(event, route)| (event.clone(), route.leave())).collect()
    }

    /// The engine knows that the name was left, or never will.
    pub(crate) fn left(&self, event: &EventName) {
        let mut registry = self.lock();
        if let Some(Slot::Leaving(left)) = registry.get(event) {
            left.cancel();
            registry.remove(event);
        }
    }

    /// The link is gone, and with it what the engine was to be told over it.
    pub(crate) fn all_left(&self) {
        self.lock().retain(|_, route| match route {
            Slot::Open(_) => true,
            Slot::Leaving(left) => {
                left.cancel();
                false
            }
        });
    }

    /// Removes an open route; its reader's stream ends, with `error` first if there is one. What was not read is dropped: the
    /// session it came in is over, or the engine refused the subscription.
    pub(crate) fn close(&self, event: &EventName, error: Option<Error>) {
        let mut registry = self.lock();
        if matches!(registry.get(event), Some(Slot::Open(_)))
            && let Some(Slot::Open(open)) = registry.remove(event)
        {
            open.close(error);
        }
    }

    /// Removes every route.
    pub(crate) fn close_all(&self, error: Option<&Error>) {
        self.all_left();
        for route in std::mem::take(&mut *self.lock()).into_values() {
            if let Slot::Open(open) = route {
                open.close(error.cloned());
            }
        }
    }

    /// Takes a name that nobody subscribes to, to tell the engine so. False if somebody does, or is leaving it.
    pub(crate) fn leave_unknown(&self, event: &EventName) -> bool {
        match self.lock().entry(event.clone()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(Slot::Leaving(CancellationToken::new()));
                true
            }
        }
    }

    /// The link is gone, and with it the right to what it brought: empties every buffer, so that nobody reads it.
    pub(crate) fn empty_all(&self) {
        for route in self.lock().values() {
            if let Slot::Open(open) = route {
                open.buffer.clear();
            }
        }
    }

    /// Whether the route is the one that `end` belongs to, and open.
    pub(crate) fn is_open(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> bool {
        self.lock().get(event).is_some_and(|route| route.is(end))
    }

    /// Remembers a pause, or its end, for the next link.
    pub(crate) fn set_paused(&self, event: &EventName, end: &Arc<OnceLock<Error>>, reason: Option<String>) {
        if let Some(Slot::Open(open)) = self.lock().get_mut(event).filter(|route| route.is(end)) {
            open.paused = reason;
        }
    }

    /// The engine was told of the subscription over this link.
    pub(crate) fn set_subscribed(&self, event: &EventName, epoch: u64) {
        if let Some(Slot::Open(open)) = self.lock().get_mut(event) {
            open.subscribed = epoch;
        }
    }

    /// The link over which the engine was last told of the subscription; `None` if there is none.
    pub(crate) fn subscribed_epoch(&self, event: &EventName) -> Option<u64> {
        match self.lock().get(event) {
            Some(Slot::Open(open)) => Some(open.subscribed),
            _ => None,
        }
    }

    /// What to tell an engine after a login: the subscriptions it was told of before.
    pub(crate) fn to_restore(&self) -> Vec<Restore> {
        let restorable = |route: &Slot| match route {
            Slot::Open(open) if open.subscribed > 0 => {
                Some(Restore { subscribe: open.subscribe.clone(), paused: open.paused.clone(), end: open.end.clone() })
            }
            _ => None,
        };
        self.lock().values().filter_map(restorable).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EventName, Slot>> {
        // Nothing panics while it is held, and a map is whole after every call anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn is(&self, end: &Arc<OnceLock<Error>>) -> bool {
        matches!(self, Self::Open(open) if Arc::ptr_eq(&open.end, end))
    }

    fn leave(&mut self) -> Vec<Routed> {
        match std::mem::replace(self, Self::Leaving(CancellationToken::new())) {
            Self::Open(open) => open.close(None),
            leaving => {
                *self = leaving;
                Vec::new()
            }
        }
    }
}

impl Open {
    /// Ends the reader's stream, and gives what was not read.
    fn close(self, error: Option<Error>) -> Vec<Routed> {
        if let Some(error) = error {
            // Set before the buffer closes, so that the reader, woken by that, finds it.
            let _ = self.end.set(error);
        }
        self.buffer.close()
    }
}
