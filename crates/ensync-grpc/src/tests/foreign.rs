//! The client against engines that are not ours.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use ensync_core::{Bytes, Command, ErrorKind, Reply};
use futures::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use tokio::sync::Notify;
use tonic::body::Body;
use tower_service::Service as _;

use super::fake::*;
use crate::generated::*;

/// A message as it travels, uncompressed.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.into()
}

/// A gRPC answer made by hand: messages, then the trailers.
pub(super) fn answer(messages: impl IntoIterator<Item = Vec<u8>>) -> http::Response<Body> {
    let mut frames: VecDeque<_> = messages.into_iter().map(|message| Frame::data(framed(&message))).collect();
    frames.push_back(Frame::trailers([("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect()));
    let body = StreamBody::new(futures::stream::iter(frames.into_iter().map(Ok::<_, tonic::Status>)));
    http::Response::builder().header("content-type", "application/grpc").body(Body::new(body)).unwrap()
}

pub(super) fn unimplemented() -> http::Response<Body> {
    tonic::Status::unimplemented("no such call").into_http()
}

pub(super) fn welcome() -> ConnectResponse {
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
    let (event, error) = link.transport.ended_subscription().await;
    assert_eq!((event, error.kind()), (name("a"), ErrorKind::Interrupted), "{error}");
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
    let mut engine = Engine::start_plain();
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
async fn a_refusal_that_comes_late_ends_that_subscription_alone() {
    let mut engine = Engine::start_plain();
    let go = Arc::new(Notify::new());
    let mut link = late(&mut engine, go.clone()).await;
    link.transport.call(subscribe("unknown")).await.unwrap();
    go.notify_one();
    let (event, error) = link.transport.ended_subscription().await;
    assert_eq!((event, error.kind()), (name("unknown"), ErrorKind::UnknownEvent));
    assert_eq!(error.to_string(), "the subscription to unknown ended: unknown is not registered");
    // The link, and what else goes over it, live on.
    go.notify_one();
    link.transport.call(subscribe("a")).await.unwrap();
    engine.fake.push(1, delivery("a", 1));
    assert_eq!(link.inbox.next().await.unwrap().unwrap(), delivery("a", 1));
}

#[tokio::test(start_paused = true)]
async fn the_word_of_an_engine_of_ours_is_waited_for() {
    let mut engine = Engine::start();
    let go = Arc::new(Notify::new());
    let link = late(&mut engine, go.clone()).await;
    let mut subscribed = std::pin::pin!(link.transport.call(subscribe("unknown")));
    tokio::select! {
        answer = subscribed.as_mut() => panic!("silence is no consent: {answer:?}"),
        () = tokio::time::sleep(std::time::Duration::from_secs(60)) => {}
    }
    go.notify_one();
    assert_eq!(subscribed.await.unwrap_err().kind(), ErrorKind::UnknownEvent);
}

/// An engine whose calls, but for the login, are answered by a proxy.
async fn behind(status: u16, page: &'static str) -> ensync_core::Link {
    let (stream, _serving) = serve(move |request| async move {
        if request.uri().path().ends_with("/Connect") {
            return answer([welcome().encode_to_vec()]);
        }
        http::Response::builder()
            .status(status)
            .header("content-type", "text/html")
            .body(Body::new(page.to_owned()))
            .unwrap()
    });
    connect(stream).await.unwrap()
}

#[tokio::test]
async fn what_a_proxy_answers_is_told_as_that() {
    for (status, kind, happened) in [
        (413, ErrorKind::PayloadTooLarge, false),
        (403, ErrorKind::Unavailable, false),
        (502, ErrorKind::Unavailable, true),
        (200, ErrorKind::Unavailable, true),
    ] {
        let link = behind(status, "<html>no</html>").await;
        let error = link.transport.call(publish("a")).await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_happened()), (kind, happened), "{error}");
        assert!(error.to_string().starts_with(&format!("a proxy answered {status}")), "{error}");
        let error = link.transport.call(subscribe("a")).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("a proxy answered {status}")), "{error}");
    }
}

#[tokio::test]
async fn a_login_that_a_gateway_refuses_is_worth_another_try() {
    for status in [401, 403, 407, 429, 500, 502, 503, 504] {
        let (stream, _serving) = serve(move |_| async move {
            http::Response::builder().status(status).header("content-type", "text/html").body(Body::empty()).unwrap()
        });
        let error = connect(stream).await.unwrap_err();
        assert!(error.is_retryable(), "{status}: {:?}", error.kind());
        assert!(
            error.to_string().starts_with(&format!("log in to grpc://test:50051: a proxy answered {status}")),
            "{error}"
        );
    }
}

/// Envoy and others turn what they refuse of a gRPC request into such a status.
#[tokio::test]
async fn a_status_without_a_code_need_not_be_the_engine_s_word() {
    use tonic::Status;
    for (status, on_the_way, kind) in [
        (Status::permission_denied("RBAC: access denied"), true, ErrorKind::Forbidden),
        (Status::unauthenticated("Jwt is missing"), true, ErrorKind::Unauthenticated),
        (Status::unauthenticated("unauthenticated: no such key"), false, ErrorKind::Unauthenticated),
        (Status::permission_denied("forbidden: the app is disabled"), false, ErrorKind::Forbidden),
    ] {
        let (stream, _serving) = serve(move |_| {
            let status = status.clone();
            async move { status.into_http() }
        });
        let error = connect(stream).await.unwrap_err();
        assert_eq!((error.kind(), error.is_said_on_the_way()), (kind, on_the_way), "{error}");
    }
}

#[tokio::test]
async fn a_login_that_a_restarting_engine_refuses_is_worth_another_try() {
    for (text, kind) in [
        ("Server is restarting, try again", ErrorKind::Unavailable),
        ("Service temporarily unavailable", ErrorKind::Unavailable),
        ("Invalid access key", ErrorKind::Unauthenticated),
        ("no", ErrorKind::Unauthenticated),
    ] {
        let (stream, _serving) = serve(move |_| async move {
            answer([ConnectResponse { error_message: text.into(), ..ConnectResponse::default() }.encode_to_vec()])
        });
        let error = connect(stream).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().ends_with(text), "{error}");
    }
}

