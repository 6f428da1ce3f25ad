//! The task that appends: one message after the other, each expecting the one before.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::publish::PublishAck;
use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result, Timestamp};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::message::{HEAD, Message, Piece, dropped, pieces, position};
use super::read::LARGEST_BATCH;
use super::stream::{Expect, Outcome, Refusal};
use super::{Part, Shared};
use crate::model::{Encoded, Position};

/// How many messages are under way at once. Of several, one that another writer's message keeps out would not keep out the one behind it, which
/// expects just that sequence: what is stored would not be in order.
const UNDER_WAY: usize = 1;
/// How many batches wait to be sent.
const WAITING: usize = 64;
/// What JetStream needs for a message beside its bytes: subject, headers, lengths, a sum.
const AROUND: u64 = 200;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Job {
    Append {
        batch: Vec<Encoded>,
        answer: oneshot::Sender<Result<Vec<Position>>>,
    },
    /// Drop the part that begins with this sequence.
    Drop {
        first: u64,
        answer: oneshot::Sender<Result<()>>,
    },
}

/// A part of the log: the sequence with which it begins, and its bytes.
type Place = (u64, u64);

/// The log stores nothing more.
#[derive(Debug)]
pub(super) struct Over;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
    /// The opening that messages name.
    pub(super) term: u64,
    /// How often this run has opened the log once more.
    pub(super) attempt: u64,
    /// The last message that is stored, and the last that was sent.
    pub(super) last: u64,
    sent: u64,
    /// How many batches were sent.
    number: u64,
    /// The part of the log that is written: where it begins, and its bytes. As it is stored, and as it is sent.
    part: (Option<Place>, Option<Place>),
    /// What is to be stored, in order. The first `open` are sent wholly.
    pub(super) batches: VecDeque<Batch>,
    open: usize,
    pub(super) under_way: VecDeque<UnderWay>,
}

/// A batch that is not stored yet.
pub(super) struct Batch {
    pieces: Vec<Piece>,
    places: Vec<(u64, u32)>,
    /// How many of its messages were sent, the first of them under this sequence.
    pub(super) sent: usize,
    first: u64,
    number: u64,
    pub(super) answer: oneshot::Sender<Result<Vec<Position>>>,
}

/// A message that was sent.
pub(super) struct UnderWay {
    answer: BoxFuture<'static, Result<PublishAck, PublishError>>,
    pub(super) sequence: u64,
    /// The part of the log that it is in, as it is with it.
    part: Place,
    pub(super) bytes: Bytes,
    /// Whether its batch is whole with it.
    is_last: bool,
}

