//! The scripted engine on real sockets, over both transports.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use ensync_core::{Login, Service};
use ensync_grpc::{Connection, ServerOptions};
use ensync_ws::frame::{self, Request};
use futures::{SinkExt, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Sleep;
use tokio_tungstenite::tungstenite::Message;
use tower_service::Service as _;

use crate::engine::{Behaviour, Gateway, Script};

/// Serves WebSocket. The URL's authority, and the task that accepts.
pub async fn web_socket(script: Arc<Script>) -> (String, tokio::task::JoinHandle<()>) {
    let (listener, authority) = listen().await;
    let accepting = tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(serve_web_socket(tcp, script.clone()));
        }
    });
    (authority, accepting)
}

async fn serve_web_socket(mut tcp: TcpStream, script: Arc<Script>) {
    _ = tcp.set_nodelay(true);
    let gateway = match script.turned_away() {
        Some(Gateway::Http(status)) => Some(status),
        _ => None,
    };
    if let Some(status) = gateway.or_else(|| script.status_of_login()) {
        let answer = format!("HTTP/1.1 {status} Odd\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        // Only once it has asked.
        _ = tcp.readable().await;
        _ = tcp.write_all(answer.as_bytes()).await;
        return;
    }
    let stream = Slow::new(tcp, script.behaviour);
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let app_key = loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => match Request::parse(&text) {
                Ok(Request::Login(app_key)) => break app_key,
                _ => return,
            },
            Some(Ok(_)) => {}
            _ => return,
        }
    };
    let session = match script.login(Login { app_key, transport: "ws", remote: None }).await {
        Ok(session) => session,
        Err(refusal) => {
            // In its own words, as other engines refuse.
            _ = socket.send(Message::text(format!("-FAIL:{refusal}"))).await;
            return;
        }
    };
    let (peer, mut inbox) = (session.peer, session.inbox.fuse());
    _ = socket.send(Message::text(frame::write_welcome(&session.welcome).unwrap())).await;
    let (mut requests, mut held): (u64, VecDeque<String>) = (0, VecDeque::new());
    let cut = script.cut();
    loop {
        let text = tokio::select! {
            () = cut.cancelled() => break,
            Some(delivery) = inbox.next() => {
                if socket.send(Message::text(frame::write_record(&delivery))).await.is_err() { break }
                continue;
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => continue,
            },
        };
        requests += 1;
        if matches!(script.behaviour, Behaviour::ClosesAfter(most) if requests > most) {
            break;
        }
        if script.is_mute() && !text.starts_with("SUB") {
            continue;
        }
        let result = match Request::parse(&text) {
            Ok(Request::Command { command, .. }) => script.handle(&peer, command).await,
            Ok(_) => continue,
            Err(error) => Err(error),
        };
        let answer = frame::write_answer(&result);
        let publishes = script.publishes.load(Ordering::Relaxed);
        match script.behaviour {
            Behaviour::GoesAway(most) if requests > most => {
                _ = socket.close(None).await;
                break;
            }
            Behaviour::NeverAnswers(nth) if text.starts_with("PUB") && publishes == nth => continue,
            Behaviour::AnswersLate(nth, wait) if text.starts_with("PUB") && publishes == nth => {
                tokio::time::sleep(wait).await;
            }
            Behaviour::AnswersOutOfTurn(nth) if text.starts_with("PUB") && publishes == nth => {
                held.push_back(answer);
                continue;
            }
            _ => {}
        }
        let answers = [Some(answer), held.pop_front()];
        for answer in answers.into_iter().flatten() {
            if socket.send(Message::text(answer)).await.is_err() {
                break;
            }
        }
    }
    script.logout(&peer).await;
}

/// Serves gRPC.
pub async fn grpc(script: Arc<Script>) -> (String, tokio::task::JoinHandle<()>) {
    let (listener, authority) = listen().await;
    let options = ServerOptions { session_timeout: Duration::from_secs(2), ..ServerOptions::default() };
    let server = ensync_grpc::server(script.clone(), options);
    let accepting = tokio::spawn(async move {
        while let Ok((tcp, remote)) = listener.accept().await {
            tokio::spawn(serve_grpc(tcp, Connection::new(Some(remote)), server.clone(), script.clone()));
        }
    });
    (authority, accepting)
}

