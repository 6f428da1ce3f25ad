//! From the login to the end.

use std::io::{IsTerminal, stdout};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ensync_sdk::core::report;
use ensync_sdk::{Client, ConnectionEvent, Control, Unopenable};
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::Notify;

use super::work::Work;
use super::{Format, Subscribe};
use crate::command::Outcome;
use crate::exit::{Exit, Problem};
use crate::foreign;
use crate::output::{Output, note};
use crate::signals::Signals;

/// Up to so many events, one is taken at a time, so that none is taken in vain.
const ONE_BY_ONE: u64 = 1_000;
/// How many events may be here at a time otherwise.
const WINDOW: u32 = 256;

impl Subscribe {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        // From the start on: none is missed.
        let mut signals = Signals::listen()?;
        let client = self.connection.open(Some(self.secret.require()?)).await?;
        let telling = tokio::spawn(tell(client.clone()));
        let result = self.follow(&client, out, &mut signals).await;
        telling.abort();
        let closed = client.close().await;
        result?;
        closed.map_err(Into::into)
    }

    async fn follow(self, client: &Client, out: Output, signals: &mut Signals) -> Outcome {
        let window = match (self.count, &self.exec) {
            (Some(count), _) if count.get() <= ONE_BY_ONE => 1,
            // What waits for its turn is other readers' loss.
            (_, Some(_)) => u32::from(self.concurrency.get()).saturating_add(1),
            _ => WINDOW,
        };
        let pretty = stdout().is_terminal() && !out.json;
        let work = Arc::new(Work {
            out,
            format: self.format.unwrap_or(if pretty { Format::Pretty } else { Format::Ndjson }),
            ack: !self.no_ack,
            exec: self.exec,
            defer_by: self.defer_by,
            left: AtomicU64::new(self.count.map_or(u64::MAX, |count| count.get())),
            end: Notify::new(),
            failure: Mutex::new(None),
        });
        let (mut loops, mut controls) = (FuturesUnordered::new(), Vec::new());
        for name in self.events {
            let mut subscribe = client.subscribe(name).max_in_flight(window);
            if self.verified {
                subscribe = subscribe.require_verified_sender();
            }
            if !self.verified_from.is_empty() {
                subscribe = subscribe.verified_from(self.verified_from.iter().copied());
            }
            if self.discard_unreadable {
                subscribe = subscribe.unopenable(Unopenable::Discard);
            }
            let subscription = subscribe.await?;
            note(format_args!("subscribed to {} at {}; Ctrl-C ends it", subscription.name(), client.endpoint()));
            let control = subscription.control();
            controls.push(control.clone());
            let work = work.clone();
            let handled = subscription.for_each(move |event| {
                let (work, control) = (work.clone(), control.clone());
                async move {
                    work.handle(event, &control).await;
                    Ok::<_, ensync_sdk::Error>(())
                }
            });
            let concurrency = usize::from(self.concurrency.get());
            loops.push(handled.concurrency(concurrency).auto_ack(false).into_future());
        }
        let time = async {
            match self.time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(Err(error)) = loops.next() => return Err(error.into()),
            () = work.end.notified() => {}
            () = time => {}
            name = signals.stop() => tracing::info!(signal = name, "ending; once more ends at once"),
        }
        // What was begun is finished.
        let drained = async { tokio::join!(unsubscribe(&controls), loops.collect::<Vec<_>>()) };
        tokio::select! {
            _ = drained => {}
            name = signals.stop() => {
                let text = format!("ended at once by a second signal, {name}: what was begun comes again");
                return Err(Problem::new(Exit::Unfinished, text).into());
            }
        }
        match work.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(ended) => Err(ended.into()),
            None => Ok(()),
        }
    }
}

async fn unsubscribe(controls: &[Control]) {
    for ended in join_all(controls.iter().map(|control| control.unsubscribe().boxed())).await {
        if let Err(error) = ended {
            tracing::debug!(%error, "not unsubscribed");
        }
    }
}

/// Tells what becomes of the connection.
async fn tell(client: Client) {
    let mut events = client.events();
    let mut lost = false;
    while let Some(event) = events.next().await {
        match event {
            ConnectionEvent::Disconnected { cause } => {
                lost = true;
                let why = foreign::message(&report(&cause));
                note(format_args!("warning: the connection was lost, and is made again: {why}"));
            }
            ConnectionEvent::Reconnecting { attempt, wait } if lost && attempt > 1 && wait > Duration::from_secs(5) => {
                note(format_args!("warning: attempt {attempt} to connect in {} s", wait.as_secs()));
            }
            ConnectionEvent::Reconnected { .. } => note("connected again"),
            ConnectionEvent::SubscriptionRefused { event, cause } => {
                note(format_args!("warning: {event}: {}", foreign::message(&report(&cause))));
            }
            _ => {}
        }
    }
}
