//! What was published, and what became of it.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A set of small numbers.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Whether it was new.
    fn insert(&mut self, n: u64) -> bool {
        let (word, bit) = ((n / 64) as usize, 1 << (n % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    fn contains(&self, n: u64) -> bool {
        self.0.get((n / 64) as usize).is_some_and(|word| word & (1 << (n % 64)) != 0)
    }
}

/// One queue.
#[derive(Default)]
pub(crate) struct Ledger {
    next: AtomicU64,
    accepted: Mutex<Bits>,
    settled: Mutex<Bits>,
    pub(crate) accepted_count: AtomicU64,
    pub(crate) settled_count: AtomicU64,
    pub(crate) deferred: AtomicU64,
    pub(crate) discarded: AtomicU64,
    pub(crate) again: AtomicU64,
    /// Dead letters by event id, and which of them were put back.
    dead: Mutex<HashMap<String, u64>>,
    revived: Mutex<HashSet<u64>>,
}

impl Ledger {
    /// The number of the next event.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn accept(&self, n: u64) {
        assert!(self.accepted.lock().unwrap().insert(n));
        self.accepted_count.fetch_add(1, Ordering::Relaxed);
    }

    /// An event came. Never after its settlement was answered.
    pub(crate) fn receive(&self, n: u64, attempt: u32) {
        assert!(!self.settled.lock().unwrap().contains(n), "{n} came back after it was settled");
        self.again.fetch_add(u64::from(attempt > 1), Ordering::Relaxed);
    }

    /// Its settlement was answered.
    pub(crate) fn settle(&self, n: u64) {
        assert!(self.settled.lock().unwrap().insert(n), "{n} was settled twice");
        self.settled_count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn discard(&self, id: String, n: u64) {
        self.dead.lock().unwrap().insert(id, n);
        self.discarded.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_revived(&self, n: u64) -> bool {
        self.revived.lock().unwrap().contains(&n)
    }

    /// The number of a dead letter that this test made; `None` until the consumer has taken note of it.
    pub(crate) fn dead(&self, id: &str) -> Option<u64> {
        self.dead.lock().unwrap().get(id).copied()
    }

    /// A dead letter is about to be put back.
    pub(crate) fn revive(&self, id: &str, n: u64) {
        self.revived.lock().unwrap().insert(n);
        self.dead.lock().unwrap().remove(id);
    }

    /// A dead letter was given up.
    pub(crate) fn give_up(&self, id: &str, n: u64) {
        self.dead.lock().unwrap().remove(id);
        self.settle(n);
    }

    /// What is neither settled nor refused.
    pub(crate) fn open(&self) -> u64 {
        // In this order: what is settled was accepted before, or its answer is on its way.
        let settled = self.settled_count.load(Ordering::Relaxed);
        self.accepted_count.load(Ordering::Relaxed).saturating_sub(settled)
    }

    /// The accepted events that nobody settled.
    pub(crate) fn lost(&self) -> Vec<u64> {
        let (accepted, settled) = (self.accepted.lock().unwrap(), self.settled.lock().unwrap());
        (0..self.next.load(Ordering::Relaxed)).filter(|n| accepted.contains(*n) && !settled.contains(*n)).collect()
    }
}
