//! What the task does for its log between two batches.

use super::request::Changed;
use super::task::Task;
use crate::model::Record;
use crate::state::{Change, LetterAction};

impl Task {
    /// Checkpoints, space and old dead letters, a bit at a time.
    pub(super) async fn keep(&mut self) {
        self.maintenance.checkpoint(&mut self.partition);
        let copies = self.maintenance.sweep(&self.partition, self.time.wall()).await;
        for part in self.maintenance.take_dropped() {
            self.partition.dropped(part.from, part.to);
        }
        let missing = self.maintenance.take_missing();
        if !missing.is_empty() {
            let gone = self.partition.unreadable_at(&missing);
            let events = gone.len();
            match self.store(gone).await {
                Ok(()) => tracing::error!(
                    events,
                    "the log is damaged: events that wait in a part of it that is about to be dropped cannot be read there, and are dead letters now"
                ),
                // Nothing is dropped that something waits for.
                Err(error) => self.maintenance.give_up(&error),
            }
        }
        let copies: Vec<_> = copies
            .into_iter()
            .filter(|copy| self.partition.holds(copy))
            .map(|record| Change { record, durable: true })
            .collect();
        if let Err(error) = self.store_copies(copies).await {
            self.maintenance.give_up(&error);
        }
        let letters = self.maintenance.letters(&self.partition, self.time.now());
        let gone: Vec<_> =
            letters.iter().filter_map(|id| self.partition.dead_letter(LetterAction::Drop, id).ok()).collect();
        let count = gone.len();
        match self.store(gone).await {
            Ok(()) if count > 0 => tracing::info!(count, "dead letters that were too old, or too many, are gone"),
            Ok(()) => {}
            // How many are too many was counted with these: whatever comes behind them is not the oldest any more. The next time.
            Err(_) => self.maintenance.leave_letters(),
        }
    }

    /// Does what a change of the registry means here; it is known to whoever is decided from now on. Says which sessions take what they may
    /// not take any more.
    pub(super) async fn registry_changed(&mut self, changed: Changed) {
        let Changed { name, apps, ended, removed, answer } = changed;
        let mut over = Vec::new();
        {
            let layer = self.layer.read();
            if let Some(name) = &name {
                layer.access.configure_name(&mut self.partition, name);
            }
            for app in apps.iter().filter(|app| self.partition.has(app)) {
                over.extend(layer.access.over(&self.partition, app));
            }
        }
        ended.into_iter().for_each(|session| self.partition.leave(session));
        let done = match removed {
            Some(queues) => self.store_all(vec![Change::new(Record::Remove { queues }, true)]).await,
            None => Ok(()),
        };
        _ = answer.send(done.map(|()| over));
    }
}
