//! Commands, replies and deliveries cross the wire whole.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use ensync_core::*;
use futures::StreamExt;

use super::fake::*;
use crate::ServerOptions;

#[tokio::test]
async fn every_command_arrives_as_it_was_given() {
    let mut engine = Engine::start();
    let (link, _serving) = engine.link().await;
    let settle = |how| {
        Command::Settle(Settle {
            id: EventId::parse("i-3").unwrap(),
            event: Some(name("a/b")),
            block: Some(Block::new(3).unwrap()),
            how,
        })
    };
    let full = Command::Publish(Publish {
        event: name("a/b"),
        recipient: AppId::parse(KEY).unwrap(),
        payload: WirePayload::from_wire("e30="),
        metadata: Metadata::parse(r#"{"headers":{"h":1.0}}"#).unwrap(),
        payload_metadata: Some(PayloadMetadata::of_json(r#"{"a":1}"#).unwrap()),
        idempotency_key: Some(IdempotencyKey::parse("once").unwrap()),
    });
    let published = Reply::Published { id: EventId::parse("i-1").unwrap() };
    let deferred = |ms| Reply::Deferred { until: Some(Timestamp::from_millis(ms)) };
    for (command, reply) in [
        (Command::Heartbeat, Reply::Done),
        (full, published.clone()),
        (publish("a"), published),
        (
            Command::Subscribe(Subscribe {
                event: name("a/b"),
                max_in_flight: NonZeroU32::new(5),
                max_bytes_in_flight: NonZeroU64::new(1 << 40),
            }),
            Reply::Done,
        ),
        (subscribe("c"), Reply::Done),
        (settle(Settlement::Ack), Reply::Done),
        (
            settle(Settlement::Defer {
                delay: Delay::from_millis(2_000).unwrap(),
                priority: -1,
                reason: "later; é".into(),
            }),
            deferred(3_000),
        ),
        (settle(Settlement::Discard { reason: "never".into() }), Reply::Done),
        (settle(Settlement::Release), Reply::Done),
        (settle(Settlement::Extend), Reply::Extended { lease: Some(Duration::from_millis(1_500)) }),
        (
            Command::Settle(Settle {
                id: EventId::parse("i").unwrap(),
                event: None,
                block: None,
                how: Settlement::Ack,
            }),
            Reply::Done,
        ),
        (
            Command::Replay { id: EventId::parse("i-9").unwrap(), event: name("a/b") },
            Reply::Replayed(Box::new(Delivery {
                id: EventId::parse("i-9").unwrap(),
                lease: None,
                ..delivery("a/b", 3)
            })),
        ),
        (Command::Pause { event: name("a/b"), reason: "lunch".into() }, Reply::Done),
        (Command::Continue { event: name("a/b") }, Reply::Done),
        (Command::Unsubscribe { event: name("a/b") }, Reply::Done),
    ] {
        assert_eq!(link.transport.call(command.clone()).await.unwrap(), reply, "{command:?}");
        assert_eq!(engine.command().await, command);
    }
    assert!(engine.is_quiet());
}

#[tokio::test]
async fn a_rollback_is_a_defer_by_nothing() {
    let mut engine = Engine::start();
    let (link, _serving) = engine.link().await;
    let settle = |how| Settle { id: EventId::parse("i").unwrap(), event: None, block: None, how };
    let reply = link.transport.call(Command::Settle(settle(Settlement::Rollback))).await.unwrap();
    assert_eq!(reply, Reply::Done);
    let how = Settlement::Defer { delay: Delay::NONE, priority: 0, reason: String::new() };
    assert_eq!(engine.command().await, Command::Settle(settle(how)));
}

#[tokio::test]
async fn what_an_engine_did_not_announce_is_not_sent() {
    let mut engine = Engine::start_plain();
    let (link, _serving) = engine.link().await;
    for how in [Settlement::Extend, Settlement::Release] {
        let settle = Settle { id: EventId::parse("i").unwrap(), event: None, block: None, how };
        let error = link.transport.call(Command::Settle(settle)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("did not announce \"leases\""), "{error}");
    }
    assert!(engine.is_quiet());
}

#[tokio::test]
async fn refusals_keep_their_kind_and_words() {
    let mut engine = Engine::start();
    let (link, _serving) = engine.link().await;
    let stale = Settle {
        id: EventId::parse("i").unwrap(),
        event: None,
        block: Some(Block::new(99).unwrap()),
        how: Settlement::Ack,
    };
    for (command, kind, text) in [
        (publish("refused"), ErrorKind::SchemaMismatch, "no: field a"),
        (subscribe("unknown"), ErrorKind::UnknownEvent, "unknown is not registered"),
        (Command::Settle(stale), ErrorKind::StaleDelivery, "another has it"),
    ] {
        let error = link.transport.call(command).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
    }
    // The link goes on.
    link.transport.call(Command::Heartbeat).await.unwrap();
}

/// A field of text can carry no other bytes: they would go out as nothing.
#[tokio::test]
async fn what_is_no_base64_is_not_sent() {
    let mut engine = Engine::start();
    let (link, _serving) = engine.link().await;
    let Command::Publish(good) = publish("a") else { unreachable!() };
    for payload in [&b"e30\xff"[..], b"\xc3", b"{}", b""] {
        let payload = WirePayload::from_wire(payload.to_vec());
        let error = link.transport.call(Command::Publish(Publish { payload, ..good.clone() })).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedEnvelope, "{error}");
    }
    assert!(engine.is_quiet());
}

#[tokio::test]
async fn deliveries_of_all_subscriptions_come_whole_to_one_inbox() {
    let mut engine = Engine::start();
    let (mut link, _serving) = engine.link().await;
    let bare = Delivery {
        metadata: Metadata::default(),
        sender: None,
        recipient: None,
        timestamp: None,
        attempt: None,
        lease: None,
        ..delivery("c", 1)
    };
    for event in ["a/b", "c"] {
        link.transport.call(subscribe(event)).await.unwrap();
    }
    for sent in [delivery("a/b", Block::MAX), bare] {
        engine.fake.push(1, sent.clone());
        assert_eq!(link.inbox.next().await.unwrap().unwrap(), sent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_arrives() {
    let mut engine = Engine::start();
    let (mut link, _serving) = engine.link().await;
    link.transport.call(subscribe("a")).await.unwrap();
    let leased = Delivery { lease: Some(Duration::from_secs(60)), ..delivery("a", 1) };
    engine.fake.push(1, leased.clone());
    assert_eq!(link.inbox.next().await.unwrap().unwrap(), leased);
}

#[tokio::test]
async fn many_events_wait_without_holding_up_calls() {
    let mut engine = Engine::start();
    let (mut link, _serving) = engine.link().await;
    link.transport.call(subscribe("a")).await.unwrap();
    let payload = WirePayload::from_wire("A".repeat(100_000));
    for block in 1..=200 {
        engine.fake.push(1, Delivery { payload: payload.clone(), ..delivery("a", block) });
    }
    // 20 MB wait for a reader; an answer must still get through.
    link.transport.call(publish("b")).await.unwrap();
    for block in 1..=200 {
        assert_eq!(link.inbox.next().await.unwrap().unwrap().block.as_u64(), block);
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_on_either_side() {
    let big = |bytes| match publish("a") {
        Command::Publish(publish) => {
            Command::Publish(Publish { payload: WirePayload::from_wire("A".repeat(bytes)), ..publish })
        }
        other => other,
    };
    let mut engine = Engine::start_with(ServerOptions { max_message_bytes: 10_000, ..ServerOptions::default() });
    let (link, _serving) = engine.link().await;
    for bytes in [20_000, 17 * 1024 * 1024] {
        let error = link.transport.call(big(bytes)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PayloadTooLarge, "{error}");
        assert!(error.to_string().contains("bytes"), "{error}");
    }
    link.transport.call(big(9_000)).await.unwrap();
}
