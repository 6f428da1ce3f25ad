//! Sending the events of one lane, and what becomes of each.

use std::pin::pin;
use std::sync::Arc;

use ensync_core::{AppId, Command, Error, ErrorKind, EventId, Reply, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{oneshot, watch};

use super::entry::{Entry, Reason};
use super::lanes::Lane;
use super::outcome::{OutboxOutcome, QueuedId, tell};
use super::thread::{Write, Written, gone};
use super::{Outbox, Shared};
use crate::client::unexpected;
use crate::session::{Session, may_relent};

/// How often an event may meet an answer that is none before it counts as refused.
const PATIENCE: u32 = 5;
/// The same of a refusal that passes as far as an engine's own words say so: they may mean something else. With the waits between, five
/// to eight minutes.
const PATIENCE_WITH_WORDS: u32 = 20;

/// What the drain knows of an event from earlier attempts.
pub(super) struct Known {
    pub(super) odd: u32,
    pub(super) answer: Option<EventId>,
}

/// How a lane's turn ended.
pub(super) struct End {
    pub(super) lane: Lane,
    /// What is sent, or parked.
    pub(super) done: Vec<QueuedId>,
    /// What the engine accepted, and the disk did not let go of.
    pub(super) unwritten: Vec<(QueuedId, EventId)>,
    pub(super) stopped_by: Option<Trouble>,
}

impl End {
    fn learn(&mut self, (id, written): (QueuedId, Result<(), EventId>)) {
        match written {
            Ok(()) => self.done.push(id),
            Err(answer) => self.unwritten.push((id, answer)),
        }
    }
}

/// What became of one event.
enum Sent {
    Accepted(EventId),
    Parked,
}

/// Tells when something is written.
type Writing = oneshot::Receiver<Result<Written>>;

/// Why a lane has to wait.
pub(super) enum Trouble {
    /// The connection is gone, or answers nothing.
    Lost,
    /// The engine cannot take it now, or the outbox's disk does not.
    Later,
    /// The answer was none, or may not mean what it seems to.
    Odd(QueuedId),
    /// A key sealed it that the app does not have yet. That says nothing of the engine.
    NotYet,
}

/// Sends the events of one lane.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) outbox: Outbox,
    pub(super) session: Session,
    /// The ids of the client's own keys, the newest first.
    pub(super) keys: Arc<[AppId]>,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Sender {
    pub(super) fn shared(&self) -> &Shared {
        &self.outbox.0
    }

    pub(super) fn is_over(&self) -> bool {
        *self.stopped.borrow() || self.session.is_draining()
    }

    /// Keeps which app the engine says that this is.
    pub(super) async fn note_app(&self) {
        let app = self.session.app_id();
        if let Some(app) = app.filter(|_| app != self.outbox.app())
            && let Err(error) = self.outbox.write(Write::App(app)).await
        {
            tracing::debug!(%error, "which app this is is not kept yet");
        }
    }

    /// Sends what is given, one after the other's answer. That an event is done with is written down meanwhile, in one transaction with
    /// what is queued at that time: a disk that takes as long as the engine must not halve what a lane sends.
    pub(super) async fn send(self, lane: Lane, entries: Vec<(QueuedId, Entry, Known)>) -> End {
        let mut end = End { lane, done: Vec::new(), unwritten: Vec::new(), stopped_by: None };
        let mut noted = FuturesUnordered::new();
        for (id, entry, known) in entries {
            if self.is_over() || end.stopped_by.is_some() || !end.unwritten.is_empty() {
                break;
            }
            let sent = {
                let mut sending = pin!(self.send_one(id, &entry, known));
                loop {
                    tokio::select! {
                        biased;
                        sent = &mut sending => break sent,
                        Some(outcome) = noted.next(), if !noted.is_empty() => end.learn(outcome),
                    }
                }
            };
            match sent {
                Ok(Sent::Accepted(event)) => {
                    let begun = self.outbox.0.thread.begin(Write::Done(id)).await;
                    noted.push(self.accepted(id, entry, event, begun));
                }
                Ok(Sent::Parked) => end.done.push(id),
                Err(trouble) => end.stopped_by = Some(trouble),
            }
        }
        while let Some(outcome) = noted.next().await {
            end.learn(outcome);
        }
        end
    }

    /// The engine took it; waits until the disk lets go of it. The event's id at the engine, if that does not.
    async fn accepted(
        &self,
        id: QueuedId,
        entry: Entry,
        event: EventId,
        begun: Result<Writing>,
    ) -> (QueuedId, Result<(), EventId>) {
        let written = match begun {
            Ok(writing) => writing.await.unwrap_or_else(|_| Err(gone())),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(queued = %id, %error, "that a queued event is sent is not kept yet");
            return (id, Err(event));
        }
        tell(&self.shared().listeners, OutboxOutcome::Accepted { about: self.outbox.about(id, &entry), id: event });
        (id, Ok(()))
    }

    async fn send_one(&self, id: QueuedId, entry: &Entry, known: Known) -> Result<Sent, Trouble> {
        let answer = match (known.answer, self.whose(entry)) {
            (Some(id), _) => Ok(Reply::Published { id }),
            (None, Whose::Ours) => self.session.try_call(Command::Publish(entry.command())).await,
            (None, Whose::Unknown) => return Err(Trouble::Lost),
            (None, Whose::NotYet(app)) => {
                if self.session.may_log("not yet") {
                    tracing::warn!(queued = %id, %app, "a queued event was sealed with a key that the engine does not know this app by yet; it waits for the rotation to that key, and others may follow unlogged for a minute");
                }
                return Err(Trouble::NotYet);
            }
            (None, Whose::Anothers(error)) => Err(error),
        };
        let refusal = match answer {
            Ok(Reply::Published { id }) => return Ok(Sent::Accepted(id)),
            Ok(other) => unexpected("publish", &other),
            Err(error) => error,
        };
        match refusal.kind() {
            ErrorKind::Connect | ErrorKind::Closed | ErrorKind::Interrupted | ErrorKind::Timeout => {
                return Err(Trouble::Lost);
            }
            // About the session, which ends by it, not about the event.
            ErrorKind::Unauthenticated => return Err(Trouble::Lost),
            ErrorKind::Unavailable | ErrorKind::LimitExceeded if !refusal.is_read_from_words() => {
                return Err(Trouble::Later);
            }
            ErrorKind::Unavailable | ErrorKind::LimitExceeded if known.odd < PATIENCE_WITH_WORDS => {
                return Err(Trouble::Odd(id));
            }
            // It may be a gateway's word. It may also be how an engine refuses that has no other.
            _ if may_relent(&refusal, true) && known.odd < PATIENCE_WITH_WORDS => return Err(Trouble::Odd(id)),
            ErrorKind::Protocol | ErrorKind::Internal if known.odd < PATIENCE => return Err(Trouble::Odd(id)),
            _ => {}
        }
        let park = Write::Park(id, Box::new(entry.clone()), Reason::of(&refusal));
        if let Err(error) = self.outbox.write(park).await {
            tracing::warn!(queued = %id, %error, "that a queued event was refused is not kept yet");
            return Err(Trouble::Later);
        }
        tell(&self.shared().listeners, OutboxOutcome::Parked { about: self.outbox.about(id, entry), why: refusal });
        Ok(Sent::Parked)
    }

    /// What another app's key sealed would be refused by its readers, or taken for this app's. An earlier key of this app's is not
    /// another's.
    fn whose(&self, entry: &Entry) -> Whose {
        let Some(own) = entry.own else { return Whose::Ours };
        let (app, welcome) = (self.session.app_id(), self.session.welcome());
        let place = |key: AppId| self.keys.iter().position(|known| *known == key);
        match (app, place(own)) {
            _ if app == Some(own) => return Whose::Ours,
            // Before the first login nobody has said which key of the ring the app has.
            (None, Some(_)) if welcome.is_none() => return Whose::Unknown,
            (None, Some(_)) => return Whose::Ours,
            // Later ones of the ring are earlier ones of the app.
            (Some(app), Some(key)) if place(app).is_some_and(|app| app < key) => return Whose::Ours,
            _ => {}
        }
        // An engine that tells no earlier ids may have some; who has the key knows that it is his. Which there are the next connection
        // tells, if there is none.
        let Some(welcome) = welcome else { return Whose::Unknown };
        if welcome.config.earlier_ids().any(|id| id == own) {
            return Whose::Ours;
        }
        match (place(own), app.and_then(place)) {
            (Some(_), _) if !entry.named => return Whose::Ours,
            // It stands before the app's in the ring. Where that has no key of the app's, another app's key is used.
            (Some(_), Some(_)) => return Whose::NotYet(own),
            _ => {}
        }
        let is = match app {
            Some(app) => format!("this client is app {app}"),
            None => "the engine does not say which app this client is, which has no key of that app".to_owned(),
        };
        Whose::Anothers(Error::new(
            ErrorKind::InvalidKey,
            format!(
                "it was queued by app {own}, and {is}; an outbox is for one app (of a key pair that was rotated the engine must know the \
                 earlier one still, or the client have its key)"
            ),
        ))
    }
}

/// Whose key sealed an event.
enum Whose {
    /// This app's, or nobody's.
    Ours,
    /// There is no connection, which would tell.
    Unknown,
    /// It is of a key of the ring's that may become the app's: readers refuse what it sealed before.
    NotYet(AppId),
    Anothers(Error),
}
