//! The client against engines that are not ours.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, BytesMut};
use ensync_core::{Bytes, Command, ErrorKind, EventId, Reply, Settle, Settlement};
use futures::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use tokio::sync::Notify;
use tonic::body::Body;
use tower_service::Service as _;

use super::fake::*;
use crate::generated::*;

/// A gRPC answer made by hand: messages, then the trailers.
fn answer(messages: impl IntoIterator<Item = Vec<u8>>) -> http::Response<Body> {
    let mut frames: VecDeque<_> = messages
        .into_iter()
        .map(|message| {
            let mut frame = BytesMut::new();
            frame.put_u8(0);
            frame.put_u32(message.len() as u32);
            frame.put_slice(&message);
            Frame::data(Bytes::from(frame))
        })
        .collect();
    frames.push_back(Frame::trailers([("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect()));
    let body = StreamBody::new(futures::stream::iter(frames.into_iter().map(Ok::<_, tonic::Status>)));
    http::Response::builder().header("content-type", "application/grpc").body(Body::new(body)).unwrap()
}

fn unimplemented() -> http::Response<Body> {
    tonic::Status::unimplemented("no such call").into_http()
}

fn welcome() -> ConnectResponse {
    ConnectResponse { success: true, client_id: "c".into(), client_hash: "?".into(), ..ConnectResponse::default() }
}

#[tokio::test]
async fn a_foreign_refusal_of_a_login_keeps_its_words() {
    let (stream, _serving) = serve(|_| async {
        let error_message = "Invalid access key".into();
        answer([ConnectResponse { error_message, ..ConnectResponse::default() }.encode_to_vec()])
    });
    let error = connect(stream).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.to_string().ends_with("Invalid access key"), "{error}");
}

#[tokio::test]
async fn a_welcome_that_is_none_is_a_protocol_error() {
    for bad in [ConnectResponse { client_id: "a;b".into(), ..welcome() }.encode_to_vec(), vec![0xff; 9]] {
        let (stream, _serving) = serve(move |_| {
            let bad = bad.clone();
            async { answer([bad]) }
        });
        assert_eq!(connect(stream).await.unwrap_err().kind(), ErrorKind::Protocol);
    }
}

#[tokio::test]
async fn an_engine_of_the_earlier_generation_is_spoken_to_by_its_names() {
    let mut engine = Engine::start();
    let server = engine.server.clone();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let (stream, _serving) = serve(move |request| {
        let (mut server, count) = (server.clone(), count.clone());
        async move {
            if request.uri().path().ends_with("Message") || request.uri().path().ends_with("Messages") {
                count.fetch_add(1, Ordering::Relaxed);
                return unimplemented();
            }
            server.call(request).await.unwrap()
        }
    });
    let link = connect(stream).await.unwrap();
    engine.told().await;
    let id = EventId::parse("i").unwrap();
    let settle = |how| Command::Settle(Settle { id: id.clone(), event: None, block: None, how });
    for command in [
        publish("a"),
        settle(Settlement::Ack),
        settle(Settlement::Rollback),
        settle(Settlement::Discard { reason: String::new() }),
        Command::Replay { id: id.clone(), event: name("a") },
        Command::Pause { event: name("a"), reason: String::new() },
        Command::Continue { event: name("a") },
    ] {
        link.transport.call(command.clone()).await.unwrap();
        assert_eq!(engine.command().await.name(), if command.name() == "rollback" { "defer" } else { command.name() });
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "the link remembers");
}

#[tokio::test]
async fn a_call_that_no_generation_serves_is_an_error_and_no_more() {
    let (stream, _serving) = serve(|request| async move {
        match request.uri().path() {
            "/ensync.EnSyncService/Connect" => answer([welcome().encode_to_vec()]),
            "/ensync.EnSyncService/PublishMessage" => {
                answer([
                    PublishResponse { success: true, message_idem: "i".into(), ..Default::default() }.encode_to_vec()
                ])
            }
            _ => unimplemented(),
        }
    });
    let link = connect(stream).await.unwrap();
    let replay = Command::Replay { id: EventId::parse("i").unwrap(), event: name("a") };
    assert_eq!(link.transport.call(replay).await.unwrap_err().kind(), ErrorKind::Protocol);
    let reply = link.transport.call(publish("a")).await.unwrap();
    assert_eq!(reply, Reply::Published { id: EventId::parse("i").unwrap() });
}

#[tokio::test]
async fn an_event_that_cannot_be_understood_is_skipped() {
    let good = StreamResponse { message_idem: "i".into(), message_name: "a".into(), ..StreamResponse::default() };
    let bad = StreamResponse { message_name: "a//b".into(), ..good.clone() };
    let (stream, _serving) = serve(move |request| {
        let records = [bad.encode_to_vec(), good.encode_to_vec()];
        async move {
            match request.uri().path() {
                "/ensync.EnSyncService/Connect" => answer([welcome().encode_to_vec()]),
                _ => answer(records),
            }
        }
    });
    let mut link = connect(stream).await.unwrap();
    assert_eq!(link.welcome.app_id, None);
    link.transport.call(subscribe("a")).await.unwrap();
    let delivery = link.inbox.next().await.unwrap().unwrap();
    assert_eq!((delivery.event.as_str(), delivery.block.as_u64()), ("a", 0));
    // This engine then ends the stream, although nobody asked it to.
    assert_eq!(link.inbox.next().await.unwrap().unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(link.inbox.next().await.is_none());
}

/// An engine that answers a Subscribe only once it is told to.
async fn late(engine: &mut Engine, go: Arc<Notify>) -> ensync_core::Link {
    let server = engine.server.clone();
    let (stream, _) = serve(move |request| {
        let (mut server, go) = (server.clone(), go.clone());
        async move {
            if request.uri().path().ends_with("/Subscribe") {
                go.notified().await;
            }
            server.call(request).await.unwrap()
        }
    });
    let link = connect(stream).await.unwrap();
    engine.told().await;
    link
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_silent_until_the_first_event_is_taken_as_willing() {
    let mut engine = Engine::start();
    let go = Arc::new(Notify::new());
    let mut link = late(&mut engine, go.clone()).await;
    assert_eq!(link.transport.call(subscribe("a")).await.unwrap(), Reply::Done);
    assert!(engine.is_quiet());
    go.notify_one();
    engine.command().await;
    engine.fake.push(1, delivery("a", 1));
    assert_eq!(link.inbox.next().await.unwrap().unwrap(), delivery("a", 1));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_comes_too_late_ends_the_link() {
    let mut engine = Engine::start();
    let go = Arc::new(Notify::new());
    let mut link = late(&mut engine, go.clone()).await;
    link.transport.call(subscribe("unknown")).await.unwrap();
    go.notify_one();
    let error = link.inbox.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "unknown is not registered");
}
