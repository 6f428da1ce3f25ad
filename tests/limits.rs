//! What connections and apps may use up, and what whoever exceeds it is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

use ensync_core::{AppKey, Endpoint, ErrorKind};
use ensync_engine::{BrokerOptions, ConnectionLimits, Rate, Server};
use ensync_sdk::{Engine, RetryPolicy};
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite;

use crate::over_every_transport;
use crate::raw::grpc::Grpc;
use crate::raw::proto::Message;
use crate::raw::ws::Ws;
use crate::world::{Transport, World, eventually, publish, soon};

over_every_transport!(an_app_that_publishes_too_fast_is_told_when_to_go_on, sessions_of_an_app_are_limited);

async fn limited(transport: Transport, change: impl FnOnce(&mut BrokerOptions)) -> World {
    let mut options = BrokerOptions::dev();
    change(&mut options);
    World::around(Server::dev().options(options).start().await.unwrap(), transport).await
}

async fn an_app_that_publishes_too_fast_is_told_when_to_go_on(world: World) {
    let rate = Rate { per_second: NonZeroU32::new(1).unwrap(), burst: NonZeroU32::new(3).unwrap() };
    let world = limited(world.transport, |options| options.limits.publish_rate = Some(rate)).await;
    let (till, stock) = world.clients().await;
    for n in 0..3 {
        publish(&world, &till, "a/b", n).await.unwrap();
    }
    // A client outlasts the limit, unless it is told not to.
    let once = till.publish("a/b", &3).to(world.warehouse.app_id).retry(RetryPolicy::never());
    let error = once.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("publish_rate") && error.to_string().contains("try again in"), "{error}");
    publish(&world, &stock, "a/b", 4).await.unwrap();
    assert_eq!(world.server.connection_counts().publishes_limited, 1);
}

async fn sessions_of_an_app_are_limited(world: World) {
    let world = limited(world.transport, |options| options.limits.max_sessions_per_app = 1).await;
    let till = world.client(&world.shop).await;
    let again = || world.engine().create_client(&world.shop.app_key).into_future();
    let error = soon(again()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    assert!(error.to_string().contains("max_sessions_per_app"), "{error}");
    world.client(&world.warehouse).await;
    assert_eq!(world.server.connection_counts().sessions_refused, 1);
    till.close().await.unwrap();
    soon(again()).await.unwrap();
}

/// Both transports, each with a server of its own.
async fn each_wire(limits: ConnectionLimits) -> [World; 2] {
    let start = async |transport| {
        let server = Server::dev().connection_limits(limits.clone()).start().await.unwrap();
        World::around(server, transport).await
    };
    [start(Transport::Grpc).await, start(Transport::WebSocket).await]
}

#[tokio::test]
async fn connections_are_limited_in_all_and_per_address() {
    let (mut full, mut per_address) = (ConnectionLimits::default(), ConnectionLimits::default());
    (full.max_connections, per_address.max_connections_per_address) = (2, 2);
    for (limits, name, by_address) in
        [(full, "max_connections)", false), (per_address, "max_connections_per_address)", true)]
    {
        for world in each_wire(limits).await {
            let held = [world.client(&world.shop).await, world.client(&world.warehouse).await];
            let client = world.engine().create_client(&world.shop.app_key);
            let error = soon(client.into_future()).await.unwrap_err();
            match world.transport {
                Transport::Grpc => {
                    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
                    assert!(error.to_string().contains(name), "{error}");
                }
                // A WebSocket that is not opened has a status only.
                _ => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    assert!(error.to_string().contains("503"), "{error}");
                }
            }
            assert!(error.is_retryable());
            let elsewhere = from(Ipv4Addr::new(127, 0, 0, 77), world.server.addresses().next().unwrap()).await;
            let answered = Grpc::over(elsewhere).await.unwrap().call("Heartbeat", &Message::new()).await.unwrap();
            assert_eq!(answered.status == "0", by_address, "another address: {answered:?}");
            // Those that are there go on, and leave room when they go.
            let [shop, warehouse] = held;
            publish(&world, &shop, "a/b", 1).await.unwrap();
            shop.close().await.unwrap();
            warehouse.close().await.unwrap();
            eventually(async || world.server.connection_counts().open == 0).await;
            world.client(&world.shop).await;
            let counts = world.server.connection_counts();
            let refused = counts.refused_full + counts.refused_address;
            assert_eq!(refused, if by_address { 1 } else { 2 }, "{counts:?}");
        }
    }
}

