//! What `ensync_core::Transport` promises, point by point.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ensync_core::crypto::{self, Recipient};
use ensync_core::{
    Command, Delivery, Endpoint, ErrorKind, Extension, Link, Metadata, PayloadMetadata, Publish, Reply, Settle,
    Settlement, Subscribe, WirePayload,
};
use ensync_engine::{BrokerOptions, EventOptions, Server};
use futures::StreamExt;
use futures::future::{join_all, pending};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::over_every_transport;
use crate::world::{Transport, World, eventually, soon};

const EVENT: &str = "contract/test/event";

over_every_transport!(
    calls_may_overlap,
    each_delivery_field_arrives,
    every_command_is_answered,
    a_lease_is_told_extended_and_fenced,
    what_is_released_is_handed_on_and_does_not_count,
    a_window_in_bytes_is_kept,
    refusals_keep_their_kind,
    what_is_no_base64_is_no_payload,
    an_abandoned_call_disturbs_no_other,
    after_close_every_call_is_closed,
    dropping_the_link_ends_the_session,
    the_engine_ending_ends_the_inbox_once,
);

async fn link(world: &World, app: &ensync_engine::NewApp) -> Link {
    soon(world.connector().connect(&world.endpoint(), &app.app_key)).await.unwrap()
}

fn publish(world: &World, text: &str) -> Command {
    let to = Recipient::new(world.warehouse.app_id).unwrap();
    Command::Publish(Publish {
        event: EVENT.parse().unwrap(),
        recipient: world.warehouse.app_id,
        payload: crypto::seal(text.as_bytes(), &[to]).unwrap().remove(0),
        metadata: Metadata::parse(r#"{"headers":{"a;b":"c}d;"},"persist":true}"#).unwrap(),
        payload_metadata: Some(PayloadMetadata::of_json(text).unwrap()),
        idempotency_key: None,
    })
}

fn subscribe(max_in_flight: Option<u32>) -> Command {
    let max_in_flight = max_in_flight.and_then(NonZeroU32::new);
    Command::Subscribe(Subscribe { event: EVENT.parse().unwrap(), max_in_flight, max_bytes_in_flight: None })
}

fn settle(delivery: &Delivery, how: Settlement) -> Command {
    Command::Settle(Settle {
        id: delivery.id.clone(),
        event: Some(delivery.event.clone()),
        block: Some(delivery.block),
        how,
    })
}

async fn delivery(link: &mut Link) -> Delivery {
    soon(link.inbox.next()).await.unwrap().unwrap()
}

async fn calls_may_overlap(world: World) {
    let link = link(&world, &world.shop).await;
    let texts: Vec<_> = (0..100).map(|n| format!("{{\"n\":{n}}}")).collect();
    let calls = texts.iter().map(|text| link.transport.call(publish(&world, text)));
    let mut ids: Vec<_> = soon(join_all(calls))
        .await
        .into_iter()
        .map(|reply| match reply.unwrap() {
            Reply::Published { id } => id,
            other => panic!("{other:?}"),
        })
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 100, "each call has its own answer");
}

async fn each_delivery_field_arrives(world: World) {
    let shop = link(&world, &world.shop).await;
    let mut stock = link(&world, &world.warehouse).await;
    assert_eq!(stock.welcome.app_id, Some(world.warehouse.app_id));
    stock.transport.call(subscribe(None)).await.unwrap();
    let Command::Publish(sent) = publish(&world, "{}") else { unreachable!() };
    let Reply::Published { id } = shop.transport.call(Command::Publish(sent.clone())).await.unwrap() else {
        panic!("not published")
    };
    let got = delivery(&mut stock).await;
    assert_eq!((got.id, got.event, got.payload), (id, sent.event, sent.payload));
    assert_eq!(got.metadata.fields(), sent.metadata.fields());
    assert_eq!(got.sender, Some(world.shop.app_id));
    assert_eq!(got.recipient, Some(world.warehouse.app_id));
    assert_eq!(got.attempt, Some(1));
    assert!(got.block.as_u64() >= 1);
    assert!(got.timestamp.is_some());
    assert!(is_left(got.lease, Duration::from_secs(60)), "{:?}", got.lease);
}

