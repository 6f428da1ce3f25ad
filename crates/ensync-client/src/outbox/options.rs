use std::time::Duration;

/// The bounds of an [`Outbox`](crate::Outbox).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutboxOptions {
    pub(super) max_events: u64,
    pub(super) max_bytes: u64,
    pub(super) max_age: Duration,
    pub(super) when_full: WhenFull,
}

/// What becomes of a publish that finds the outbox full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It is refused, as [`LimitExceeded`](ensync_core::ErrorKind::LimitExceeded).
    #[default]
    Refuse,
    /// The oldest events make room, those that are parked first, and are told as [`Dropped`](crate::OutboxOutcome::Dropped).
    DropOldest,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self {
            max_events: 100_000,
            max_bytes: 256 * 1024 * 1024,
            max_age: Duration::from_secs(7 * 24 * 60 * 60),
            when_full: WhenFull::Refuse,
        }
    }
}

impl OutboxOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many events it keeps, each recipient of a publish and what is parked counted. Default: 100,000.
    #[must_use]
    pub fn max_events(mut self, events: u64) -> Self {
        self.max_events = events;
        self
    }

    /// How many bytes of sealed events and metadata it keeps; the file is somewhat larger. Default: 256 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How old an event may become before it is given up as [`Expired`](crate::OutboxOutcome::Expired) instead of being sent. What is
    /// parked does not expire. Default: 7 days.
    ///
    /// That is time that passed: if the machine's clock is set while the outbox is open, nothing becomes older by that. For the time it is
    /// closed the clock counts, unless it said a year before 2026, as it does where it was never set. If it says that the outbox was
    /// closed for longer than this, and than a day, it may have been set meanwhile: nothing is given up for the first hour (or this long,
    /// if that is less), in which what can be sent is sent.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// What becomes of a publish that finds it full. Default: it is refused.
    #[must_use]
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = policy;
        self
    }
}
