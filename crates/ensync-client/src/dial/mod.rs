//! Dialling: DNS, TCP, proxies and TLS, in one place for every transport.

mod heard;
pub(crate) mod phase;
mod proxy;
mod stream;
mod tcp;
mod tls;

use std::fmt;
use std::sync::Arc;

use ensync_core::{Endpoint, Error, ErrorKind, Result};

use phase::waits_for;
pub(crate) use phase::{Phase, Suspects, Trail};
use proxy::{Proxies, Proxy};
use stream::Carrier;
pub use stream::Stream;
pub(crate) use tls::is_networks_doing;
pub use tls::{TlsOptions, tls_refusal};

/// Opens connections to engines: what a transport's connector dials with. Cheap to clone.
///
/// The default trusts the system's roots, has no client certificate, and goes through the proxy that the environment names, if any:
///
/// | variable | says |
/// |---|---|
/// | `HTTPS_PROXY` | the proxy to engines over TLS (`grpcs://`, `wss://`) |
/// | `HTTP_PROXY` | the proxy to engines in plaintext (`grpc://`, `ws://`); in a CGI program only its lower-case form |
/// | `ALL_PROXY` | the proxy, where the one above is not set |
/// | `NO_PROXY` | what is reached directly: names (with all names below them), IP addresses, networks (`10.0.0.0/8`), `*`; each but a network may end in `:port` |
///
/// The lower-case form of each comes first. A proxy is `http://host:port` or `https://host:port`, with `user:password@` if it wants
/// that (percent-encoded); no scheme is `http://`, whose port is 1080 unless given, as curl has it. It must know CONNECT, also for
/// engines in plaintext, and it resolves the engine's name. An engine on this machine (`localhost`, a loopback address) is always
/// reached directly.
///
/// The addresses of a name race each other, each 250 ms behind the one before it, the two families by turns (RFC 8305). One that
/// accepted, and behind which nothing answered, is tried last the next time.
#[derive(Clone)]
pub struct Dialer {
    tls: Arc<tls::Tls>,
    proxies: Arc<Proxies>,
    /// What is known of the addresses, of an attempt whose link dials again later.
    trail: Option<Arc<Trail>>,
}

impl Default for Dialer {
    fn default() -> Self {
        Self { tls: Arc::default(), proxies: Arc::new(Proxies::from_environment()), trail: None }
    }
}

impl Dialer {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// The proxy through which an engine would be reached, without its user and password; `None` if it is reached directly.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`] if the environment names one that cannot be read.
    pub fn proxy_toward(&self, to: &Endpoint) -> Result<Option<String>> {
        Ok(self.proxies.toward(to)?.map(ToString::to_string))
    }

    /// The same with TLS connections that follow `options`.
    #[must_use]
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.tls = Arc::new(tls::Tls::new(options));
        self
    }

    /// The same through this proxy, whatever the environment says.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`] says what is wrong with it.
    pub fn proxy(mut self, url: &str) -> Result<Self> {
        self.proxies = Arc::new(Proxies::Always(Box::new(Proxy::parse(url)?)));
        Ok(self)
    }

    /// The same without a proxy, whatever the environment says.
    #[must_use]
    pub fn no_proxy(mut self) -> Self {
        self.proxies = Arc::new(Proxies::Direct);
        self
    }

    /// The same for a link that makes other connections later, to the same place: they avoid the addresses that the client of this
    /// attempt to connect avoids, and the link is where they lead. Outside of an attempt it is the same.
    #[must_use]
    pub fn of_this_attempt(mut self) -> Self {
        self.trail = phase::trail();
        self
    }

    /// Connects to an endpoint: resolves its name and opens TCP (without Nagle's delay), or has a proxy do both; and does the TLS
    /// handshake if the endpoint asks for one, offering `alpn` (RFC 7301) in order of preference.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`] if the name does not resolve, nobody listens, or the proxy does not lead there; [`ErrorKind::Tls`] if
    /// the handshake fails: the message says which certificate check failed, or that the port does not speak TLS.
    /// [`ErrorKind::InvalidUrl`] names a variable of the environment that is no proxy.
    pub async fn dial(&self, to: &Endpoint, alpn: &[&[u8]]) -> Result<Stream> {
        match &self.trail {
            Some(trail) if !phase::is_noted() => Phase::on(trail.clone()).of(self.dial_now(to, alpn)).await,
            _ => self.dial_now(to, alpn).await,
        }
    }

    async fn dial_now(&self, to: &Endpoint, alpn: &[&[u8]]) -> Result<Stream> {
        let proxy = self.proxies.toward(to)?;
        let carrier = match proxy {
            Some(proxy) => {
                waits_for(format_args!("the proxy {proxy} to lead to {to}"));
                proxy::open(proxy, to, &self.tls).await?
            }
            None => {
                waits_for(format_args!("the name and the port of {to}"));
                Carrier::Left(tcp::connect(&to.host(), to.port()).await.map_err(|failed| {
                    Error::new(ErrorKind::Connect, format!("cannot connect to {to}: {}", failed.told("engine")))
                        .with_source(failed.cause)
                })?)
            }
        };
        let by = proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
        let stream = match to.tls() {
            true => {
                waits_for(format_args!("the TLS handshake{by}"));
                let shaken = self.tls.handshake(to, carrier, alpn).await;
                shaken.map_err(|error| if by.is_empty() { error } else { error.context(by.trim_start()) })?
            }
            false => Stream::plain(carrier),
        };
        waits_for(format_args!("the answer to the login{by}"));
        Ok(stream)
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}
