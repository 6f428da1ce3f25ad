//! The client half: connecting, the WebSocket handshake and the login.

mod link;
mod pump;

use std::sync::Arc;

use async_trait::async_trait;
use ensync_client::{Dialer, Stream};
use ensync_core::{AppKey, Connector, Endpoint, Error, ErrorKind, Link, Result, Welcome};
use futures::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, header};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::frame::{self, Answer, Pushed};
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
    max_frame_bytes: usize,
    max_unread_bytes: usize,
}

impl WsConnector {
    /// A connector that dials with `dialer`.
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, max_frame_bytes: socket::MAX_FRAME_BYTES, max_unread_bytes: 64 * 1024 * 1024 }
    }

    /// The longest frame that is sent, in bytes; one that is received may be 64 KiB longer. 16 MiB unless set. A longer command is
    /// refused with [`ErrorKind::PayloadTooLarge`], a longer frame of the engine ends the link with [`ErrorKind::Protocol`].
    #[must_use]
    pub fn max_frame_bytes(mut self, bytes: usize) -> Self {
        self.max_frame_bytes = bytes.max(1024);
        self
    }

    /// How many bytes of events may wait for the inbox to be read. 64 MiB unless set. One more ends the link with
    /// [`ErrorKind::LimitExceeded`].
    #[must_use]
    pub fn max_unread_bytes(mut self, bytes: usize) -> Self {
        self.max_unread_bytes = bytes;
        self
    }
}

#[async_trait]
impl Connector for WsConnector {
    async fn connect(&self, to: &Endpoint, app_key: &AppKey) -> Result<Link> {
        let stream = self.dialer.dial(to, &[b"http/1.1"]).await?;
        let mut socket = shake_hands(to, stream, self.max_frame_bytes.saturating_add(HEADROOM)).await?;
        let welcome =
            log_in(&mut socket, app_key).await.map_err(|error| error.context(format_args!("login at {to}")))?;
        Ok(link::start(socket, welcome, &to.to_string(), self.max_frame_bytes, self.max_unread_bytes))
    }
}

/// The opening handshake, RFC 6455 section 4.1.
async fn shake_hands(to: &Endpoint, stream: Stream, max_frame_bytes: usize) -> Result<WebSocketStream<Stream>> {
    // The default port is left out of the Host header, as browsers do: some gateways compare it with their names.
    let (scheme, default_port) = if to.tls() { ("wss", ":443") } else { ("ws", ":80") };
    let authority = to.authority();
    let host = authority.strip_suffix(default_port).unwrap_or(&authority);
    let invalid = |cause: WsError| {
        Error::new(ErrorKind::InvalidUrl, format!("{to} cannot be asked for over HTTP")).with_source(cause)
    };
    let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(to.path()).build();
    let mut request = uri.map_err(WsError::from).and_then(Uri::into_client_request).map_err(invalid)?;
    let agent = HeaderValue::from_static(concat!("ensync-rust/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(header::USER_AGENT, agent);
    match tokio_tungstenite::client_async_with_config(request, stream, Some(socket::config(max_frame_bytes))).await {
        Ok((socket, _)) => Ok(socket),
        Err(cause) => Err(refused_handshake(to, cause)),
    }
}

fn refused_handshake(to: &Endpoint, cause: WsError) -> Error {
    if let WsError::Io(broken) = &cause
        && let Some(refusal) = ensync_client::tls_refusal(to, broken)
    {
        return refusal;
    }
    let why = match &cause {
        WsError::Http(response) => format!(
            "the server answers HTTP {} instead of opening a WebSocket; is this the engine's WebSocket port, and its path?",
            response.status()
        ),
        WsError::Io(_) | WsError::Protocol(ProtocolError::HandshakeIncomplete) => {
            "the connection ended during the WebSocket handshake; is this the engine's WebSocket port?".to_owned()
        }
        _ => {
            "what answers does not speak WebSocket; is this the engine's WebSocket port? (a port with TLS wants wss://)"
                .to_owned()
        }
    };
    let error = Error::new(ErrorKind::Connect, format!("cannot connect to {to}: {why}"));
    match cause {
        // The message says it all, and the body is a stranger's.
        WsError::Http(_) => error,
        cause => error.with_source(cause),
    }
}

async fn log_in(socket: &mut WebSocketStream<Stream>, app_key: &AppKey) -> Result<Welcome> {
    let lost = || Error::new(ErrorKind::Connect, "the engine ended the connection instead of answering");
    let odd = |what: &str| Error::new(ErrorKind::Protocol, format!("instead of an answer came {what}"));
    socket.send(Message::text(frame::write_login(app_key))).await.map_err(|cause| lost().with_source(cause))?;
    loop {
        let text = match socket.next().await {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => return Err(odd("a binary frame")),
            Some(Ok(Message::Close(_))) | None => return Err(lost()),
            Some(Err(cause)) => {
                let error = broken(cause, "the login");
                return Err(if error.kind() == ErrorKind::Interrupted { lost().with_source(error) } else { error });
            }
        };
        return match Pushed::parse(&text)? {
            Pushed::Answer(Answer::Pass(welcome)) => frame::parse_welcome(welcome),
            Pushed::Answer(Answer::Fail(reason)) => Err(refused_login(reason)),
            Pushed::Answer(Answer::Replay(_)) | Pushed::Record(_) => Err(odd("an event")),
            Pushed::Pong => continue,
            Pushed::Ping => {
                socket.send(Message::text(frame::PONG)).await.map_err(|cause| lost().with_source(cause))?;
                continue;
            }
        };
    }
}

/// Other engines refuse a login in their own words, and to them it is the key that is wrong.
fn refused_login(reason: &str) -> Error {
    let refusal = Error::from_refusal(reason);
    match refusal.kind() {
        ErrorKind::Refused if reason.is_empty() => {
            Error::new(ErrorKind::Unauthenticated, "the engine refused the app key and gave no reason")
        }
        ErrorKind::Refused => Error::new(ErrorKind::Unauthenticated, refusal.to_string()),
        _ => refusal,
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
            format!(
                "{place}: the engine sent a frame of {size} bytes, the limit is {max_size}; see WsConnector::max_frame_bytes"
            ),
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
