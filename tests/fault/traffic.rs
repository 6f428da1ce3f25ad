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
    /// By run of the engine, the newest that was delivered for the first time.
    newest: BTreeMap<u64, u64>,
    last: Option<Instant>,
    pub longest_gap: Duration,
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
        assert_eq!(&id, event.id(), "event {n} was stored twice");
        if event.attempt() == Some(1) {
            let newest = book.newest.insert(event.block().as_u64() >> 20, n);
            assert!(newest.is_none_or(|newest| newest < n), "event {n} came after {newest:?} on first delivery");
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