async fn every_command_is_answered(world: World) {
    let shop = link(&world, &world.shop).await;
    let mut stock = link(&world, &world.warehouse).await;
    let event: ensync_core::EventName = EVENT.parse().unwrap();
    assert_eq!(stock.transport.call(Command::Heartbeat).await.unwrap(), Reply::Done);
    assert_eq!(stock.transport.call(subscribe(Some(8))).await.unwrap(), Reply::Done);
    for text in ["1", "2", "3", "4"] {
        shop.transport.call(publish(&world, text)).await.unwrap();
    }
    let (first, second, third, fourth) = (
        delivery(&mut stock).await,
        delivery(&mut stock).await,
        delivery(&mut stock).await,
        delivery(&mut stock).await,
    );
    let call = |command| soon(stock.transport.call(command));
    let defer = |ms| Settlement::Defer {
        delay: ensync_core::Delay::from_millis(ms).unwrap(),
        priority: 0,
        reason: "later; much later".into(),
    };
    let Reply::Deferred { until } = call(settle(&second, defer(60_000))).await.unwrap() else { panic!("not deferred") };
    assert!(until.unwrap() > second.timestamp.unwrap(), "the engine said when");
    assert_eq!(call(settle(&first, Settlement::Ack)).await.unwrap(), Reply::Done);
    let discard = Settlement::Discard { reason: "bad;BLOCK=:1\nreason".into() };
    assert_eq!(call(settle(&third, discard)).await.unwrap(), Reply::Done);
    // Over gRPC a rollback travels as a defer by 0, and is answered as one.
    let rolled = call(settle(&fourth, Settlement::Rollback)).await.unwrap();
    assert!(matches!(rolled, Reply::Done | Reply::Deferred { .. }), "{rolled:?}");
    let again = soon(stock.inbox.next()).await.unwrap().unwrap();
    assert_eq!((again.id, again.attempt), (fourth.id.clone(), Some(2)));
    let call = |command| soon(stock.transport.call(command));
    let Reply::Replayed(replayed) = call(Command::Replay { id: first.id.clone(), event: event.clone() }).await.unwrap()
    else {
        panic!("not replayed")
    };
    assert_eq!((replayed.id, replayed.payload), (first.id, first.payload));
    assert_eq!(replayed.metadata.replay_info().unwrap().was_acknowledged, Some(true));
    for command in [
        Command::Pause { event: event.clone(), reason: "a;b".into() },
        Command::Continue { event: event.clone() },
        Command::Unsubscribe { event },
    ] {
        assert_eq!(call(command).await.unwrap(), Reply::Done);
    }
}

/// Whether that is what may be left of a lease when it arrives: the way took a moment.
fn is_left(lease: Option<Duration>, whole: Duration) -> bool {
    lease.is_some_and(|left| left > Duration::ZERO && left <= whole)
}

async fn a_lease_is_told_extended_and_fenced(world: World) {
    let options = EventOptions { ack_timeout: Some(Duration::from_millis(1_500)), ..EventOptions::default() };
    world.server.register_event(EVENT, options).await.unwrap();
    let (shop, mut stock) = (link(&world, &world.shop).await, link(&world, &world.warehouse).await);
    assert!(stock.welcome.config.has(Extension::Leases));
    stock.transport.call(subscribe(None)).await.unwrap();
    shop.transport.call(publish(&world, "1")).await.unwrap();
    let held = delivery(&mut stock).await;
    let lease = Some(Duration::from_millis(1_500));
    assert!(is_left(held.lease, Duration::from_millis(1_500)), "{:?}", held.lease);
    let extend = |delivery: &Delivery| settle(delivery, Settlement::Extend);
    for _ in 0..2 {
        assert_eq!(soon(stock.transport.call(extend(&held))).await.unwrap(), Reply::Extended { lease });
    }
    stock.transport.call(settle(&held, Settlement::Rollback)).await.unwrap();
    let again = delivery(&mut stock).await;
    let late = soon(stock.transport.call(extend(&held))).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::StaleDelivery, "{late}");
    assert_eq!(soon(stock.transport.call(extend(&again))).await.unwrap(), Reply::Extended { lease });
    stock.transport.call(settle(&again, Settlement::Ack)).await.unwrap();
}

async fn what_is_released_is_handed_on_and_does_not_count(world: World) {
    let options = EventOptions { max_deliveries: NonZeroU32::new(1), ..EventOptions::default() };
    world.server.register_event(EVENT, options).await.unwrap();
    let (shop, mut stock) = (link(&world, &world.shop).await, link(&world, &world.warehouse).await);
    stock.transport.call(subscribe(None)).await.unwrap();
    shop.transport.call(publish(&world, "1")).await.unwrap();
    for attempt in 1..=5 {
        let held = delivery(&mut stock).await;
        assert_eq!(held.attempt, Some(attempt));
        let release = settle(&held, Settlement::Release);
        assert_eq!(soon(stock.transport.call(release.clone())).await.unwrap(), Reply::Done);
        assert_eq!(soon(stock.transport.call(release)).await.unwrap_err().kind(), ErrorKind::StaleDelivery);
    }
    // Rolled back, it counts.
    let held = delivery(&mut stock).await;
    stock.transport.call(settle(&held, Settlement::Rollback)).await.unwrap();
    let dead = async || world.server.queue(EVENT, world.warehouse.app_id).await.unwrap().unwrap().dead == 1;
    eventually(dead).await;
}