impl Shared {
    /// Refuses what cannot be stored before it is sent: a stream that is nearly full takes no more of what grows.
    pub(super) fn admit(&self, batch: &[Encoded]) -> Result<()> {
        let bytes = batch.iter().fold(0_usize, |sum, record| sum.saturating_add(record.len()).saturating_add(4));
        if bytes > LARGEST_BATCH {
            let message =
                format!("a batch of {bytes} bytes is more than a log takes at once, which is {LARGEST_BATCH}");
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let Some(most) = self.max_bytes else { return Ok(()) };
        let kept = (most / 16).min(64 << 20);
        let with = self.used.load(Ordering::Relaxed).saturating_add(bytes as u64 + HEAD as u64 + AROUND);
        if batch.iter().any(Encoded::grows) && with > most - kept {
            return Err(
                self.full(&format!("{most} bytes are its limit, of which the last {kept} are for acknowledgements"))
            );
        }
        Ok(())
    }

    fn full(&self, why: &str) -> Error {
        let (name, servers) = (&self.link.name, self.link.nats.servers());
        let message = format!(
            "no space for the log in the stream {name} on NATS at {servers}: {why}; raise its max_bytes, the account's limits or the servers' \
             max_file_store, the engine goes on by itself then"
        );
        Error::new(ErrorKind::Unavailable, message).with_source(io::Error::from(io::ErrorKind::StorageFull))
    }

    pub(super) fn refusal(&self, refusal: &Refusal) -> Error {
        if refusal.full { self.full(&refusal.why) } else { self.link.unavailable("append to", &refusal.why) }
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, jobs: mpsc::Receiver<Job>, opening: u64) -> Self {
        Self {
            shared,
            jobs,
            term: opening,
            attempt: 0,
            last: opening,
            sent: opening,
            number: 0,
            part: (None, None),
            batches: VecDeque::new(),
            open: 0,
            under_way: VecDeque::new(),
        }
    }

    /// Runs until the log is closed and all is stored, or until nothing more can be.
    pub(super) async fn run(mut self) {
        // Whoever waits is told by the end of this: the jobs that are left, and their answers, go with it.
        _ = self.work().await;
    }

    async fn work(&mut self) -> Result<(), Over> {
        let mut open = true;
        while open || !self.batches.is_empty() {
            while self.may_send() {
                self.send().await;
            }
            let room = open && self.batches.len() < WAITING;
            let first = self.under_way.front_mut();
            let idle = first.is_none();
            let answered = async {
                match first {
                    Some(first) => (&mut first.answer).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = answered, if !idle => self.settle(answer).await?,
                job = self.jobs.recv(), if room => match job {
                    Some(Job::Append { batch, answer }) => self.take(&batch, answer),
                    Some(Job::Drop { first, answer }) => {
                        let done = self.drop_part(first).await?;
                        _ = answer.send(done);
                    }
                    None => open = false,
                },
            }
        }
        Ok(())
    }

    fn take(&mut self, batch: &[Encoded], answer: oneshot::Sender<Result<Vec<Position>>>) {
        let (pieces, places) = pieces(batch, self.shared.sizes);
        self.batches.push_back(Batch { pieces, places, sent: 0, first: 0, number: 0, answer });
    }

    fn may_send(&self) -> bool {
        self.open < self.batches.len() && self.under_way.len() < UNDER_WAY
    }

    /// Sends the next message.
    async fn send(&mut self) {
        let Some(batch) = self.batches.get_mut(self.open) else { return };
        let (which, sequence) = (batch.sent, self.sent + 1);
        if which == 0 {
            self.number += 1;
            (batch.number, batch.first) = (self.number, sequence);
        }
        let Some(piece) = batch.pieces.get(which) else { return };
        batch.sent += 1;
        let is_last = batch.sent == batch.pieces.len();
        // A batch is in one part of the log: dropped as a whole, or not.
        let goes_on = self.part.1.filter(|(_, bytes)| which > 0 || *bytes < self.shared.part_bytes);
        let (first, before) = goes_on.unwrap_or((sequence, 0));
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let of = (count(which), count(batch.pieces.len()));
        let bytes = piece.message(&self.shared.id, (self.term, batch.number, before), of);
        let part = (first, before + bytes.len() as u64 + AROUND);
        let subject = self.shared.link.subjects.part(first);
        let sent = self.shared.link.publish((subject, bytes.clone()), Expect::Last(self.sent), false).await;
        let answer = match sent {
            Ok(answer) => answer.into_future().boxed(),
            Err(error) => std::future::ready(Err(error)).boxed(),
        };
        self.under_way.push_back(UnderWay { answer, sequence, part, bytes, is_last });
        (self.sent, self.part.1) = (sequence, Some(part));
        self.open += usize::from(is_last);
    }

    /// Does what the answer to the first message that is under way asks for.
    async fn settle(&mut self, answer: Result<PublishAck, PublishError>) -> Result<(), Over> {
        let Some(first) = self.under_way.pop_front() else { return Ok(()) };
        match self.shared.link.outcome(answer) {
            Outcome::Stored(sequence) if sequence == first.sequence => self.stored(first),
            Outcome::Refused(refusal) => {
                // It is of the first batch, for those before are answered.
                self.open = self.open.saturating_sub(1);
                if let Some(batch) = self.batches.pop_front() {
                    _ = batch.answer.send(Err(self.shared.refusal(&refusal)));
                }
                let mut known = true;
                for behind in std::mem::take(&mut self.under_way) {
                    // They expected it. Should one be stored all the same, that has to be looked at.
                    let outcome = self.shared.link.outcome(behind.answer.await);
                    known &= matches!(outcome, Outcome::Unexpected | Outcome::Refused(_));
                }
                self.send_again();
                if !known {
                    self.resolve("there was no answer").await?;
                }
            }
            outcome => {
                self.under_way.push_front(first);
                let why = match outcome {
                    Outcome::Unknown(why) => why,
                    Outcome::Stored(_) => "it was stored in another place".to_owned(),
                    _ => "the stream has another message".to_owned(),
                };
                self.resolve(&why).await?;
            }
        }
        Ok(())
    }

    /// Takes note of a message that is stored, and answers when its batch is whole with it.
    pub(super) fn stored(&mut self, message: UnderWay) {
        let UnderWay { sequence, part, bytes, is_last, .. } = message;
        let shared = &self.shared;
        (self.last, self.part.0) = (sequence, Some(part));
        shared.used.fetch_add(bytes.len() as u64 + AROUND, Ordering::Relaxed);
        shared.parts().insert(part.0, Some(Part { bytes: part.1, written: Timestamp::from(SystemTime::now()) }));
        if let Ok(Message::Records(records)) = Message::decode(&bytes, &shared.id) {
            shared.cache.put(sequence, Arc::new(records));
        }
        shared.last.store(sequence, Ordering::Release);
        if !is_last {
            return;
        }
        if let Some(Batch { places, first, answer, .. }) = self.batches.pop_front() {
            self.open = self.open.saturating_sub(1);
            let positions = places.into_iter().map(|(piece, index)| position(first + piece, index)).collect();
            _ = answer.send(Ok(positions));
        }
    }

    /// Has everything sent again that is not stored: as new batches behind the last message that is.
    pub(super) fn send_again(&mut self) {
        self.under_way.clear();
        self.batches.iter_mut().for_each(|batch| batch.sent = 0);
        (self.open, self.sent, self.part.1) = (0, self.last, self.part.0);
    }

    /// Drops a part. Nothing else is under way meanwhile: it gets in only right behind a message of this run.
    async fn drop_part(&mut self, first: u64) -> Result<Result<()>, Over> {
        while let Some(front) = self.under_way.front_mut() {
            let answer = (&mut front.answer).await;
            self.settle(answer).await?;
        }
        // Of a batch that is not whole all of it is sent again behind this.
        self.send_again();
        let subject = self.shared.link.subjects.part(first);
        loop {
            let message = (subject.clone(), dropped(&self.shared.id, self.term));
            let answer = match self.shared.link.publish(message, Expect::Last(self.last), true).await {
                Ok(answer) => answer.await,
                Err(error) => Err(error),
            };
            match self.shared.link.outcome(answer) {
                Outcome::Stored(sequence) if sequence == self.last + 1 => {
                    (self.last, self.sent) = (sequence, sequence);
                    break;
                }
                Outcome::Refused(refusal) => return Ok(Err(self.shared.refusal(&refusal))),
                // Whether it was dropped or not, nothing is lost by dropping it again.
                Outcome::Unknown(why) => self.resolve(&why).await?,
                _ => self.resolve("the stream has another message").await?,
            }
        }
        let end = self.shared.parts().range(first + 1..).next().map_or(self.last, |(next, _)| *next);
        self.shared.parts().remove(&first);
        self.shared.cache.forget(first, end);
        self.shared.last.store(self.last, Ordering::Release);
        // All that is left is the message that took its place. If that stays, it is taken away with the next start.
        _ = self.shared.link.stream.purge().filter(subject).await;
        Ok(Ok(()))
    }
}