type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// What a request fails with; the library finds the reason of the reset in it.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Other(io::Error),
    #[error("the stream is reset")]
    Stream(#[source] h2::Error),
}

async fn serve_grpc(tcp: TcpStream, connection: Connection, server: ensync_grpc::GrpcServer, script: Arc<Script>) {
    _ = tcp.set_nodelay(true);
    let (end, go_away) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (ends, goes, cut) = (end.clone(), go_away.clone(), script.cut());
    let (behaviour, requests) = (script.behaviour, Arc::new(AtomicU64::new(0)));
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        let (script, mut server, requests) = (script.clone(), server.clone(), requests.clone());
        let (ends, goes) = (ends.clone(), goes.clone());
        request.extensions_mut().insert(connection.clone());
        async move {
            let count = requests.fetch_add(1, Ordering::Relaxed) + 1;
            let is = |method: &str| request.uri().path().ends_with(method);
            let publishes = is("/PublishMessage");
            if is("/Connect")
                && let Some(status) = script.status_of_login()
            {
                let mut response = http::Response::new(empty());
                *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
                return Ok(response);
            }
            if let Some(gateway) = script.turned_away() {
                return Ok(turned_away(gateway));
            }
            if matches!(behaviour, Behaviour::ClosesAfter(most) if count > most) {
                ends.notify_one();
                return std::future::pending().await;
            }
            if script.is_mute() && !["/Connect", "/Heartbeat", "/Subscribe"].into_iter().any(is) {
                return std::future::pending().await;
            }
            let Ok(response) = server.call(request).await.map_err(|never: Infallible| match never {});
            let response = response.map(|body| body.map_err(Into::into).boxed_unsync());
            let nth = script.publishes.load(Ordering::Relaxed);
            match behaviour {
                Behaviour::NeverAnswers(which) if publishes && nth == which => std::future::pending().await,
                Behaviour::AnswersLate(which, wait) if publishes && nth == which => {
                    tokio::time::sleep(wait).await;
                    Ok(response)
                }
                // The library resets the stream of a request whose service fails.
                Behaviour::ResetsStreams(every) if publishes && nth % every == 0 => {
                    Err(Failure::Other(io::Error::other("reset")))
                }
                Behaviour::GivesBackWhatItDid(every) if publishes && nth % every == 0 => {
                    Err(Failure::Stream(h2::Error::from(h2::Reason::REFUSED_STREAM)))
                }
                Behaviour::GoesAway(most) if publishes && count > most => {
                    goes.notify_one();
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    Ok(response)
                }
                _ => Ok(response),
            }
        }
    });
    let stream = Slow::new(tcp, behaviour);
    let serving =
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        () = end.notified() => return,
        () = cut.cancelled() => return,
        () = go_away.notified() => {}
    }
    serving.as_mut().graceful_shutdown();
    _ = serving.await;
}

/// What a gateway answers to a gRPC request.
fn turned_away(gateway: Gateway) -> http::Response<Body> {
    let response = match gateway {
        Gateway::Http(status) => http::Response::builder().status(status).header("content-type", "text/html"),
        Gateway::Grpc(status) => http::Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", status.to_string())
            .header("grpc-message", "RBAC: access denied"),
    };
    response.body(empty()).unwrap()
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    (listener, authority)
}

/// How many bytes a slow stream writes at a time, and after what wait.
const SLOWLY: (usize, Duration) = (48, Duration::from_millis(1));

/// A stream that, if it is slow, writes a few bytes at a time, each time after a wait.
struct Slow {
    stream: TcpStream,
    rest: Option<Pin<Box<Sleep>>>,
}

impl Slow {
    fn new(stream: TcpStream, behaviour: Behaviour) -> Self {
        let slow = behaviour == Behaviour::SendsSlowly;
        Self { stream, rest: slow.then(|| Box::pin(tokio::time::sleep(SLOWLY.1))) }
    }
}

impl AsyncRead for Slow {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, rest } = &mut *self;
        let Some(rest) = rest else { return Pin::new(stream).poll_write(cx, buf) };
        ready!(rest.as_mut().poll(cx));
        let (few, wait) = SLOWLY;
        let written = ready!(Pin::new(stream).poll_write(cx, buf.get(..few).unwrap_or(buf)));
        rest.as_mut().reset(tokio::time::Instant::now() + wait);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
