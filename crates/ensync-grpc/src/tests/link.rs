//! How a link ends, and what does not end it.

use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ensync_client::Dialer;
use ensync_core::{AppKey, Command, ErrorKind, EventId, Reply, WirePayload};
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;
use tower_service::Service as _;

use super::fake::*;
use crate::GrpcConnector;

#[tokio::test]
async fn a_lost_connection_is_told_once_and_interrupts_what_is_under_way() {
    for subscribed in [false, true] {
        let mut engine = Engine::start();
        let (mut link, serving) = engine.link().await;
        if subscribed {
            link.transport.call(subscribe("a")).await.unwrap();
            engine.command().await;
        }
        let mut slow = pin!(link.transport.call(publish("slow")));
        assert!(slow.as_mut().now_or_never().is_none());
        assert_eq!(engine.command().await, publish("slow"));
        serving.abort();

        let error = slow.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert!(error.to_string().starts_with("the link to grpc://test:50051 ended while"), "{error}");
        assert!(error.source().is_some());

        let error = link.inbox.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert!(error.to_string().contains("grpc://test:50051"), "{error}");
        assert!(link.inbox.next().await.is_none());

        let error = link.transport.call(Command::Heartbeat).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.to_string().starts_with("the link to grpc://test:50051 has ended;"), "{error}");
    }
}

#[tokio::test]
async fn a_call_that_was_never_sent_is_closed() {
    let mut engine = Engine::start();
    let (link, serving) = engine.link().await;
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    let error = link.transport.call(publish("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
    assert!(engine.is_quiet());
}

#[tokio::test]
async fn keep_alive_may_be_endless() {
    let engine = Engine::start();
    let connector = GrpcConnector::new(Dialer::default()).keep_alive(Duration::MAX, Duration::MAX);
    let link = connector.connect_over(engine.open().0, &endpoint(), &AppKey::parse("good").unwrap()).await.unwrap();
    assert_eq!(link.transport.call(Command::Heartbeat).await.unwrap(), Reply::Done);
}

/// A PING stands behind what is uploaded, and an event of 4 MB takes a minute at 64 KiB/s.
#[tokio::test(start_paused = true)]
async fn a_large_event_over_a_slow_uplink_is_no_dead_connection() {
    let usual = GrpcConnector::new(Dialer::default());
    let hasty = usual.clone().keep_alive(Duration::from_secs(30), Duration::from_secs(10));
    for (connector, arrives) in [(usual, true), (hasty, false)] {
        let engine = Engine::start();
        let (far, _serving) = engine.open();
        // What the system takes before the network does.
        let (near, between) = tokio::io::duplex(4 << 20);
        let uplink = tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(between);
            let (mut answers, mut upload) = tokio::io::split(far);
            let up = async {
                let mut bytes = vec![0; 16 << 10];
                loop {
                    let read = from.read(&mut bytes).await.unwrap();
                    if read == 0 || upload.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_secs(1) * u32::try_from(read).unwrap() / (64 << 10)).await;
                }
            };
            tokio::join!(up, tokio::io::copy(&mut answers, &mut to)).1.ok();
        });
        let link = connector.connect_over(near, &endpoint(), &AppKey::parse("good").unwrap()).await.unwrap();
        let Command::Publish(mut large) = publish("a") else { unreachable!() };
        large.payload = WirePayload::from_wire("e30=".repeat(975_000));
        let begun = Instant::now();
        let answer = link.transport.call(Command::Publish(large)).await;
        let took = begun.elapsed();
        assert_eq!(matches!(answer, Ok(Reply::Published { .. })), arrives, "{answer:?} after {took:?}");
        assert!(took > Duration::from_secs(if arrives { 50 } else { 30 }), "{took:?}");
        uplink.abort();
    }
}

#[tokio::test]
async fn a_stream_that_ends_unasked_ends_the_link() {
    let mut engine = Engine::start();
    let (mut link, serving) = engine.link().await;
    link.transport.call(subscribe("a")).await.unwrap();
    engine.fake.push(1, delivery("a", 1));
    engine.fake.end(1);
    assert_eq!(link.inbox.next().await.unwrap().unwrap(), delivery("a", 1));
    let error = link.inbox.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(error.source().unwrap().to_string().contains("ended the session"), "{error:?}");
    assert!(link.inbox.next().await.is_none());
    assert_eq!(link.transport.call(Command::Heartbeat).await.unwrap_err().kind(), ErrorKind::Closed);
    // The socket closes although the link is still held.
    serving.await.unwrap();
}

