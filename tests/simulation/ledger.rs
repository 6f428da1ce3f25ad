//! What was seen, and what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ensync_client::{ConnectionEvent, Event};
use ensync_core::{Block, Command, Error, ErrorKind, EventId};
use tokio::time::Instant;

/// An event, by the name it was published under and its number there.
pub type Key = (usize, u64);

/// How long answers that are shifted may be told before the link is given up: answers carry no id, so nothing shows it sooner.
/// 10 s until the client pauses, 20 s without an answer, and what was still on its way.
pub const SHIFTED: Duration = Duration::from_secs(60);
/// A call that had so long a time without any trouble has been carried out: the longest wait to reconnect is a minute, a dial into
/// nothing takes 20 s, and so does it to notice a dead link.
const SOUND: Duration = Duration::from_secs(150);
/// What scheduling may cost beyond a deadline.
const SLACK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Ledger {
    seed: u64,
    begun: Mutex<Option<Instant>>,
    lines: Mutex<Vec<String>>,
    book: Mutex<Book>,
    trouble: Mutex<Trouble>,
    broken: Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
struct Book {
    accepted: BTreeSet<Key>,
    unknown: BTreeSet<Key>,
    refused: BTreeSet<Key>,
    /// The id under which an event was seen.
    ids: BTreeMap<Key, EventId>,
    /// The delivery that was acknowledged.
    acked: BTreeMap<Key, Block>,
    /// What the engine delivered for the first time, in order, by reader, name and run of the engine, which does not know after a restart
    /// how often it delivered what.
    first: BTreeMap<(&'static str, usize, u64), Vec<u64>>,
    deliveries: u64,
    /// What came under two ids.
    twice: BTreeSet<Key>,
    /// What was published while answers were shifted.
    doubtful: BTreeSet<Key>,
    /// The engine stores what is repeated once.
    deduplicates: bool,
    /// When each publish was first sent, and how often, by its idempotency key.
    sent: BTreeMap<String, (Instant, u64)>,
    /// How often each behaviour was met.
    met: BTreeMap<&'static str, u64>,
}

/// When something was wrong.
#[derive(Debug, Default)]
struct Trouble {
    /// How much of it there is now.
    depth: u32,
    /// From when to when the network or the engine was troubled.
    times: Vec<(Instant, Option<Instant>)>,
    /// From when to when a client's answers were shifted.
    shifted: Vec<(&'static str, Instant, Option<Instant>)>,
}

impl Trouble {
    /// The longest time without trouble since then.
    fn sound(&self, since: Instant) -> Duration {
        let (mut from, mut longest) = (since, Duration::ZERO);
        for (begun, ended) in &self.times {
            longest = longest.max(begun.saturating_duration_since(from));
            match ended {
                Some(ended) => from = from.max(*ended),
                None => return longest,
            }
        }
        longest.max(from.elapsed())
    }
}

/// A connection whose answers may come to be shifted.
#[derive(Debug)]
pub struct Doubt {
    ledger: Arc<Ledger>,
    who: &'static str,
    since: Mutex<Option<Instant>>,
}

impl Doubt {
    pub fn begins(&self) {
        let mut since = self.since.lock().unwrap();
        if since.is_none() {
            *since = Some(Instant::now());
            self.ledger.trouble().shifted.push((self.who, Instant::now(), None));
            self.ledger.note(format_args!("{}: answers are shifted", self.who));
        }
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        let Some(since) = *self.since.get_mut().unwrap() else { return };
        let took = since.elapsed();
        self.ledger.note(format_args!("{}: gave up a link whose answers were shifted, after {took:?}", self.who));
        let mut trouble = self.ledger.trouble();
        for (who, begun, ended) in &mut trouble.shifted {
            if *who == self.who && *begun == since {
                *ended = Some(Instant::now());
            }
        }
    }
}

impl Ledger {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            seed,
            begun: Mutex::default(),
            lines: Mutex::default(),
            book: Mutex::default(),
            trouble: Mutex::default(),
            broken: Mutex::default(),
        })
    }

    /// Also after a check failed while it was locked.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn history(&self) -> String {
        format!("seed {}\n{}", self.seed, self.lines.lock().unwrap().join("\n"))
    }

    /// What must hold. Noted, not a panic: a handler's loop would take that for the handler's.
    pub fn check(&self, holds: bool, what: impl fmt::Display) {
        if !holds {
            self.note(format_args!("BROKEN: {what}"));
            self.broken.lock().unwrap().push(what.to_string());
        }
    }

    /// What did not hold. Asked at the end, when it is known what was accepted: of that each was published after the one before was
    /// answered, so the order is known.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = self.broken.lock().unwrap().clone();
        let book = self.book();
        // Who takes another's refusal for his own repeats what was stored; an engine that deduplicates stores it once all the same.
        let excused = |key: &&Key| !book.deduplicates && book.doubtful.contains(*key);
        broken.extend(book.twice.iter().filter(|key| !excused(key)).map(|key| format!("{key:?} was stored twice")));
        for ((who, name, run), numbers) in &book.first {
            let accepted = numbers.iter().filter(|n| book.accepted.contains(&(*name, **n)));
            if !accepted.is_sorted_by(|one, next| one < next) {
                broken.push(format!("{who}, name {name}, run {run}: {numbers:?} on first delivery"));
            }
        }
        broken
    }

    /// Whether the engine stores what is repeated once.
    pub fn deduplicates(&self, yes: bool) {
        self.book().deduplicates = yes;
    }

    /// Notes what happened, and when.
    pub fn note(&self, what: impl fmt::Display) {
        let at = self.begun.lock().unwrap().get_or_insert_with(Instant::now).elapsed();
        self.lines.lock().unwrap().push(format!("{:>9.3} {what}", at.as_secs_f64()));
    }

    /// A behaviour was met.
    pub fn met(&self, what: &'static str) {
        *self.book().met.entry(what).or_default() += 1;
    }

    /// Trouble begins, or is over.
    pub fn troubled(&self, begins: bool) {
        let trouble = &mut *self.trouble();
        match begins {
            true => {
                if trouble.depth == 0 {
                    trouble.times.push((Instant::now(), None));
                }
                trouble.depth += 1;
            }
            false => {
                trouble.depth -= 1;
                if let Some((_, ended)) = trouble.times.last_mut().filter(|_| trouble.depth == 0) {
                    *ended = Some(Instant::now());
                }
            }
        }
    }

    /// A new connection whose answers carry no id.
    pub fn doubt(self: &Arc<Self>, who: &'static str) -> Doubt {
        Doubt { ledger: self.clone(), who, since: Mutex::default() }
    }

    /// Whether the answer to something that began then may have been another's.
    pub fn is_doubtful(&self, who: &str, since: Instant) -> bool {
        let trouble = self.trouble();
        let shifted = trouble.shifted.iter().filter(|(whose, ..)| *whose == who);
        shifted.clone().any(|(_, from, ended)| {
            let ended = ended.unwrap_or_else(Instant::now).min(*from + SHIFTED);
            ended >= since
        })
    }

    /// A command was sent.
    pub fn sent(&self, command: &Command) {
        let Command::Publish(publish) = command else { return };
        let Some(key) = &publish.idempotency_key else { return };
        let (times, took) = {
            let mut book = self.book();
            let (first, times) = book.sent.entry(key.as_str().to_owned()).or_insert_with(|| (Instant::now(), 0));
            *times += 1;
            (*times, first.elapsed())
        };
        // Waits double up to 5 s, so it takes some to get there, and a few each minute from then on.
        let most = 30 + took.as_secs() * 3 / 2;
        self.check(times <= most, format_args!("one publish was sent {times} times within {took:?}"));
    }

    /// What a call with a deadline took.
    pub fn took(&self, what: &str, begun: Instant, limit: Duration) {
        let took = begun.elapsed();
        self.check(took <= limit + SLACK, format_args!("{what} took {took:?} of {limit:?}"));
    }

    pub fn published(&self, who: &str, key: Key, begun: Instant, outcome: &Result<ensync_client::Receipt, Error>) {
        let (doubtful, sound) = (self.is_doubtful(who, begun), self.trouble().sound(begun));
        let mut book = self.book();
        if doubtful {
            book.doubtful.insert(key);
        }
        match outcome {
            _ if doubtful => book.unknown.insert(key),
            Ok(_) => book.accepted.insert(key),
            Err(error) if error.may_have_happened() => book.unknown.insert(key),
            Err(_) => book.refused.insert(key),
        };
        drop(book);
        match outcome {
            Ok(_) => self.note(format_args!("published {key:?}{}", if doubtful { ", it seems" } else { "" })),
            Err(error) => {
                self.note(format_args!("not published {key:?}: {:?}", error.kind()));
                self.check(
                    sound < SOUND,
                    format_args!("{key:?} was not published although nothing was wrong for {sound:?}: {error}"),
                );
            }
        }
    }

    /// What came of a publish that no engine takes.
    pub fn refused(&self, who: &str, begun: Instant, outcome: &Result<ensync_client::Receipt, Error>) {
        let doubtful = self.is_doubtful(who, begun);
        self.note(format_args!("for nobody: {:?}", outcome.as_ref().map_err(Error::kind).map(drop)));
        self.check(doubtful || outcome.is_err(), "what the engine refuses was said to be stored");
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::UnknownRecipient) {
            self.met("refused for good");
        }
    }

    pub fn delivered(&self, who: &'static str, key: Key, event: &Event) {
        self.note(format_args!(
            "delivered {key:?} to {who} attempt {:?} block {}",
            event.attempt(),
            event.block().as_u64()
        ));
        let mut book = self.book();
        book.deliveries += 1;
        let id = book.ids.entry(key).or_insert_with(|| event.id().clone()).clone();
        let refused = book.refused.contains(&key);
        let (run, times) = (event.block().as_u64() >> 20, event.block().as_u64() & 0xf_ffff);
        // What waited for another reader, who never got it, is no second attempt; it comes behind what was handed out meanwhile.
        if event.attempt() == Some(1) && times == 1 {
            book.first.entry((who, key.0, run)).or_default().push(key.1);
        }
        if &id != event.id() {
            book.twice.insert(key);
        }
        drop(book);
        if &id != event.id() {
            self.note(format_args!("{key:?} came under two ids"));
        }
        self.check(!refused, format_args!("{key:?} came, and was said not to have been published"));
    }

    /// `fenced` says that the engine tells one delivery of an event from the next.
    pub fn acked(&self, who: &str, key: Key, block: Block, begun: Instant, fenced: bool) {
        self.note(format_args!("acked {key:?} block {}", block.as_u64()));
        if !fenced || self.is_doubtful(who, begun) {
            return;
        }
        let before = self.book().acked.insert(key, block);
        let once = before.is_none_or(|before| before == block);
        self.check(once, format_args!("{key:?} was acknowledged in two deliveries"));
    }

    pub fn connection(&self, who: &str, event: &ConnectionEvent) {
        if matches!(event, ConnectionEvent::Disconnected { .. }) {
            self.met("loss");
        }
        let text = format!("{event:?}");
        self.note(format_args!("{who}: {}", text.split(['{', '(']).next().unwrap_or_default().trim()));
    }

    /// How many events the engine must have stored: at least, at most.
    pub fn stored(&self, name: usize) -> (u64, u64) {
        let book = self.book();
        let of = |set: &BTreeSet<Key>| set.iter().filter(|key| key.0 == name).count() as u64;
        (of(&book.accepted), of(&book.accepted) + of(&book.unknown))
    }

    /// What was accepted and not seen yet.
    pub fn missing(&self) -> Vec<Key> {
        let book = self.book();
        book.accepted.iter().filter(|key| !book.ids.contains_key(key)).copied().collect()
    }

    pub fn seen(&self, name: usize) -> u64 {
        self.book().ids.keys().filter(|key| key.0 == name).count() as u64
    }
}

