//! Which subscription an event goes to. Only its name is read.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ensync_core::{Error, ErrorKind, EventName, Result, Subscribe};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::buffer::{DeliveryBuffer, Routed};
use super::flow::FlowControl;
use super::link_command::{HandBack, Left, Turn};
use super::restore::Restore;
use super::route::Place;
use super::slot::{Open, Slot};

/// How many names may be being left for another to be, that nobody subscribed to.
const MOST_UNKNOWN: usize = 64;

/// The subscriptions of a client by event name.
#[derive(Debug, Default)]
pub(crate) struct SubscriptionRegistry(Mutex<BTreeMap<EventName, Slot>>);

/// A subscription's end of a slot.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) buffer: Arc<DeliveryBuffer>,
    pub(crate) end: Arc<OnceLock<Error>>,
}

impl SubscriptionRegistry {
    /// Opens a slot, or says what to wait for before trying again.
    pub(crate) fn open(&self, subscribe: &Subscribe) -> Result<Result<Opened, CancellationToken>> {
        let mut registry = self.lock();
        match registry.get(&subscribe.event) {
            Some(Slot::Leaving { left, .. }) => return Ok(Err(left.clone())),
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
            ended: 0,
            turn: Turn::default(),
            subscribed: 0,
            paused: None,
            unanswered: 0,
            end: opened.end.clone(),
        };
        registry.insert(subscribe.event.clone(), Slot::Open(open));
        Ok(Ok(opened))
    }

    /// Where events of this name go that a link brings, and what counts them: made by `window` for each stream anew.
    pub(crate) fn place(
        &self,
        event: &EventName,
        epoch: u64,
        window: impl FnOnce(&Subscribe) -> Arc<FlowControl>,
    ) -> Place {
        let mut registry = self.lock();
        let Some(Slot::Open(open)) = registry.get_mut(event) else { return Place::Nobody };
        if open.ended == epoch {
            return Place::Ended;
        }
        let window = match &open.window {
            Some(known) if known.stream().epoch() == epoch => known.clone(),
            _ => open.window.insert(window(&open.subscribe)).clone(),
        };
        Place::Reader(open.buffer.clone(), window)
    }

    /// The stream of a subscription has ended over this link, which goes on: what it had brought is no longer this client's. Gives the
    /// subscription as it is to be asked for again, and what was not read; `None` if there is none.
    pub(crate) fn end_stream(&self, event: &EventName, epoch: u64) -> Option<(Restore, Vec<Routed>)> {
        let mut registry = self.lock();
        let Some(Slot::Open(open)) = registry.get_mut(event) else { return None };
        open.ended = epoch;
        let window = open.window.take();
        let was_paced = window.as_ref().is_some_and(|window| window.pauses());
        if let Some(window) = window {
            window.stream().end();
        }
        Some((Restore { was_paced, ..open.to_restore() }, open.buffer.take_unread()))
    }

