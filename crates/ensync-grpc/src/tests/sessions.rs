//! How long a session lives without its client.

use std::time::Duration;

use tokio::time::{Instant, advance};
use tower_service::Service as _;

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
async fn a_session_that_has_expired_is_worth_nothing() {
    let mut engine = Engine::start();
    let mut client = raw(engine.open().0).await;
    client.connect(request()).await.unwrap();
    assert!(matches!(engine.told().await, Told::Login(_)));
    assert_eq!(engine.told().await, Told::Logout);
    let (id, name) = (|| "session-1".to_owned(), || "a".to_owned());
    let publish = PublishRequest {
        client_id: id(),
        message_name: name(),
        delivery_to: KEY.into(),
        payload: "e30=".into(),
        ..Default::default()
    };
    let ack = AcknowledgeRequest { client_id: id(), message_idem: "i".into(), ..Default::default() };
    let words = "unauthenticated: no such session: it has ended, or never was; log in again";
    assert_eq!(client.publish_message(publish).await.unwrap().into_inner().error_message, words);
    assert_eq!(client.acknowledge_message(ack).await.unwrap().into_inner().message, words);
    assert_eq!(client.subscribe(subscribe_to("a")).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    let replay = ReplayRequest { client_id: id(), message_idem: "i".into(), message_name: name() };
    let replayed = client.replay_message(replay).await.unwrap().into_inner();
    assert_eq!((replayed.message.as_str(), replayed.message_data.as_str()), (words, ""));
    let pause = PauseRequest { client_id: id(), message_name: name(), reason: String::new() };
    assert_eq!(client.pause_messages(pause).await.unwrap().into_inner().message, words);
    let goodbye = DisconnectRequest { client_id: id() };
    assert!(!client.disconnect(goodbye).await.unwrap().into_inner().success);
    assert!(!client.heartbeat(beat()).await.unwrap().into_inner().success);
    assert!(engine.is_quiet(), "the engine heard nothing of it");
}

/// To read a command costs what whoever sent it chose, so a stranger's is not read. The names here would be refused in other words.
#[tokio::test(start_paused = true)]
#[allow(clippy::needless_update, reason = "some requests have no more fields than these")]
async fn a_session_is_looked_for_before_a_command_is_read() {
    macro_rules! say {
        ($client:ident, $($method:ident $request:ident { $($field:ident: $value:expr),* } => $text:ident;)*) => {
            [$({
                let request = $request {
                    client_id: "nobody".into(),
                    message_name: "no//name".into(),
                    $($field: $value,)*
                    ..Default::default()
                };
                let answer = $client.$method(request).await.unwrap().into_inner();
                assert!(!answer.success);
                (stringify!($method), answer.$text)
            },)*]
        };
    }
    let mut engine = Engine::start();
    let mut client = raw(engine.open().0).await;
    client.connect(request()).await.unwrap();
    engine.told().await;
    let told = say![client,
        publish_message PublishRequest { delivery_to: "me".into(), metadata: "[".into() } => error_message;
        publish_event PublishRequest { delivery_to: "me".into(), payload_metadata: Some("[".into()) } => error_message;
        unsubscribe UnsubscribeRequest {} => message;
        acknowledge_message AcknowledgeRequest { message_idem: "i d".into() } => message;
        acknowledge_event AcknowledgeRequest { partition_block: -1 } => message;
        defer_message DeferRequest { delay_ms: 5 } => message;
        discard_message DiscardRequest { message_idem: "i d".into() } => message;
        extend_lease ExtendLeaseRequest { partition_block: -1 } => message;
        release_message ReleaseRequest { partition_block: -1 } => message;
        replay_message ReplayRequest { message_idem: "i d".into() } => message;
        pause_messages PauseRequest {} => message;
        continue_messages ContinueRequest {} => message;
    ];
    for (method, words) in told {
        assert_eq!(words, "unauthenticated: no such session: it has ended, or never was; log in again", "{method}");
    }
    let subscribe = SubscribeRequest { client_id: "nobody".into(), ..subscribe_to("no//name") };
    assert_eq!(client.subscribe(subscribe).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    // Of a session that is there, they are read.
    let named = UnsubscribeRequest { client_id: "session-1".into(), message_name: "no//name".into() };
    let words = client.unsubscribe(named).await.unwrap().into_inner().message;
    assert!(words.contains("event name \"no//name\" has an empty segment"), "{words}");
    assert!(engine.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn a_session_timeout_may_be_nothing_or_endless() {
    for (session_timeout, days) in [(Duration::ZERO, 0), (Duration::MAX, 365)] {
        let mut engine = Engine::start_with(ServerOptions { session_timeout, ..ServerOptions::default() });
        // A listener that does not say what connection a call came on: the session goes on without any.
        let server = engine.server.clone();
        let (stream, _serving) = serve(move |request| {
            let mut server = server.clone();
            async move { server.call(request).await.unwrap() }
        });
        let mut client = raw(stream).await;
        client.connect(request()).await.unwrap();
        engine.told().await;
        // Its pings would keep the time busy.
        drop(client);
        let since = Instant::now();
        assert_eq!(engine.told().await, Told::Logout);
        assert_eq!(since.elapsed().as_secs() / (24 * 60 * 60), days);
    }
}

/// How long after its last connection a session ends.
const GRACE: std::ops::RangeInclusive<u64> = 35..=46;

#[tokio::test(start_paused = true)]
async fn a_session_ends_soon_after_its_last_connection() {
    let mut engine = Engine::start();
    let (one, serving_one) = engine.open();
    let mut one = raw(one).await;
    one.connect(request()).await.unwrap();
    assert!(matches!(engine.told().await, Told::Login(_)));
    // As behind a proxy: calls of one session over several connections.
    let (two, serving_two) = engine.open();
    let mut two = raw(two).await;
    assert!(two.heartbeat(beat()).await.unwrap().into_inner().success);
    engine.command().await;
    drop(one);
    serving_one.await.unwrap();
    advance(Duration::from_secs(60)).await;
    assert!(two.heartbeat(beat()).await.unwrap().into_inner().success);
    engine.command().await;
    drop(two);
    serving_two.await.unwrap();
    // Another comes within the time.
    advance(Duration::from_secs(30)).await;
    let (three, serving_three) = engine.open();
    let mut three = raw(three).await;
    assert!(three.heartbeat(beat()).await.unwrap().into_inner().success);
    engine.command().await;
    advance(Duration::from_secs(60)).await;
    assert!(three.heartbeat(beat()).await.unwrap().into_inner().success);
    engine.command().await;
    drop(three);
    serving_three.await.unwrap();
    let since = Instant::now();
    assert_eq!(engine.told().await, Told::Logout);
    assert!(GRACE.contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
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
async fn a_client_that_loses_its_streams_and_opens_none_is_logged_out_soon() {
    let mut engine = Engine::start();
    let mut client = raw(engine.open().0).await;
    client.connect(ConnectRequest { ends_with_streams: true, ..request() }).await.unwrap();
    engine.told().await;
    let a = client.subscribe(subscribe_to("a")).await.unwrap();
    let b = client.subscribe(subscribe_to("b")).await.unwrap();
    for told in ["subscribe", "subscribe"] {
        assert_eq!(engine.command().await.name(), told);
    }
    // What it had goes back at once, but it has another stream.
    drop(a);
    for told in ["unsubscribe", "release"] {
        assert_eq!(engine.command().await.name(), told);
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(engine.is_quiet());
    // Lost all, and opened again.
    drop(b);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let b = client.subscribe(subscribe_to("b")).await.unwrap();
    for told in ["unsubscribe", "release", "subscribe"] {
        assert_eq!(engine.command().await.name(), told);
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(engine.is_quiet());
    // Lost all, and used by other calls.
    drop(b);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(client.heartbeat(beat()).await.unwrap().into_inner().success);
    for told in ["unsubscribe", "release", "heartbeat"] {
        assert_eq!(engine.command().await.name(), told);
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(engine.is_quiet());
    let b = client.subscribe(subscribe_to("b")).await.unwrap();
    assert_eq!(engine.command().await.name(), "subscribe");
    // One that was asked to end is not lost.
    let unsubscribe = UnsubscribeRequest { client_id: "session-1".into(), message_name: "b".into() };
    client.unsubscribe(unsubscribe).await.unwrap();
    drop(b);
    assert_eq!(engine.command().await.name(), "unsubscribe");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(engine.is_quiet());
    let c = client.subscribe(subscribe_to("c")).await.unwrap();
    let since = Instant::now();
    drop(c);
    for told in ["subscribe", "unsubscribe", "release"] {
        assert_eq!(engine.command().await.name(), told);
    }
    assert_eq!(engine.told().await, Told::Logout);
    assert!((5..=10).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
}

/// The engine takes long to take back what a lost stream had, and the client's one call comes meanwhile.
#[tokio::test(start_paused = true)]
async fn a_call_while_a_lost_stream_is_seen_to_is_a_sign_of_life() {
    let mut engine = Engine::start();
    let mut client = raw(engine.open().0).await;
    client.connect(ConnectRequest { ends_with_streams: true, ..request() }).await.unwrap();
    engine.told().await;
    let stream = client.subscribe(subscribe_to("held")).await.unwrap();
    drop(stream);
    for told in ["subscribe", "unsubscribe", "release"] {
        assert_eq!(engine.command().await.name(), told);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(client.heartbeat(beat()).await.unwrap().into_inner().success);
    assert_eq!(engine.command().await.name(), "heartbeat");
    tokio::time::sleep(Duration::from_secs(1)).await;
    engine.fake.go.notify_one();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(engine.is_quiet(), "it is logged out although it was heard of");
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
