//! The server against the published clients' habits, spoken with the generated client.

use ensync_core::{Block, Command, Error, ErrorKind, Settle, Settlement};
use tokio::io::DuplexStream;
use tonic::{Code, Request};

use super::fake::*;
use crate::client::{RawClient, raw};
use crate::generated::*;

const NODE: &str = "grpc-node-js/1.13.0";
const PYTHON: &str = "grpc-python/1.71.0 grpc-c/46.0.0 (linux; chttp2)";

fn by<T>(agent: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("user-agent", agent.parse().unwrap());
    request
}

async fn login(stream: DuplexStream, agent: &'static str) -> RawClient {
    let mut client = raw(stream).await;
    let request = ConnectRequest { access_key: "good".into(), ..ConnectRequest::default() };
    let welcome = client.connect(by(agent, request)).await.unwrap().into_inner();
    assert!(welcome.success);
    assert_eq!((welcome.client_id.as_str(), welcome.client_hash.as_str()), ("session-1", KEY));
    client
}

fn subscribe_to(event: &str) -> SubscribeRequest {
    SubscribeRequest { client_id: "session-1".into(), message_name: event.into(), ..SubscribeRequest::default() }
}

fn unsubscribe_from(event: &str) -> UnsubscribeRequest {
    UnsubscribeRequest { client_id: "session-1".into(), message_name: event.into() }
}

#[tokio::test]
async fn a_node_client_gets_everything_down_its_first_live_stream() {
    let mut engine = Engine::start();
    let mut client = login(engine.open().0, NODE).await;
    let mut first = client.subscribe(by(NODE, subscribe_to("a"))).await.unwrap().into_inner();
    let mut second = client.subscribe(by(NODE, subscribe_to("b"))).await.unwrap().into_inner();
    let third = client.subscribe(by(NODE, subscribe_to("c"))).await.unwrap().into_inner();
    for told in ["login", "subscribe", "subscribe", "subscribe"] {
        match engine.told().await {
            Told::Command(command) => assert_eq!(command.name(), told),
            other => assert!(matches!(other, Told::Login(_)) && told == "login"),
        }
    }
    for (block, event) in [(1, "b"), (2, "a"), (3, "c")] {
        engine.fake.push(1, delivery(event, block));
        let record = first.message().await.unwrap().unwrap();
        assert_eq!((record.message_name.as_str(), record.partition_block), (event, block as i64));
    }

    // Unsubscribed, the first stream still carries the others'.
    assert!(client.unsubscribe(by(NODE, unsubscribe_from("a"))).await.unwrap().into_inner().success);
    assert_eq!(engine.command().await.name(), "unsubscribe");
    engine.fake.push(1, delivery("b", 4));
    assert_eq!(first.message().await.unwrap().unwrap().partition_block, 4);

    // When it is gone, the next one takes over.
    drop(first);
    drop(third);
    assert_eq!(engine.command().await, Command::Unsubscribe { event: name("c") });
    assert_eq!(engine.command().await, Command::Release { event: name("c") });
    engine.fake.push(1, delivery("b", 5));
    assert_eq!(second.message().await.unwrap().unwrap().partition_block, 5);

    // The last subscription's end ends its stream.
    client.unsubscribe(by(NODE, unsubscribe_from("b"))).await.unwrap();
    assert!(second.message().await.unwrap().is_none());
}

