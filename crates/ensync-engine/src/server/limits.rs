use std::time::Duration;

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
            tls_timeout: Duration::from_secs(10),
            login_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(5 * 60),
        }
    }
}
