//! Agreements that are kept, because making one is most of what an envelope costs: about 100 µs for "nacl" and 190 µs for
//! "aes-256-gcm", beside 3 to 7 µs for everything else of a 1 KiB event.
//!
//! A writer's agreement serves a bounded number of events and a bounded time. A reader keeps those that opened something lately.
//! Nothing depends on them: what is forgotten is agreed on again.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use web_time::Instant;

use crate::{Error, ErrorKind, Result};

/// How many agreements a writer, or a reader for each suite, keeps at most.
const MOST: usize = 1024;
/// How long a reader keeps an agreement that opens nothing more.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// For how many events to one recipient, and for how long, a writer keeps its agreement with that recipient.
///
/// The default, 256 events and 60 s, leaves less than 1 µs of the agreement's cost on each event. What it costs: whoever reads the
/// writer's memory opens the events of one such window instead of one event, and the events of a window can be told to belong
/// together by their ephemeral key. More than 65,536 events or 10 minutes would gain nothing that can be measured.
///
/// These bounds are on what the writer itself seals with one agreement. They are none on what a thief of an agreement can do with it: in
/// the suite "aes-256-gcm" it goes on sealing in the writer's name (see [`security`](crate::security)). And an agreement whose time is
/// over serves nothing more but is wiped only with the next one that is made, or by [`Sealer::tidy`](super::Sealer::tidy).
///
/// ```
/// use std::time::Duration;
/// use ensync_core::crypto::Keep;
///
/// let keep = Keep::new(1_000, Duration::from_secs(5))?;
/// assert_eq!((keep.events(), keep.time()), (1_000, Duration::from_secs(5)));
/// assert_eq!(Keep::default(), Keep::new(256, Duration::from_secs(60))?);
/// assert_eq!(Keep::NONE.events(), 1);
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    events: u32,
    time: Duration,
}

impl Keep {
    /// The most events that one agreement may serve.
    pub const MAX_EVENTS: u32 = 65_536;
    /// The longest time that an agreement may be kept.
    pub const MAX_TIME: Duration = Duration::from_secs(10 * 60);
    /// Nothing is kept: every event has its own agreement.
    pub const NONE: Self = Self { events: 1, time: Duration::ZERO };

    /// At most `events` events and at most `time`, whichever ends first. One event means that nothing is kept.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `events` is not 1 to [`MAX_EVENTS`](Self::MAX_EVENTS), or `time` is longer than
    /// [`MAX_TIME`](Self::MAX_TIME).
    pub fn new(events: u32, time: Duration) -> Result<Self> {
        if !(1..=Self::MAX_EVENTS).contains(&events) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("an agreement cannot serve {events} events; it serves 1 (nothing is kept) to 65,536"),
            ));
        }
        if time > Self::MAX_TIME {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("an agreement cannot be kept for {} s; it is kept for at most 600 s", time.as_secs()),
            ));
        }
        Ok(Self { events, time })
    }

    /// How many events one agreement serves at most.
    pub const fn events(self) -> u32 {
        self.events
    }

    /// How long it is kept at most.
    pub const fn time(self) -> Duration {
        self.time
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self { events: 256, time: Duration::from_secs(60) }
    }
}

/// What tells the time, so that tests need not wait.
#[derive(Clone, Default)]
pub(super) struct Clock(Option<Arc<dyn Fn() -> Instant + Send + Sync>>);

impl Clock {
    #[cfg(test)]
    pub(super) fn new(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(now)))
    }

    fn now(&self) -> Instant {
        self.0.as_ref().map_or_else(Instant::now, |now| now())
    }
}

/// A writer's agreements.
pub(super) struct Writing<K, V> {
    pub(super) keep: Keep,
    pub(super) clock: Clock,
    entries: Mutex<Recent<K, Written<V>>>,
}

struct Written<V> {
    agreement: Arc<V>,
    made: Instant,
    left: u32,
}

impl<K: Clone + Eq + Hash, V> Writing<K, V> {
    pub(super) fn new(keep: Keep) -> Self {
        Self { keep, clock: Clock::default(), entries: Mutex::default() }
    }

