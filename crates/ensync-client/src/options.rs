//! How a client behaves over time.

use std::time::Duration;

use ensync_core::crypto::{Keep, Suite};

/// What an [`Engine`](crate::Engine) passes to each of its clients.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) heartbeat_interval: Duration,
    pub(crate) reconnect_interval: Duration,
    pub(crate) max_reconnect_attempts: Attempts,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) close_timeout: Duration,
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
            max_reconnect_attempts: Attempts::AtMost(10),
            connect_timeout: Duration::from_secs(20),
            request_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(30),
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
    /// Whether attempt number `attempt`, counted from 1, may be made.
    pub(crate) fn allow(self, attempt: u32) -> bool {
        match self {
            Self::AtMost(limit) => attempt <= limit,
            Self::Unlimited => true,
        }
    }
}

impl From<u32> for Attempts {
    fn from(limit: u32) -> Self {
        Self::AtMost(limit)
    }
}
