//! What was seen, and what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ensync_client::{ConnectionEvent, Event};
use ensync_core::{Block, Error, EventId};
use tokio::time::Instant;

/// An event, by the name it was published under and its number there.
pub type Key = (usize, u64);

#[derive(Debug)]
pub struct Ledger {
    seed: u64,
    begun: Mutex<Option<Instant>>,
    lines: Mutex<Vec<String>>,
    book: Mutex<Book>,
    /// Commands that were carried out and whose answer never came.
    pub lost_answers: AtomicU64,
    /// Losses of a connection that clients noticed.
    pub losses: AtomicU64,
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
    /// The last number that was delivered for the first time, by reader, name and
    /// run of the engine, which does not know after a restart how often it delivered what.
    newest: BTreeMap<(&'static str, usize, u64), u64>,
    deliveries: u64,
}

impl Ledger {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            seed,
            begun: Mutex::default(),
            lines: Mutex::default(),
            book: Mutex::default(),
            lost_answers: AtomicU64::new(0),
            losses: AtomicU64::new(0),
        })
    }

    /// Also after a check failed while it was locked.
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn history(&self) -> String {
        format!("seed {}\n{}", self.seed, self.lines.lock().unwrap().join("\n"))
    }

    /// Notes what happened, and when.
    pub fn note(&self, what: impl fmt::Display) {
        let at = self.begun.lock().unwrap().get_or_insert_with(Instant::now).elapsed();
        self.lines.lock().unwrap().push(format!("{:>9.3} {what}", at.as_secs_f64()));
    }

    pub fn published(&self, key: Key, outcome: &Result<ensync_client::Receipt, Error>) {
        let mut book = self.book();
        match outcome {
            Ok(_) => book.accepted.insert(key),
            Err(error) if error.may_have_happened() => book.unknown.insert(key),
            Err(_) => book.refused.insert(key),
        };
        drop(book);
        match outcome {
            Ok(_) => self.note(format_args!("published {key:?}")),
            Err(error) => self.note(format_args!("not published {key:?}: {:?}", error.kind())),
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
        assert_eq!(&id, event.id(), "{key:?} was stored twice");
        assert!(!book.refused.contains(&key), "{key:?} was said not to be published");
        if event.attempt() == Some(1) {
            let newest = book.newest.insert((who, key.0, event.block().as_u64() >> 20), key.1);
            assert!(newest.is_none_or(|newest| newest < key.1), "{key:?} came after {newest:?} on first delivery");
        }
    }

    pub fn acked(&self, key: Key, block: Block) {
        self.note(format_args!("acked {key:?} block {}", block.as_u64()));
        let before = self.book().acked.insert(key, block);
        assert!(before.is_none_or(|before| before == block), "{key:?} was acknowledged in two deliveries");
    }

    pub fn connection(&self, who: &str, event: &ConnectionEvent) {
        if matches!(event, ConnectionEvent::Disconnected { .. }) {
            self.losses.fetch_add(1, Ordering::Relaxed);
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
    lost_answers: u64,
    losses: u64,
}

impl Sums {
    pub fn add(&mut self, ledger: &Ledger) {
        let book = ledger.book();
        self.accepted += book.accepted.len() as u64;
        self.unknown += book.unknown.len() as u64;
        self.deliveries += book.deliveries;
        self.lost_answers += ledger.lost_answers.load(Ordering::Relaxed);
        self.losses += ledger.losses.load(Ordering::Relaxed);
    }

    pub fn check(&self) {
        assert!(self.losses > 0 && self.lost_answers > 0 && self.unknown > 0, "{self:?}");
        assert!(self.deliveries > self.accepted, "nothing was ever delivered twice: {self:?}");
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, unknown, deliveries, lost_answers, losses } = self;
        write!(
            f,
            "{accepted} events accepted, {unknown} unknown, {deliveries} deliveries; {losses} connections lost, {lost_answers} answers \
             lost; 0 events lost, 0 stored twice"
        )
    }
}
