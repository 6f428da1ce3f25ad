//! How a client behaves over time.

use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::crypto::{Keep, Suite};

use crate::session::FACTOR;

/// What an [`Engine`](crate::Engine) passes to each of its clients.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) heartbeat_interval: Duration,
    pub(crate) reconnect_interval: Duration,
    pub(crate) reconnect_factor: f64,
    pub(crate) max_reconnect_attempts: Attempts,
    pub(crate) retry_first_connect: bool,
    pub(crate) jitter_seed: Option<u64>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) max_publishes_in_flight: NonZeroU32,
    pub(crate) max_publish_bytes_in_flight: u64,
    pub(crate) suite: Suite,
    pub(crate) keep: Keep,
    #[cfg(feature = "opentelemetry")]
    pub(crate) propagate_trace_context: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(30),
            reconnect_interval: Duration::from_secs(5),
            reconnect_factor: FACTOR,
            max_reconnect_attempts: Attempts::Unlimited,
            retry_first_connect: false,
            jitter_seed: None,
            connect_timeout: Duration::from_secs(20),
            request_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(30),
            max_publishes_in_flight: NonZeroU32::MIN.saturating_add(1_023),
            max_publish_bytes_in_flight: 16 << 20,
            suite: Suite::default(),
            keep: Keep::default(),
            #[cfg(feature = "opentelemetry")]
            propagate_trace_context: false,
        }
    }
}

/// A duration that clocks can add: what is meant as "never" ends after a year.
pub(crate) fn bounded(duration: Duration) -> Duration {
    duration.min(Duration::from_secs(365 * 24 * 60 * 60))
}

/// How often to try to reconnect before giving up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempts {
    /// Give up after this many attempts in a row. 0 never reconnects.
    AtMost(u32),
    /// Never give up.
    Unlimited,
}

impl Attempts {
    /// Whether another attempt may be made after `made` in a row.
    pub(crate) fn allow(self, made: u32) -> bool {
        match self {
            Self::AtMost(limit) => made < limit,
            Self::Unlimited => true,
        }
    }
}

impl From<u32> for Attempts {
    fn from(limit: u32) -> Self {
        Self::AtMost(limit)
    }
}
