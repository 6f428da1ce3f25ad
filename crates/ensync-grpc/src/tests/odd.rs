//! The client against answers that no good engine gives.

use std::sync::{Arc, Mutex};

use ensync_core::{Bytes, Command, ErrorKind, Link, Reply};
use futures::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use tonic::body::Body;

use super::fake::*;
use super::foreign::{answer, framed, welcome};
use crate::generated::*;

fn published() -> Vec<u8> {
    PublishResponse { success: true, message_idem: "i-1".into(), ..PublishResponse::default() }.encode_to_vec()
}

/// An answer of these bytes, and a status by hand.
fn by_hand(data: Vec<u8>, trailers: &[(&'static str, &'static [u8])]) -> http::Response<Body> {
    let trailers = trailers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_bytes(value).unwrap()));
    let trailers = Frame::trailers(trailers.collect());
    let data = (!data.is_empty()).then(|| Frame::data(Bytes::from(data)));
    let frames = data.into_iter().chain([trailers]).map(Ok::<_, tonic::Status>).collect::<Vec<_>>();
    let body = Body::new(StreamBody::new(futures::stream::iter(frames)));
    http::Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

/// A link to an engine that answers one call so, and everything else well.
async fn link(path: &'static str, odd: impl Fn() -> http::Response<Body> + Clone + Send + 'static) -> Link {
    let (stream, _serving) = serve(move |request| {
        let (odd, method) = (odd.clone(), request.uri().path().rsplit('/').next().unwrap_or_default().to_owned());
        async move {
            match method.as_str() {
                "Connect" => answer([welcome().encode_to_vec()]),
                method if method == path => odd(),
                "Heartbeat" => answer([HeartbeatResponse { success: true }.encode_to_vec()]),
                _ => answer([published()]),
            }
        }
    });
    connect(stream).await.unwrap()
}

/// The engine has stored it, and nobody can read its answer.
#[tokio::test]
async fn an_answer_that_cannot_be_read_may_be_that_of_what_was_stored() {
    let lie = vec![0, 0xff, 0xff, 0xff, 0xff, 8, 1];
    let two = [framed(&published()), framed(&published())].concat();
    let cut = framed(&published())[..7].to_vec();
    for (what, data) in [("too large", lie), ("several", two), ("cut", cut)] {
        let link = link("PublishMessage", move || by_hand(data.clone(), &[("grpc-status", b"0")])).await;
        let error = link.transport.call(publish("a")).await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_happened()), (ErrorKind::Protocol, true), "{what}: {error}");
        assert_eq!(link.transport.call(Command::Heartbeat).await.unwrap(), Reply::Done, "{what}: the link lives on");
    }
}

/// tonic would forget the status for a reason that is not UTF-8, and panic at details that are not base64.
#[tokio::test]
async fn a_status_holds_whatever_stands_beside_it() {
    let trailers: [(&str, &[u8]); 3] =
        [("grpc-status", b"7"), ("grpc-message", b"not%FFyours"), ("grpc-status-details-bin", b"!!")];
    let link = link("PublishMessage", move || by_hand(Vec::new(), &trailers)).await;
    let error = link.transport.call(publish("a")).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_happened()), (ErrorKind::Forbidden, false));
    assert_eq!(error.to_string(), "not?yours");
    // The same where no body follows.
    let link = super::odd::link("PublishMessage", move || {
        let mut response = http::Response::builder().header("content-type", "application/grpc");
        for (name, value) in trailers {
            response = response.header(name, value);
        }
        response.body(Body::empty()).unwrap()
    })
    .await;
    assert_eq!(link.transport.call(publish("a")).await.unwrap_err().to_string(), "not?yours");
}

/// One bad subscription is no reason to give up what goes beside it.
#[tokio::test]
async fn a_stream_that_ends_ends_no_link_whose_session_lives() {
    for (status, kind) in [
        ("0", ErrorKind::Interrupted),
        ("1", ErrorKind::Refused),
        ("2", ErrorKind::Refused),
        ("7", ErrorKind::Forbidden),
        ("8", ErrorKind::LimitExceeded),
        ("13", ErrorKind::Protocol),
        ("14", ErrorKind::Unavailable),
        ("16", ErrorKind::Unauthenticated),
    ] {
        let link = link("Subscribe", move || by_hand(Vec::new(), &[("grpc-status", status.as_bytes())])).await;
        link.transport.call(subscribe("a")).await.unwrap();
        let (event, error) = link.transport.ended_subscription().await;
        assert_eq!((event, error.kind()), (name("a"), kind), "{status}: {error}");
        assert!(matches!(link.transport.call(publish("a")).await, Ok(Reply::Published { .. })), "{status}");
    }
}

/// Whoever asked finds out whether that is about the session.
#[tokio::test]
async fn a_subscribe_that_is_refused_as_unknown_ends_no_link_by_itself() {
    let link = link("Subscribe", || tonic::Status::unauthenticated("log in").into_http()).await;
    assert_eq!(link.transport.call(subscribe("a")).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    assert!(matches!(link.transport.call(publish("a")).await, Ok(Reply::Published { .. })));
}

/// Whoever sends what cannot be understood may do so without end: one line a minute.
#[tokio::test]
async fn events_that_cannot_be_understood_are_logged_once_in_a_while() {
    let logged = Arc::new(Mutex::new(Vec::new()));
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(move || Written(writer.clone()))
        .finish();
    let _guard = tracing_subscriber::util::SubscriberInitExt::set_default(subscriber);
    let good = StreamResponse { message_idem: "i".into(), message_name: "a".into(), ..StreamResponse::default() };
    let bad = StreamResponse { message_name: "a//b".into(), ..good.clone() };
    let mut records = vec![bad.encode_to_vec(); 100];
    records.push(good.encode_to_vec());
    let mut link = link("Subscribe", move || answer(records.clone())).await;
    link.transport.call(subscribe("a")).await.unwrap();
    assert_eq!(link.inbox.next().await.unwrap().unwrap().event.as_str(), "a");
    let text = String::from_utf8(logged.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("cannot be understood was skipped").count(), 1, "{text}");
}

struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
