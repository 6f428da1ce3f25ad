//! What an engine about to start is told of its administration.

use std::net::SocketAddr;
use std::time::Duration;

use super::ServerBuilder;
use crate::admin::{AdminToken, SettingInForce};
use crate::tls::ServerTls;

impl ServerBuilder {
    /// Serves the admin API at an address, in plaintext; port 0 takes a free one. Default: nowhere.
    ///
    /// Whoever asks there shows a token: see [`admin_token`](ServerBuilder::admin_token).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> ensync_core::Result<()> {
    /// let server = ensync_engine::Server::dev().admin(([127, 0, 0, 1], 0)).start().await?;
    /// let (url, token) = (server.admin_url(), server.admin_token());
    /// # assert!(url.unwrap().starts_with("http://127.0.0.1:") && token.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn admin(mut self, address: impl Into<SocketAddr>) -> Self {
        self.admin = Some((address.into(), None));
        self
    }

    /// Serves the admin API at an address, with TLS; port 0 takes a free one.
    pub fn admin_tls(mut self, address: impl Into<SocketAddr>, tls: ServerTls) -> Self {
        self.admin = Some((address.into(), Some(tls)));
        self
    }

    /// Serves the API of the makers' Config Manager at an address, in plaintext, for their command line and programs that speak to it;
    /// port 0 takes a free one. Default: nowhere. It is another face of what the [admin API](Self::admin) does, with the same token.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> ensync_core::Result<()> {
    /// let server = ensync_engine::Server::dev().config_manager(([127, 0, 0, 1], 0)).start().await?;
    /// let (base_url, access_key) = (server.config_manager_url(), server.admin_token());
    /// # assert!(base_url.unwrap().ends_with("/api/v1/ensync") && access_key.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn config_manager(mut self, address: impl Into<SocketAddr>) -> Self {
        self.config_manager = Some((address.into(), None));
        self
    }

    /// The same, with TLS.
    pub fn config_manager_tls(mut self, address: impl Into<SocketAddr>, tls: ServerTls) -> Self {
        self.config_manager = Some((address.into(), Some(tls)));
        self
    }

    /// The token that the admin API asks for. Default: the one in the file `admin.token` of the data directory, which is made by
    /// the first start, readable by its owner only; without a data directory, one that is made for this run:
    /// [`Server::admin_token`](super::Server::admin_token) says it.
    ///
    /// The file is followed: another token that is written there is taken within some seconds, without a restart, and the one before
    /// goes on [for a while](ServerBuilder::admin_token_overlap). One that is given here never changes.
    pub fn admin_token(mut self, token: AdminToken) -> Self {
        self.admin_token = Some(token);
        self
    }

    /// A second token, with which the admin API lets somebody look, and change nothing. Default: the one in the file `admin-read.token` of
    /// the data directory, which is made and followed as the other is; without a data directory, one that is made for this run:
    /// [`Server::admin_read_token`](super::Server::admin_read_token) says it. If only [`admin_token`](ServerBuilder::admin_token) is given there is none.
    pub fn admin_read_token(mut self, token: AdminToken) -> Self {
        self.admin_read_token = Some(token);
        self
    }

    /// Whether the [console](crate::manual::console), a web page, is served at `/console` beside the admin API. Default: where only this
    /// machine can reach that.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> ensync_core::Result<()> {
    /// let server = ensync_engine::Server::dev().admin(([127, 0, 0, 1], 0)).start().await?;
    /// assert!(server.console_url().unwrap().ends_with("/console"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn console(mut self, served: bool) -> Self {
        self.console = Some(served);
        self
    }

    /// What whoever starts the engine set that is not so by default: the admin API shows it.
    pub fn settings_in_force(mut self, settings: impl IntoIterator<Item = SettingInForce>) -> Self {
        self.settings = settings.into_iter().collect();
        self
    }

    /// For how long the admin token before the present one is taken too, after another was written to its file. 10 minutes; after a
    /// leak a start ends it at once.
    pub fn admin_token_overlap(mut self, overlap: Duration) -> Self {
        self.admin_token_overlap = overlap;
        self
    }

    /// Names by which the admin API is called without TLS, beside addresses and `localhost`, which are always known. A request for
    /// another name is refused unless it shows the token: else a web page whose name is made to lead here could read what is open.
    pub fn admin_hosts(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.admin_hosts.extend(names.into_iter().map(|name| name.into().to_ascii_lowercase()));
        self
    }

    /// Asks for the token at `/metrics` as well. Default: `/healthz`, `/readyz` and `/metrics` are open.
    pub fn guard_metrics(mut self) -> Self {
        self.open_metrics = false;
        self
    }
}
