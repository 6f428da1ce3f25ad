//! Sending what waits, whenever there is a connection.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensync_core::{AppId, Command, Error, ErrorKind, EventName, Reply, Result};
use futures::StreamExt;
use tokio::task::JoinHandle;

use super::entry::{Entry, Reason};
use super::outcome::{Outcome, QueuedId, tell};
use super::thread::Write;
use super::{Outbox, Shared};
use crate::client::unexpected;
use crate::session::{Session, State};

/// How many waiting events are looked at in one round.
const ROUND: usize = 256;
/// How many lanes (an event name and a recipient) are sent at a time.
const LANES: usize = 32;
/// The waits after an engine that cannot take it now, or a disk that does not take what became of it.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How often an event may meet an answer that is none before it counts as refused.
const PATIENCE: u32 = 5;

/// An outbox that a client drains, until this is dropped or the client closes.
#[derive(Debug)]
pub(crate) struct Attached {
    outbox: Outbox,
    task: JoinHandle<()>,
}

impl Attached {
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // The task holds the session, which would live on with it.
        self.task.abort();
    }
}

/// The right to drain an outbox, given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim(Outbox);

impl Outbox {
    /// Takes the right to drain it.
    pub(crate) fn claim(self) -> Result<Claim> {
        if self.0.attached.swap(true, Ordering::AcqRel) {
            let why = "another client drains it already; close that one first, or use a file for each";
            return Err(self.at(Error::new(ErrorKind::InvalidInput, why)));
        }
        Ok(Claim(self))
    }
}

impl Claim {
    /// Drains it over a session from now on.
    pub(crate) fn attach(self, session: Session) -> Attached {
        let outbox = self.0.clone();
        Attached { task: tokio::spawn(Drain { claim: self, session, odd: HashMap::new() }.run()), outbox }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Shared { attached, drains, .. } = &*self.0.0;
        attached.store(false, Ordering::Release);
        drains.send_replace(());
    }
}

struct Drain {
    claim: Claim,
    session: Session,
    /// How often an event met an answer that is none.
    odd: HashMap<QueuedId, u32>,
}

/// How a lane's part of a round ended.
enum Lane {
    Sent,
    /// The connection is gone, or answers nothing.
    Lost,
    /// The engine cannot take it now, or the outbox's disk does not.
    Later,
}

