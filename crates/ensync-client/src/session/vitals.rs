//! What shows that a link is alive: when it was last heard, and what waits for an answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// The signs of life of one link.
#[derive(Debug)]
pub(super) struct Vitals {
    inner: Mutex<Inner>,
    /// A call waits, and none did before.
    asked: Notify,
}

#[derive(Debug)]
struct Inner {
    /// When an answer or an event last came.
    heard: Instant,
    /// When the calls that wait were sent, by number.
    waiting: BTreeMap<u64, Instant>,
    next: u64,
    /// When a call was last answered that was sent before all that wait now: so long the oldest of those has not moved up.
    moved: Option<Instant>,
    /// When the first of the calls was sent that nothing has come since; kept if its caller gives up.
    asked: Option<Instant>,
    /// Whether a command but a heartbeat was carried out.
    carried: bool,
    /// Whether one was that no new link is told of by itself: an engine that takes all subscriptions, and then says of each session that it
    /// does not know it, would be stormed.
    served: bool,
}

impl Vitals {
    pub(super) fn new() -> Self {
        let inner = Inner {
            heard: Instant::now(),
            waiting: BTreeMap::new(),
            next: 0,
            moved: None,
            asked: None,
            carried: false,
            served: false,
        };
        Self { inner: Mutex::new(inner), asked: Notify::new() }
    }

    /// A call goes out; it waits until the value that is returned is dropped.
    pub(super) fn begin(&self) -> Waiting<'_> {
        let mut inner = self.lock();
        let (number, now) = (inner.next, Instant::now());
        inner.next += 1;
        inner.waiting.insert(number, now);
        if inner.asked.is_none() {
            inner.asked = Some(now);
            self.asked.notify_one();
        }
        Waiting { vitals: self, number }
    }

    /// Something came from the engine.
    pub(super) fn sign(&self) {
        self.lock().sign();
    }

    /// When something last came, that this knows of.
    pub(super) fn heard(&self) -> Instant {
        self.lock().heard
    }

    /// Whether a command but a heartbeat was carried out.
    pub(super) fn carried(&self) -> bool {
        self.lock().carried
    }

    /// Whether one was that somebody asked for.
    pub(super) fn served(&self) -> bool {
        self.lock().served
    }

    /// What somebody asked for was carried out.
    pub(super) fn serve(&self) {
        self.lock().served = true;
    }

    /// Since when the oldest of the calls that wait is the next to be answered. Where an engine works off a queue that is longer than a
    /// call may wait, each answer brings the others nearer; a call that was eaten stays where it is while later ones are answered.
    pub(super) fn next_since(&self) -> Option<Instant> {
        let inner = self.lock();
        inner.waiting.first_key_value().map(|(_, sent)| inner.moved.map_or(*sent, |moved| moved.max(*sent)))
    }

    /// When the first call was sent that nothing has come since; waits until there is one.
    pub(super) async fn asked(&self) -> Instant {
        loop {
            let notified = self.asked.notified();
            let asked = self.lock().asked;
            match asked {
                Some(asked) => return asked,
                None => notified.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn sign(&mut self) {
        self.heard = Instant::now();
        // Those that still wait were not answered; they are asked anew, as it were.
        self.asked = (!self.waiting.is_empty()).then_some(self.heard);
    }
}

/// A call that waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    vitals: &'a Vitals,
    number: u64,
}

impl Waiting<'_> {
    /// The answer came; `carried` if it says that a command but a heartbeat was carried out.
    pub(super) fn answered(self, carried: bool) {
        let mut inner = self.vitals.lock();
        inner.waiting.remove(&self.number);
        if inner.waiting.first_key_value().is_none_or(|(oldest, _)| *oldest > self.number) {
            inner.moved = Some(Instant::now());
        }
        inner.carried |= carried;
        inner.sign();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.vitals.lock().waiting.remove(&self.number);
    }
}