/// A connection from an address of this machine's own network.
async fn from(address: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn messages_are_limited_in_size() {
    let (mut options, mut limits) = (BrokerOptions::dev(), ConnectionLimits::default());
    limits.max_message_bytes = 1 << 20;
    let error = Server::dev().connection_limits(limits.clone()).start().await.unwrap_err();
    assert!(error.to_string().contains("carry messages of 1048576 bytes"), "payloads would not fit: {error}");
    options.limits.max_payload_bytes = 512 << 10;
    let server = Server::dev().options(options).connection_limits(limits).start().await.unwrap();
    let app = server.create_app("shop").await.unwrap();
    let address = server.addresses().next().unwrap();
    let mut grpc = Grpc::connect(address).await;
    let id = grpc.log_in(app.app_key.expose()).await;
    for (bytes, status) in [(900 << 10, "0"), (1 << 20, "11")] {
        let message = Message::new().text(1, &id).text(2, "a/b").text(3, &"A".repeat(bytes));
        let answer = soon(grpc.call("PublishMessage", &message)).await.unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(status == "0" || answer.text.contains("the limit is: 1048576 bytes"), "{answer:?}");
    }
    let mut ws = Ws::connect(address).await;
    ws.log_in(app.app_key.expose()).await;
    assert!(soon(ws.ask(&"A".repeat(900 << 10))).await.starts_with("-FAIL:protocol"));
    ws.0.send(tungstenite::Message::text("A".repeat((1 << 20) + 1))).await.unwrap();
    let Some(Ok(tungstenite::Message::Close(Some(close)))) = soon(ws.0.next()).await else { panic!("no goodbye") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (1009, "the frame is too long"));
}

#[tokio::test]
async fn connections_are_counted_by_what_they_speak() {
    for world in each_wire(ConnectionLimits::default()).await {
        let client = world.client(&world.shop).await;
        let counts = world.server.connection_counts();
        let speaks = if world.transport == Transport::Grpc { (1, 0) } else { (0, 1) };
        assert_eq!((counts.open, counts.accepted, counts.logins), (1, 1, 1));
        assert_eq!((counts.open_grpc, counts.open_websocket), speaks);
        client.close().await.unwrap();
        eventually(async || world.server.connection_counts().open == 0).await;
        let counts = world.server.connection_counts();
        assert_eq!((counts.open_grpc, counts.open_websocket, counts.accepted), (0, 0, 1));
    }
}

#[tokio::test]
async fn who_guesses_keys_waits_and_nobody_beside_him() {
    for transport in [Transport::Grpc, Transport::WebSocket] {
        let world = limited(transport, |options| options.limits.login_failures = 3).await;
        let login = async |key: &str| {
            let key = AppKey::parse(key).unwrap();
            soon(world.engine().create_client(&key).into_future()).await
        };
        for _ in 0..3 {
            assert_eq!(login("wrong").await.unwrap_err().kind(), ErrorKind::Unauthenticated);
        }
        let error = login("wrong").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        assert!(error.is_retryable());
        assert!(error.to_string().contains("login_failures is 3"), "{error}");
        // Who has a right key does not pay for his neighbour's wrong one.
        login(world.shop.app_key.expose()).await.unwrap();
        let other = from(Ipv4Addr::new(127, 0, 0, 77), world.server.addresses().next().unwrap()).await;
        let mut other = Grpc::over(other).await.unwrap();
        other.log_in(world.shop.app_key.expose()).await;
        // In the process there are no addresses.
        let endpoint: Endpoint = world.endpoint();
        let local = ensync_client::Engine::with_connector(endpoint, std::sync::Arc::new(world.server.in_process()));
        soon(local.create_client(&world.shop.app_key).into_future()).await.unwrap();
        let counts = world.server.connection_counts();
        assert_eq!((counts.logins, counts.logins_refused, counts.logins_delayed), (3, 4, 1));
    }
}

#[tokio::test]
async fn plaintext_where_others_hear_must_be_allowed() {
    let everywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let error = Server::dev().listen(everywhere).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("0.0.0.0:0 without TLS") && error.to_string().contains("--insecure"), "{error}");
    let server = Server::dev().listen(everywhere).allow_plaintext().start().await.unwrap();
    let app = server.create_app("shop").await.unwrap();
    soon(Engine::new(&server.grpc_url()).unwrap().create_client(&app.app_key).into_future()).await.unwrap();
}
