//! From the login to the end.

use std::io::{IsTerminal, stdout};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensync_sdk::core::report;
use ensync_sdk::{Client, ConnectionEvent, Control, Unopenable};
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::Notify;

use super::running::Running;
use super::work::Work;
use super::{Format, Subscribe};
use crate::command::Outcome;
use crate::exit::{Exit, Problem};
use crate::foreign;
use crate::output::{Failure, Output, note};
use crate::signals::Signals;

/// Up to so many events, one is taken at a time, so that none is taken in vain.
const ONE_BY_ONE: u64 = 1_000;
/// How many events may be here at a time otherwise.
const WINDOW: u32 = 256;

impl Subscribe {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        if out.json && self.format.is_some_and(|format| format != Format::Ndjson) {
            return Err(Problem::usage("--json prints JSON: leave it or --format out").into());
        }
        for (at, name) in self.events.iter().enumerate() {
            if self.events.iter().take(at).any(|before| before == name) {
                return Err(Problem::usage(format!("{name} is named twice")).into());
            }
        }
        // From the start on: none is missed.
        let mut signals = Signals::of_command()?;
        let secret = self.secret.require_for(&self.connection)?;
        let opening = async {
            match self.time {
                Some(time) => self.connection.open_within(Some(secret), ("--for", time)).await,
                None => self.connection.open(Some(secret)).await,
            }
        };
        let Ok(client) = signals.unless(opening).await else { return Ok(()) };
        let client = client?;
        let telling = tokio::spawn(tell(client.clone()));
        let work = Arc::new(self.work(out));
        let result = self.follow(&client, work.clone(), &mut signals).await;
        telling.abort();
        if work.running.is_ended() {
            // Not in order: closing would wait for what was begun.
            return result;
        }
        match signals.unless(client.close()).await {
            Ok(closed) => result.and(closed.map_err(Into::into)),
            Err(name) => Err(at_once(&work, name)),
        }
    }

    fn work(&self, out: Output) -> Work {
        let pretty = stdout().is_terminal() && !out.json;
        Work {
            out,
            format: self.format.unwrap_or(if pretty { Format::Pretty } else { Format::Ndjson }),
            ack: !self.no_ack,
            exec: self.exec.clone(),
            exec_timeout: self.exec_timeout,
            running: Running::default(),
            defer_by: self.defer_by,
            left: AtomicU64::new(self.count.map_or(u64::MAX, |count| count.get())),
            end: Notify::new(),
            failure: Mutex::new(None),
            opened: AtomicU64::new(0),
            unopened: AtomicU64::new(0),
        }
    }

    /// How many events may be here at a time. What waits for its turn is other readers' loss.
    fn window(&self) -> u32 {
        let concurrency = u32::from(self.concurrency.get());
        match (self.count.map(|count| count.get()), &self.exec) {
            (Some(count @ ..=ONE_BY_ONE), Some(_)) => {
                u32::try_from(count).map_or(concurrency, |few| few.min(concurrency))
            }
            (Some(..=ONE_BY_ONE), None) => 1,
            (_, Some(_)) => concurrency.saturating_add(1),
            (_, None) => WINDOW,
        }
    }

    async fn follow(self, client: &Client, work: Arc<Work>, signals: &mut Signals) -> Outcome {
        let window = self.window();
        let (mut loops, mut controls) = (FuturesUnordered::new(), Vec::new());
        let subscribing = async {
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
            Ok::<_, ensync_sdk::Error>(())
        };
        match signals.unless(subscribing).await {
            Ok(subscribed) => subscribed?,
            // Nothing was begun.
            Err(_) => return Ok(()),
        }
        let time = async {
            match self.time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let mut asked = false;
        tokio::select! {
            Some(Err(error)) = loops.next() => return Err(error.into()),
            () = work.end.notified() => {}
            () = time => {}
            name = signals.stop() => {
                asked = true;
                note(format_args!("{name}: ending when what was begun is finished; once more ends at once"));
            }
        }
        // What was begun is finished.
        let drained = async { tokio::join!(unsubscribe(&controls), loops.collect::<Vec<_>>()) };
        tokio::select! {
            _ = drained => {}
            name = signals.stop() => return Err(at_once(&work, name)),
        }
        work.verdict(asked)
    }
}

/// Ends every command that runs.
fn at_once(work: &Work, signal: &str) -> Failure {
    work.running.kill();
    let text = format!("ended at once by {signal}: what was begun comes again");
    Problem::new(Exit::Unfinished, text).into()
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
