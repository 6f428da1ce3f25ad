//! More than one URL for an engine.

use std::net::SocketAddr;
use std::time::Duration;

use ensync_client::{Client, Event};
use ensync_core::report;
use ensync_engine::{NewApp, Server, ServerTls};
use ensync_sdk::{Engine, ErrorKind, Scheme};

use crate::ca::Ca;
use crate::middlebox::{Middlebox, Mode};
use crate::world::{n_of, next, soon};

const ORDERS: &str = "orders/placed";

struct Between {
    server: Server,
    app: NewApp,
    grpc: Middlebox,
    ws: Middlebox,
}

fn address(url: &str) -> SocketAddr {
    let authority = url.split("://").nth(1).unwrap().split('/').next().unwrap();
    authority.parse().unwrap()
}

async fn between(server: Server) -> Between {
    let app = server.create_app("shop").await.unwrap();
    let grpc = Middlebox::to(address(&server.grpc_url()), Mode::Open).await;
    let ws = Middlebox::to(address(&server.ws_url()), Mode::Open).await;
    Between { server, app, grpc, ws }
}

impl Between {
    async fn plain() -> Self {
        between(Server::dev().start().await.unwrap()).await
    }

    fn engine(&self) -> Engine {
        let engine = Engine::new(&format!("grpc://{}", self.grpc.address)).unwrap();
        engine.fallback(&format!("ws://{}", self.ws.address)).unwrap().reconnect_interval(Duration::from_millis(5))
    }

    async fn client(&self, engine: &Engine) -> Client {
        soon(engine.create_client(&self.app.app_key).app_secret_key(&self.app.secret_key).into_future()).await.unwrap()
    }
}

/// Sends itself an event, which shows that the whole client works.
async fn works(client: &Client, app: &NewApp, n: u64) -> Event {
    let mut orders = client.subscribe(ORDERS).await.unwrap();
    client.publish(ORDERS, &serde_json::json!({"n": n})).to(app.app_id).await.unwrap();
    let event = next(&mut orders).await;
    assert_eq!(n_of(&event), n);
    event.ack().await.unwrap();
    orders.unsubscribe().await.unwrap();
    event
}

#[tokio::test]
async fn the_first_url_is_used_where_it_leads_there() {
    let between = Between::plain().await;
    let client = between.client(&between.engine()).await;
    assert_eq!(client.endpoint().scheme(), Scheme::Grpc);
    works(&client, &between.app, 1).await;
    assert_eq!((between.grpc.taken(), between.ws.taken()), (1, 0));
}

#[tokio::test]
async fn blocked_http2_leads_to_the_web_socket_and_is_not_asked_again_at_once() {
    let between = Between::plain().await;
    between.grpc.set(Mode::NoHttp2);
    let engine = between.engine();
    let client = between.client(&engine).await;
    assert_eq!(client.endpoint().to_string(), format!("ws://{}/message", between.ws.address));
    works(&client, &between.app, 1).await;
    // Neither by this client's reconnects nor by another client of the engine.
    let session = client.client_id();
    between.ws.set(Mode::Open);
    crate::world::eventually(async || client.client_id().is_some_and(|id| Some(id) != session)).await;
    works(&client, &between.app, 2).await;
    works(&between.client(&engine).await, &between.app, 3).await;
    assert_eq!((between.grpc.taken(), between.ws.taken()), (1, 3));
}