/// What the command itself contains says nothing of why it is refused.
#[tokio::test]
async fn the_name_of_a_command_is_no_reason() {
    for (words, kind) in [
        ("Unknown event: engine/restart/requested", ErrorKind::Refused),
        ("engine/restart/requested: the service is restarting", ErrorKind::Unavailable),
    ] {
        let (stream, _serving) = serve(move |request| async move {
            if request.uri().path().ends_with("/Connect") {
                return answer([welcome().encode_to_vec()]);
            }
            answer([match request.uri().path().ends_with("/PublishMessage") {
                true => PublishResponse { error_message: words.into(), ..Default::default() }.encode_to_vec(),
                false => UnsubscribeResponse { success: false, message: words.into() }.encode_to_vec(),
            }])
        });
        let link = connect(stream).await.unwrap();
        let event = name("engine/restart/requested");
        for command in [publish("engine/restart/requested"), Command::Unsubscribe { event }] {
            assert_eq!(link.transport.call(command).await.unwrap_err().kind(), kind, "{words}");
        }
    }
}

#[tokio::test]
async fn a_call_that_failed_on_its_way_may_have_happened() {
    for code in [tonic::Code::Unavailable, tonic::Code::Unknown, tonic::Code::Cancelled, tonic::Code::Aborted] {
        let (stream, _serving) = serve(move |request| async move {
            match request.uri().path().ends_with("/Connect") {
                true => answer([welcome().encode_to_vec()]),
                false => tonic::Status::new(code, "upstream connect error").into_http(),
            }
        });
        let link = connect(stream).await.unwrap();
        let error = link.transport.call(publish("a")).await.unwrap_err();
        assert!(error.may_have_happened(), "{code:?}: {error}");
    }
}