#[tokio::test]
async fn a_goodbye_of_the_engine_lets_calls_under_way_finish() {
    let mut engine = Engine::start();
    let stop = Arc::new(Notify::new());
    let server = engine.server.clone();
    let (stream, serving) = serve_until(
        {
            let stop = stop.clone();
            async move { stop.notified().await }
        },
        move |request| {
            let mut server = server.clone();
            async move { server.call(request).await.unwrap() }
        },
    );
    let mut link = connect(stream).await.unwrap();
    engine.told().await;
    let mut held = pin!(link.transport.call(publish("held")));
    assert!(held.as_mut().now_or_never().is_none());
    engine.command().await;
    stop.notify_one();
    // From some moment on nothing more is taken, and the inbox is not at its end.
    while let Ok(reply) = link.transport.call(Command::Heartbeat).await {
        assert_eq!(reply, Reply::Done);
    }
    assert!(link.inbox.next().now_or_never().is_none());
    engine.fake.go.notify_one();
    assert_eq!(held.await.unwrap(), Reply::Published { id: EventId::parse("i-held").unwrap() });
    assert_eq!(link.inbox.next().await.unwrap().unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(link.inbox.next().await.is_none());
    serving.await.unwrap();
}

#[tokio::test]
async fn closing_ends_the_inbox_without_an_error_and_closes_the_socket() {
    let mut engine = Engine::start();
    let (mut link, serving) = engine.link().await;
    link.transport.call(subscribe("a")).await.unwrap();
    engine.command().await;
    let mut slow = pin!(link.transport.call(publish("slow")));
    assert!(slow.as_mut().now_or_never().is_none());
    engine.command().await;
    link.transport.close().await;
    assert_eq!(slow.await.unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(link.inbox.next().await.is_none());
    assert!(link.inbox.next().await.is_none());
    assert_eq!(link.transport.call(Command::Heartbeat).await.unwrap_err().kind(), ErrorKind::Closed);
    serving.await.unwrap();
    engine.logout().await;
}

#[tokio::test]
async fn a_session_without_a_stream_ends_with_its_link() {
    for close in [false, true] {
        let mut engine = Engine::start();
        let (link, serving) = engine.link().await;
        if close {
            link.transport.close().await;
            assert_eq!(engine.told().await, Told::Logout);
        }
        drop(link);
        serving.await.unwrap();
        if !close {
            assert_eq!(engine.told().await, Told::Logout);
        }
        assert!(engine.is_quiet());
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_answer_the_goodbye_holds_up_nobody() {
    let mut engine = Engine::start();
    let server = engine.server.clone();
    let (stream, serving) = serve(move |request| {
        let mut server = server.clone();
        async move {
            if request.uri().path().ends_with("/Disconnect") {
                std::future::pending::<()>().await;
            }
            server.call(request).await.unwrap()
        }
    });
    let link = connect(stream).await.unwrap();
    engine.told().await;
    link.transport.close().await;
    serving.await.unwrap();
}

#[tokio::test]
async fn dropping_the_link_closes_the_socket_and_its_session() {
    let mut engine = Engine::start();
    let (link, serving) = engine.link().await;
    link.transport.call(subscribe("a")).await.unwrap();
    engine.command().await;
    // A call that is under way, and then given up, does not keep it open.
    let mut slow = link.transport.call(publish("slow"));
    assert!(futures::poll!(&mut slow).is_pending());
    engine.command().await;
    drop(slow);
    drop(link);
    serving.await.unwrap();
    // The engine need not wait for the session's timeout: this client never comes back to it.
    engine.logout().await;
}

#[tokio::test]
async fn half_a_link_keeps_the_socket() {
    let mut engine = Engine::start();
    let (link, _serving) = engine.link().await;
    drop(link.inbox);
    link.transport.call(Command::Heartbeat).await.unwrap();
    assert_eq!(engine.command().await, Command::Heartbeat);

    let (mut link, _serving) = engine.link().await;
    link.transport.call(subscribe("a")).await.unwrap();
    drop(link.transport);
    engine.fake.push(2, delivery("a", 1));
    assert_eq!(link.inbox.next().await.unwrap().unwrap(), delivery("a", 1));
}

#[tokio::test]
async fn an_unsubscribed_stream_ends_quietly() {
    let mut engine = Engine::start();
    let (mut link, _serving) = engine.link().await;
    for event in ["a", "b"] {
        link.transport.call(subscribe(event)).await.unwrap();
        engine.command().await;
    }
    let unsubscribe = Command::Unsubscribe { event: name("a") };
    link.transport.call(unsubscribe.clone()).await.unwrap();
    assert_eq!(engine.command().await, unsubscribe);
    engine.fake.push(1, delivery("b", 2));
    assert_eq!(link.inbox.next().await.unwrap().unwrap(), delivery("b", 2));
    // And the name can be taken again.
    link.transport.call(subscribe("a")).await.unwrap();
    engine.fake.push(1, delivery("a", 3));
    assert_eq!(link.inbox.next().await.unwrap().unwrap(), delivery("a", 3));
}

#[tokio::test]
async fn an_unsubscribe_that_overtakes_the_answer_to_its_subscribe_does_not_end_the_link() {
    let mut engine = Engine::start();
    let go = Arc::new(Notify::new());
    let (server, wait) = (engine.server.clone(), go.clone());
    let (stream, _serving) = serve(move |request| {
        let (mut server, wait) = (server.clone(), wait.clone());
        async move {
            let subscribes = request.uri().path().ends_with("/Subscribe");
            let answer = server.call(request).await.unwrap();
            if subscribes {
                wait.notified().await;
            }
            answer
        }
    });
    let mut link = connect(stream).await.unwrap();
    engine.told().await;
    let mut subscribed = pin!(link.transport.call(subscribe("a")));
    assert!(subscribed.as_mut().now_or_never().is_none());
    assert_eq!(engine.command().await.name(), "subscribe");
    let mut unsubscribed = pin!(link.transport.call(Command::Unsubscribe { event: name("a") }));
    assert!(unsubscribed.as_mut().now_or_never().is_none());
    // Whatever else has to happen for the one to overtake the other.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    subscribed.await.unwrap();
    unsubscribed.await.unwrap();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    link.transport.call(Command::Heartbeat).await.unwrap();
    assert!(link.inbox.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscription_holds_up_no_other() {
    let mut engine = Engine::start_plain();
    let server = engine.server.clone();
    let (stream, _serving) = serve(move |request| {
        let mut server = server.clone();
        async move {
            if request.uri().path().ends_with("/Subscribe") {
                std::future::pending::<()>().await;
            }
            server.call(request).await.unwrap()
        }
    });
    let link = connect(stream).await.unwrap();
    engine.told().await;
    let since = Instant::now();
    let names: Vec<_> = (0..10).map(|n| format!("a/{n}")).collect();
    let all = futures::future::join_all(names.iter().map(|name| link.transport.call(subscribe(name)))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(since.elapsed().as_secs(), 2, "they waited side by side");
}

#[tokio::test]
async fn a_second_subscription_of_a_name_takes_it_over() {
    let mut engine = Engine::start();
    let (mut link, _serving) = engine.link().await;
    for block in 1..=3 {
        link.transport.call(subscribe("a")).await.unwrap();
        assert_eq!(engine.command().await, subscribe("a"));
        engine.fake.push(1, delivery("a", block));
        assert_eq!(link.inbox.next().await.unwrap().unwrap(), delivery("a", block));
    }
    link.transport.call(Command::Heartbeat).await.unwrap();
    assert_eq!(engine.command().await, Command::Heartbeat);
}

#[tokio::test]
async fn calls_overlap() {
    let mut engine = Engine::start();
    let (link, _serving) = engine.link().await;
    let mut slow = pin!(link.transport.call(publish("slow")));
    assert!(slow.as_mut().now_or_never().is_none());
    let quick = futures::future::join_all((0..300).map(|_| link.transport.call(publish("a")))).await;
    assert!(quick.iter().all(Result::is_ok));
    assert!(slow.now_or_never().is_none());
    let _ = engine.is_quiet();
}
