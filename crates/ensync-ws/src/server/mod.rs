//! The engine's half: connections on which clients log in and send commands.

mod connection;
mod pre_auth;
mod upgrade;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ensync_core::{AppKey, Error, ErrorKind, Login, Peer, Result, Service, Session};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use upgrade::upgrade;

use crate::activity::Watched;
use crate::frame::{self, Request};
use crate::socket::{self, GOODBYE, hang_up};
use crate::wire::Wire;
use connection::{Connection, End};
use pre_auth::PreAuthLimit;

/// How long commands that were under way when a connection ended may take to finish.
const FINISH: Duration = Duration::from_secs(5);

/// What connections may do, and what they share. `ServerOptions { login_timeout: …, ..Default::default() }` changes one.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// How long a client may take from connecting to its login frame. 10 s.
    pub login_timeout: Duration,
    /// How often a client is pinged. One that sends not a byte for two of these after a ping is cut off. 30 s.
    pub ping_interval: Duration,
    /// The longest frame taken, in bytes; before the login it is 4 KiB, and 64 KiB for all of them. 16 MiB.
    pub max_frame_bytes: usize,
    /// The longest metadata of an event that is read, in bytes: longer is refused unread. Any that a frame has room for.
    pub max_metadata_bytes: usize,
    /// How many commands of one connection may be under way. Further ones stay unread, and TCP makes the client wait. 1,024.
    pub max_in_flight: usize,
    /// Cancelled when the engine stops: who is not logged in is then sent away with code 1001. Sessions end by their inbox.
    pub stop: CancellationToken,
    /// Where [`upgrade`] spawns the connections it opens. Close it and wait for it to know that they have ended.
    pub connections: TaskTracker,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            login_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(30),
            max_frame_bytes: socket::MAX_FRAME_BYTES,
            max_metadata_bytes: usize::MAX,
            max_in_flight: 1024,
            stop: CancellationToken::new(),
            connections: TaskTracker::new(),
        }
    }
}

/// Serves one connection on which the WebSocket handshake is done, until it ends; then logs its session out.
///
/// Commands run side by side and are answered strictly in their order. What arrived before the connection ended is carried out.
/// When the session's inbox ends, what is under way is answered and the connection closed with code 1001.
///
/// The future may be dropped: the session is then logged out by a task of its own.
pub async fn serve_stream<S>(stream: S, remote: Option<SocketAddr>, service: Arc<dyn Service>, options: ServerOptions)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = socket::config(options.max_frame_bytes);
    let mut socket =
        WebSocketStream::from_raw_socket(Watched::new(PreAuthLimit::new(stream)), Role::Server, Some(config)).await;
    let Session { peer, inbox, welcome } = match log_in(&mut socket, remote, &service, &options).await {
        Ok(session) => session,
        Err(end) => {
            tracing::debug!(?remote, %end, "no login");
            return say_goodbye(&mut socket, &end).await;
        }
    };
    socket.get_mut().stream_mut().open();
    let logout = Logout { service: service.clone(), peer: Some(peer.clone()) };
    let welcome = match frame::write_welcome(&welcome) {
        Ok(welcome) => welcome,
        Err(error) => {
            // A defect of the engine's configuration, which its operator must see; the client learns that it is not to blame.
            tracing::error!(%error, "the login cannot be answered");
            format!("-FAIL:{}", Error::new(ErrorKind::Internal, "the engine cannot answer the login").to_refusal())
        }
    };
    let ends = greet(&mut socket, welcome, options.login_timeout).await.err();
    let mut connection = Connection::new(service, peer, inbox, options, socket.get_ref().activity().clone());
    let mut wire = Wire::new(socket);
    let end = match ends {
        Some(end) => end,
        None => poll_fn(|cx| wire.poll(&mut connection, cx)).await,
    };
    tracing::debug!(?remote, %end, "the connection ends");
    let mut socket = wire.into_socket();
    let log_out = async {
        connection.finish(FINISH).await;
        logout.now().await;
    };
    futures::future::join(say_goodbye(&mut socket, &end), log_out).await;
}