/// Over all seeds.
#[derive(Debug, Default)]
pub struct Sums {
    accepted: u64,
    unknown: u64,
    deliveries: u64,
    met: BTreeMap<&'static str, u64>,
}

impl Sums {
    /// What must be met, and how often in 100 seeds at least: a fraction of how often it is.
    const FLOORS: &[(&str, u64)] = &[
        ("loss", 300),
        ("lost answer", 20),
        ("silent", 10),
        ("late", 10),
        ("reset", 10),
        ("refused in passing", 100),
        ("refused for good", 50),
        ("session forgotten", 20),
        ("left in order", 10),
        ("login refused by reply", 10),
        ("pause ignored", 2),
        ("no extension", 5),
        ("answers shifted", 2),
        ("parted", 1),
        ("stream ended", 20),
        ("left while paused", 5),
        ("steady without leases", 1),
        ("publish skipped", 2),
    ];

    pub fn add(&mut self, ledger: &Ledger) {
        let book = ledger.book();
        self.accepted += book.accepted.len() as u64;
        self.unknown += book.unknown.len() as u64;
        self.deliveries += book.deliveries;
        for (what, times) in &book.met {
            *self.met.entry(what).or_default() += times;
        }
        *self.met.entry("answers shifted").or_default() += ledger.trouble().shifted.len() as u64;
    }

    /// It would prove little if nothing ever broke.
    pub fn check(&self, seeds: u64) {
        for (what, floor) in Self::FLOORS {
            let times = self.met.get(what).copied().unwrap_or_default();
            assert!(times >= floor * seeds / 100, "{what:?} was met {times} times only: {self:?}");
        }
        assert!(self.accepted >= 10 * seeds && self.unknown > 0, "{self:?}");
        assert!(self.deliveries > self.accepted, "nothing was ever delivered twice: {self:?}");
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, unknown, deliveries, met } = self;
        write!(
            f,
            "{accepted} events accepted, {unknown} unknown, {deliveries} deliveries; 0 events lost, 0 stored twice; met: {met:?}"
        )
    }
}
