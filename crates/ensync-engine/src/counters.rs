//! What is counted of connections, logins and refusals, for whoever watches an engine.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that many tasks change. Nothing hangs on the order in which they do.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How many connections there are, and what was refused, since the engine started. What is called `open` falls again, the
        /// others only rise.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct ConnectionCounts { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct ConnectionCounters { $(pub(crate) $name: Counter,)* }

        impl ConnectionCounters {
            pub(crate) fn snapshot(&self) -> ConnectionCounts {
                ConnectionCounts { $($name: self.$name.value(),)* }
            }
        }
    };
}

counters! {
    /// Connections that are open, whatever they speak.
    open,
    /// Of those, the ones that made a gRPC call.
    open_grpc,
    /// Of those, the ones that opened a WebSocket.
    open_websocket,
    /// Connections that were accepted.
    accepted,
    /// Connections that were refused because of [`max_connections`](crate::ConnectionLimits::max_connections).
    refused_full,
    /// Connections that were refused because of
    /// [`max_connections_per_address`](crate::ConnectionLimits::max_connections_per_address).
    refused_address,
    /// TLS handshakes that failed or took too long.
    tls_failed,
    /// Connections that were ended because nobody logged in, or used a session, in time.
    timed_out,
    /// Logins that succeeded.
    logins,
    /// Logins that were refused because the app key is not known.
    logins_refused,
    /// Of those, the ones that were not told so, but to wait: their address had too many refused before. See
    /// [`login_failures`](crate::Limits::login_failures).
    logins_delayed,
    /// Logins that were refused because the app is disabled.
    logins_forbidden,
    /// Logins that were refused because of [`max_sessions`](crate::Limits::max_sessions) or
    /// [`max_sessions_per_app`](crate::Limits::max_sessions_per_app).
    sessions_refused,
    /// Publishes that were refused because of [`publish_rate`](crate::Limits::publish_rate) or another limit.
    publishes_limited,
}
