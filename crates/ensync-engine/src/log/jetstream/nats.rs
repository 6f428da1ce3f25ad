//! A connection to NATS, checked for what a log needs.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, ServerAddr};
use ensync_core::{Error, ErrorKind, Result};

/// The oldest nats-server that keeps what it is told.
const OLDEST: (u64, u64) = (2, 11);
/// The least `max_payload` that a batch is worth.
const LEAST_PAYLOAD: usize = 64 << 10;
/// How long a server may take to be connected to.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection to NATS servers that have JetStream. Cheap to clone: many logs share one.
#[derive(Clone)]
pub struct Nats {
    client: Client,
    /// For messages: hosts and ports, never what a URL says of users.
    servers: String,
}

impl Nats {
    /// Connects to one of several servers: URLs with commas between them, `nats://` or `tls://`, the first with a user and a password, or
    /// a token, where the servers want that. It reconnects to any of them, or to others that they name, for as long as it is used.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if a URL is none, or a server is older than 2.11 or takes no messages of 64 KiB;
    /// [`ErrorKind::Connect`] if none can be connected to; [`ErrorKind::Unauthenticated`] if it refuses the login;
    /// [`ErrorKind::Tls`] if TLS fails.
    pub async fn connect(servers: &str) -> Result<Self> {
        let parse = |url: &str| {
            let url = url.trim();
            let url = if url.contains("://") { url.to_owned() } else { format!("nats://{url}") };
            // What is wrong is told without the URL, which may have a password in it.
            let wrong = |cause| {
                unusable(format!("the URL of a NATS server cannot be used: {cause}; it is like nats://host:4222"))
            };
            url.parse::<ServerAddr>().map_err(wrong)
        };
        let addresses = servers.split(',').map(parse).collect::<Result<Vec<_>>>()?;
        let names: Vec<_> = addresses.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect();
        let names = names.join(", ");
        let mut options = ConnectOptions::new().name("ensync-engine").connection_timeout(CONNECT);
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        if let Some((user, password)) =
            addresses.iter().find_map(|server| Some((server.username()?, server.password())))
        {
            options = match password {
                Some(password) => options.user_and_password(decoded(user), decoded(password)),
                None => options.token(decoded(user)),
            };
        }
        let client = options.connect(addresses).await.map_err(|cause| {
            use async_nats::ConnectErrorKind::{Authentication, AuthorizationViolation, ServerParse, Tls};
            let (kind, advice) = match cause.kind() {
                ServerParse => (ErrorKind::InvalidInput, "correct the URL"),
                Authentication | AuthorizationViolation => {
                    (ErrorKind::Unauthenticated, "check the user and password, or the token, in the URL")
                }
                Tls => (
                    ErrorKind::Tls,
                    "check the servers' certificates, and that the URL begins with tls:// where they want TLS",
                ),
                _ => (ErrorKind::Connect, "check that nats-server runs there and can be reached"),
            };
            Error::new(kind, format!("cannot connect to NATS at {names}: {cause}; {advice}"))
        })?;
        Self::checked(client, names)
    }

    /// Uses a connection that was made in another way.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if its server is older than 2.11 or takes no messages of 64 KiB; [`ErrorKind::Connect`] if it is not
    /// connected yet.
    pub fn from_client(client: Client) -> Result<Self> {
        let names = client.try_server_info().map_or_else(String::new, |info| format!("{}:{}", info.host, info.port));
        Self::checked(client, names)
    }

    fn checked(client: Client, servers: String) -> Result<Self> {
        let Some(info) = client.try_server_info() else {
            let message = "the connection to NATS is not made yet; wait for it, then open the log";
            return Err(Error::new(ErrorKind::Connect, message));
        };
        check_version(&info.version, &servers)?;
        if info.max_payload < LEAST_PAYLOAD {
            let max = info.max_payload;
            return Err(unusable(format!(
                "nats-server at {servers} takes messages of {max} bytes at most, and a log needs {LEAST_PAYLOAD}: raise max_payload in its \
                 configuration; 1 MiB, its default, is good"
            )));
        }
        Ok(Self { client, servers })
    }

    /// The longest message, headers included.
    pub(super) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn servers(&self) -> &str {
        &self.servers
    }

    /// JetStream, whose answers are waited for as long as this.
    pub(super) fn jetstream(&self, patience: Duration) -> Context {
        let mut context = jetstream::new(self.client.clone());
        context.set_timeout(patience);
        context
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// Refuses a server that drops settings silently.
pub(super) fn check_version(version: &str, servers: &str) -> Result<()> {
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u64>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= OLDEST {
        return Ok(());
    }
    let (major, minor) = OLDEST;
    Err(unusable(format!(
        "nats-server {version} at {servers} is too old: a log needs {major}.{minor} or later, for older ones drop settings without a word; upgrade it"
    )))
}

pub(super) fn unusable(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused_by_name() {
        for good in ["2.11.0", "2.11.0-RC.1", "2.15.1", "3.0.0", "2.100.0-beta"] {
            check_version(good, "nats:4222").unwrap();
        }
        for old in ["2.10.26", "2.9.10", "1.99.0", "", "nightly"] {
            let error = check_version(old, "nats:4222").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let message = error.to_string();
            assert!(
                message.contains(&format!("nats-server {old} at nats:4222")) && message.contains("2.11"),
                "{message}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_server_is_told_without_passwords() {
        let error = Nats::connect("nats://user:secret@127.0.0.1:1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect);
        let message = ensync_core::report(&error);
        assert!(
            message.contains("127.0.0.1:1") && message.contains("nats-server") && !message.contains("secret"),
            "{message}"
        );
        let error = Nats::connect("http://user:secret@[").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(!ensync_core::report(&error).contains("secret"));
    }
}
