//! What waits, held against the quotas.

use ensync_core::{AppId, Error, ErrorKind, EventName, Result};

use super::Partition;
use super::entries::Entry;

/// What an event in memory takes beside its payload and metadata, in bytes.
const IN_MEMORY: u64 = 512;

/// What waits in some queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) events: u64,
    /// Payloads and metadata, and reasons of dead letters.
    pub(crate) bytes: u64,
    /// What of it is in memory only, with what that takes beside.
    pub(crate) memory: u64,
}

impl Usage {
    pub(crate) fn of(entry: &Entry) -> Self {
        let bytes = u64::from(entry.size);
        Self { events: 1, bytes, memory: if entry.transient { bytes + IN_MEMORY } else { 0 } }
    }

    /// What a dead letter's reason takes beside it.
    pub(crate) fn of_reason(reason: &str) -> Self {
        Self { bytes: reason.len() as u64, ..Self::default() }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.events = self.events.saturating_add(more.events);
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.memory = self.memory.saturating_add(more.memory);
    }

    fn take(&mut self, less: Self) {
        self.events = self.events.saturating_sub(less.events);
        self.bytes = self.bytes.saturating_sub(less.bytes);
        self.memory = self.memory.saturating_sub(less.memory);
    }
}

impl Partition {
    /// Counts an event that is there now.
    pub(super) fn charge(&mut self, number: u32, more: Usage) {
        let Some(queue) = self.queues.get_mut(&number).filter(|_| more != Usage::default()) else { return };
        queue.usage.add(more);
        self.usage.entry(queue.recipient).or_default().add(more);
        self.settings.memory_used.add(more.memory);
    }

    /// Counts one that is gone.
    pub(super) fn discharge(&mut self, number: u32, less: Usage) {
        let Some(queue) = self.queues.get_mut(&number) else { return };
        queue.usage.take(less);
        self.settings.memory_used.take(less.memory);
        if let Some(usage) = self.usage.get_mut(&queue.recipient) {
            usage.take(less);
            if *usage == Usage::default() {
                self.usage.remove(&queue.recipient);
            }
        }
    }

    /// Whether there is room for one more event of some size.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LimitExceeded`] says which quota is used up.
    pub(super) fn check_quotas(&self, recipient: &AppId, event: &EventName, size: u64, durable: bool) -> Result<()> {
        let quotas = &self.settings.limits.quotas;
        let queue = self.number(recipient, event).and_then(|number| self.queues.get(&number));
        let queue = queue.map_or(Usage::default(), |queue| queue.usage);
        let app = self.usage.get(recipient).copied().unwrap_or_default();
        let memory = if durable { 0 } else { size.saturating_add(IN_MEMORY) };
        let checks = [
            (queue.events, 1, quotas.queue_events, "events in this queue", "queue_events"),
            (queue.bytes, size, quotas.queue_bytes, "bytes in this queue", "queue_bytes"),
            (app.events, 1, quotas.app_events, "events in all queues of this recipient", "app_events"),
            (app.bytes, size, quotas.app_bytes, "bytes in all queues of this recipient", "app_bytes"),
            (app.memory, memory, quotas.app_memory, "bytes in memory only for this recipient", "app_memory"),
            (
                self.settings.memory_used.bytes(),
                memory,
                quotas.memory,
                "bytes in memory only for all recipients",
                "memory",
            ),
        ];
        let full = checks.into_iter().find(|(used, more, quota, ..)| *more > 0 && used.saturating_add(*more) > *quota);
        let Some((used, _, quota, what, name)) = full else { return Ok(()) };
        Err(Error::new(
            ErrorKind::LimitExceeded,
            format!(
                "{used} {what} wait for {event}'s recipient, of {quota} that may (quotas.{name}); try again once some are settled"
            ),
        ))
    }
}