#[tokio::test]
async fn everybody_else_gets_a_stream_each() {
    let mut engine = Engine::start();
    let mut client = login(engine.open().0, PYTHON).await;
    let mut a = client.subscribe(by(PYTHON, subscribe_to("a"))).await.unwrap().into_inner();
    let mut b = client.subscribe(by(PYTHON, subscribe_to("b"))).await.unwrap().into_inner();
    engine.fake.push(1, delivery("b", 1));
    engine.fake.push(1, delivery("a", 2));
    let record = a.message().await.unwrap().unwrap();
    assert_eq!(record.message_name, "a");
    assert_eq!(record.metadata, r#"{"headers":{"h":1.0},"persist":true}"#);
    assert_eq!((record.sender.as_str(), record.logged_at, record.attempt), (KEY, 1_758_410_511_179, 2));
    assert_eq!(b.message().await.unwrap().unwrap().message_name, "b");
    client.unsubscribe(by(PYTHON, unsubscribe_from("a"))).await.unwrap();
    assert!(a.message().await.unwrap().is_none());
    engine.fake.end(1);
    let status = b.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("unavailable: "), "{status}");
    let _ = engine.is_quiet();
}

#[tokio::test]
async fn a_replay_comes_in_the_form_that_the_caller_reads() {
    let engine = Engine::start();
    let mut client = login(engine.open().0, PYTHON).await;
    let request =
        || ReplayRequest { client_id: "session-1".into(), message_idem: "i-7".into(), message_name: "a/b".into() };
    let bare = client.replay_event(by(PYTHON, request())).await.unwrap().into_inner();
    assert_eq!((bare.success, bare.message_data.as_str()), (true, "e30="));
    for agent in [NODE, "ensync-rust/0.1.0", "anything"] {
        let json = client.replay_message(by(agent, request())).await.unwrap().into_inner().message_data;
        let record: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(record["message_idem"], "i-7");
        assert_eq!(record["message_name"], "a/b");
        assert_eq!(record["partition_block"], "3");
        assert_eq!(record["payload"], "e30=");
        let metadata: serde_json::Value = serde_json::from_str(record["metadata"].as_str().unwrap()).unwrap();
        assert_eq!(metadata["persist"], true);
        assert_eq!(record["sender"], KEY);
    }
}

#[tokio::test]
async fn the_earlier_names_do_the_same() {
    let mut engine = Engine::start();
    let mut client = login(engine.open().0, PYTHON).await;
    engine.told().await;
    let client_id = "session-1".to_owned();
    let publish = PublishRequest {
        client_id: client_id.clone(),
        message_name: "a".into(),
        payload: "e30=".into(),
        delivery_to: KEY.into(),
        metadata: "{}".into(),
        ..PublishRequest::default()
    };
    assert_eq!(client.publish_event(publish).await.unwrap().into_inner().message_idem, "i-1");
    let ack = AcknowledgeRequest { client_id, message_idem: "i-1".into(), partition_block: 0, ..Default::default() };
    assert!(client.acknowledge_event(ack).await.unwrap().into_inner().success);
    assert_eq!(engine.command().await.name(), "publish");
    let Command::Settle(settle) = engine.command().await else { panic!("no settlement") };
    assert_eq!((settle.block, settle.how), (None, Settlement::Ack));
}

