//! What an [`Engine`] is told of how to reach it.

use std::sync::Arc;

use ensync_core::{Connector, Endpoint, Result};

use crate::engine::Custom;
use crate::{Dialer, Engine, TlsOptions, Transports};

impl<T: Transports> Engine<T> {
    /// What TLS connections trust, and show. Default: the system's roots, no client certificate.
    #[must_use]
    pub fn tls(self, options: TlsOptions) -> Self {
        let dialer = self.dialer.clone().tls(options);
        self.dialled_by(dialer)
    }

    /// Another URL of the same engine, for when this one does not lead there: what lies between speaks no HTTP/2, a firewall drops
    /// the port, nobody listens. Several are tried in the order they are given.
    ///
    /// All of it happens within the [`connect_timeout`](Self::connect_timeout); a URL that does not answer gets an equal share of
    /// what is left. The one that worked comes first at the next connections, of every client of this engine, until it fails or
    /// ten minutes are over; then they are tried in their order again. A connection that stands is never given up for a better
    /// one. [`Client::endpoint`](crate::Client::endpoint) tells which it was.
    ///
    /// What the engine itself says (it does not know the app key, it is over a limit) is final, and so is a certificate that is not
    /// trusted: nothing else is tried then.
    ///
    /// ```
    /// # use ensync_client::Transports;
    /// # fn example<T: Transports>() -> ensync_client::core::Result<()> {
    /// # type Engine<T> = ensync_client::Engine<T>;
    /// let engine = Engine::<T>::new("grpcs://node.example.com")?.fallback("wss://node.example.com")?;
    /// // TLS is not given up for plaintext.
    /// assert!(engine.fallback("ws://node.example.com").is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidUrl`](ensync_core::ErrorKind::InvalidUrl) for a URL that is none, is there already, or is plaintext to another
    /// machine while one before it is TLS; [`FeatureDisabled`](ensync_core::ErrorKind::FeatureDisabled) as [`new`](Self::new).
    pub fn fallback(mut self, url: &str) -> Result<Self> {
        let endpoint = Endpoint::parse(url)?;
        let connector = T::connector(&endpoint, self.dialer.clone())?;
        self.endpoints = self.endpoints.and(endpoint, connector)?;
        Ok(self)
    }

    /// Goes through this proxy (`http://` or `https://`, with `user:password@` if it wants that), whatever the environment says.
    /// Default: what the environment says, see [`Dialer`]. An engine on this machine is reached directly all the same.
    ///
    /// # Errors
    ///
    /// [`InvalidUrl`](ensync_core::ErrorKind::InvalidUrl) says what is wrong with it.
    pub fn proxy(self, url: &str) -> Result<Self> {
        let dialer = self.dialer.clone().proxy(url)?;
        Ok(self.dialled_by(dialer))
    }

    /// Goes through no proxy, whatever the environment says.
    #[must_use]
    pub fn no_proxy(self) -> Self {
        let dialer = self.dialer.clone().no_proxy();
        self.dialled_by(dialer)
    }

    fn dialled_by(mut self, dialer: Dialer) -> Self {
        // Each scheme was found servable when its URL was given, so the connector of before is never what stays.
        self.endpoints = self.endpoints.by(|to| T::connector(to, dialer.clone()));
        self.dialer = dialer;
        self
    }
}

impl Engine<Custom> {
    /// [`fallback`](Engine::fallback) for an engine that is reached in a way of the caller's own.
    ///
    /// # Errors
    ///
    /// [`InvalidUrl`](ensync_core::ErrorKind::InvalidUrl) if the endpoint is there already, or is plaintext to another machine
    /// while one before it is TLS.
    pub fn fallback_connector(mut self, endpoint: Endpoint, connector: Arc<dyn Connector>) -> Result<Self> {
        self.endpoints = self.endpoints.and(endpoint, connector)?;
        Ok(self)
    }
}
