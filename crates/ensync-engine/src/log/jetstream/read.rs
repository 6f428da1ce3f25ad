//! Records, from their messages.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use ensync_core::{Error, ErrorKind, Result};
use futures::stream::{self, BoxStream, StreamExt};

use super::Shared;
use super::message::{Bad, Found, Message, Records, position, split};
use super::stream::Stored;
use crate::model::Position;

/// How many bytes are read from the stream at a time.
const AT_ONCE: usize = 4 << 20;
/// How many bytes a batch has at most.
pub(super) const LARGEST_BATCH: usize = 64 << 20;

impl Shared {
    /// Makes a message of what the stream has; `None` if it is of somebody else, and does not count.
    pub(super) fn decode(&self, stored: &Stored) -> Result<Option<Message>> {
        let (name, sequence) = (&self.link.name, stored.sequence);
        match Message::decode(&stored.bytes, &self.id) {
            Ok(message) => Ok(Some(message)),
            Err(Bad::Foreign) => {
                if let Some(times) = self.foreign.due() {
                    tracing::warn!(
                        stream = name,
                        sequence,
                        times,
                        "a message that no engine published; take that permission from whoever did"
                    );
                }
                Ok(None)
            }
            Err(Bad::Later(version)) => {
                let message = format!(
                    "message {sequence} of the stream {name} is of version {version}, which this engine does not know; use a later one"
                );
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
            Err(Bad::Damaged) => {
                let message = format!(
                    "message {sequence} of the stream {name} is damaged: look after the servers' disks, then restore the stream from a backup"
                );
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
        }
    }

    /// Whether a message counts: the last opening before it is the one under which it was written.
    fn counts(&self, sequence: u64, message: &Records) -> bool {
        let openings = self.openings();
        openings.range(..sequence).next_back() == Some(&message.head.term)
    }

    /// A message with records that counts.
    async fn message(&self, sequence: u64) -> Result<Option<Arc<Records>>> {
        if sequence == 0 || sequence > self.last() {
            return Ok(None);
        }
        if let Some(message) = self.cache.get(sequence) {
            return Ok(Some(message));
        }
        let found = self.link.next(sequence, sequence, AT_ONCE).await?;
        self.keep(found.first())
    }

    /// Keeps a message for later, if it counts.
    fn keep(&self, stored: Option<&Stored>) -> Result<Option<Arc<Records>>> {
        let Some(stored) = stored else { return Ok(None) };
        match self.decode(stored)? {
            Some(Message::Records(records)) if self.counts(stored.sequence, &records) => {
                let records = Arc::new(records);
                self.cache.put(stored.sequence, records.clone());
                Ok(Some(records))
            }
            _ => Ok(None),
        }
    }

    pub(super) async fn read(&self, at: Position) -> Result<Option<Bytes>> {
        let (sequence, index) = split(at);
        let Some(message) = self.message(sequence).await? else { return Ok(None) };
        let Some(found) = message.record(index) else { return Ok(None) };
        // Of a batch all is there, or none of it counts.
        let behind = message.head.parts - message.head.part - 1;
        if behind > 0 {
            let last = self.message(sequence.saturating_add(behind.into())).await?;
            let same = |last: &Records| {
                (last.head.term, last.head.batch, last.head.part)
                    == (message.head.term, message.head.batch, message.head.parts - 1)
            };
            if !last.is_some_and(|last| same(&last)) {
                return Ok(None);
            }
        }
        let (begin, mut missing) = match found {
            Found::Whole(bytes) => return Ok(Some(bytes)),
            Found::Cut(begin, missing) => (begin, missing),
        };
        let mut whole = BytesMut::from(&begin[..]);
        for next in 1..=behind {
            let Some(part) = self.message(sequence + u64::from(next)).await? else { return Ok(None) };
            let carried = part.carried();
            missing = missing.saturating_sub(carried.len());
            whole.put_slice(&carried);
            if missing == 0 {
                return Ok(Some(whole.freeze()));
            }
        }
        Ok(None)
    }

    /// Reads ahead what several positions need, so that those that lie near each other are asked for together.
    pub(super) async fn prepare(&self, at: &[Position], max_bytes: usize) {
        let mut wanted: Vec<u64> = at.iter().map(|at| split(*at).0).collect();
        wanted.retain(|sequence| (1..=self.last()).contains(sequence) && self.cache.get(*sequence).is_none());
        wanted.sort_unstable();
        wanted.dedup();
        let mut wanted = wanted.into_iter().peekable();
        let mut bytes = 0;
        while let Some(from) = wanted.next().filter(|_| bytes < max_bytes) {
            let mut to = from;
            while let Some(next) = wanted.next_if(|next| *next == to + 1) {
                to = next;
            }
            if to == from {
                // Alone it is no cheaper than when it is read.
                continue;
            }
            let left = (max_bytes - bytes).min(AT_ONCE);
            let Ok(found) = self.link.next(from, to, left).await else { return };
            for stored in &found {
                bytes += stored.bytes.len();
                _ = self.keep(Some(stored));
            }
        }
    }

    /// Every record from a position on.
    pub(super) fn scan(self: &Arc<Self>, from: Position) -> BoxStream<'static, Result<(Position, Bytes)>> {
        let scan = Scan {
            shared: self.clone(),
            from,
            next: None,
            to: self.last(),
            batch: Vec::new(),
            bytes: 0,
            ready: VecDeque::new(),
            ended: false,
            failed: None,
        };
        stream::unfold(scan, |mut scan| async move {
            loop {
                if let Some(ready) = scan.ready.pop_front() {
                    return Some((Ok(ready), scan));
                }
                if let Some(error) = scan.failed.take() {
                    scan.ended = true;
                    return Some((Err(error), scan));
                }
                if scan.ended {
                    return None;
                }
                scan.failed = scan.go_on().await.err();
            }
        })
        .boxed()
    }
}

struct Scan {
    shared: Arc<Shared>,
    from: Position,
    /// Where to go on, once that is known.
    next: Option<u64>,
    to: u64,
    /// The messages of a batch of which more are to come, each with its sequence.
    batch: Vec<(u64, Records)>,
    bytes: usize,
    ready: VecDeque<(Position, Bytes)>,
    ended: bool,
    /// What is wrong behind what is ready.
    failed: Option<Error>,
}

impl Scan {
    async fn go_on(&mut self) -> Result<()> {
        let next = match self.next {
            Some(next) => next,
            None => self.first().await?,
        };
        let found = self.shared.link.next(next, self.to, AT_ONCE).await?;
        let Some(last) = found.last() else {
            self.ended = true;
            return Ok(());
        };
        self.next = Some(last.sequence + 1);
        for stored in &found {
            let message = self.shared.decode(stored)?;
            if let Some(Message::Records(records)) = message
                && self.shared.counts(stored.sequence, &records)
            {
                self.take(stored.sequence, records)?;
            }
        }
        Ok(())
    }

