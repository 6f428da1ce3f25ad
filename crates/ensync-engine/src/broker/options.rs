use std::sync::Arc;
use std::time::Duration;

use super::clock::{Clock, SystemClock, TokioClock};
use crate::state::{Defaults, Limits};

/// How a [`Broker`](super::Broker) behaves.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// What clients may use up.
    pub limits: Limits,
    /// What holds for event names that say nothing else.
    pub defaults: Defaults,
    /// Whether an event name is registered by its first publish or subscribe. Apps are never. Off.
    pub dev: bool,
    /// How long a log on a disk keeps what is settled.
    pub retention: Retention,
    /// After how many bytes stored in a log on a disk a checkpoint is saved, records counting 512 each beside their payload; or after
    /// four times what the last one took, if that is more; on a small disk after a sixteenth of it. A start reads back about that much. 64 MiB.
    pub checkpoint_bytes: u64,
    /// How many bytes of the events that were stored last are kept in memory as well: most are delivered at once, and then need not
    /// be read back. 16 MiB.
    pub recent_bytes: usize,
    /// How many event names [`metrics`](super::Broker::metrics) tells apart; what is counted of further ones it sums up. Each
    /// name makes 15 time series. 1,000.
    pub max_metric_events: usize,
    /// What tells the time. The system's clock.
    pub clock: Arc<dyn Clock>,
}

/// How long a log on a disk keeps what is settled, and so what can be replayed. What is not settled it keeps until it is.
///
/// The log is dropped in whole parts: those that are too old; and, when it is too large or its disk has too little space left, those in
/// which nothing waits, then those in which little does. The few events of such a part that wait still are stored once more; a part of
/// which more than half waits stays (three quarters, on a disk without space). Of the disk two segments of each partition stay
/// free, or a twentieth of it if that is more, up to 1 GiB; beside what each log keeps for what makes space.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Retention {
    /// How old it may get. 7 days.
    pub max_age: Duration,
    /// How large the log may get, in bytes. 16 GiB.
    pub max_bytes: u64,
    /// How often that is looked at, beside whenever half a segment was written. 60 s.
    pub sweep_every: Duration,
    /// How long a dead letter is kept. 30 days.
    pub dead_letter_age: Duration,
    /// How many dead letters a queue keeps; then its oldest go. 100,000.
    pub dead_letters_per_queue: usize,
    /// Whether the logs are opened to look: nothing is stored but what is asked for.
    pub(super) only_looks: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(7 * 24 * 60 * 60),
            max_bytes: 16 << 30,
            sweep_every: Duration::from_secs(60),
            dead_letter_age: Duration::from_secs(30 * 24 * 60 * 60),
            dead_letters_per_queue: 100_000,
            only_looks: false,
        }
    }
}

impl Retention {
    /// Nothing is too old, and nothing too much: for who opens logs to look, and does not know what their engine is told to keep. Only
    /// a disk that lacks space has what is settled dropped. Nothing is stored but what is asked for, and no checkpoint is saved: in that
    /// would be missing what has expired by the clock of whoever looks.
    pub fn unlimited() -> Self {
        Self {
            max_age: Duration::MAX,
            max_bytes: u64::MAX,
            dead_letter_age: Duration::MAX,
            dead_letters_per_queue: usize::MAX,
            only_looks: true,
            ..Self::default()
        }
    }
}

impl BrokerOptions {
    /// For development and tests: event names are registered by their first use, and time is tokio's, so that a test which pauses
    /// it can let hours pass at once.
    pub fn dev() -> Self {
        Self { dev: true, clock: Arc::new(TokioClock::new()), ..Self::default() }
    }
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            defaults: Defaults::default(),
            dev: false,
            retention: Retention::default(),
            checkpoint_bytes: 64 << 20,
            recent_bytes: 16 << 20,
            max_metric_events: 1_000,
            clock: Arc::new(SystemClock),
        }
    }
}
