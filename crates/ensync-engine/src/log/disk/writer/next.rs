//! The segment after the one that is written: made ahead, and gone on to.

use std::fs::File;
use std::io;
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::time::Instant;

use ensync_core::Result;

use super::super::format::{HEADER, MARKS, MAX_SEGMENT};
use super::super::io::is_full;
use super::super::lock;
use super::super::space::segment_length;
use super::{LOOK, UNMADE, Writer};
use crate::model::Need;

impl Writer {
    /// Goes on in the next segment, which has room for a commit of `length` bytes.
    pub(super) fn roll(&mut self, length: u64, need: Need) -> Result<()> {
        let needed = length + u64::from(HEADER) + MARKS;
        let ready = |writer: &Self| writer.spare.as_ref().is_some_and(|(_, capacity)| *capacity >= needed);
        if !ready(self) {
            self.make_spare(needed, need).map_err(|cause| self.full(cause, need))?;
        }
        let Some((file, capacity)) = self.spare.take() else { return Ok(()) };
        // Only gives space back. If it fails, it is not given back.
        _ = self.shared.directory.io.truncate(&self.file, self.offset.into());
        (self.segment, self.file, self.capacity, self.offset) = (self.segment + 1, file, capacity, HEADER);
        self.zeroed = 0;
        self.shared.reserve_for(self.capacity);
        lock(&self.shared.segments).insert(self.segment, HEADER);
        Ok(())
    }

    /// Has the next segment made once half of this one is used, or at once after a short one. That takes its time, and commits go on
    /// meanwhile.
    pub(super) fn prepare(&mut self) {
        if let Some(making) = &self.making {
            match making.try_recv() {
                Ok(made) => self.made(made),
                Err(TryRecvError::Disconnected) => self.making = None,
                Err(TryRecvError::Empty) => {}
            }
            return;
        }
        let waits = self.unmade.is_some_and(|last| last.elapsed() < LOOK);
        let Some(number) = self.segment.checked_add(1) else { return };
        if self.spare.is_some() || waits || self.shared.failure.get().is_some() {
            return;
        }
        if u64::from(self.offset) <= self.capacity / 2 && self.capacity >= self.length(0) {
            return;
        }
        let (shared, length) = (self.shared.clone(), self.length(0));
        let (made, making) = sync_channel(1);
        self.making = Some(making);
        self.shared.directory.io.meanwhile(Box::new(move || {
            // What is kept for more than events comes first.
            shared.reserve_for(length);
            let file = if shared.is_reserve_whole() {
                shared.directory.create_segment(&shared.id, number, length)
            } else {
                Err(io::ErrorKind::StorageFull.into())
            };
            _ = made.send(file.map(|file| (file, length)));
        }));
    }

    /// Takes what was made meanwhile.
    fn made(&mut self, made: io::Result<(File, u64)>) {
        self.making = None;
        match made {
            Ok(spare) => (self.spare, self.unmade) = (Some(spare), None),
            Err(cause) => {
                self.unmade = Some(Instant::now());
                if let Some(times) = UNMADE.due() {
                    tracing::warn!(%cause, times, "cannot make the next segment of the log yet");
                }
            }
        }
    }

    /// Waits for what is being made.
    pub(super) fn finish_making(&mut self) {
        if let Some(making) = self.making.take()
            && let Ok(made) = making.recv()
        {
            self.made(made);
        }
    }

    /// Makes the next segment. If the disk has no space for it, what is to be stored says what it may use of that which is kept; the
    /// segment may be shorter then.
    fn make_spare(&mut self, needed: u64, need: Need) -> io::Result<()> {
        self.finish_making();
        if self.spare.as_ref().is_some_and(|(_, length)| *length >= needed) {
            return Ok(());
        }
        let number = self.segment.checked_add(1).ok_or(io::ErrorKind::StorageFull)?;
        let (shared, length) = (&self.shared, self.length(needed));
        let make = |length| Ok((shared.directory.create_segment(&shared.id, number, length)?, length));
        self.spare = Some(match make(length) {
            Err(cause) if is_full(&cause) => shared.take_reserve(need, (needed, length), make).unwrap_or(Err(cause))?,
            made => made?,
        });
        Ok(())
    }

    /// How long a segment is made.
    fn length(&self, needed: u64) -> u64 {
        segment_length(&self.shared.directory, self.shared.segment_bytes).max(needed).min(MAX_SEGMENT)
    }
}