/// Answers the login.
async fn greet<S>(socket: &mut WebSocketStream<S>, welcome: String, within: Duration) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let refused = welcome.starts_with("-FAIL");
    match timeout(within, socket.send(Message::text(welcome))).await {
        Ok(Ok(())) if refused => Err(End::says(CloseCode::Error, "the login cannot be answered")),
        Ok(Ok(())) => Ok(()),
        Ok(Err(cause)) => Err(End::of_error(&cause)),
        Err(_) => Err(End::Gone),
    }
}

/// Waits for the login frame, and asks the service. A refusal is answered before the connection ends.
async fn log_in<S>(
    socket: &mut WebSocketStream<Watched<PreAuthLimit<S>>>,
    remote: Option<SocketAddr>,
    service: &Arc<dyn Service>,
    options: &ServerOptions,
) -> Result<Session, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // The service has no deadline here: a login that was cut off half way could leave a session that nobody ends.
    let frame = tokio::select! {
        frame = timeout(options.login_timeout, login_frame(socket)) => frame,
        () = options.stop.cancelled() => return Err(End::says(CloseCode::Away, "the engine stops")),
    };
    let refusal = match frame {
        Err(_) => return Err(End::says(CloseCode::Policy, "no login in time")),
        Ok(Err(_)) if socket.get_ref().stream().is_exceeded() => {
            return Err(End::says(CloseCode::Size, "too much before the login"));
        }
        Ok(Err(end)) => return Err(end),
        Ok(Ok(Err(refusal))) => refusal,
        Ok(Ok(Ok(app_key))) => match service.login(Login { app_key, transport: "ws", remote }).await {
            Ok(session) => return Ok(session),
            Err(refusal) => refusal,
        },
    };
    let _ = timeout(GOODBYE, socket.send(Message::text(format!("-FAIL:{}", refusal.to_refusal())))).await;
    Err(End::says(CloseCode::Policy, "login refused"))
}

/// The app key of the first frame, or why it is refused.
async fn login_frame<S>(socket: &mut WebSocketStream<S>) -> Result<Result<AppKey>, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let text = match socket.next().await {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(message)) => return Err(End::of_message(&message)),
            Some(Err(cause)) => return Err(End::of_error(&cause)),
            None => return Err(End::Gone),
        };
        return Ok(match Request::parse(&text) {
            Ok(Request::Login(app_key)) => Ok(app_key),
            Ok(Request::Command { .. }) => {
                Err(Error::new(ErrorKind::Unauthenticated, "the first frame must be a login: CONN;ACCESS_KEY=:…"))
            }
            Ok(Request::Ping) => {
                socket.send(Message::text(frame::PONG)).await.map_err(|cause| End::of_error(&cause))?;
                continue;
            }
            Ok(Request::Pong) => continue,
            Err(error) => Err(error),
        });
    }
}

/// Says why, if the client is still there to hear it, and closes.
async fn say_goodbye<S>(socket: &mut WebSocketStream<S>, end: &End)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let goodbye = async {
        if let End::Says(code, why) = end {
            let close = CloseFrame { code: *code, reason: Utf8Bytes::from_static(why) };
            let _ = socket.send(Message::Close(Some(close))).await;
        }
        let _ = socket.flush().await;
        hang_up(socket).await;
    };
    let _ = timeout(GOODBYE, goodbye).await;
}

/// Logs a session out, whatever becomes of the connection's own future.
struct Logout {
    service: Arc<dyn Service>,
    peer: Option<Peer>,
}

impl Logout {
    async fn now(mut self) {
        if let Some(peer) = &self.peer {
            self.service.logout(peer).await;
        }
        // Only now: a future that is dropped while it waits above must still log out.
        self.peer = None;
    }
}

impl Drop for Logout {
    fn drop(&mut self) {
        if let (Some(peer), Ok(runtime)) = (self.peer.take(), tokio::runtime::Handle::try_current()) {
            let service = self.service.clone();
            runtime.spawn(async move { service.logout(&peer).await });
        }
    }
}
