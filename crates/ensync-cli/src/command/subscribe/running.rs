//! Commands that run, each in a process group of its own.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The groups, by their numbers.
#[derive(Default)]
pub(super) struct Running(Mutex<Groups>);

#[derive(Default)]
struct Groups {
    ended: bool,
    ids: BTreeSet<u32>,
}

impl Running {
    /// One more, until it is dropped.
    pub(super) fn add(&self, id: Option<u32>) -> Group<'_> {
        let mut groups = self.lock();
        groups.ids.extend(id);
        if groups.ended {
            groups.ids.iter().copied().for_each(kill);
        }
        Group { running: self, id }
    }

    /// Ends all of them at once, with whatever they started in their groups, and each that comes later.
    pub(super) fn kill(&self) {
        let mut groups = self.lock();
        groups.ended = true;
        groups.ids.iter().copied().for_each(kill);
    }

    /// Whether they were ended.
    pub(super) fn is_ended(&self) -> bool {
        self.lock().ended
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command that runs. Dropped before it has ended, it is killed with whatever it started.
pub(super) struct Group<'a> {
    running: &'a Running,
    id: Option<u32>,
}

impl Group<'_> {
    /// It has ended by itself: what it left running is left.
    pub(super) fn ended(mut self) {
        self.forget();
    }

    fn forget(&mut self) -> Option<u32> {
        let id = self.id.take()?;
        self.running.lock().ids.remove(&id);
        Some(id)
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.forget() {
            kill(id);
        }
    }
}

#[cfg(unix)]
fn kill(id: u32) {
    let pid = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
    // It may be over.
    _ = pid.map(|pid| rustix::process::kill_process_group(pid, rustix::process::Signal::KILL));
}

/// The command itself is killed when it is dropped.
#[cfg(not(unix))]
fn kill(_: u32) {}
