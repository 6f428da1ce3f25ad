//! `ensync_engine::testing`, as a user's test uses it: real clients over real sockets, in a runtime with several threads.

use std::sync::Arc;
use std::time::Duration;

use ensync_client::{Client, Custom, Dialer, Engine, Transports};
use ensync_core::{Connector, Endpoint, ErrorKind};
use ensync_engine::NewApp;
use ensync_engine::testing::TestEngine;
use serde_json::json;

use crate::world::{Transport, eventually, n_of, next, soon};

const ORDERS: &str = "orders/status/updated";

struct Kit {
    engine: TestEngine,
    shop: NewApp,
    warehouse: NewApp,
    transport: Transport,
}

impl Kit {
    async fn start(transport: Transport) -> Self {
        let engine = TestEngine::start().await.unwrap();
        let (shop, warehouse) =
            (engine.create_app("shop").await.unwrap(), engine.create_app("warehouse").await.unwrap());
        Self { engine, shop, warehouse, transport }
    }

    fn client_engine(&self) -> Engine<Custom> {
        let url = if self.transport == Transport::WebSocket { self.engine.ws_url() } else { self.engine.grpc_url() };
        let endpoint: Endpoint = url.parse().unwrap();
        let connector: Arc<dyn Connector> = match self.transport {
            Transport::Grpc => ensync_grpc::Grpc::connector(&endpoint, Dialer::default()).unwrap(),
            Transport::WebSocket => ensync_ws::Ws::connector(&endpoint, Dialer::default()).unwrap(),
            Transport::InProcess => Arc::new(self.engine.in_process()),
        };
        Engine::with_connector(endpoint, connector).reconnect_interval(Duration::from_millis(5))
    }

    async fn client(&self, app: &NewApp) -> Client {
        let engine = self.client_engine();
        soon(engine.create_client(&app.app_key).app_secret_key(&app.secret_key).into_future()).await.unwrap()
    }

    async fn publish(&self, till: &Client, n: u64) {
        soon(till.publish(ORDERS, &json!({"n": n})).to(self.warehouse.app_id).into_future()).await.unwrap();
    }
}

macro_rules! over {
    ($($transport:ident / $module:ident: $($name:ident),*;)*) => {$(
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Kit::start(crate::world::Transport::$transport).await).await })*
        }
    )*};
}

over! {
    Grpc / grpc: time_passes_when_it_is_let, a_cut_connection_comes_back, one_app_is_cut, a_stalled_engine_says_nothing,
        an_answer_may_be_lost, logins_may_be_refused, a_restart_keeps_addresses_and_events;
    WebSocket / web_socket: time_passes_when_it_is_let, a_cut_connection_comes_back, one_app_is_cut,
        a_stalled_engine_says_nothing, an_answer_may_be_lost, logins_may_be_refused, a_restart_keeps_addresses_and_events;
    InProcess / in_process: time_passes_when_it_is_let, a_cut_connection_comes_back, one_app_is_cut, an_answer_may_be_lost,
        logins_may_be_refused;
}

async fn time_passes_when_it_is_let(kit: Kit) {
    let (till, stock) = (kit.client(&kit.shop).await, kit.client(&kit.warehouse).await);
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    let start = kit.engine.now();
    kit.publish(&till, 1).await;
    let first = next(&mut orders).await;
    assert_eq!(first.timestamp(), Some(start));
    kit.engine.advance(Duration::from_secs(60)).await.unwrap();
    let second = next(&mut orders).await;
    assert_eq!((second.id(), second.attempt()), (first.id(), Some(2)));
    second.defer(Duration::from_secs(3_600), "later").await.unwrap();
    kit.engine.advance(Duration::from_secs(3_599)).await.unwrap();
    let queue = kit.engine.queue(ORDERS, kit.warehouse.app_id).await.unwrap().unwrap();
    assert_eq!((queue.deferred, queue.in_flight), (1, 0));
    kit.engine.advance(Duration::from_secs(1)).await.unwrap();
    next(&mut orders).await.ack().await.unwrap();
    let queue = kit.engine.wait_until_empty(ORDERS, kit.warehouse.app_id).await.unwrap();
    assert_eq!((queue.counters.acked, queue.counters.delivered), (1, 3));
    assert_eq!(kit.engine.now(), start.after(Duration::from_secs(3_660)));
}

async fn a_cut_connection_comes_back(kit: Kit) {
    let (till, stock) = (kit.client(&kit.shop).await, kit.client(&kit.warehouse).await);
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    for n in 0..3 {
        let down = kit.engine.unreachable();
        kit.engine.cut();
        if kit.transport != Transport::InProcess {
            eventually(async || !till.is_connected() && !stock.is_connected()).await;
        }
        drop(down);
        kit.publish(&till, n).await;
        let event = next(&mut orders).await;
        assert_eq!(n_of(&event), n);
        event.ack().await.unwrap();
    }
}

