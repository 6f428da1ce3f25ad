use std::time::Duration;

use ensync_core::{Error, ErrorKind, Result};

/// What connections may use up, before and after somebody logs in on them. What sessions may is in [`Limits`](crate::Limits).
///
/// ```
/// use ensync_engine::{ConnectionLimits, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ensync_core::Result<()> {
/// let mut limits = ConnectionLimits::default();
/// // Everybody comes through one proxy, so that an address says nothing.
/// limits.max_connections_per_address = limits.max_connections;
/// let server = Server::dev().connection_limits(limits).start().await?;
/// # drop(server);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// How many connections may be open. A further one is refused. 16,384.
    pub max_connections: usize,
    /// How many connections may be open from one address; of IPv6, from one /64 network. 4,096. Where clients come through a proxy
    /// or a load balancer, that is their address.
    pub max_connections_per_address: usize,
    /// The largest gRPC message, and the longest WebSocket frame, in bytes. Payload and metadata have to fit, at the size that
    /// [`Limits`](crate::Limits) allows. 16 MiB, which is what clients take.
    pub max_message_bytes: usize,
    /// How long a TLS handshake may take. 10 s.
    pub tls_timeout: Duration,
    /// How long a connection may be open, its TLS handshake apart, until a gRPC call on it logs in or uses a session, or it becomes
    /// a WebSocket; that then has as long again for its login frame, but at most 10 s. Default: 30 s.
    pub login_timeout: Duration,
    /// How long a connection may be open after the last gRPC call that used a session, and after its last stream ended. 5 minutes.
    pub idle_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_connections_per_address: 4_096,
            max_message_bytes: 16 << 20,
            tls_timeout: Duration::from_secs(10),
            login_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(5 * 60),
        }
    }
}

impl ConnectionLimits {
    /// Refuses limits under which nobody could be served.
    pub(super) fn check(&self) -> Result<()> {
        let nothing = [
            ("max_connections", self.max_connections == 0),
            ("max_connections_per_address", self.max_connections_per_address == 0),
            ("tls_timeout", self.tls_timeout.is_zero()),
            ("login_timeout", self.login_timeout.is_zero()),
            ("idle_timeout", self.idle_timeout.is_zero()),
        ];
        match nothing.into_iter().find(|(_, is_nothing)| *is_nothing) {
            None => Ok(()),
            Some((name, _)) => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{name} is 0, so that nobody could be served; raise it"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_nothing_are_refused_by_name() {
        ConnectionLimits::default().check().unwrap();
        type Change = fn(&mut ConnectionLimits);
        let changes: [(&str, Change); 3] = [
            ("max_connections ", |limits| limits.max_connections = 0),
            ("max_connections_per_address", |limits| limits.max_connections_per_address = 0),
            ("login_timeout", |limits| limits.login_timeout = Duration::ZERO),
        ];
        for (name, change) in changes {
            let mut limits = ConnectionLimits::default();
            change(&mut limits);
            let error = limits.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }
}
