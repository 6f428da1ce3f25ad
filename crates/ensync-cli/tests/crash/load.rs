//! Publishers and consumers.

use std::sync::Arc;
use std::time::Duration;

use ensync_sdk::{AppId, Client, Event};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::common::Keys;
use crate::ledger::{Ledger, Settlement};
use crate::process::{Process, address, recipient, recipients, sender};
use crate::{EVENT, PATIENCE};

const PUBLISHERS: usize = 4;
const LONG: Duration = Duration::from_secs(3_600);
/// Longer than any run.
const PATIENT: Duration = Duration::from_secs(600);

#[derive(Serialize, Deserialize)]
pub(crate) struct Payload {
    pub(crate) n: u64,
    pub(crate) fill: String,
}

/// What a consumer does with what it gets.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Habit {
    /// A bit of everything, by the event's number.
    Mixed,
    Ack,
}

/// Clients of a process.
pub(crate) struct Load(JoinSet<()>);

impl Load {
    /// Publishers on each transport, and a consumer of each recipient.
    pub(crate) async fn start(process: &Process, keys: &Keys, ledger: &Arc<Ledger>) -> Self {
        let mut load = Self(JoinSet::new());
        for url in &process.urls {
            for app in &recipients(keys) {
                load.0.spawn(consume(recipient(url, keys, app).await, Habit::Mixed, ledger.clone()));
            }
            let to: Vec<_> = recipients(keys).iter().map(|app| address(keys, app)).collect();
            for _ in 0..PUBLISHERS {
                load.0.spawn(publish(sender(url, keys).await, to.clone(), ledger.clone()));
            }
        }
        load
    }

    /// Waits until so many more publishes were accepted.
    pub(crate) async fn run(&self, publishes: usize, ledger: &Ledger) {
        let enough = ledger.accepted() + publishes;
        while ledger.accepted() < enough {
            timeout(PATIENCE, ledger.progress.notified()).await.expect("publishes go on");
        }
    }

    /// Where a task found something wrong, the test ends.
    pub(crate) async fn stop(mut self) {
        self.0.abort_all();
        while let Some(ended) = self.0.join_next().await {
            if let Err(failed) = ended
                && let Ok(panic) = failed.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

async fn publish(client: Client, to: Vec<AppId>, ledger: Arc<Ledger>) {
    loop {
        let n = ledger.number();
        let payload = Payload { n, fill: "x".repeat(fastrand::usize(0..2_000)) };
        let to = to[n as usize / 4 % to.len()];
        if client.publish(EVENT, &payload).to(to).timeout(PATIENT).await.is_ok() {
            ledger.accept(n);
        }
    }
}

/// Settles what comes, until the client is closed.
pub(crate) async fn consume(client: Client, habit: Habit, ledger: Arc<Ledger>) {
    let events = client.subscribe(EVENT).max_in_flight(10_000).await.unwrap();
    let settle = |event: ensync_sdk::Result<Event>| {
        let ledger = &ledger;
        async move { settle(event.unwrap(), habit, ledger).await }
    };
    events.for_each_concurrent(16, settle).await;
}

async fn settle(event: Event, habit: Habit, ledger: &Ledger) {
    let n = event.payload::<Payload>().unwrap().n;
    let was_deferred = ledger.receive(n, event.id().to_string());
    let settlement = match n % 32 {
        _ if habit == Habit::Ack => Settlement::Ack,
        0 | 8 | 16 | 24 if fastrand::bool() => {
            // Dropped, it would come again at once.
            event.leave();
            return;
        }
        3 | 19 => Settlement::Discard,
        5 | 11 | 21 | 27 if !was_deferred => Settlement::Defer,
        13 if !was_deferred => Settlement::DeferLong,
        _ => Settlement::Ack,
    };
    ledger.attempt(n, settlement);
    let done = match settlement {
        Settlement::Ack => event.ack().await.map(|()| None),
        Settlement::Discard => event.discard("of no use").await.map(|()| None),
        Settlement::Defer => event.defer(Duration::from_millis(fastrand::u64(1_000..2_000)), "later").await,
        Settlement::DeferLong => event.defer(LONG, "much later").await,
    };
    match done {
        Ok(until) => ledger.answer(n, until),
        // Whether it arrived is not known.
        Err(_) => event.leave(),
    }
}

/// Acknowledges all that is owed.
pub(crate) async fn drain(process: &Process, keys: &Keys, ledger: &Arc<Ledger>) {
    let mut load = Load(JoinSet::new());
    let mut readers = Vec::new();
    for url in &process.urls {
        for app in &recipients(keys) {
            let reader = recipient(url, keys, app).await;
            readers.push(reader.clone());
            load.0.spawn(consume(reader, Habit::Ack, ledger.clone()));
        }
    }
    while !ledger.owed().is_empty() {
        let next = timeout(PATIENCE, ledger.progress.notified()).await;
        assert!(next.is_ok(), "lost: {:?}", ledger.owed());
    }
    for reader in readers {
        reader.close().await.unwrap();
    }
    load.stop().await;
}