async fn a_window_in_bytes_is_kept(world: World) {
    let (shop, mut stock) = (link(&world, &world.shop).await, link(&world, &world.warehouse).await);
    let event = EVENT.parse().unwrap();
    let max_bytes_in_flight = NonZeroU64::new(1);
    stock
        .transport
        .call(Command::Subscribe(Subscribe { event, max_in_flight: None, max_bytes_in_flight }))
        .await
        .unwrap();
    for text in ["1", "2", "3"] {
        shop.transport.call(publish(&world, text)).await.unwrap();
    }
    // One is always let through.
    for left in [2, 1, 0] {
        let held = delivery(&mut stock).await;
        let queue = world.server.queue(EVENT, world.warehouse.app_id).await.unwrap().unwrap();
        assert_eq!((queue.in_flight, queue.ready), (1, left));
        stock.transport.call(settle(&held, Settlement::Ack)).await.unwrap();
    }
}

async fn refusals_keep_their_kind(world: World) {
    let stock = link(&world, &world.warehouse).await;
    let event: ensync_core::EventName = EVENT.parse().unwrap();
    let ack = |block: u64| {
        Command::Settle(Settle {
            id: "no-such-event".parse().unwrap(),
            event: None,
            block: Some(ensync_core::Block::new(block).unwrap()),
            how: Settlement::Ack,
        })
    };
    for (command, kind) in [
        (Command::Replay { id: "no-such-event".parse().unwrap(), event }, ErrorKind::NotFound),
        (ack(1), ErrorKind::NotFound),
    ] {
        let error = soon(stock.transport.call(command)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

async fn what_is_no_base64_is_no_payload(world: World) {
    let shop = link(&world, &world.shop).await;
    let Command::Publish(good) = publish(&world, "{}") else { unreachable!() };
    for payload in [&b""[..], b"e30=;A=:b", b"{}", "e30=é".as_bytes(), b"e30\xff", b"\xc3\x28"] {
        let payload = ensync_core::WirePayload::from_wire(payload.to_vec());
        let error = soon(shop.transport.call(Command::Publish(Publish { payload, ..good.clone() }))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedEnvelope, "{error}");
        assert!(error.to_string().contains("base64"), "{error}");
    }
    soon(shop.transport.call(Command::Publish(good))).await.unwrap();
}

async fn an_abandoned_call_disturbs_no_other(world: World) {
    let shop = link(&world, &world.shop).await;
    for n in 0..20 {
        let text = format!("{{\"n\":{n}}}");
        let mut abandoned = Box::pin(shop.transport.call(publish(&world, &text)));
        // Polled once, so that the command is on its way, and dropped.
        assert!(futures::poll!(&mut abandoned).is_pending() || world.transport == Transport::InProcess);
        drop(abandoned);
        let event = EVENT.parse().unwrap();
        let error =
            soon(shop.transport.call(Command::Replay { id: "none".parse().unwrap(), event })).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "the answer of another call came: {error}");
    }
}

async fn after_close_every_call_is_closed(world: World) {
    let mut stock = link(&world, &world.warehouse).await;
    stock.transport.call(subscribe(None)).await.unwrap();
    soon(stock.transport.close()).await;
    let left: Vec<_> = soon(stock.inbox.by_ref().collect::<Vec<_>>()).await;
    assert!(left.iter().all(Result::is_ok), "a close is no failure");
    for _ in 0..2 {
        let error = soon(stock.transport.call(Command::Heartbeat)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
}

async fn dropping_the_link_ends_the_session(world: World) {
    let shop = link(&world, &world.shop).await;
    shop.transport.call(publish(&world, "1")).await.unwrap();
    let mut first = link(&world, &world.warehouse).await;
    first.transport.call(subscribe(None)).await.unwrap();
    let held = delivery(&mut first).await;
    let mut second = link(&world, &world.warehouse).await;
    second.transport.call(subscribe(None)).await.unwrap();
    drop(first);
    let again = delivery(&mut second).await;
    assert_eq!((again.id, again.attempt), (held.id, Some(2)), "what the dropped link held is handed on");
    assert_ne!(again.block, held.block);
}

async fn the_engine_ending_ends_the_inbox_once(world: World) {
    let mut stock = link(&world, &world.warehouse).await;
    stock.transport.call(subscribe(None)).await.unwrap();
    soon(world.server.shutdown()).await;
    let rest = soon(stock.inbox.by_ref().collect::<Vec<_>>()).await;
    assert!(rest.len() <= 1, "{rest:?}");
    assert!(soon(stock.inbox.next()).await.is_none());
    eventually(async || stock.transport.call(Command::Heartbeat).await.unwrap_err().kind() == ErrorKind::Closed).await;
}

/// Between a link and an engine: can withhold what the engine says, and cut the connection.
struct Proxy {
    endpoint: Endpoint,
    accepted: Arc<AtomicUsize>,
    mute: CancellationToken,
    cut: CancellationToken,
}

impl Proxy {
    async fn to(engine: &Endpoint) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let endpoint = engine.to_string().replace(&engine.authority(), &address).parse().unwrap();
        let proxy = Self { endpoint, accepted: Arc::default(), mute: <_>::default(), cut: <_>::default() };
        let (accepted, mute, cut) = (proxy.accepted.clone(), proxy.mute.clone(), proxy.cut.clone());
        let engine = engine.authority();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                let mut far = TcpStream::connect(&engine).await.unwrap();
                let (mute, cut) = (mute.clone(), cut.clone());
                tokio::spawn(async move {
                    let ((mut asked, mut answer), (mut answered, mut ask)) = (near.split(), far.split());
                    let answers = async {
                        tokio::select! {
                            biased;
                            () = mute.cancelled() => pending().await,
                            _ = tokio::io::copy(&mut answered, &mut answer) => {}
                        }
                    };
                    tokio::select! {
                        _ = tokio::io::copy(&mut asked, &mut ask) => {}
                        () = answers => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
        });
        proxy
    }
}

async fn a_call_under_way_is_interrupted_and_not_retried(transport: Transport) {
    let world = World::start(transport).await;
    let proxy = Proxy::to(&world.endpoint()).await;
    let connector = world.connector_to(&proxy.endpoint);
    let mut link = soon(connector.connect(&proxy.endpoint, &world.shop.app_key)).await.unwrap();
    let published = async || match world.server.queue(EVENT, world.warehouse.app_id).await.unwrap() {
        Some(queue) => queue.counters.published,
        None => 0,
    };
    proxy.mute.cancel();
    let call = tokio::spawn({
        let (transport, command) = (link.transport.clone(), publish(&world, "1"));
        async move { transport.call(command).await }
    });
    eventually(async || published().await == 1).await;
    assert!(!call.is_finished(), "the answer is withheld");
    proxy.cut.cancel();
    let error = soon(call).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    let rest = soon(link.inbox.by_ref().collect::<Vec<_>>()).await;
    assert!(matches!(rest.as_slice(), [Err(_)]), "{rest:?}");
    let error = soon(link.transport.call(publish(&world, "2"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert_eq!(published().await, 1, "neither call was tried again");
    assert_eq!(proxy.accepted.load(Ordering::Relaxed), 1, "nor was the connection");
}

#[tokio::test]
async fn a_grpc_call_under_way_is_interrupted_and_not_retried() {
    a_call_under_way_is_interrupted_and_not_retried(Transport::Grpc).await;
}

#[tokio::test]
async fn a_web_socket_call_under_way_is_interrupted_and_not_retried() {
    a_call_under_way_is_interrupted_and_not_retried(Transport::WebSocket).await;
}

/// The server refuses to promise more: see `ServerBuilder::start`.
async fn the_largest_payload_travels(transport: Transport) {
    let mut options = BrokerOptions::dev();
    let most = (16 << 20) - 6 * options.limits.max_metadata_bytes - (64 << 10);
    options.limits.max_payload_bytes = most + 1;
    let error = Server::dev().options(options.clone()).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(&format!("leaves {most} bytes")), "{error}");
    options.limits.max_payload_bytes = most;
    let metadata = format!(r#"{{"headers":{{"a":"{}"}}}}"#, "a".repeat(options.limits.max_metadata_bytes - 20));
    let world = World::around(Server::dev().options(options).start().await.unwrap(), transport).await;
    let (shop, mut stock) = (link(&world, &world.shop).await, link(&world, &world.warehouse).await);
    stock.transport.call(subscribe(None)).await.unwrap();
    let Command::Publish(small) = publish(&world, "1") else { unreachable!() };
    let large = Publish {
        payload: WirePayload::from_wire("A".repeat(most)),
        metadata: Metadata::parse(&metadata).unwrap(),
        payload_metadata: None,
        ..small
    };
    soon(shop.transport.call(Command::Publish(large))).await.unwrap();
    let got = delivery(&mut stock).await;
    assert_eq!(got.payload.len(), most);
    let replay = Command::Replay { id: got.id, event: got.event };
    soon(stock.transport.call(replay)).await.unwrap();
}

#[tokio::test]
async fn the_largest_payload_travels_over_grpc() {
    the_largest_payload_travels(Transport::Grpc).await;
}

#[tokio::test]
async fn the_largest_payload_travels_over_web_socket() {
    the_largest_payload_travels(Transport::WebSocket).await;
}