#[tokio::test]
async fn over_tls_too() {
    let ca = Ca::new();
    let (chain, key) = ca.issue(&["localhost"]);
    let tls = ServerTls::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let server = Server::dev().listen_tls("127.0.0.1:0".parse().unwrap(), tls).start().await.unwrap();
    let between = between(server).await;
    for mode in [Mode::NoHttp2, Mode::Closed] {
        between.grpc.set(mode);
        let engine = Engine::new(&format!("grpcs://localhost:{}", between.grpc.address.port())).unwrap();
        let engine = engine.fallback(&format!("wss://localhost:{}", between.ws.address.port())).unwrap();
        let client = between.client(&engine.tls(ca.trusting())).await;
        assert_eq!(client.endpoint().scheme(), Scheme::WebSocket, "{mode:?}");
        works(&client, &between.app, 1).await;
    }
    // A certificate that nobody trusts is no matter of the network.
    between.grpc.set(Mode::Open);
    between.ws.taken();
    let engine = Engine::new(&format!("grpcs://localhost:{}", between.grpc.address.port())).unwrap();
    let engine = engine.fallback(&format!("wss://localhost:{}", between.ws.address.port())).unwrap();
    let error = soon(engine.create_client(&between.app.app_key).into_future()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(error.to_string().contains("issuer is not trusted"), "{error}");
    assert_eq!(between.ws.taken(), 0);
    let _ = between.server;
}

#[tokio::test]
async fn what_takes_and_does_not_answer_gets_its_share_of_the_deadline() {
    let between = Between::plain().await;
    between.grpc.set(Mode::Silent);
    let client = between.client(&between.engine().connect_timeout(Duration::from_secs(1))).await;
    assert_eq!(client.endpoint().scheme(), Scheme::WebSocket);
}

#[tokio::test]
async fn the_engine_s_own_word_is_final() {
    let between = Between::plain().await;
    let error = soon(between.engine().create_client("no-such-key").into_future()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    assert_eq!((between.grpc.taken(), between.ws.taken()), (1, 0));
}

#[tokio::test]
async fn a_subscription_goes_on_by_the_other_url() {
    let between = Between::plain().await;
    let engine = between.engine();
    let client = between.client(&engine).await;
    let mut orders = client.subscribe(ORDERS).await.unwrap();
    for (n, grpc, ws, scheme) in [
        (1, Mode::Open, Mode::Open, Scheme::Grpc),
        (2, Mode::NoHttp2, Mode::Open, Scheme::WebSocket),
        // The winner fails: the first gets another chance.
        (3, Mode::Open, Mode::Closed, Scheme::Grpc),
    ] {
        let session = client.client_id();
        between.ws.set(ws);
        between.grpc.set(grpc);
        crate::world::eventually(async || client.client_id().is_some_and(|id| Some(id) != session)).await;
        client.publish(ORDERS, &serde_json::json!({"n": n})).to(between.app.app_id).await.unwrap();
        let event = next(&mut orders).await;
        assert_eq!((n_of(&event), client.endpoint().scheme()), (n, scheme));
        event.ack().await.unwrap();
    }
}

#[tokio::test]
async fn what_fails_later_names_the_url_that_was_used() {
    let between = Between::plain().await;
    between.grpc.set(Mode::NoHttp2);
    let client = between.client(&between.engine()).await;
    works(&client, &between.app, 1).await;
    between.grpc.set(Mode::Closed);
    between.ws.set(Mode::Closed);
    let publish = client.publish(ORDERS, &1).to(between.app.app_id).timeout(Duration::from_millis(300));
    let text = report(&publish.await.unwrap_err());
    assert!(text.contains(&between.ws.address.to_string()), "{text}");
    assert!(text.starts_with("publish orders/placed at ws://"), "{text}");
}

#[tokio::test]
async fn when_none_leads_there_each_cause_is_told() {
    let between = Between::plain().await;
    between.grpc.set(Mode::NoHttp2);
    between.ws.set(Mode::Closed);
    let error = soon(between.engine().create_client(&between.app.app_key).into_future()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    let text = error.to_string();
    let (grpc, ws) = (between.grpc.address, between.ws.address);
    assert!(text.contains(&format!("grpc://{grpc}: cannot connect")) && text.contains("HTTP/2 handshake"), "{text}");
    assert!(
        text.contains(&format!("ws://{ws}/message: cannot connect")) && text.contains("WebSocket handshake"),
        "{text}"
    );
}

#[test]
fn encryption_is_not_given_up() {
    let error = Engine::new("grpcs://node.example.com").unwrap().fallback("ws://node.example.com").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidUrl);
    assert!(error.to_string().contains("is plaintext and grpcs://node.example.com:443 is TLS"), "{error}");
    for url in ["wss://node.example.com", "ws://localhost:8080"] {
        Engine::new("grpcs://node.example.com").unwrap().fallback(url).unwrap();
    }
}
