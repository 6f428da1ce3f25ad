//! The WebSocket handshake and the login.

use ensync_core::{AppKey, Endpoint, Error, ErrorKind, Result, Welcome};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use super::broken;
use crate::activity::Watched;
use crate::frame::{self, Answer, Pushed};
use crate::socket;

/// The opening handshake, RFC 6455 section 4.1.
pub(super) async fn shake_hands<S>(
    to: &Endpoint,
    stream: Watched<S>,
    max_frame_bytes: usize,
) -> Result<WebSocketStream<Watched<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
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
    let why = match cause {
        // The message says it all, and the body is a stranger's.
        WsError::Http(response) => return not_opened(to, response.status(), response.headers()),
        _ => &cause,
    };
    let why = match why {
        WsError::Io(_) | WsError::Protocol(ProtocolError::HandshakeIncomplete) => {
            "the connection ended during the WebSocket handshake; is this the engine's WebSocket port?".to_owned()
        }
        _ => {
            "what answers does not speak WebSocket; is this the engine's WebSocket port? (a port with TLS wants wss://)"
                .to_owned()
        }
    };
    Error::new(ErrorKind::Connect, format!("cannot connect to {to}: {why}")).with_source(cause)
}

/// What an HTTP answer means that opens no WebSocket. An engine gives none of those that are not [`ErrorKind::Connect`] here: a
/// gateway before it does.
fn not_opened(to: &Endpoint, status: StatusCode, headers: &HeaderMap) -> Error {
    let page = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let (kind, why) = match status.as_u16() {
        401 | 407 => (ErrorKind::Unavailable, "a gateway in between wants a login of its own"),
        429 => (ErrorKind::LimitExceeded, "a gateway in between takes no more for now"),
        403 => (ErrorKind::Unavailable, "a gateway in between does not let it through"),
        408 | 425 | 500 | 502..=504 | 506..=599 => {
            (ErrorKind::Unavailable, "the engine, or a gateway in between, cannot do it now")
        }
        404 => (ErrorKind::Connect, "is this the engine's WebSocket port, and its path?"),
        _ if page => (ErrorKind::Unavailable, "that is a page of a gateway in between, not of the engine"),
        _ => (ErrorKind::Connect, "is this the engine's WebSocket port, and its path?"),
    };
    let text =
        format!("cannot connect to {to}: the server answers HTTP {status} instead of opening a WebSocket; {why}");
    Error::new(kind, text).said_on_the_way()
}

pub(super) async fn log_in<S>(socket: &mut WebSocketStream<Watched<S>>, app_key: &AppKey) -> Result<Welcome>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
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
            Pushed::Answer(Answer::Fail(reason)) => Err(Error::from_login_refusal(reason)),
            Pushed::Answer(Answer::Replay(_)) | Pushed::Record(_) => Err(odd("an event")),
            Pushed::Pong => continue,
            Pushed::Ping => {
                socket.send(Message::text(frame::PONG)).await.map_err(|cause| lost().with_source(cause))?;
                continue;
            }
        };
    }
}