/// A proxy that turns an HTTP answer into a status, as Envoy does for gRPC requests: 403, 404, 400 and others become these.
#[tokio::test]
async fn a_status_without_a_code_is_a_gateway_s_word_of_a_command_too() {
    use tonic::Code;
    for (code, kind, happened) in [
        (Code::PermissionDenied, ErrorKind::Forbidden, false),
        (Code::Unimplemented, ErrorKind::Unsupported, false),
        (Code::Cancelled, ErrorKind::Refused, true),
        (Code::Unknown, ErrorKind::Refused, true),
        (Code::Aborted, ErrorKind::Refused, true),
        (Code::Internal, ErrorKind::Protocol, true),
        (Code::Unavailable, ErrorKind::Unavailable, true),
    ] {
        let (stream, _serving) = serve(move |request| async move {
            match request.uri().path().ends_with("/Connect") {
                true => answer([welcome().encode_to_vec()]),
                false => tonic::Status::new(code, "no healthy upstream").into_http(),
            }
        });
        let link = connect(stream).await.unwrap();
        let unsubscribe = Command::Unsubscribe { event: name("a") };
        for command in [publish("a"), subscribe("a"), unsubscribe, Command::Heartbeat] {
            let error = link.transport.call(command).await.unwrap_err();
            assert_eq!((error.kind(), error.may_have_happened()), (kind, happened), "{code:?}: {error}");
            assert!(error.is_said_on_the_way(), "{code:?}: {error}");
        }
        // At a login none of them is final.
        let (stream, _serving) = serve(move |_| async move { tonic::Status::new(code, "no route").into_http() });
        assert!(connect(stream).await.unwrap_err().is_said_on_the_way(), "{code:?}");
    }
}

/// What tonic makes of it, not what we think it makes: its text and code are not part of its interface.
#[tokio::test]
async fn an_answer_without_its_end_may_have_happened_and_is_worth_another_try() {
    let whole = PublishResponse { success: true, message_idem: "i-1".into(), ..PublishResponse::default() };
    for frames in [0, 1] {
        let whole = whole.clone();
        let (stream, _serving) = serve(move |request| {
            let message = framed(&whole.encode_to_vec());
            async move {
                if request.uri().path().ends_with("/Connect") {
                    return answer([welcome().encode_to_vec()]);
                }
                let frames = (0..frames).map(move |_| Ok::<_, tonic::Status>(Frame::data(message.clone())));
                let body = Body::new(StreamBody::new(futures::stream::iter(frames)));
                http::Response::builder().header("content-type", "application/grpc").body(body).unwrap()
            }
        });
        let link = connect(stream).await.unwrap();
        let error = link.transport.call(publish("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{frames} messages: {error}");
        assert!(error.may_have_happened() && error.is_retryable(), "{frames} messages: {error}");
    }
}

#[tokio::test]
async fn an_event_that_is_too_large_ends_its_subscription_and_no_more() {
    let mut engine = Engine::start();
    let connector = crate::GrpcConnector::new(ensync_client::Dialer::default()).max_message_bytes(10_000);
    let app_key = ensync_core::AppKey::parse("good").unwrap();
    let mut link = connector.connect_over(engine.open().0, &endpoint(), &app_key).await.unwrap();
    assert!(matches!(engine.told().await, Told::Login(_)));
    for event in ["a", "b"] {
        link.transport.call(subscribe(event)).await.unwrap();
        engine.command().await;
    }
    let payload = ensync_core::WirePayload::from_wire("A".repeat(20_000));
    engine.fake.push(1, ensync_core::Delivery { payload, ..delivery("a", 1) });
    let (event, error) = link.transport.ended_subscription().await;
    assert_eq!((event, error.kind()), (name("a"), ErrorKind::PayloadTooLarge), "{error}");
    assert_eq!(engine.command().await, Command::Unsubscribe { event: name("a") });
    engine.fake.push(1, delivery("b", 2));
    assert_eq!(link.inbox.next().await.unwrap().unwrap(), delivery("b", 2));
    assert!(engine.is_quiet(), "the session goes on");
}