async fn one_app_is_cut(kit: Kit) {
    let (till, stock) = (kit.client(&kit.shop).await, kit.client(&kit.warehouse).await);
    let sessions = (till.client_id(), stock.client_id());
    kit.engine.cut_app(kit.warehouse.app_id);
    eventually(async || stock.client_id().is_some_and(|id| Some(id) != sessions.1)).await;
    assert_eq!(till.client_id(), sessions.0);
}

async fn a_stalled_engine_says_nothing(kit: Kit) {
    let till = kit.client(&kit.shop).await;
    let stalled = kit.engine.stall();
    let publish = till.publish(ORDERS, &json!({"n": 1})).to(kit.warehouse.app_id).into_future();
    let mut publish = tokio::spawn(publish);
    let late = kit.client_engine().connect_timeout(Duration::from_millis(20)).create_client(&kit.shop.app_key).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Connect, "a connection is made, and no login answered");
    assert!(futures::poll!(&mut publish).is_pending());
    drop(stalled);
    soon(publish).await.unwrap().unwrap();
}

async fn an_answer_may_be_lost(kit: Kit) {
    let (till, stock) = (kit.client(&kit.shop).await, kit.client(&kit.warehouse).await);
    let mute = kit.engine.mute();
    let publish = till.publish(ORDERS, &json!({"n": 1})).to(kit.warehouse.app_id).idempotency_key("k").into_future();
    let mut publish = tokio::spawn(publish);
    // It is there, and the sender does not know.
    kit.engine.wait_until_ready(ORDERS, kit.warehouse.app_id, 1).await.unwrap();
    assert!(futures::poll!(&mut publish).is_pending());
    kit.engine.cut();
    drop(mute);
    // Whatever the client makes of it, asking again under the same key stores nothing twice.
    let _ = soon(publish).await.unwrap();
    soon(till.publish(ORDERS, &json!({"n": 1})).to(kit.warehouse.app_id).idempotency_key("k").into_future())
        .await
        .unwrap();
    let mut orders = soon(stock.subscribe(ORDERS).into_future()).await.unwrap();
    next(&mut orders).await.ack().await.unwrap();
    let queue = kit.engine.wait_until_empty(ORDERS, kit.warehouse.app_id).await.unwrap();
    assert_eq!(queue.counters.published, 1);
}

async fn logins_may_be_refused(kit: Kit) {
    kit.engine.refuse_logins(1, ErrorKind::LimitExceeded);
    let refused = kit.client_engine().create_client(&kit.shop.app_key).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::LimitExceeded);
    kit.client(&kit.shop).await;
}

async fn a_restart_keeps_addresses_and_events(mut kit: Kit) {
    let (till, stock) = (kit.client(&kit.shop).await, kit.client(&kit.warehouse).await);
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    for (n, crash) in [(0, false), (1, true), (2, false)] {
        kit.publish(&till, n).await;
        kit.engine.wait_until_in_flight(ORDERS, kit.warehouse.app_id, 1).await.unwrap();
        let (url, before) = (kit.engine.grpc_url(), kit.engine.now());
        if crash {
            kit.engine.crash().await.unwrap()
        } else {
            kit.engine.restart().await.unwrap()
        }
        assert_eq!((kit.engine.grpc_url(), kit.engine.now()), (url, before));
        loop {
            let event = next(&mut orders).await;
            assert_eq!(n_of(&event), n);
            // A delivery of before may be read still; it is refused, or its connection ends before the answer comes.
            match event.ack().await {
                Ok(()) => break,
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::StaleDelivery | ErrorKind::Interrupted), "{error}");
                }
            }
        }
    }
    kit.engine.wait_until_empty(ORDERS, kit.warehouse.app_id).await.unwrap();
}

#[tokio::test]
async fn a_wait_that_is_in_vain_says_how_things_are() {
    let engine = TestEngine::builder().patience(Duration::from_millis(30)).start().await.unwrap();
    let (shop, stock) = (engine.create_app("shop").await.unwrap(), engine.create_app("warehouse").await.unwrap());
    let error = engine.wait_until_ready(ORDERS, stock.app_id, 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("it was never used"), "{error}");
    let till = ensync_sdk::Engine::new(&engine.ws_url()).unwrap().create_client(&shop.app_key).await.unwrap();
    till.publish(ORDERS, &1).to(stock.app_id).await.unwrap();
    let error = engine.wait_until_ready(ORDERS, stock.app_id, 2).await.unwrap_err();
    assert!(error.to_string().contains("ready: 1"), "{error}");
    // A log that hangs holds up everything.
    let held = engine.log_faults().hold();
    let publish = tokio::spawn(till.publish(ORDERS, &1).to(stock.app_id).into_future());
    eventually(async || engine.advance(Duration::from_secs(1)).await.is_err()).await;
    assert!(!publish.is_finished());
    drop(held);
    soon(publish).await.unwrap().unwrap();
    engine.wait_until_ready(ORDERS, stock.app_id, 2).await.unwrap();
}
