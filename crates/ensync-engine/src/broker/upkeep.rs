//! What the task does for its log between two batches.

use ensync_core::Result;

use super::task::Task;
use crate::state::{Change, LetterAction};

impl Task {
    /// Checkpoints, space and old dead letters, a bit at a time.
    pub(super) async fn keep(&mut self) {
        self.maintenance.checkpoint(&mut self.state);
        let copies = self.maintenance.sweep(&self.state, self.time.wall()).await;
        for part in self.maintenance.take_dropped() {
            self.state.dropped(part.from, part.to);
        }
        let copies: Vec<_> = copies
            .into_iter()
            .filter(|copy| self.state.holds(copy))
            .map(|record| Change { record, durable: true })
            .collect();
        if let Err(error) = self.store(copies).await {
            self.maintenance.give_up(&error);
        }
        let letters = self.maintenance.letters(&self.state, self.time.now());
        let gone: Vec<_> =
            letters.iter().filter_map(|id| self.state.dead_letter(LetterAction::Drop, id).ok()).collect();
        let count = gone.len();
        match self.store(gone).await {
            Ok(()) if count > 0 => tracing::info!(count, "dead letters that were too old, or too many, are gone"),
            Ok(()) => {}
            // How many are too many was counted with these: whatever comes behind them is not the oldest any more. The next time.
            Err(_) => self.maintenance.leave_letters(),
        }
    }

    /// Stores and applies what the engine itself wants.
    pub(super) async fn store(&mut self, changes: Vec<Change>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let positions = self.append(&changes).await.inspect_err(|error| self.complain(error, changes.len()))?;
        self.maintenance.stored(&positions, &changes);
        let mut positions = positions.into_iter();
        for change in &changes {
            let position = if change.durable { positions.next() } else { None };
            self.state.apply(position, &change.record);
        }
        Ok(())
    }
}