impl Drain {
    async fn run(mut self) {
        let mut pause = PAUSES.0;
        let closed = |state: &State| matches!(state, State::Closed(_)).then_some(());
        loop {
            if self.session.wait_until_live().await.is_err() || self.session.is_draining() {
                return;
            }
            let again = match self.round().await {
                Ok(Some(Lane::Sent)) => {
                    pause = PAUSES.0;
                    continue;
                }
                // Nothing waits.
                Ok(None) => {
                    tokio::select! {
                        () = self.shared().queued.notified() => {}
                        _ = self.session.state().wait_beyond(None, closed) => {}
                    }
                    continue;
                }
                // The next connection is waited for, not a time.
                Ok(Some(Lane::Lost)) if self.session.welcome().is_none() => {
                    pause = PAUSES.0;
                    continue;
                }
                Ok(Some(Lane::Lost | Lane::Later)) => None,
                Err(error) if error.kind() == ErrorKind::Closed => return,
                Err(error) => Some(error),
            };
            if let Some(error) = again {
                tracing::warn!(outbox = ?self.claim.0, %error, ?pause, "the outbox cannot be read; trying again");
            }
            // Random, so that the many that an engine turned away do not come back together.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn shared(&self) -> &Shared {
        &self.claim.0.0
    }

    /// Sends the oldest that wait. `None` if there are none.
    async fn round(&mut self) -> Result<Option<Lane>> {
        let waiting = self.shared().thread.take(ROUND).await?;
        if waiting.is_empty() {
            self.odd.clear();
            return Ok(None);
        }
        // In the order of their first events.
        let mut lanes: Vec<Vec<(QueuedId, Entry)>> = Vec::new();
        let mut places: HashMap<(EventName, AppId), usize> = HashMap::new();
        for (id, entry) in waiting {
            let lane = (entry.publish.event.clone(), entry.publish.recipient);
            let place = *places.entry(lane).or_insert(lanes.len());
            match lanes.get_mut(place) {
                Some(entries) => entries.push((id, entry)),
                None => lanes.push(vec![(id, entry)]),
            }
        }
        let this = &*self;
        let sent: Vec<_> =
            futures::stream::iter(lanes).map(|entries| this.send_lane(entries)).buffer_unordered(LANES).collect().await;
        let mut outcome = Lane::Sent;
        for (lane, met) in sent {
            if let Some(id) = met {
                *self.odd.entry(id).or_default() += 1;
            }
            outcome = match (outcome, lane) {
                (Lane::Lost, _) | (_, Lane::Lost) => Lane::Lost,
                (Lane::Later, _) | (_, Lane::Later) => Lane::Later,
                (Lane::Sent, Lane::Sent) => Lane::Sent,
            };
        }
        Ok(Some(outcome))
    }

    /// Sends a lane's events in order, and says which of them, if one, met an answer that is none.
    async fn send_lane(&self, entries: Vec<(QueuedId, Entry)>) -> (Lane, Option<QueuedId>) {
        for (id, entry) in entries {
            if self.session.is_draining() {
                return (Lane::Lost, None);
            }
            let answer = match self.check_app(&entry) {
                Ok(()) => self.session.try_call(Command::Publish(entry.command())).await,
                Err(error) => Err(error),
            };
            let refusal = match answer {
                Ok(Reply::Published { id: event }) => {
                    if self.settle(id, Write::Done(id)).await.is_err() {
                        return (Lane::Later, None);
                    }
                    tell(&self.shared().listeners, Outcome::Accepted { about: entry.about(id), id: event });
                    continue;
                }
                Ok(other) => unexpected("publish", &other),
                Err(error) => error,
            };
            match refusal.kind() {
                ErrorKind::Connect | ErrorKind::Closed | ErrorKind::Interrupted | ErrorKind::Timeout => {
                    return (Lane::Lost, None);
                }
                // About the session, which ends by it, not about the event.
                ErrorKind::Unauthenticated => return (Lane::Lost, None),
                ErrorKind::Unavailable | ErrorKind::LimitExceeded => return (Lane::Later, None),
                ErrorKind::Protocol | ErrorKind::Internal if self.odd_times(id) < PATIENCE => {
                    return (Lane::Later, Some(id));
                }
                _ => {}
            }
            let park = Write::Park(id, Box::new(entry.clone()), Reason::of(&refusal));
            if self.settle(id, park).await.is_err() {
                return (Lane::Later, None);
            }
            tell(&self.shared().listeners, Outcome::Parked { about: entry.about(id), why: refusal });
        }
        (Lane::Sent, None)
    }

    fn odd_times(&self, id: QueuedId) -> u32 {
        self.odd.get(&id).copied().unwrap_or_default()
    }

    async fn settle(&self, id: QueuedId, write: Write) -> Result<()> {
        let written = self.claim.0.write(write).await.map(drop);
        if let Err(error) = &written {
            tracing::warn!(queued = %id, %error, "what became of a queued event is not kept; it will be sent again");
        }
        written
    }

    /// What another app's key sealed would be refused by its readers, or taken for this app's.
    fn check_app(&self, entry: &Entry) -> Result<()> {
        let app = self.session.welcome().and_then(|welcome| welcome.app_id);
        match entry.own.zip(app) {
            Some((own, app)) if own != app => Err(Error::new(
                ErrorKind::InvalidKey,
                format!("it was queued by app {own}, and this client is app {app}; an outbox is for one app"),
            )),
            _ => Ok(()),
        }
    }
}
