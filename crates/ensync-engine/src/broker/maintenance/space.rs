//! Which parts of the log are to be dropped for their space, found out a bit at a time, or at once for something that found none.

use std::collections::VecDeque;

use ensync_core::Timestamp;

use super::super::backoff::Backoff;
use super::super::copying::Copying;
use super::super::reclaim::{Reclaim, Survey};
use super::Maintenance;
use crate::log::LogSpace;
use crate::model::Need;
use crate::partition::{Partition, Walk};

/// After which part of its disk a checkpoint is due at the latest, and after how many bytes at the earliest then.
const CHECKPOINTED: u64 = 16;
const LEAST: u64 = 1 << 20;

/// A look at all that waits, some of it at a time.
#[derive(Debug)]
pub(super) struct SpaceLook {
    survey: Survey,
    walk: Walk,
    /// How many bytes are wanted, and whether that is because the disk lacks them.
    wanted: (u64, bool),
    /// What is older is to go.
    before: Timestamp,
}

impl SpaceLook {
    /// Looks at some more events; whether at all now.
    pub(super) fn goes_on(&mut self, partition: &Partition, most: usize) -> bool {
        partition.walk(&mut self.walk, most, |at, size| self.survey.see(at, size));
        self.walk.is_over()
    }
}

impl Maintenance {
    /// Makes space at once, for something that found none. Whether there is more now. Nobody can store anything meanwhile anyway, so that
    /// all that waits is looked at in one go. Events, of which there may be many, have tries of their own: the others need not wait for these.
    pub(in crate::broker) async fn make_space(
        &mut self,
        partition: &mut Partition,
        now: Timestamp,
        need: Need,
    ) -> bool {
        if self.tries(need).next().is_some() || !self.is_of_use() {
            return false;
        }
        self.tries(need).begin();
        let more = self.make_space_at_once(partition, now).await;
        self.tries(need).end(more);
        more
    }

    /// Whether its log is on a disk that is so large: those of which it is about the same are taken to be one, for file systems that share
    /// their space with others tell another number each time.
    pub(in crate::broker) async fn is_on(&self, disk: Option<u64>) -> bool {
        let Some(total) = disk else { return true };
        matches!(self.records.log.space().await, Ok(Some(space)) if space.total.abs_diff(total) <= total / 64)
    }

    fn tries(&mut self, need: Need) -> &mut Backoff {
        let [of_events, of_others] = &mut self.fruitless;
        if need == Need::Grows { of_events } else { of_others }
    }

    async fn make_space_at_once(&mut self, partition: &mut Partition, now: Timestamp) -> bool {
        self.look_at_once(partition, now).await;
        if self.drop_unneeded().await {
            return true;
        }
        if self.retention.only_looks {
            return false;
        }
        // What a checkpoint of now covers need not be read back; what the one before it needs is given up with that one.
        _ = self.save_at_once(partition).await;
        if let Err(error) = self.records.log.drop_older_checkpoints().await {
            self.give_up(&error);
        }
        self.look_at_once(partition, now).await;
        self.drop_unneeded().await
    }

    async fn look_at_once(&mut self, partition: &Partition, now: Timestamp) {
        (self.reclaiming, self.copying) = (VecDeque::new(), Copying::Nothing);
        self.look = self.look(now, 1).await;
        if let Some(look) = &mut self.look {
            while !look.goes_on(partition, usize::MAX) {}
            self.looked();
        }
    }

    /// Drops every part in which nothing waits of those that are about to be. Whether there was one.
    async fn drop_unneeded(&mut self) -> bool {
        let planned = std::mem::take(&mut self.reclaiming).into_iter();
        let (unneeded, needed): (VecDeque<Reclaim>, _) = planned.partition(Reclaim::is_unneeded);
        self.reclaiming = needed;
        let mut dropped = false;
        for next in unneeded {
            dropped |= self.drop_part(&next.part).await;
        }
        dropped
    }

    /// Begins to find out what is to be dropped, if something is. `wanted`: at least so many bytes.
    pub(super) async fn look(&mut self, now: Timestamp, wanted: u64) -> Option<SpaceLook> {
        let mut space = match self.records.log.space().await {
            Ok(space) => space?,
            Err(error) => {
                self.give_up(&error);
                return None;
            }
        };
        self.stuck.leave_out(&mut space.parts);
        let LogSpace { ref parts, used, total, segment_bytes, .. } = space;
        self.step = (segment_bytes / 2).max(64 << 10);
        let short = self.disk.short(self.partition, &space);
        // On a small disk there has to be one before it is full: nothing after it can be dropped.
        let part = total / CHECKPOINTED / self.disk.sharers(total).max(1);
        self.due = self.due.min(part.max(LEAST));
        let age = u64::try_from(self.retention.max_age.as_millis()).unwrap_or(u64::MAX);
        let before = Timestamp::from_millis(now.as_millis().saturating_sub(age));
        self.short = short > 0;
        // Of what has expired by the clock of somebody who only looks nothing is dropped unasked.
        let asked = wanted > 0 || !self.retention.only_looks;
        let wanted = wanted.max(short).max(used.saturating_sub(self.retention.max_bytes));
        if !asked || parts.is_empty() || wanted == 0 && parts.iter().all(|part| part.written >= before) {
            return None;
        }
        Some(SpaceLook {
            survey: Survey::new(parts, short > 0),
            walk: Walk::default(),
            wanted: (wanted, short > 0),
            before,
        })
    }

    /// Decides what is to be dropped, once all that waits was looked at.
    pub(super) fn looked(&mut self) {
        let Some(SpaceLook { survey, wanted, before, .. }) = self.look.take() else { return };
        let (plan, enough) = survey.plan(wanted, before);
        self.again = wanted.1 && !plan.is_empty();
        // A backlog that alone is more than is to be kept is no reason to save it again and again.
        self.asked.end_begun(!plan.is_empty());
        (self.reclaiming, self.short) = (plan, !enough && wanted.1);
    }
}
