//! The client half.

mod link;
mod login;
mod pump;
mod waiters;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ensync_client::Dialer;
use ensync_core::{AppKey, Connector, Endpoint, Error, ErrorKind, Link, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};

use crate::activity::Watched;
use crate::socket;

/// How much longer than our own longest frame a frame of the engine may be: the record of a publish is longer than the publish.
const HEADROOM: usize = 64 * 1024;

/// Connects to engines over WebSocket.
///
/// One task per link owns its socket: it writes what callers queued, many frames at a time, and always reads, so that answers,
/// pings and pongs get through however slowly events are taken. Events wait, unbounded in number, until the link's inbox is read. An
/// engine with flow control never has more of them under way than the subscriptions allow; for other engines
/// [`max_unread_bytes`](Self::max_unread_bytes) is the limit, and exceeding it fails the link.
///
/// The app key travels in a frame of text. At level `trace` the WebSocket library logs whole frames through the `log` crate, the
/// login among them: leave that level off for `tungstenite` where logs are kept.
#[derive(Clone, Debug)]
pub struct WsConnector {
    dialer: Dialer,
    options: Options,
}

#[derive(Clone, Copy, Debug)]
struct Options {
    max_frame_bytes: usize,
    max_unread_bytes: usize,
    answer_timeout: Duration,
}

impl WsConnector {
    /// A connector that dials with `dialer`.
    pub fn new(dialer: Dialer) -> Self {
        let options = Options {
            max_frame_bytes: socket::MAX_FRAME_BYTES,
            max_unread_bytes: 64 * 1024 * 1024,
            answer_timeout: Duration::from_secs(20),
        };
        Self { dialer, options }
    }

    /// The longest frame that is sent, in bytes; one that is received may be 64 KiB longer. 16 MiB unless set. A longer command is
    /// refused with [`ErrorKind::PayloadTooLarge`], a longer frame of the engine ends the link with [`ErrorKind::Protocol`].
    #[must_use]
    pub fn max_frame_bytes(mut self, bytes: usize) -> Self {
        self.options.max_frame_bytes = bytes.max(1024);
        self
    }

    /// How many bytes of events may wait for the inbox to be read. 64 MiB unless set. One more ends the link with
    /// [`ErrorKind::LimitExceeded`].
    #[must_use]
    pub fn max_unread_bytes(mut self, bytes: usize) -> Self {
        self.options.max_unread_bytes = bytes;
        self
    }

    /// For how long an engine that owes an answer may send none. 20 s unless set, and a second more for each 64 KiB of requests under
    /// way. After that the link ends with [`ErrorKind::Interrupted`]: answers carry no id, so one that is missing would shift all that
    /// follow. To notice that while there is traffic too, requests pause every 10 s until all are answered.
    #[must_use]
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.options.answer_timeout = timeout;
        self
    }

    /// Shakes hands and logs in over a stream that leads to the engine already: a Unix socket, a tunnel, a test's pipe. `to` is what
    /// the handshake asks for and what errors name; nothing is dialled.
    ///
    /// # Errors
    ///
    /// Those of a login: [`Connect`](ErrorKind::Connect) if what answers does not speak WebSocket, or the engine's refusal.
    pub async fn connect_over<S>(&self, stream: S, to: &Endpoint, app_key: &AppKey) -> Result<Link>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let longest = self.options.max_frame_bytes.saturating_add(HEADROOM);
        let mut socket = login::shake_hands(to, Watched::new(stream), longest).await?;
        let welcome =
            login::log_in(&mut socket, app_key).await.map_err(|error| error.context(format_args!("login at {to}")))?;
        Ok(link::start(socket, welcome, &to.to_string(), self.options))
    }
}

#[async_trait]
impl Connector for WsConnector {
    async fn connect(&self, to: &Endpoint, app_key: &AppKey) -> Result<Link> {
        let stream = self.dialer.dial(to, &[b"http/1.1"]).await?;
        self.connect_over(stream, to, app_key).await
    }
}

/// What a failure of the WebSocket means to a link.
fn broken(cause: WsError, place: &str) -> Error {
    match cause {
        WsError::Io(cause) => {
            Error::new(ErrorKind::Interrupted, format!("{place}: the connection broke")).with_source(cause)
        }
        WsError::ConnectionClosed
        | WsError::AlreadyClosed
        | WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => {
            Error::new(ErrorKind::Interrupted, format!("{place}: the engine ended the connection without a goodbye"))
        }
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => Error::new(
            ErrorKind::Protocol,
            format!("{place}: the engine sent a frame of {size} bytes, the limit is {max_size} (max_frame_bytes)"),
        ),
        cause => Error::new(ErrorKind::Protocol, format!("{place}: what the engine sent is not WebSocket"))
            .with_source(cause),
    }
}

/// The connector for a WebSocket endpoint.
pub(crate) fn connector(to: &Endpoint, dialer: Dialer) -> Result<Arc<dyn Connector>> {
    match to.scheme() {
        ensync_core::Scheme::WebSocket => Ok(Arc::new(WsConnector::new(dialer))),
        ensync_core::Scheme::Grpc => Err(Error::new(
            ErrorKind::InvalidUrl,
            format!(
                "{to} is a gRPC address and this is the WebSocket client; write wss:// or ws://, or use the crate ensync-grpc, or \
                 ensync-sdk with its feature grpc"
            ),
        )),
    }
}