    /// The agreement for one more event to `with`: the kept one, or if that has served, what `fresh` makes.
    ///
    /// Tasks that find none at the same time each make their own, and the last one is kept: making one takes too long to hold a
    /// lock for.
    pub(super) fn agree(&self, with: &K, fresh: impl FnOnce() -> Result<V>) -> Result<Arc<V>> {
        let now = self.clock.now();
        if let Some(agreement) = self.kept(with, now) {
            return Ok(agreement);
        }
        let agreement = Arc::new(fresh()?);
        if self.keep.events() > 1 && !self.keep.time().is_zero() {
            let mut entries = lock(&self.entries);
            entries.retain(|entry| self.is_live(entry, now));
            let left = self.keep.events().saturating_sub(1);
            entries.insert(with.clone(), Written { agreement: Arc::clone(&agreement), made: now, left });
        }
        Ok(agreement)
    }

    fn kept(&self, with: &K, now: Instant) -> Option<Arc<V>> {
        let mut entries = lock(&self.entries);
        let entry = entries.touch(with)?;
        let live = self.is_live(entry, now);
        let agreement = live.then(|| Arc::clone(&entry.agreement));
        entry.left = entry.left.saturating_sub(1);
        if !live || entry.left == 0 {
            entries.remove(with);
        }
        agreement
    }

    fn is_live(&self, entry: &Written<V>, now: Instant) -> bool {
        now.saturating_duration_since(entry.made) < self.keep.time()
    }

    /// Wipes what has served its time.
    pub(super) fn tidy(&self) {
        let now = self.clock.now();
        lock(&self.entries).retain(|entry| self.is_live(entry, now));
    }

    /// Wipes everything.
    pub(super) fn forget(&self) {
        lock(&self.entries).retain(|_| false);
    }
}

/// A reader's agreements: the least recently used ones go first.
pub(super) struct Reading<K, V> {
    pub(super) clock: Clock,
    entries: Mutex<Recent<K, Read<V>>>,
}

struct Read<V> {
    agreement: Arc<V>,
    used: Instant,
}

impl<K: Clone + Eq + Hash, V> Reading<K, V> {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, entries: Mutex::default() }
    }

    /// A kept agreement. To use it is not yet a reason to keep it longer.
    pub(super) fn find(&self, with: &K) -> Option<Arc<V>> {
        let now = self.clock.now();
        lock(&self.entries).get(with).filter(|entry| is_live(entry, now)).map(|entry| Arc::clone(&entry.agreement))
    }

    /// Keeps an agreement with which an event has just opened. Nothing else enters, so that nobody who cannot seal for this reader
    /// can drive out what it keeps.
    pub(super) fn opened(&self, with: K, agreement: Arc<V>) {
        let now = self.clock.now();
        let mut entries = lock(&self.entries);
        match entries.touch(&with) {
            Some(entry) => *entry = Read { agreement, used: now },
            None => {
                entries.retain(|entry| is_live(entry, now));
                entries.insert(with, Read { agreement, used: now });
            }
        }
    }

    /// Wipes what has idled too long.
    pub(super) fn tidy(&self) {
        let now = self.clock.now();
        lock(&self.entries).retain(|entry| is_live(entry, now));
    }

    /// Wipes everything.
    pub(super) fn forget(&self) {
        lock(&self.entries).retain(|_| false);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.entries).entries.len()
    }
}

fn is_live<V>(entry: &Read<V>, now: Instant) -> bool {
    now.saturating_duration_since(entry.used) < IDLE
}

impl<K, V> fmt::Debug for Writing<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} agreements", lock(&self.entries).entries.len())
    }
}

impl<K, V> fmt::Debug for Reading<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} agreements", lock(&self.entries).entries.len())
    }
}

/// Nothing is ever left half done under these locks, so a panic elsewhere has not spoiled them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// At most [`MOST`] entries, with the turn in which each was touched last. What holds a secret is behind an [`Arc`]: a map that
/// grows leaves copies of what lies in it.
struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    turn: u64,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), turn: 0 }
    }
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    fn touch(&mut self, key: &K) -> Option<&mut V> {
        let (turn, value) = self.entries.get_mut(key)?;
        self.turn += 1;
        *turn = self.turn;
        Some(value)
    }

    /// Drops the least recently touched one for it if there is no room. Looking at all of them for that costs a small part of the
    /// agreement that was just made.
    fn insert(&mut self, key: K, value: V) {
        if self.entries.len() >= MOST
            && !self.entries.contains_key(&key)
            && let Some(oldest) = self.entries.iter().min_by_key(|(_, (turn, _))| *turn).map(|(key, _)| key.clone())
        {
            self.entries.remove(&oldest);
        }
        self.turn += 1;
        self.entries.insert(key, (self.turn, value));
    }

    fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    fn retain(&mut self, wanted: impl Fn(&V) -> bool) {
        self.entries.retain(|_, (_, value)| wanted(value));
    }
}

#[cfg(test)]
mod tests;
