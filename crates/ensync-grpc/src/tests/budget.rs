//! What the requests of a connection may hold. A reader reserves the length that a message's first five bytes say: without a limit,
//! 82 KB of such beginnings, one for each stream of a connection, made an engine reserve 256 GiB.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::channel::mpsc;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::time::Instant;

use super::fake::*;
use crate::ServerOptions;
use crate::generated::*;

const MAX: usize = 16 << 20;

/// A body that its sender writes.
struct Written(mpsc::UnboundedReceiver<Bytes>);

impl HttpBody for Written {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_next_unpin(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

struct Client(SendRequest<Written>);

/// A call whose message is on its way.
struct Call {
    body: mpsc::UnboundedSender<Bytes>,
    answer: Pin<Box<dyn Future<Output = hyper::Result<http::Response<Incoming>>> + Send>>,
}

impl Client {
    async fn of(engine: &Engine) -> Self {
        let stream = TokioIo::new(engine.open().0);
        let (send, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            // Bodies that nobody reads do not fill the connection's.
            .initial_connection_window_size(64 << 20)
            .handshake(stream)
            .await
            .unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    fn call(&mut self, method: &str, begin: impl Into<Bytes>) -> Call {
        let (body, written) = mpsc::unbounded();
        body.unbounded_send(begin.into()).unwrap();
        let request = http::Request::post(format!("http://test/ensync.EnSyncService/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let answer = Box::pin(self.0.send_request(request.body(Written(written)).unwrap()));
        Call { body, answer }
    }

    async fn log_in(&mut self) {
        let login = ConnectRequest { access_key: "good".into(), ..ConnectRequest::default() };
        let call = self.call("Connect", message(&login));
        drop(call.body);
        let body = call.answer.await.unwrap().into_body().collect().await.unwrap();
        assert!(!body.to_bytes().is_empty());
    }
}

impl Call {
    /// The gRPC status, and what it says.
    async fn status(self) -> (String, String) {
        // A bound against hanging, longer than any deadline of the engine's.
        let patience = Duration::from_secs(200);
        let response = tokio::time::timeout(patience, self.answer).await.expect("no answer").unwrap();
        let (head, body) = response.into_parts();
        let trailers = body.collect().await.unwrap().trailers().cloned();
        let headers = if head.headers.contains_key("grpc-status") { head.headers } else { trailers.unwrap() };
        // Percent-encoded, as the gRPC protocol has it.
        let text = |name: &str| {
            headers.get(name).map_or_else(String::new, |value| value.to_str().unwrap().replace("%20", " "))
        };
        (text("grpc-status"), text("grpc-message"))
    }

    /// Whether the engine waits for the rest of it.
    async fn waits(&mut self) -> bool {
        self.waits_or_is_answered().await.is_none()
    }

    async fn waits_or_is_answered(&mut self) -> Option<http::Response<Incoming>> {
        for _ in 0..100 {
            if let Poll::Ready(answer) = futures::poll!(&mut self.answer) {
                return Some(answer.unwrap());
            }
            tokio::task::yield_now().await;
        }
        None
    }
}

fn message(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::from(&prefix(message.encoded_len())[..]);
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

fn prefix(length: usize) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap());
    bytes.freeze()
}

fn publish_of(payload: usize) -> PublishRequest {
    PublishRequest {
        client_id: "session-1".into(),
        message_name: "a".into(),
        delivery_to: KEY.into(),
        payload: "A".repeat(payload),
        ..PublishRequest::default()
    }
}

const LIMIT_EXCEEDED: &str = "8";

#[tokio::test(start_paused = true)]
async fn strangers_share_what_large_messages_may_hold() {
    let engine = Engine::start_with(ServerOptions { strangers_bytes: 2 * MAX, ..ServerOptions::default() });
    let (mut one, mut other) = (Client::of(&engine).await, Client::of(&engine).await);
    let mut held = vec![one.call("PublishMessage", prefix(MAX)), other.call("PublishMessage", prefix(MAX))];
    for call in &mut held {
        assert!(call.waits().await);
    }
    for client in [&mut one, &mut other] {
        let (status, text) = client.call("PublishMessage", prefix(MAX)).status().await;
        assert_eq!(status, LIMIT_EXCEEDED, "{text}");
        assert!(text.contains("limit_exceeded"), "{text}");
    }
    // A login is small, and nobody can take its room away.
    other.log_in().await;
    // What is abandoned is given back.
    drop(held.swap_remove(0));
    let mut again = one.call("PublishMessage", prefix(MAX));
    assert!(again.waits().await);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_uses_a_session_holds_so_much_and_no_more() {
    let mut engine = Engine::start();
    let mut client = Client::of(&engine).await;
    client.log_in().await;
    engine.told().await;
    let payload = MAX - (64 << 10);
    let whole = message(&publish_of(payload));
    let (begin, rest) = (whole.slice(..5), whole.slice(5..));
    let mut calls: Vec<_> = (0..4).map(|_| client.call("PublishMessage", begin.clone())).collect();
    for call in &mut calls {
        assert!(call.waits().await);
    }
    assert_eq!(client.call("PublishMessage", begin.clone()).status().await.0, LIMIT_EXCEEDED);
    for call in calls {
        call.body.unbounded_send(rest.clone()).unwrap();
        let Call { body, answer } = call;
        drop(body);
        assert_eq!(Call { body: mpsc::unbounded().0, answer }.status().await.0, "0");
        assert_eq!(engine.command().await.name(), "publish");
    }
    let mut again = client.call("PublishMessage", begin);
    assert!(again.waits().await);
}

#[tokio::test(start_paused = true)]
async fn what_a_command_under_way_holds_counts() {
    let mut engine = Engine::start();
    let mut client = Client::of(&engine).await;
    client.log_in().await;
    engine.told().await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        let publish = PublishRequest { message_name: "held".into(), ..publish_of(MAX - (64 << 10)) };
        let Call { body, answer } = client.call("PublishMessage", message(&publish));
        drop(body);
        calls.push(Call { body: mpsc::unbounded().0, answer });
        let call = calls.last_mut().unwrap();
        // Arrived, and now the engine takes its time.
        while engine.is_quiet() {
            assert!(futures::poll!(&mut call.answer).is_pending());
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(client.call("PublishMessage", prefix(MAX)).status().await.0, LIMIT_EXCEEDED);
    for _ in 0..4 {
        engine.fake.go.notify_one();
        tokio::task::yield_now().await;
    }
    engine.fake.go.notify_waiters();
    for call in calls {
        assert_eq!(call.status().await.0, "0");
    }
    assert!(client.call("PublishMessage", prefix(MAX)).waits().await);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_may_have_few_streams() {
    let engine = Engine::start_with(ServerOptions { strangers_bytes: 1 << 20, ..ServerOptions::default() });
    let mut held = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Client::of(&engine).await;
        let refused = loop {
            let (body, written) = mpsc::unbounded();
            let request = http::Request::post("http://test/ensync.EnSyncService/Connect")
                .header("content-type", "application/grpc")
                .header("x", "y".repeat(7_000))
                .body(Written(written));
            let answer = Box::pin(client.0.send_request(request.unwrap()));
            let mut call = Call { body, answer };
            match call.waits_or_is_answered().await {
                None => held.push(call),
                Some(answer) => break answer,
            }
        };
        assert_eq!(refused.headers()["grpc-status"], LIMIT_EXCEEDED);
        clients.push(client);
    }
    // 23 KB each: 2 of every connection, and what fits into 1 MiB that all share.
    assert!((55..=65).contains(&held.len()), "{} streams", held.len());
    // Nobody can take away the room for a login.
    Client::of(&engine).await.log_in().await;
}

#[tokio::test(start_paused = true)]
async fn replays_that_nobody_takes_are_few() {
    let mut engine = Engine::start();
    let mut client = Client::of(&engine).await;
    client.log_in().await;
    engine.told().await;
    let replay = |client: &mut Client| {
        let request =
            ReplayRequest { client_id: "session-1".into(), message_idem: "i-7".into(), message_name: "large".into() };
        let call = client.call("ReplayMessage", message(&request));
        drop(call.body);
        call.answer
    };
    let mut unread = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..12 {
        waiting.push(replay(&mut client));
    }
    // Answered, and not taken: only as many as may wait are asked of the engine.
    for _ in 0..1_000 {
        let mut pending = Vec::new();
        for mut answer in waiting.drain(..) {
            match futures::poll!(&mut answer) {
                std::task::Poll::Ready(answer) => unread.push(answer.unwrap().into_body()),
                std::task::Poll::Pending => pending.push(answer),
            }
        }
        waiting = pending;
        tokio::task::yield_now().await;
    }
    assert_eq!((unread.len(), waiting.len()), (4, 8));
    for _ in 0..4 {
        assert_eq!(engine.command().await.name(), "replay");
    }
    assert!(engine.is_quiet());
    // Each that is taken makes room for another, until all are through.
    let mut taken = 0;
    while let Some(body) = unread.pop() {
        assert!(body.collect().await.unwrap().to_bytes().len() > 2 << 20);
        taken += 1;
        // Any of them: they wait in the order in which they came.
        if !waiting.is_empty() {
            let (answer, _, rest) = futures::future::select_all(waiting).await;
            unread.push(answer.unwrap().into_body());
            waiting = rest;
        }
    }
    assert_eq!(taken, 12);
}

#[tokio::test(start_paused = true)]
async fn a_call_has_one_message() {
    let engine = Engine::start();
    let mut client = Client::of(&engine).await;
    let login = message(&ConnectRequest { access_key: "good".into(), ..ConnectRequest::default() });
    for more in [&b"\0"[..], &prefix(MAX), &login] {
        let (status, text) = client.call("Connect", [&login[..], more].concat()).status().await;
        assert_eq!(status, "3", "{text}");
        assert!(text.contains("one message"), "{text}");
    }
    // Cut at any byte, it is the same message.
    let Call { body, answer } = client.call("Connect", login.slice(..1));
    for byte in &login[1..] {
        body.unbounded_send(Bytes::copy_from_slice(&[*byte])).unwrap();
    }
    drop(body);
    assert_eq!(Call { body: mpsc::unbounded().0, answer }.status().await.0, "0");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_dribbles_ends_its_call() {
    let engine = Engine::start();
    let mut client = Client::of(&engine).await;
    let since = Instant::now();
    let call = client.call("Connect", prefix(1_000));
    let body = call.body.clone();
    let dribble = tokio::spawn(async move {
        while body.unbounded_send(Bytes::from_static(b"x")).is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let (status, text) = call.status().await;
    assert_eq!((status.as_str(), since.elapsed().as_secs()), ("4", 120), "{text}");
    assert!(text.contains("too long to arrive"), "{text}");
    dribble.abort();
}