    /// The engine is about to be asked for the stream again: what comes from now on is of that one. False if it was left meanwhile.
    pub(crate) fn begin_stream(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> bool {
        self.open_slot(event, end, |open| open.ended = 0).is_some()
    }

    /// An engine that was asked for it again has answered, or not in time.
    pub(crate) fn answered(&self, event: &EventName, end: &Arc<OnceLock<Error>>, in_time: bool) {
        let next = |times: u32| if in_time { 0 } else { times.saturating_add(1) };
        self.open_slot(event, end, |open| open.unanswered = next(open.unanswered));
    }

    /// What is held while the engine is told anything of a subscription.
    pub(crate) fn turn(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> Option<Turn> {
        self.open_slot(event, end, |open| open.turn.clone())
    }

    /// The same of the subscription whose events this counts, if its stream has not ended.
    pub(crate) fn turn_of(&self, window: &Arc<FlowControl>) -> Option<Turn> {
        self.counted_by(window, |open| open.turn.clone())
    }

    /// Whether the user paused the subscription whose events this counts; `None` if its stream has ended.
    pub(crate) fn is_paused(&self, window: &Arc<FlowControl>) -> Option<bool> {
        self.counted_by(window, |open| open.paused.is_some())
    }

    /// Whether the engine is paused over this link because the reader is slow.
    pub(crate) fn is_full(&self, event: &EventName, end: &Arc<OnceLock<Error>>, epoch: u64) -> bool {
        let full = |open: &mut Open| {
            open.window.as_ref().is_some_and(|window| window.stream().epoch() == epoch && window.pauses())
        };
        self.open_slot(event, end, full).unwrap_or_default()
    }

    /// Takes out of every buffer what was not read and has little of its lease left.
    pub(crate) fn take_ending(&self, now: Instant) -> Vec<Routed> {
        self.lock().values().filter_map(Slot::buffer).flat_map(|buffer| buffer.take_ending(now)).collect()
    }

    /// What waits behind handlers and is to be extended, by where it waits.
    pub(crate) fn kept_ending(&self, now: Instant) -> Vec<(Arc<DeliveryBuffer>, Vec<HandBack>)> {
        let ending = |buffer: &Arc<DeliveryBuffer>| (buffer.clone(), buffer.kept_ending(now));
        let registry = self.lock();
        registry.values().filter_map(Slot::buffer).map(ending).filter(|(_, due)| !due.is_empty()).collect()
    }

    /// When the leases of what waits are to be looked after next.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.lock().values().filter_map(Slot::buffer).filter_map(|buffer| buffer.next_look()).min()
    }

    /// Whether somebody is subscribed.
    pub(crate) fn any_open(&self) -> bool {
        self.lock().values().any(|slot| slot.buffer().is_some())
    }

    /// How many events nobody has read.
    pub(crate) fn unread(&self) -> usize {
        self.lock().values().filter_map(Slot::buffer).map(|buffer| buffer.len()).sum()
    }

    /// Ends the reader's stream, if the slot is still the one that `end` belongs to, and gives what was not read, and the link that
    /// is to be told. Until [`left`](Self::left) is called, or that link ends, nobody can subscribe to the name. `None` if there was
    /// nothing to end. Without a link there is nobody to tell: the next is not told of the name in the first place.
    pub(crate) fn leave(&self, event: &EventName, end: &Arc<OnceLock<Error>>, link: &AtomicU64) -> Option<Left> {
        let mut registry = self.lock();
        // Read while nobody else changes a slot: a link that ends from now on gives the name free.
        let epoch = link.load(Ordering::Acquire);
        let left = registry.get_mut(event).filter(|slot| slot.is(end))?.leave(epoch);
        if epoch == 0 {
            registry.remove(event);
        }
        left
    }

    /// The same with every open slot.
    pub(crate) fn leave_all(&self, link: &AtomicU64) -> Vec<(EventName, Left)> {
        let mut registry = self.lock();
        let epoch = link.load(Ordering::Acquire);
        let left = registry.iter_mut().filter_map(|(event, slot)| Some((event.clone(), slot.leave(epoch)?))).collect();
        if epoch == 0 {
            registry.clear();
        }
        left
    }

    /// The engine knows over this link that the name was left, or never will.
    pub(crate) fn left(&self, event: &EventName, link: u64) {
        let mut registry = self.lock();
        if let Some(Slot::Leaving { left, epoch }) = registry.get(event)
            && *epoch == link
        {
            left.cancel();
            registry.remove(event);
        }
    }

    /// The link is gone, and with it what the engine was to be told over it.
    pub(crate) fn all_left(&self) {
        self.lock().retain(|_, slot| match slot {
            Slot::Open(_) => true,
            Slot::Leaving { left, .. } => {
                left.cancel();
                false
            }
        });
    }

    /// Removes the slot that `end` belongs to, if it is open; its reader's stream ends, with `error` first if there is one. What was not
    /// read is dropped: the engine refused the subscription. False if there was nothing to end.
    pub(crate) fn close(&self, event: &EventName, end: &Arc<OnceLock<Error>>, error: Option<Error>) -> bool {
        let mut registry = self.lock();
        if registry.get(event).is_some_and(|slot| slot.is(end))
            && let Some(Slot::Open(open)) = registry.remove(event)
        {
            open.close(error);
            return true;
        }
        false
    }

    /// Removes every slot.
    pub(crate) fn close_all(&self, error: Option<&Error>) {
        self.all_left();
        for slot in std::mem::take(&mut *self.lock()).into_values() {
            if let Slot::Open(open) = slot {
                open.close(error.cloned());
            }
        }
    }

    /// Takes a name that nobody subscribes to, to tell the engine so. False if somebody does, or is leaving it.
    pub(crate) fn leave_unknown(&self, event: &EventName, epoch: u64) -> bool {
        let mut registry = self.lock();
        // Bounded: whoever sends names without end is not told of each.
        let leaving = registry.values().filter(|slot| matches!(slot, Slot::Leaving { .. })).take(MOST_UNKNOWN).count();
        match registry.entry(event.clone()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(_) if leaving >= MOST_UNKNOWN => false,
            Entry::Vacant(vacant) => {
                vacant.insert(Slot::Leaving { left: CancellationToken::new(), epoch });
                true
            }
        }
    }

    /// The link is gone: what the engine was to be told over it is done, and what it brought is no longer this client's, so every
    /// buffer is emptied.
    pub(crate) fn link_ended(&self) {
        self.all_left();
        let _unread: Vec<_> =
            self.lock().values().filter_map(Slot::buffer).map(|buffer| buffer.take_unread()).collect();
    }

    /// Whether the slot is the one that `end` belongs to, and open.
    pub(crate) fn is_open(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> bool {
        self.lock().get(event).is_some_and(|slot| slot.is(end))
    }

    /// The reason of a pause that the user has not ended.
    pub(crate) fn paused(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> Option<String> {
        self.open_slot(event, end, |open| open.paused.clone()).flatten()
    }

    /// Remembers a pause, or its end, for the next link; gives what was remembered before. By who has the turn.
    pub(crate) fn set_paused(
        &self,
        event: &EventName,
        end: &Arc<OnceLock<Error>>,
        reason: Option<String>,
    ) -> Option<String> {
        self.open_slot(event, end, |open| std::mem::replace(&mut open.paused, reason)).flatten()
    }

    /// Takes back a pause that the engine did not take, if it is still what is meant.
    pub(crate) fn unpause(
        &self,
        event: &EventName,
        end: &Arc<OnceLock<Error>>,
        pause: &Option<String>,
        before: Option<String>,
    ) {
        self.open_slot(event, end, |open| {
            if open.paused == *pause {
                open.paused = before;
            }
        });
    }

    /// The engine was told of the subscription over this link.
    pub(crate) fn set_subscribed(&self, event: &EventName, end: &Arc<OnceLock<Error>>, epoch: u64) {
        self.open_slot(event, end, |open| open.subscribed = epoch);
    }

    /// The link over which the engine was last told of the subscription; `None` if there is none.
    pub(crate) fn subscribed_epoch(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> Option<u64> {
        self.open_slot(event, end, |open| open.subscribed)
    }

    /// One subscription that an engine is to be told of anew, as it is now; if it is still the one that `end` belongs to.
    pub(crate) fn to_restore_again(&self, event: &EventName, end: &Arc<OnceLock<Error>>) -> Option<Restore> {
        self.open_slot(event, end, |open| open.to_restore())
    }

    /// What to tell an engine over this link, after a login: the subscriptions that it was told of over another.
    pub(crate) fn to_restore(&self, epoch: u64) -> Vec<Restore> {
        let restorable = |slot: &Slot| match slot {
            Slot::Open(open) if open.subscribed > 0 && open.subscribed != epoch => Some(open.to_restore()),
            _ => None,
        };
        self.lock().values().filter_map(restorable).collect()
    }

    /// The slot that `end` belongs to, if it is open. What is done behind a wait names the slot so: the name may be another's by then.
    fn open_slot<T>(
        &self,
        event: &EventName,
        end: &Arc<OnceLock<Error>>,
        with: impl FnOnce(&mut Open) -> T,
    ) -> Option<T> {
        match self.lock().get_mut(event) {
            Some(Slot::Open(open)) if Arc::ptr_eq(&open.end, end) => Some(with(open)),
            _ => None,
        }
    }

    /// The slot whose events are counted by this window, if it is open.
    fn counted_by<T>(&self, window: &Arc<FlowControl>, with: impl FnOnce(&Open) -> T) -> Option<T> {
        match self.lock().get(&window.event) {
            Some(Slot::Open(open)) if open.window.as_ref().is_some_and(|known| Arc::ptr_eq(known, window)) => {
                Some(with(open))
            }
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EventName, Slot>> {
        // Nothing panics while it is held, and a map is whole after every call anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