    /// The sequence to begin with: that of the position, or of the first message of the batch that it is in.
    async fn first(&self) -> Result<u64> {
        let (sequence, _) = split(self.from);
        let message = self.shared.message(sequence).await?;
        let before = message.map_or(0, |message| message.head.part.into());
        Ok(sequence.saturating_sub(before).max(1))
    }

    fn take(&mut self, sequence: u64, records: Records) -> Result<()> {
        let goes_on =
            self.batch.last().is_some_and(|(last, before)| last + 1 == sequence && before.is_before(&records));
        if !goes_on {
            (self.batch, self.bytes) = (Vec::new(), 0);
            if records.head.part > 0 {
                return Ok(());
            }
        }
        self.bytes += records.size();
        if self.bytes > 2 * LARGEST_BATCH {
            let message = format!(
                "message {sequence} of the stream {} belongs to a batch that no engine made",
                self.shared.link.name
            );
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let over = records.head.part + 1 == records.head.parts;
        self.batch.push((sequence, records));
        if over {
            self.emit();
            (self.batch, self.bytes) = (Vec::new(), 0);
        }
        Ok(())
    }

    /// All records of the batch from the position on.
    fn emit(&mut self) {
        for (which, (sequence, message)) in self.batch.iter().enumerate() {
            for index in 0..message.count() {
                let at = position(*sequence, index);
                let whole = match message.record(index) {
                    _ if at < self.from => None,
                    Some(Found::Whole(bytes)) => Some(bytes),
                    Some(Found::Cut(begin, mut missing)) => {
                        let mut whole = BytesMut::from(&begin[..]);
                        for (_, behind) in self.batch.iter().skip(which + 1) {
                            let carried = behind.carried();
                            missing = missing.saturating_sub(carried.len());
                            whole.put_slice(&carried);
                            if missing == 0 {
                                break;
                            }
                        }
                        (missing == 0).then(|| whole.freeze())
                    }
                    None => None,
                };
                self.ready.extend(whole.map(|whole| (at, whole)));
            }
        }
    }
}
