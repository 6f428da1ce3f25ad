//! Calls and links that somebody gave up.

use std::error::Error as _;
use std::pin::pin;
use std::time::Duration;

use ensync_core::{Command, Error, ErrorKind};
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, advance, timeout};
use tower_service::Service as _;

use super::fake::*;

fn dead() -> Error {
    Error::new(ErrorKind::Timeout, "no answer to a heartbeat")
}

/// A bound against hanging.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn an_aborted_link_ends_at_once_whoever_holds_it() {
    let mut engine = Engine::start();
    let (mut link, serving) = engine.link().await;
    link.transport.call(subscribe("a")).await.unwrap();
    let transport = link.transport.clone();
    let mut slow = pin!(transport.call(publish("slow")));
    assert!(slow.as_mut().now_or_never().is_none());
    let since = Instant::now();
    link.transport.abort(dead());
    let error = slow.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(error.source().unwrap().to_string(), dead().to_string());
    assert_eq!(link.inbox.next().await.unwrap().unwrap_err().to_string(), dead().to_string());
    assert!(link.inbox.next().await.is_none());
    // And again, which changes nothing.
    link.transport.abort(Error::new(ErrorKind::Internal, "no"));
    assert_eq!(link.transport.call(Command::Heartbeat).await.unwrap_err().kind(), ErrorKind::Closed);
    timeout(PATIENCE, serving).await.unwrap().unwrap();
    assert_eq!(since.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_link_closes_its_socket_though_nothing_gets_through() {
    for close in [false, true] {
        let engine = Engine::start();
        let (near, mut far) = tokio::io::duplex(4 * 1024);
        let (mut inner, _serving) = engine.open();
        // Carries the login, and then nothing more.
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let far = tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut far, &mut inner) => {}
                _ = stopped => {}
            }
            (far, inner)
        });
        let link = connect(near).await.unwrap();
        stop.send(()).unwrap();
        let (mut far, _inner) = far.await.unwrap();
        let large = ensync_core::Publish {
            payload: ensync_core::WirePayload::from_wire("A".repeat(1 << 20)),
            ..match publish("a") {
                Command::Publish(publish) => publish,
                other => panic!("{other:?}"),
            }
        };
        let mut call = pin!(link.transport.call(Command::Publish(large)));
        assert!(call.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
        match close {
            true => link.transport.close().await,
            false => link.transport.abort(dead()),
        }
        assert_eq!(call.await.unwrap_err().kind(), ErrorKind::Interrupted);
        // To the end, which comes although nobody read what was on its way.
        let mut left = Vec::new();
        timeout(PATIENCE, far.read_to_end(&mut left)).await.expect("the socket stays open").unwrap();
        assert!(far.write_all(b"x").await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn the_silence_of_an_engine_is_seen() {
    let mut engine = Engine::start();
    let (link, _serving) = engine.link().await;
    link.transport.call(Command::Heartbeat).await.unwrap();
    let received = link.transport.bytes_received().unwrap();
    assert!(received > 0);
    let silent = || link.transport.silent_for().unwrap();
    assert_eq!(silent(), Duration::ZERO);
    advance(Duration::from_secs(20)).await;
    assert_eq!(silent(), Duration::from_secs(20));
    link.transport.call(Command::Heartbeat).await.unwrap();
    assert_eq!(silent(), Duration::ZERO);
    assert!(link.transport.bytes_received().unwrap() > received);
}

#[tokio::test]
async fn an_engine_is_told_how_long_the_caller_waits() {
    let engine = Engine::start();
    let (server, (tell, told)) = (engine.server.clone(), std::sync::mpsc::channel());
    let (stream, _serving) = serve(move |request| {
        let (mut server, tell) = (server.clone(), tell.clone());
        async move {
            let limit = request.headers().get("grpc-timeout").map(|limit| limit.to_str().unwrap().to_owned());
            tell.send((request.uri().path().rsplit('/').next().unwrap().to_owned(), limit)).unwrap();
            server.call(request).await.unwrap()
        }
    });
    let link = connect(stream).await.unwrap();
    let limit = Duration::from_secs(5);
    for command in [publish("a"), Command::Heartbeat, subscribe("a")] {
        link.transport.call_within(command, limit).await.unwrap();
    }
    link.transport.call(publish("a")).await.unwrap();
    let told: Vec<_> = told.try_iter().collect();
    let named = |name: &str, limit: Option<&str>| (name.to_owned(), limit.map(str::to_owned));
    assert_eq!(
        told,
        [
            named("Connect", None),
            named("PublishMessage", Some("5000000u")),
            named("Heartbeat", Some("5000000u")),
            // The stream lives longer than the call.
            named("Subscribe", None),
            named("PublishMessage", None),
        ]
    );
}

#[tokio::test]
async fn calls_that_are_given_up_leave_nothing_behind() {
    let mut engine = Engine::start();
    let (link, _serving) = engine.link().await;
    link.transport.call(Command::Heartbeat).await.unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..50 {
        let mut calls: Vec<_> = (0..64).map(|_| link.transport.call(publish("slow"))).collect();
        assert!(futures::poll!(futures::future::join_all(&mut calls)).is_pending());
        // They reach the engine, which never answers.
        for _ in 0..64 {
            while !matches!(engine.told().await, Told::Command(Command::Publish(_))) {}
        }
    }
    // Another call, behind all of that, for the resets to be seen on the other side too.
    for _ in 0..100 {
        link.transport.call(Command::Heartbeat).await.unwrap();
    }
    assert!(tasks() <= before + 3, "{} tasks, {before} before", tasks());
}

#[tokio::test]
async fn a_subscribe_that_is_given_up_does_not_end_the_session() {
    let mut engine = Engine::start();
    let (mut link, _serving) = engine.link().await;
    link.transport.call(subscribe("a")).await.unwrap();
    for event in ["b", "c", "d"] {
        assert!(link.transport.call(subscribe(event)).now_or_never().is_none());
        // As its caller does then.
        link.transport.call(Command::Unsubscribe { event: name(event) }).await.unwrap();
    }
    engine.fake.push(1, delivery("a", 1));
    assert_eq!(link.inbox.next().await.unwrap().unwrap(), delivery("a", 1));
    link.transport.call(Command::Heartbeat).await.unwrap();
}

#[tokio::test]
async fn a_session_that_the_engine_forgot_ends_its_link_at_the_first_call() {
    for command in [publish("a"), Command::Unsubscribe { event: name("a") }, Command::Heartbeat] {
        let mut engine = Engine::start();
        let (mut link, _serving) = engine.link().await;
        engine.fake.end(1);
        // The engine's own end of the session, which this client cannot see.
        tokio::task::yield_now().await;
        let error = link.transport.call(command).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "it can go over the next link: {error}");
        assert_eq!(error.source().unwrap().downcast_ref::<Error>().unwrap().kind(), ErrorKind::Unauthenticated);
        let error = link.inbox.next().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("no longer knows the session"), "{error}");
        assert!(engine.is_quiet());
    }
}