#[tokio::test]
async fn an_unknown_session_is_refused_in_the_words_of_each_call() {
    let engine = Engine::start();
    let mut client = raw(engine.open().0).await;
    for client_id in ["session-1", "", "a;b"] {
        let client_id = client_id.to_owned();
        let beat = client.heartbeat(HeartbeatRequest { client_id: client_id.clone() }).await.unwrap();
        assert!(!beat.into_inner().success);
        let ack = AcknowledgeRequest { client_id: client_id.clone(), ..AcknowledgeRequest::default() };
        let answer = client.acknowledge_message(ack).await.unwrap().into_inner();
        assert!(!answer.success);
        assert_eq!(Error::from_refusal(&answer.message).kind(), ErrorKind::Unauthenticated);
        let status = client.subscribe(SubscribeRequest { client_id, ..subscribe_to("a") }).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn bad_requests_are_refused_and_reach_nobody() {
    let mut engine = Engine::start();
    let mut client = login(engine.open().0, PYTHON).await;
    engine.told().await;
    let client_id = "session-1".to_owned();

    let publish = PublishRequest { client_id: client_id.clone(), message_name: "a".into(), ..Default::default() };
    let answer = client.publish_message(publish).await.unwrap().into_inner();
    assert_eq!(Error::from_refusal(&answer.error_message).kind(), ErrorKind::InvalidKey);
    let defer =
        DeferRequest { client_id: client_id.clone(), message_idem: "i".into(), delay_ms: -1, ..Default::default() };
    let answer = client.defer_message(defer).await.unwrap().into_inner();
    assert!(!answer.success);
    assert_eq!(Error::from_refusal(&answer.message).kind(), ErrorKind::InvalidInput);
    let discard = DiscardRequest { client_id, message_idem: "i".into(), partition_block: -1, ..Default::default() };
    let answer = client.discard_message(discard).await.unwrap().into_inner();
    assert_eq!(Error::from_refusal(&answer.message).kind(), ErrorKind::InvalidInput);
    let status = client.subscribe(subscribe_to("a//b")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let answer = client.unsubscribe(unsubscribe_from("")).await.unwrap().into_inner();
    assert_eq!(Error::from_refusal(&answer.message).kind(), ErrorKind::InvalidEventName);
    let login = client.connect(ConnectRequest::default()).await.unwrap().into_inner();
    assert_eq!(Error::from_refusal(&login.error_message).kind(), ErrorKind::InvalidKey);
    assert!(engine.is_quiet());
}

#[tokio::test]
async fn a_delivery_without_a_stream_goes_back_after_its_subscription() {
    let mut engine = Engine::start();
    let _client = login(engine.open().0, PYTHON).await;
    engine.told().await;
    engine.fake.push(1, delivery("a", 4));
    assert_eq!(engine.command().await, Command::Unsubscribe { event: name("a") });
    let Command::Settle(Settle { id, block, how, .. }) = engine.command().await else { panic!("no settlement") };
    assert_eq!((id.as_str(), block, how), ("i-4", Some(Block::new(4).unwrap()), Settlement::Release));
}

#[tokio::test]
async fn an_event_that_the_client_cannot_take_is_given_up_and_the_next_one_comes() {
    let large = || ensync_core::WirePayload::from_wire("A".repeat(5 << 20));
    for (agent, takes) in [(NODE, false), (PYTHON, false), ("grpc-go/1.60.0", true), ("ensync-rust/0.1.0", true)] {
        let mut engine = Engine::start();
        let mut client = login(engine.open().0, agent).await;
        client = client.max_decoding_message_size(16 << 20);
        let mut stream = client.subscribe(by(agent, subscribe_to("a"))).await.unwrap().into_inner();
        while engine.command_or_login().await != "subscribe" {}
        engine.fake.push(1, ensync_core::Delivery { payload: large(), ..delivery("a", 1) });
        engine.fake.push(1, delivery("a", 2));
        if takes {
            assert_eq!(stream.message().await.unwrap().unwrap().partition_block, 1);
        } else {
            let Command::Settle(Settle { id, block, how, .. }) = engine.command().await else {
                panic!("no settlement")
            };
            assert_eq!((id.as_str(), block), ("i-1", Some(Block::new(1).unwrap())));
            let Settlement::Discard { reason } = how else { panic!("{how:?}") };
            assert!(reason.contains("more than this gRPC client takes (4194304)"), "{reason}");
        }
        assert_eq!(stream.message().await.unwrap().unwrap().partition_block, 2);
    }
}

#[tokio::test]
async fn a_replay_that_the_client_cannot_take_is_refused() {
    let engine = Engine::start();
    let mut client = login(engine.open().0, PYTHON).await;
    let request =
        ReplayRequest { client_id: "session-1".into(), message_idem: "i-7".into(), message_name: "huge".into() };
    let answer = client.replay_message(by(PYTHON, request)).await.unwrap().into_inner();
    assert_eq!((answer.success, answer.message_data.as_str()), (false, ""));
    assert_eq!(Error::from_refusal(&answer.message).kind(), ErrorKind::PayloadTooLarge);
}
