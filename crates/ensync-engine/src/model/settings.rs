use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Quotas, Share};

/// What a part of the engine's state is told once, when it is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which partition it is.
    pub share: Share,
    /// How often its log has been opened: see [`Log::epoch`](crate::log::Log::epoch).
    pub epoch: u64,
    /// A random number of this run, part of the ids it gives out: an id of a log that was lost then names no event of another.
    pub tag: u32,
    /// Whether an event name is registered by its first publish or subscribe. Apps are never.
    pub dev: bool,
    /// What clients may use up.
    pub limits: Limits,
    /// What holds for event names that say nothing else.
    pub defaults: Defaults,
    /// What events in memory only take up, of all partitions together.
    pub memory_used: MemoryUsed,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            share: Share::WHOLE,
            epoch: 1,
            tag: 0,
            dev: false,
            limits: Limits::default(),
            defaults: Defaults::default(),
            memory_used: MemoryUsed::default(),
        }
    }
}

/// A number of bytes that partitions share. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct MemoryUsed(Arc<AtomicU64>);

impl MemoryUsed {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn take(&self, bytes: u64) {
        _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(bytes)));
    }
}

/// What clients may use up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The largest payload, in bytes of its base64 text on the wire. 4 MiB. Up to that, payload and metadata together make at most
    /// what the published gRPC clients take, a message of 4 MiB; above it, events may be accepted that those cannot take.
    pub max_payload_bytes: usize,
    /// The largest metadata, in bytes of JSON text. 64 KiB.
    pub max_metadata_bytes: usize,
    /// How many deliveries a subscription may have unsettled, whatever it asks for. 256.
    pub max_in_flight: NonZeroU32,
    /// How many bytes of payload and metadata a subscription may have unsettled, whatever it asks for; a single delivery may be
    /// larger. 8 MiB.
    pub max_bytes_in_flight: u64,
    /// How many event names a session may be subscribed to. 1,024.
    pub max_subscriptions: usize,
    /// How many sessions may be open. 100,000.
    pub max_sessions: usize,
    /// How many sessions of one app may be open. 10,000.
    pub max_sessions_per_app: usize,
    /// How many events an app may publish. No limit.
    pub publish_rate: Option<Rate>,
    /// How much may wait.
    pub quotas: Quotas,
    /// How many logins from one address (of IPv6: one /64 network) may fail before it has to wait. 10; they are forgotten
    /// after 15 minutes. A login with a right key never waits.
    pub login_failures: u32,
    /// How long it then has to wait at first. The wait doubles with every further failure; meanwhile whoever
    /// fails there is told so, and nothing else. 1 s.
    pub login_delay: Duration,
    /// How long it may have to wait. 1 minute.
    pub max_login_delay: Duration,
    /// How many event names first use may register in a `dev` engine. 10,000.
    pub max_auto_events: usize,
    /// How long a publish under an idempotency key is remembered. 2 minutes.
    pub dedup_window: Duration,
    /// How many of them are remembered of one sending app; its oldest are forgotten first. 262,144, which is 2,184 a second for
    /// 2 minutes. Each partition counts for itself.
    ///
    /// Events in memory only (`persist: false`) are counted apart, here and in [`dedup_entries`](Self::dedup_entries).
    pub dedup_entries_per_app: usize,
    /// How many of them are remembered of all apps together; the app that has the most forgets its oldest first. 1,048,576. Each of
    /// several partitions has an equal part of it, but no less than what one app may have.
    pub dedup_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload_bytes: 4 << 20,
            max_metadata_bytes: 64 << 10,
            max_in_flight: NonZeroU32::MIN.saturating_add(255),
            max_bytes_in_flight: 8 << 20,
            max_subscriptions: 1_024,
            max_sessions: 100_000,
            max_sessions_per_app: 10_000,
            publish_rate: None,
            quotas: Quotas::default(),
            login_failures: 10,
            login_delay: Duration::from_secs(1),
            max_login_delay: Duration::from_secs(60),
            max_auto_events: 10_000,
            dedup_window: Duration::from_secs(120),
            dedup_entries_per_app: 1 << 18,
            dedup_entries: 1 << 20,
        }
    }
}

/// What holds for event names whose [`EventOptions`](crate::model::EventOptions) say nothing else.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Defaults {
    /// How long a client may take to settle a delivery. 60 s.
    pub ack_timeout: Duration,
    /// After how many deliveries an event that nobody settles goes to the dead letters, counted as
    /// [`EventOptions::max_deliveries`](crate::model::EventOptions::max_deliveries) says. 16.
    pub max_deliveries: NonZeroU32,
    /// How long an event is of use. For ever.
    pub ttl: Option<Duration>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { ack_timeout: Duration::from_secs(60), max_deliveries: NonZeroU32::MIN.saturating_add(15), ttl: None }
    }
}

/// How many events an app may publish: so many per second on the long run, and so many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events per second.
    pub per_second: NonZeroU32,
    /// Events at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// `per_second` events per second, and what two seconds allow at once.
    pub fn per_second(per_second: NonZeroU32) -> Self {
        Self { per_second, burst: per_second.saturating_add(per_second.get()) }
    }
}
