//! How long a session lives without its client.

use std::time::Duration;

use tokio::time::{Instant, advance};

use super::fake::*;
use crate::ServerOptions;
use crate::client::raw;
use crate::generated::*;

const SESSION_TIMEOUT: Duration = Duration::from_secs(90);

fn request() -> ConnectRequest {
    ConnectRequest { access_key: "good".into(), ..ConnectRequest::default() }
}

fn beat() -> HeartbeatRequest {
    HeartbeatRequest { client_id: "session-1".into() }
}

fn subscribe_to(event: &str) -> SubscribeRequest {
    SubscribeRequest { client_id: "session-1".into(), message_name: event.into(), ..SubscribeRequest::default() }
}

#[tokio::test(start_paused = true)]
async fn a_silent_session_is_logged_out() {
    let mut engine = Engine::start();
    let mut client = raw(engine.open().0).await;
    client.connect(request()).await.unwrap();
    engine.told().await;
    let since = Instant::now();
    assert_eq!(engine.told().await, Told::Logout);
    assert_eq!(since.elapsed().as_secs(), SESSION_TIMEOUT.as_secs());
    assert!(!client.heartbeat(beat()).await.unwrap().into_inner().success);
}

#[tokio::test(start_paused = true)]
async fn a_session_timeout_may_be_nothing_or_endless() {
    for (session_timeout, days) in [(Duration::ZERO, 0), (Duration::MAX, 365)] {
        let mut engine = Engine::start_with(ServerOptions { session_timeout, ..ServerOptions::default() });
        let mut client = raw(engine.open().0).await;
        client.connect(request()).await.unwrap();
        engine.told().await;
        // The session goes on without its connection, whose pings would keep the time busy.
        drop(client);
        let since = Instant::now();
        assert_eq!(engine.told().await, Told::Logout);
        assert_eq!(since.elapsed().as_secs() / (24 * 60 * 60), days);
    }
}

#[tokio::test(start_paused = true)]
async fn any_call_keeps_a_session() {
    let mut engine = Engine::start();
    let mut client = raw(engine.open().0).await;
    client.connect(request()).await.unwrap();
    engine.told().await;
    for _ in 0..4 {
        advance(SESSION_TIMEOUT - Duration::from_secs(1)).await;
        assert!(client.heartbeat(beat()).await.unwrap().into_inner().success);
        assert_eq!(engine.command().await.name(), "heartbeat");
    }
    let since = Instant::now();
    assert_eq!(engine.told().await, Told::Logout);
    assert_eq!(since.elapsed().as_secs(), SESSION_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_stream_keeps_a_session_and_its_end_starts_the_clock() {
    let mut engine = Engine::start();
    let mut client = raw(engine.open().0).await;
    client.connect(request()).await.unwrap();
    engine.told().await;
    let mut stream = client.subscribe(subscribe_to("a")).await.unwrap().into_inner();
    assert_eq!(engine.command().await.name(), "subscribe");
    for _ in 0..5 {
        advance(SESSION_TIMEOUT).await;
    }
    engine.fake.push(1, delivery("a", 1));
    assert!(stream.message().await.unwrap().is_some());
    drop(stream);
    for told in ["unsubscribe", "release"] {
        assert_eq!(engine.command().await.name(), told);
    }
    let since = Instant::now();
    assert_eq!(engine.told().await, Told::Logout);
    assert_eq!(since.elapsed().as_secs(), SESSION_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_session_is_not_bound_to_its_connection() {
    let mut engine = Engine::start();
    let (stream, serving) = engine.open();
    let mut client = raw(stream).await;
    client.connect(request()).await.unwrap();
    engine.told().await;
    drop(client);
    serving.await.unwrap();
    let mut client = raw(engine.open().0).await;
    assert!(client.heartbeat(beat()).await.unwrap().into_inner().success);
    let stream = client.subscribe(subscribe_to("a")).await.unwrap();
    drop(stream);
    for told in ["heartbeat", "subscribe", "unsubscribe", "release"] {
        assert_eq!(engine.command().await.name(), told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_comes_back_is_logged_out_at_once() {
    let mut engine = Engine::start();
    let mut client = raw(engine.open().0).await;
    client.connect(ConnectRequest { ends_with_streams: true, ..request() }).await.unwrap();
    engine.told().await;
    let a = client.subscribe(subscribe_to("a")).await.unwrap();
    let _b = client.subscribe(subscribe_to("b")).await.unwrap();
    let since = Instant::now();
    let unsubscribe = UnsubscribeRequest { client_id: "session-1".into(), message_name: "b".into() };
    client.unsubscribe(unsubscribe).await.unwrap();
    // That was asked for; this is not.
    drop(a);
    for told in ["subscribe", "subscribe", "unsubscribe"] {
        assert_eq!(engine.command().await.name(), told);
    }
    assert_eq!(engine.told().await, Told::Logout);
    assert_eq!(since.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_subscribe_leaves_no_subscription() {
    let mut engine = Engine::start();
    let mut client = raw(engine.open().0).await;
    client.connect(request()).await.unwrap();
    engine.told().await;
    let status = client.subscribe(subscribe_to("unknown")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert_eq!(engine.command().await.name(), "subscribe");
    // A refused one left nothing to unsubscribe; the next thing is the timeout.
    assert_eq!(engine.told().await, Told::Logout);
}
