//! What shows that a link is alive: when it was last heard, and what waits for an answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    /// The calls that wait, by number.
    waiting: BTreeMap<u64, Call>,
    next: u64,
    /// The bytes of all events that came.
    came: u64,
    /// When a call was last answered that was sent before all that wait now, and what had come by then: so long the oldest of those has
    /// not moved up.
    moved: Option<(Instant, u64)>,
    /// What had come when somebody's call was last answered: that answer was behind it, and what is answered later stands behind no more
    /// than what has come since.
    answered: u64,
    /// When the first of the calls was sent that nothing has come since; kept if its caller gives up.
    asked: Option<Instant>,
    /// Whether a command but a heartbeat was carried out.
    carried: bool,
    /// Whether one was that no new link is told of by itself: an engine that takes all subscriptions, and then says of each session that it
    /// does not know it, would be stormed.
    served: bool,
}

/// A call that was sent.
#[derive(Clone, Copy, Debug)]
struct Call {
    sent: Instant,
    /// What it takes up on its way there.
    bytes: u64,
    /// What had come before.
    received: u64,
}

/// What the slowest network carries in a second, either way.
const SLOWEST: u64 = 64 << 10;
/// What an engine may have sent before it answers: the windows of several subscriptions. Where more has come, the answer was not behind it.
const BEHIND: u64 = 64 << 20;

/// How long so many bytes are on their way at most.
pub(super) fn takes(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SLOWEST)
}

impl Vitals {
    pub(super) fn new() -> Self {
        let inner = Inner {
            heard: Instant::now(),
            waiting: BTreeMap::new(),
            next: 0,
            came: 0,
            moved: None,
            answered: 0,
            asked: None,
            carried: false,
            served: false,
        };
        Self { inner: Mutex::new(inner), asked: Notify::new() }
    }

    /// A call of so many bytes goes out, when so many had been received; it waits until the value that is returned is dropped.
    pub(super) fn begin(&self, bytes: u64, received: u64) -> Waiting<'_> {
        let mut inner = self.lock();
        let (number, now) = (inner.next, Instant::now());
        inner.next += 1;
        inner.waiting.insert(number, Call { sent: now, bytes, received });
        if inner.asked.is_none() {
            inner.asked = Some(now);
            self.asked.notify_one();
        }
        Waiting { vitals: self, number }
    }

    /// An event of so many bytes came from the engine.
    pub(super) fn came(&self, bytes: u64) {
        let mut inner = self.lock();
        inner.came = inner.came.saturating_add(bytes);
        inner.sign();
    }

    /// The bytes of all events that came.
    pub(super) fn of_events(&self) -> u64 {
        self.lock().came
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

    /// Since when the oldest of the calls that wait is the next to be answered, and for how much longer than usual that may take. Where an
    /// engine works off a queue that is longer than a call may wait, each answer brings the others nearer; a call that was eaten stays where
    /// it is while later ones are answered. What is on its way there takes its time on a slow network, and so does what comes before the
    /// answer, of which so much was `received`.
    pub(super) fn next_since(&self, received: u64) -> Option<(Instant, Duration)> {
        let inner = self.lock();
        let (_, oldest) = inner.waiting.first_key_value()?;
        let (since, before) = match inner.moved {
            Some((moved, before)) if moved > oldest.sent => (moved, before),
            _ => (oldest.sent, oldest.received),
        };
        let there: u64 = inner.waiting.values().map(|call| call.bytes).sum();
        let back = received.saturating_sub(before.max(inner.answered));
        let back = Some(back).filter(|back| *back < BEHIND).unwrap_or_default();
        Some((since, takes(there).saturating_add(takes(back))))
    }

    /// For how long nothing may come because a single large call is on its way.
    pub(super) fn on_its_way(&self) -> Duration {
        takes(self.lock().waiting.values().map(|call| call.bytes).max().unwrap_or_default())
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
    /// The answer came, and with it so many bytes were `received`; `carried` if it says that a command but a heartbeat was carried out.
    pub(super) fn answered(self, carried: bool, received: u64) {
        let mut inner = self.vitals.lock();
        inner.waiting.remove(&self.number);
        if inner.waiting.first_key_value().is_none_or(|(oldest, _)| *oldest > self.number) {
            inner.moved = Some((Instant::now(), received));
        }
        if carried {
            inner.answered = received;
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
