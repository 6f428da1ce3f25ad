//! What became of messages without an answer: found out, never guessed.

use std::time::Duration;

use ensync_core::{Error, ErrorKind, Result};

use super::Shared;
use super::message::{Message, Opening};
use super::stream::{Expect, Outcome, Stored};
use super::writer::{Over, Writer};

/// The pauses between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How many bytes are read at a time.
const AT_ONCE: usize = 4 << 20;

/// Whose the log is.
enum Opened {
    /// Still this run's: from this opening on.
    Ours(u64),
    /// Another's, since this opening.
    Theirs(u64),
    /// Nobody can tell, and nobody waits any longer.
    Untold(Error),
}

impl Writer {
    /// Opens the log once more, and looks what is stored of what is under way. What is not is sent again, or refused if the log is
    /// another's now.
    pub(super) async fn resolve(&mut self, why: &str) -> Result<(), Over> {
        let (stream, count) = (self.shared.link.name.clone(), self.under_way.len());
        tracing::warn!(
            stream,
            why,
            messages = count,
            "what was sent to the stream has no good answer; its end is looked at"
        );
        let opened = self.open_again().await;
        let end = match &opened {
            Opened::Ours(sequence) | Opened::Theirs(sequence) => *sequence,
            Opened::Untold(error) => return Err(self.give_up(error.clone(), false)),
        };
        let stored = self.shared.last();
        if end <= stored {
            return Err(self.give_up(self.shared.link.lost(stored, end), false));
        }
        if let Err(error) = self.look(end, matches!(opened, Opened::Ours(_))).await {
            return Err(self.give_up(error, false));
        }
        match opened {
            Opened::Ours(sequence) => {
                self.shared.openings().insert(sequence);
                (self.term, self.last) = (sequence, sequence);
                self.shared.last.store(sequence, std::sync::atomic::Ordering::Release);
                self.send_again();
                Ok(())
            }
            _ => {
                let message = format!(
                    "another engine has opened the log in the stream {stream} (message {end}); this one stores nothing more there, and has to be started again \
                     to have it back"
                );
                Err(self.give_up(Error::new(ErrorKind::Unavailable, message), true))
            }
        }
    }

    /// Takes note of what is stored of what is under way, before an opening. If that is this run's own, whoever answers has to have it:
    /// a server that lags behind does not have what was stored before it, either.
    async fn look(&mut self, end: u64, ours: bool) -> Result<()> {
        let mut pause = PAUSES.0;
        let mut from = self.last + 1;
        let until = if ours { end } else { end.saturating_sub(1) };
        while from <= until {
            let found = match self.shared.link.next(from, until, AT_ONCE).await {
                Ok(found) => found,
                Err(error) if error.kind() == ErrorKind::Unavailable && self.shared.rest(&mut pause).await => continue,
                Err(error) => return Err(error),
            };
            let Some(last) = found.last() else {
                if !ours {
                    break;
                }
                if self.shared.rest(&mut pause).await {
                    continue;
                }
                return Err(self
                    .shared
                    .link
                    .unavailable("read", &format_args!("message {end}, which was just stored, is not there")));
            };
            from = last.sequence + 1;
            for stored in &found {
                // What was sent is compared as a whole: a message that only looks like it is not it.
                let ours = self.under_way.front();
                if ours.is_some_and(|ours| ours.sequence == stored.sequence && ours.bytes == stored.bytes)
                    && let Some(message) = self.under_way.pop_front()
                {
                    self.stored(message);
                }
            }
        }
        Ok(())
    }

    /// Publishes an opening of this run until it is known whether it got in.
    async fn open_again(&mut self) -> Opened {
        self.attempt += 1;
        let opening = Opening { epoch: self.shared.epoch, run: self.shared.run, attempt: self.attempt };
        let subject = self.shared.link.subjects.openings();
        let mut pause = PAUSES.0;
        loop {
            let message = (subject.clone(), opening.encode(&self.shared.id));
            let link = &self.shared.link;
            let answer = match link.publish(message, Expect::LastOfSubject(self.term), false).await {
                Ok(answer) => answer.await,
                Err(error) => Err(error),
            };
            let cause = match link.outcome(answer) {
                Outcome::Stored(sequence) => return Opened::Ours(sequence),
                Outcome::Unexpected => match self.shared.last_opening(&opening, self.term).await {
                    Ok(Some(opened)) => return opened,
                    // A copy of it is on its way.
                    Ok(None) => "an opening is under way".to_owned(),
                    Err(error) if error.kind() != ErrorKind::Unavailable => return Opened::Untold(error),
                    Err(error) => error.to_string(),
                },
                Outcome::Refused(refusal) => refusal.why,
                Outcome::Unknown(cause) => match link.info().await {
                    // Is there a stream at all?
                    Err(error) if error.to_string().contains("stream not found") => return Opened::Untold(link.gone()),
                    _ => cause,
                },
            };
            tracing::warn!(stream = link.name, cause, "the stream cannot be opened once more; it is tried again");
            if !self.shared.rest(&mut pause).await {
                return Opened::Untold(self.shared.link.unavailable("append to", &cause));
            }
        }
    }

    /// Nothing more is stored. `known`: what is under way is not, either.
    fn give_up(&mut self, why: Error, known: bool) -> Over {
        // Whoever is answered looks for it.
        self.shared.failure.set(why.clone());
        for batch in self.batches.drain(..) {
            let error = if known || batch.sent == 0 {
                why.clone()
            } else {
                let message = format!("{why}: whether this is stored shows when the log is opened again");
                Error::new(ErrorKind::Interrupted, message)
            };
            _ = batch.answer.send(Err(error));
        }
        self.under_way.clear();
        Over
    }
}

impl Shared {
    /// What the last opening is: this one, or another's. `None` if it is still the one before.
    async fn last_opening(&self, ours: &Opening, term: u64) -> Result<Option<Opened>> {
        let (link, id) = (&self.link, &self.id);
        let subject = link.subjects.openings();
        let Some(last) = link.leader_last(&subject).await? else { return Err(link.gone()) };
        let is = |stored: &Stored| matches!(Message::decode(&stored.bytes, id), Ok(Message::Opening(opening)) if opening == *ours);
        if last.sequence < term {
            return Err(link.lost(term, last.sequence));
        }
        if last.sequence == term {
            return Ok(None);
        }
        if is(&last) {
            return Ok(Some(Opened::Ours(last.sequence)));
        }
        // The first after the last that is known: it may be this one, and another's behind it.
        let mut from = term + 1;
        while let Some(next) = link.leader_next(&subject, from).await? {
            if !is(&next) {
                return Ok(Some(Opened::Theirs(next.sequence)));
            }
            from = next.sequence + 1;
        }
        Ok(Some(Opened::Theirs(last.sequence)))
    }

    /// Waits a while. `false` if the log is being closed instead.
    async fn rest(&self, pause: &mut Duration) -> bool {
        let rested = tokio::select! {
            () = self.closing.cancelled() => false,
            () = tokio::time::sleep(*pause) => true,
        };
        *pause = (*pause * 2).min(PAUSES.1);
        rested
    }
}
