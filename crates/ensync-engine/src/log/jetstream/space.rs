//! What a log takes of its stream, and which parts of it can go.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use ensync_core::{Error, Result, Timestamp};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::message::{Message, split};
use super::stream::Stored;
use super::{Part, Shared};
use crate::log::{LogPart, LogSpace, LogUsage};
use crate::model::Position;

/// How many parts are looked at at a time.
const AT_ONCE: usize = 8;

impl Shared {
    /// The parts that lie between two positions, before what the oldest checkpoint needs: by the sequences with which they begin.
    pub(super) fn parts_between(&self, from: Position, to: Position, oldest: Option<Position>) -> Vec<u64> {
        let Some(oldest) = oldest else { return Vec::new() };
        let (begin, end) = (split(from), split(to.min(oldest)).0);
        let begin = if begin.1 == 0 { begin.0 } else { begin.0 + 1 };
        let whole = |(first, next): &(u64, u64)| begin <= *first && *next <= end;
        self.closed().into_iter().filter(whole).map(|(first, _)| first).collect()
    }

    /// Each part with another behind it: where it begins, and where that one does.
    fn closed(&self) -> Vec<(u64, u64)> {
        let parts = self.parts();
        let next = parts.keys().skip(1);
        parts.keys().copied().zip(next.copied()).collect()
    }

    pub(super) async fn space(&self, oldest: Option<Position>) -> Result<LogSpace> {
        let (used, free, total) = self.room().await?;
        let needed = oldest.map_or(0, |oldest| split(oldest).0);
        let droppable: BTreeMap<u64, u64> = self.closed().into_iter().filter(|(_, next)| *next <= needed).collect();
        let parts = stream::iter(droppable)
            .map(async |(first, next)| {
                let part = self.part(first).await?;
                let (from, to) = (super::message::position(first, 0), super::message::position(next, 0));
                Ok::<_, Error>(LogPart { from, to, bytes: part.bytes, written: part.written })
            })
            .buffered(AT_ONCE);
        let parts = parts.try_collect().await?;
        Ok(LogSpace { parts, used, free, total, lacking: 0, segment_bytes: self.part_bytes })
    }

    /// What is known of a part; of one from another run its last message says it.
    async fn part(&self, first: u64) -> Result<Part> {
        if let Some(Some(known)) = self.parts().get(&first) {
            return Ok(*known);
        }
        let last = self.link.leader_last(&self.link.subjects.part(first)).await?;
        let found = last.map_or(Part { bytes: 0, written: Timestamp::default() }, |last| self.ends_with(&last));
        self.parts().entry(first).and_modify(|part| *part = Some(found));
        Ok(found)
    }

    fn ends_with(&self, last: &Stored) -> Part {
        let before = match Message::decode(&last.bytes, &self.id) {
            Ok(Message::Records(records)) => records.head.before,
            _ => 0,
        };
        Part { bytes: before + last.bytes.len() as u64, written: last.at }
    }

    /// What is used, what is free, and what there is, in bytes.
    async fn room(&self) -> Result<(u64, u64, u64)> {
        let used = self.link.info().await?.state.bytes;
        self.used.store(used, Ordering::Relaxed);
        if let Some(most) = self.max_bytes {
            return Ok((used, most.saturating_sub(used), most));
        }
        let account = self
            .link
            .context
            .query_account()
            .await
            .map_err(|cause| self.link.unavailable("look at the limits of", &cause))?;
        let most = account.limits.max_storage.and_then(|most| u64::try_from(most).ok()).filter(|most| *most > 0);
        // Without a limit nobody but the servers knows.
        let most = most.unwrap_or(u64::MAX / 2);
        Ok((used, most.saturating_sub(account.storage), most))
    }

    pub(super) async fn usage(&self, checkpoint_bytes: u64, checkpoint_at: Option<Timestamp>) -> Result<LogUsage> {
        let (bytes, free_bytes, _) = self.room().await?;
        let segments = self.parts().len() as u64;
        Ok(LogUsage { bytes, segments, free_bytes, reserved_bytes: 0, checkpoint_bytes, checkpoint_at })
    }

    /// Takes away the openings that no message names any more.
    pub(super) async fn forget_openings(&self) -> Result<()> {
        let first = self.parts().keys().next().copied();
        let before = {
            let openings = self.openings();
            // The one under which the first part was begun stays, and with it the last of all.
            let named = openings.range(..first.unwrap_or(0)).next_back().or(openings.first()).copied();
            named.filter(|named| openings.first() < Some(named))
        };
        let Some(before) = before else { return Ok(()) };
        let purged = self.link.stream.purge().filter(self.link.subjects.openings()).sequence(before).await;
        purged.map_err(|cause| self.link.unavailable("drop openings of", &cause))?;
        self.openings().retain(|opening| *opening >= before);
        Ok(())
    }
}
