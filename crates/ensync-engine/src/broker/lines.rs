//! The lines in which apps wait for a partition's task: one for each app, so that nobody waits behind all that another one sends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ensync_core::AppId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How many requests of one app may wait in the task's own queue, before which all apps meet. A quarter of a batch: whoever asks for one thing
/// while another app asks for very much waits for a batch or two.
pub(super) const AT_ONCE: usize = 512;

/// Who waits for one partition.
#[derive(Debug, Default)]
pub(super) struct Lines {
    apps: Mutex<HashMap<AppId, Line>>,
    emptied: Notify,
}

#[derive(Debug)]
struct Line {
    room: Arc<Semaphore>,
    /// How many wait in it, or were let out of it and are not taken in yet. It goes with the last of them.
    requests: usize,
}

/// A request's place in its app's line, until the task takes the request in, or nobody waits for it any more.
#[derive(Debug)]
#[must_use = "it is given back when this is dropped"]
pub(super) struct Turn {
    // Fields are dropped in this order: the line goes last.
    _room: Option<OwnedSemaphorePermit>,
    _place: Place,
}

#[derive(Debug)]
struct Place {
    lines: Arc<Lines>,
    app: AppId,
}

impl Lines {
    /// Waits for an app's turn, behind what it asked for before.
    pub(super) async fn turn(self: &Arc<Self>, app: AppId) -> Turn {
        let room = {
            let mut apps = self.apps();
            let line = apps.entry(app).or_insert_with(|| Line { room: Arc::new(Semaphore::new(AT_ONCE)), requests: 0 });
            line.requests += 1;
            line.room.clone()
        };
        let place = Place { lines: self.clone(), app };
        // It is never closed.
        Turn { _room: room.acquire_owned().await.ok(), _place: place }
    }

    /// Waits until nobody waits.
    pub(super) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // From here on it is not missed.
            emptied.as_mut().enable();
            if self.apps().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn apps(&self) -> MutexGuard<'_, HashMap<AppId, Line>> {
        // No code that holds the lock can panic half-way through a change.
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut apps = self.lines.apps();
        let Some(line) = apps.get_mut(&self.app) else { return };
        line.requests -= 1;
        if line.requests == 0 {
            apps.remove(&self.app);
        }
        if apps.is_empty() {
            self.lines.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const fn app(n: u8) -> AppId {
        AppId::from_bytes([n; 32])
    }

    #[test]
    fn each_app_has_a_line_and_only_while_it_waits() {
        let lines = Arc::new(Lines::default());
        let mut turns: Vec<_> =
            (0..AT_ONCE).map(|_| lines.turn(app(1)).now_or_never().expect("there is room")).collect();
        let mut first = Box::pin(lines.turn(app(1)));
        let mut second = Box::pin(lines.turn(app(1)));
        let mut gone = Box::pin(lines.turn(app(1)));
        assert!([&mut first, &mut gone, &mut second].into_iter().all(|turn| turn.now_or_never().is_none()));
        // Another app does not wait for that, and who goes leaves no place behind.
        drop(lines.turn(app(2)).now_or_never().expect("its line is empty"));
        assert_eq!(lines.apps().len(), 1);
        drop(gone);
        drop(turns.pop());
        assert!(second.as_mut().now_or_never().is_none(), "the first in the line is the first out of it");
        let turn = first.as_mut().now_or_never().expect("one has gone");
        assert!(lines.empty().now_or_never().is_none());
        drop(turn);
        drop((turns, second.now_or_never().expect("there is room")));
        assert!(lines.apps().is_empty());
        lines.empty().now_or_never().expect("nobody waits");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_end_of_all_lines_is_told() {
        let lines = Arc::new(Lines::default());
        let turns = [lines.turn(app(1)).await, lines.turn(app(1)).await, lines.turn(app(2)).await];
        let waits = lines.clone();
        let told = tokio::spawn(async move { waits.empty().await });
        for turn in turns {
            tokio::task::yield_now().await;
            assert!(!told.is_finished());
            drop(turn);
        }
        told.await.unwrap();
    }
}
