//! Dialling: DNS, TCP and TLS, in one place for every transport.

mod stream;
mod tls;

use std::fmt;
use std::io;
use std::sync::Arc;

use ensync_core::{Endpoint, Error, ErrorKind, Result};
use tokio::net::TcpStream;

pub use stream::Stream;
pub use tls::{TlsOptions, tls_refusal};

/// Opens connections to engines: what a transport's connector dials with. Cheap to clone.
///
/// The default trusts the system's roots and has no client certificate; [`Dialer::with_tls`] changes that.
#[derive(Clone, Default)]
pub struct Dialer {
    tls: Arc<tls::Tls>,
}

impl Dialer {
    /// A dialer whose TLS connections follow `options`.
    pub fn with_tls(options: TlsOptions) -> Self {
        Self { tls: Arc::new(tls::Tls::new(options)) }
    }

    /// Connects to an endpoint: resolves its name, opens TCP (without Nagle's delay), and does the TLS handshake if the endpoint
    /// asks for one, offering `alpn` (RFC 7301) in order of preference.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`] if the name does not resolve or nobody listens, [`ErrorKind::Tls`] if the handshake fails; the
    /// message says which certificate check failed, or that the port does not speak TLS.
    pub async fn dial(&self, to: &Endpoint, alpn: &[&[u8]]) -> Result<Stream> {
        let tcp = connect(to).await?;
        if let Err(cause) = tcp.set_nodelay(true) {
            tracing::debug!(endpoint = %to, %cause, "TCP_NODELAY is not to be had");
        }
        if to.tls() { self.tls.handshake(to, tcp, alpn).await } else { Ok(Stream::plain(tcp)) }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

async fn connect(to: &Endpoint) -> Result<TcpStream> {
    let host = to.host();
    let addresses = tokio::net::lookup_host((host.as_str(), to.port()))
        .await
        .map_err(|cause| connect_error(to, format!("host name {host:?} does not resolve"), cause))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(cause) => last = io::Error::new(cause.kind(), format!("{address}: {cause}")),
        }
    }
    let what = match last.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there (is the engine running, is the port right?)",
        io::ErrorKind::TimedOut => "no answer (a firewall, or the wrong host?)",
        _ => "TCP connection failed",
    };
    Err(connect_error(to, what.to_owned(), last))
}

fn connect_error(to: &Endpoint, what: String, cause: io::Error) -> Error {
    Error::new(ErrorKind::Connect, format!("cannot connect to {to}: {what}")).with_source(cause)
}
