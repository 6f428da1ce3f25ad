//! Agreements that are kept, because making one is most of what an envelope costs: about 100 µs for "nacl" and 190 µs for
//! "aes-256-gcm", beside 3 to 7 µs for everything else of a 1 KiB event.
//!
//! A writer's agreement serves a bounded number of events and a bounded time. A reader keeps those that opened something lately.
//! Nothing depends on them: what is forgotten is agreed on again.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Keep;
use crate::Result;

/// How many agreements a writer, or a reader for each suite, keeps at most.
const MOST: usize = 1024;
/// How long a reader keeps an agreement that opens nothing more.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// What tells the time, so that tests need not wait.
#[derive(Clone, Default)]
pub(super) struct Clock(Option<Arc<dyn Fn() -> Instant + Send + Sync>>);

impl Clock {
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
pub(super) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::{Error, ErrorKind};

    /// A clock that a test moves.
    #[derive(Clone, Default)]
    pub(crate) struct Hands(Arc<AtomicU64>);

    impl Hands {
        pub(crate) fn advance(&self, by: Duration) {
            self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
        }

        pub(crate) fn clock(&self) -> impl Fn() -> Instant + Send + Sync + 'static {
            let (start, hands) = (Instant::now(), self.clone());
            move || start + Duration::from_millis(hands.0.load(Ordering::Relaxed))
        }
    }

    /// What is agreed on is the number of agreements made before.
    struct Writer {
        writing: Writing<u8, u32>,
        made: AtomicU64,
        hands: Hands,
    }

    impl Writer {
        fn new(keep: Keep) -> Self {
            let hands = Hands::default();
            let writing = Writing { clock: Clock::new(hands.clock()), ..Writing::new(keep) };
            Self { writing, made: AtomicU64::new(0), hands }
        }

        fn agree(&self, with: u8) -> u32 {
            let fresh = || Ok(u32::try_from(self.made.fetch_add(1, Ordering::Relaxed)).unwrap());
            *self.writing.agree(&with, fresh).unwrap()
        }
    }

    #[test]
    fn a_writer_counts_events() {
        let writer = Writer::new(Keep::new(3, Duration::from_secs(60)).unwrap());
        let agreed: Vec<u32> = (0..7).map(|_| writer.agree(0)).collect();
        assert_eq!(agreed, [0, 0, 0, 1, 1, 1, 2]);
        assert_eq!(writer.agree(1), 3, "another recipient");
        assert_eq!(writer.agree(0), 2);
    }

    #[test]
    fn a_writer_ends_in_time_whatever_is_left() {
        let writer = Writer::new(Keep::default());
        assert_eq!(writer.agree(0), 0);
        writer.hands.advance(Duration::from_millis(59_999));
        assert_eq!(writer.agree(0), 0, "use does not prolong it, nor end it");
        writer.hands.advance(Duration::from_millis(1));
        assert_eq!(writer.agree(0), 1);
        writer.hands.advance(Duration::from_secs(59));
        assert_eq!(writer.agree(0), 1, "its time began when it was made");
    }

    #[test]
    fn one_event_means_none_kept() {
        for keep in [Keep::NONE, Keep::new(1, Duration::from_secs(60)).unwrap(), Keep::new(9, Duration::ZERO).unwrap()]
        {
            let writer = Writer::new(keep);
            assert_eq!([writer.agree(0), writer.agree(0), writer.agree(0)], [0, 1, 2]);
            assert_eq!(format!("{:?}", writer.writing), "0 agreements");
        }
    }

    #[test]
    fn a_writer_wipes_what_has_ended() {
        let writer = Writer::new(Keep::default());
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let writing = Writing { clock: Clock::new(writer.hands.clock()), ..Writing::new(Keep::default()) };
        drop(writing.agree(&0, || Ok(held)).unwrap());
        writing.tidy();
        assert!(weak.upgrade().is_some());
        writer.hands.advance(Duration::from_secs(60));
        writing.tidy();
        assert!(weak.upgrade().is_none());

        writer.agree(0);
        writer.writing.forget();
        assert_eq!(writer.agree(0), 1);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let writer = Writer::new(Keep::default());
        let fail = || Err(Error::new(ErrorKind::Internal, "no randomness"));
        assert!(writer.writing.agree(&0, fail).is_err());
        assert_eq!(writer.agree(0), 0);
    }

    fn reader() -> (Reading<usize, usize>, Hands) {
        let hands = Hands::default();
        (Reading::new(Clock::new(hands.clock())), hands)
    }

    #[test]
    fn a_reader_keeps_what_opened_lately() {
        let (reading, hands) = reader();
        reading.opened(1, Arc::new(10));
        hands.advance(IDLE - Duration::from_millis(1));
        assert_eq!(reading.find(&1).as_deref(), Some(&10));
        hands.advance(Duration::from_millis(1));
        assert_eq!(reading.find(&1), None, "finding alone does not keep it");

        reading.opened(1, Arc::new(11));
        hands.advance(IDLE / 2);
        reading.opened(1, Arc::new(11));
        hands.advance(IDLE / 2);
        assert_eq!(reading.find(&1).as_deref(), Some(&11));
        hands.advance(IDLE / 2);
        reading.tidy();
        assert_eq!(reading.len(), 0);
    }

    #[test]
    fn a_reader_keeps_a_bounded_number_and_drops_the_least_recently_used() {
        let (reading, _) = reader();
        for with in 0..MOST {
            reading.opened(with, Arc::new(with));
        }
        reading.opened(0, Arc::new(0));
        for with in MOST..MOST + 9 {
            reading.opened(with, Arc::new(with));
        }
        assert_eq!(reading.len(), MOST);
        assert!(reading.find(&0).is_some());
        assert!((1..=9).all(|with| reading.find(&with).is_none()));
        assert!((10..MOST + 9).all(|with| reading.find(&with).is_some()));
        reading.forget();
        assert_eq!(reading.len(), 0);
    }
}
