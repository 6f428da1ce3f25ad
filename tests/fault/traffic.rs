//! Who publishes and reads, and what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ensync_client::{Client, Event};
use ensync_core::{AppId, Error, EventId};
use futures::StreamExt;
use tokio::sync::Notify;

/// How many events each name gets.
pub const EVENTS: u64 = 150;

/// What was seen of one event name.
#[derive(Default)]
pub struct Ledger {
    book: Mutex<Book>,
    progress: Notify,
}

#[derive(Default)]
pub struct Book {
    pub accepted: BTreeSet<u64>,
    pub unknown: BTreeSet<u64>,
    pub refused: BTreeSet<u64>,
    pub ids: BTreeMap<u64, EventId>,
    /// Acknowledged, or the answer to that was lost.
    pub acked: BTreeSet<u64>,
    pub deliveries: u64,
    /// What came under two ids.
    twice: BTreeSet<u64>,
    /// By run of the engine, what was delivered for the first time, in order.
    first: BTreeMap<u64, Vec<u64>>,
    last: Option<Instant>,
    pub longest_gap: Duration,
}

impl Book {
    /// What must hold at the end.
    pub fn check(&self) {
        assert!(self.twice.is_empty(), "stored twice: {:?}", self.twice);
        let lied = self.ids.keys().find(|n| self.refused.contains(n));
        assert_eq!(lied, None, "came, and was said not to have been published");
        for numbers in self.first.values() {
            // Each of these was published after the one before was answered.
            let accepted = numbers.iter().filter(|n| self.accepted.contains(n));
            assert!(accepted.is_sorted_by(|one, next| one < next), "{numbers:?} on first delivery");
        }
    }
}

impl Ledger {
    /// Also after a check failed while it was locked.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `enough` says so.
    pub async fn wait(&self, mut enough: impl FnMut(&Book) -> bool) {
        loop {
            let progress = self.progress.notified();
            if enough(&self.book()) {
                return;
            }
            progress.await;
        }
    }

    /// Waits until `enough` says so, or nothing has come for so long; gives what was accepted and not acknowledged.
    pub async fn wait_unless_silent(&self, silence: Duration, enough: impl Fn(&Book) -> bool) -> BTreeSet<u64> {
        loop {
            let before = self.book().deliveries;
            if tokio::time::timeout(silence, self.wait(&enough)).await.is_ok() || self.book().deliveries == before {
                let book = self.book();
                return book.accepted.difference(&book.acked).copied().collect();
            }
        }
    }

    fn published(&self, n: u64, outcome: &Result<ensync_client::Receipt, Error>) {
        let mut book = self.book();
        match outcome {
            Ok(_) => book.accepted.insert(n),
            Err(error) if error.may_have_happened() => book.unknown.insert(n),
            Err(_) => book.refused.insert(n),
        };
        self.progress.notify_waiters();
    }

    fn delivered(&self, n: u64, event: &Event) {
        let mut book = self.book();
        book.deliveries += 1;
        let (last, now) = (book.last, Instant::now());
        book.longest_gap = book.longest_gap.max(last.map_or(Duration::ZERO, |last| now - last));
        book.last = Some(now);
        let id = book.ids.entry(n).or_insert_with(|| event.id().clone()).clone();
        if &id != event.id() {
            // Not a panic: a handler's loop would take that for the handler's.
            book.twice.insert(n);
        }
        if event.attempt() == Some(1) {
            book.first.entry(event.block().as_u64() >> 20).or_default().push(n);
        }
    }

    fn acked(&self, n: u64, outcome: &Result<(), Error>) {
        if !outcome.as_ref().is_err_and(|error| !error.may_have_happened()) {
            self.book().acked.insert(n);
            self.progress.notify_waiters();
        }
    }
}

/// Publishes one event after the other.
pub async fn publish(client: Client, event: String, to: AppId, ledger: Arc<Ledger>) {
    for n in 0..EVENTS {
        let outcome = client.publish(event.as_str(), &n).to(to).await;
        ledger.published(n, &outcome);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Takes events off a stream, each for a while.
pub async fn take(client: Client, event: String, (window, each): (u32, Duration), ledger: Arc<Ledger>) {
    let mut events = client.subscribe(event.as_str()).max_in_flight(window).await.unwrap();
    while let Some(event) = events.next().await {
        let event = event.expect("a subscription goes on by itself");
        let n = event.payload().unwrap();
        ledger.delivered(n, &event);
        tokio::time::sleep(each).await;
        ledger.acked(n, &event.ack().await);
    }
}

/// Has a handler take them.
pub async fn handle(client: Client, event: String, ledger: Arc<Ledger>) {
    let events = client.subscribe(event.as_str()).await.unwrap();
    let handler = move |event: Event| {
        // Here, for the handlers' futures run side by side.
        let (ledger, n) = (ledger.clone(), event.payload().unwrap());
        ledger.delivered(n, &event);
        async move {
            ledger.acked(n, &event.ack().await);
            Ok::<_, Error>(())
        }
    };
    events.for_each(handler).concurrency(4).await.expect("a subscription goes on by itself");
}
