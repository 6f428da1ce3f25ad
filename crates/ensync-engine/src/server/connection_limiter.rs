//! How many connections there may be, and how many there are.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::ConnectionLimits;
use crate::address::network;
use crate::counters::{ConnectionCounters, Counter};

/// Lets connections in, as many as may be.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    max: usize,
    max_per_address: usize,
    counters: Arc<ConnectionCounters>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Address,
}

impl Refusal {
    /// What the client is told.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Full => "the engine has as many connections as it may (max_connections); try later",
            Self::Address => {
                "this address has as many connections as it may (max_connections_per_address); close some, or try later"
            }
        }
    }
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Grpc,
    WebSocket,
}

/// One connection that was let in. Its place is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    limiter: Arc<ConnectionLimiter>,
    address: IpAddr,
    kind: OnceLock<Kind>,
}

impl ConnectionLimiter {
    pub(super) fn new(limits: &ConnectionLimits, counters: Arc<ConnectionCounters>) -> Self {
        Self {
            max: limits.max_connections,
            max_per_address: limits.max_connections_per_address,
            counters,
            open: Mutex::default(),
        }
    }

    pub(super) fn counters(&self) -> &ConnectionCounters {
        &self.counters
    }

    /// Lets a connection in, or says why not.
    pub(super) fn admit(self: &Arc<Self>, remote: SocketAddr) -> Result<Permit, Refusal> {
        let address = network(remote.ip());
        let mut open = self.lock();
        if open.total >= self.max {
            self.counters.refused_full.up();
            return Err(Refusal::Full);
        }
        let from_there = open.by_address.get(&address).copied().unwrap_or_default();
        if from_there >= self.max_per_address {
            self.counters.refused_address.up();
            return Err(Refusal::Address);
        }
        open.total += 1;
        open.by_address.insert(address, from_there + 1);
        self.counters.accepted.up();
        self.counters.open.up();
        Ok(Permit { limiter: self.clone(), address, kind: OnceLock::new() })
    }

    fn gauge(&self, kind: Kind) -> &Counter {
        match kind {
            Kind::Grpc => &self.counters.open_grpc,
            Kind::WebSocket => &self.counters.open_websocket,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing panics while it is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Notes what the connection speaks; the first word counts.
    pub(super) fn speaks(&self, kind: Kind) {
        if self.kind.set(kind).is_ok() {
            self.limiter.gauge(kind).up();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.limiter.lock();
        open.total -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
        drop(open);
        self.limiter.counters.open.down();
        if let Some(&kind) = self.kind.get() {
            self.limiter.gauge(kind).down();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(max: usize, per_address: usize) -> Arc<ConnectionLimiter> {
        let limits = ConnectionLimits {
            max_connections: max,
            max_connections_per_address: per_address,
            ..ConnectionLimits::default()
        };
        Arc::new(ConnectionLimiter::new(&limits, Arc::default()))
    }

    fn from(address: &str) -> SocketAddr {
        format!("{address}:1").parse().unwrap()
    }

    #[test]
    fn places_are_limited_and_free_again() {
        let limiter = limiter(3, 2);
        let first = limiter.admit(from("192.0.2.1")).unwrap();
        let _second = limiter.admit(from("192.0.2.1")).unwrap();
        assert_eq!(limiter.admit(from("192.0.2.1")).unwrap_err(), Refusal::Address);
        let third = limiter.admit(from("192.0.2.2")).unwrap();
        assert_eq!(limiter.admit(from("192.0.2.3")).unwrap_err(), Refusal::Full);
        third.speaks(Kind::Grpc);
        third.speaks(Kind::WebSocket);
        let counts = limiter.counters().snapshot();
        assert_eq!((counts.open, counts.open_grpc, counts.open_websocket), (3, 1, 0));
        drop((first, third));
        let _first = limiter.admit(from("192.0.2.1")).unwrap();
        let counts = limiter.counters().snapshot();
        assert_eq!((counts.open, counts.open_grpc, counts.accepted), (2, 0, 4));
        assert_eq!((counts.refused_full, counts.refused_address), (1, 1));
        assert_eq!(limiter.lock().by_address.len(), 1, "who has none is not remembered");
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let limiter = limiter(9, 1);
        let _one = limiter.admit(from("[2001:db8::1]")).unwrap();
        assert_eq!(limiter.admit(from("[2001:db8::ffff:2]")).unwrap_err(), Refusal::Address);
        let _other = limiter.admit(from("[2001:db8:0:1::1]")).unwrap();
        let _mapped = limiter.admit(from("[::ffff:192.0.2.1]")).unwrap();
        assert_eq!(limiter.admit(from("192.0.2.1")).unwrap_err(), Refusal::Address);
    }
}
