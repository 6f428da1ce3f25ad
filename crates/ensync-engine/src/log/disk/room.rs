//! What the logs of a store leave free on their disk: for their next checkpoints, without which nothing can be dropped, and for records that
//! make space.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use super::format::LogId;
use super::lock;
use super::shared::Shared;
use super::space::segment_length;
use crate::model::Need;

/// What each log of a store wants to be left. They are taken to be on one disk.
#[derive(Debug, Default)]
pub(super) struct Rooms(Mutex<BTreeMap<LogId, Room>>);

/// What one of them does.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    /// What its next checkpoint takes, and what those take that are there, in bytes.
    next: u64,
    there: u64,
    segment: u64,
}

impl Room {
    /// What its checkpoints still take until there are two: the one before is given up only once the next is there.
    fn lacking(&self) -> u64 {
        (2 * self.next).saturating_sub(self.there)
    }
}

impl Rooms {
    fn change(&self, id: &LogId, change: impl FnOnce(&mut Room)) {
        change(lock(&self.0).entry(*id).or_default());
    }

    /// How many bytes have to stay free behind a new segment for records of a kind. What makes space may use all but the checkpoints' room; each
    /// other kind leaves a segment more.
    fn reserve(&self, need: Need) -> u64 {
        let segments = match need {
            Need::Frees => 0,
            Need::Ends => 1,
            Need::Keeps => 2,
            Need::Grows => 3,
        };
        lock(&self.0).values().map(|room| room.lacking() + segments * room.segment).sum()
    }
}

impl Shared {
    /// Takes note of what is there.
    pub(super) fn note_room(&self) {
        let directory = &self.directory;
        let checkpoints = directory.checkpoints().unwrap_or_default();
        let files = checkpoints.iter().map(|at| directory.checkpoint(*at)).chain([directory.next_checkpoint()]);
        let there = files.filter_map(|path| directory.metadata(&path).ok()).map(|metadata| metadata.len()).sum();
        let segment = segment_length(directory, self.segment_bytes);
        self.rooms.change(&self.id, |room| (room.there, room.segment) = (there, segment));
    }

    /// How large its next checkpoint will be.
    pub(super) fn expect_checkpoint(&self, bytes: u64) {
        self.rooms.change(&self.id, |room| room.next = bytes);
    }

    /// Whether records of a kind may go to a new segment, of which so many bytes have yet to be taken from the disk.
    ///
    /// # Errors
    ///
    /// That there is no space.
    pub(super) fn check_room(&self, need: Need, new: u64) -> io::Result<()> {
        let (_, free) = self.directory.space()?;
        if free.saturating_sub(new) < self.rooms.reserve(need) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_space_finds_more_than_what_takes_it() {
        let rooms = Rooms::default();
        let reserves = || [Need::Frees, Need::Ends, Need::Keeps, Need::Grows].map(|need| rooms.reserve(need));
        assert_eq!(reserves(), [0; 4]);
        rooms.change(&[1; 16], |room| *room = Room { next: 100, there: 0, segment: 10 });
        assert_eq!(reserves(), [200, 210, 220, 230]);
        // One is there, and the next has to come beside it.
        rooms.change(&[1; 16], |room| room.there = 90);
        assert_eq!(reserves(), [110, 120, 130, 140]);
        // Two are there, and the next is written over the file of a third.
        rooms.change(&[1; 16], |room| room.there = 270);
        rooms.change(&[2; 16], |room| *room = Room { next: 5, there: 0, segment: 1 });
        assert_eq!(reserves(), [10, 21, 32, 43]);
    }
}
