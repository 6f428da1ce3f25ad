//! An engine with two apps, and clients of it over a transport.

use std::sync::Arc;
use std::time::Duration;

use ensync_client::{Client, Custom, Dialer, Engine, Subscription, Transports};
use ensync_core::{Connector, Endpoint, Result};
use ensync_engine::{NewApp, Server};
use futures::StreamExt;

/// How long anything may take before the test fails: a bound against hanging, not a measurement.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transport {
    Grpc,
    WebSocket,
    InProcess,
}

pub struct World {
    pub server: Server,
    pub shop: NewApp,
    pub warehouse: NewApp,
    pub transport: Transport,
}

impl World {
    /// A development engine.
    pub async fn start(transport: Transport) -> Self {
        Self::around(Server::dev().start().await.unwrap(), transport).await
    }

    pub async fn around(server: Server, transport: Transport) -> Self {
        let shop = server.create_app("shop").await.unwrap();
        let warehouse = server.create_app("warehouse").await.unwrap();
        Self { server, shop, warehouse, transport }
    }

    pub fn endpoint(&self) -> Endpoint {
        match self.transport {
            Transport::Grpc | Transport::InProcess => self.server.grpc_url().parse().unwrap(),
            Transport::WebSocket => self.server.ws_url().parse().unwrap(),
        }
    }

    pub fn connector(&self) -> Arc<dyn Connector> {
        self.connector_to(&self.endpoint())
    }

    pub fn connector_to(&self, endpoint: &Endpoint) -> Arc<dyn Connector> {
        match self.transport {
            Transport::Grpc => ensync_grpc::Grpc::connector(endpoint, Dialer::default()).unwrap(),
            Transport::WebSocket => ensync_ws::Ws::connector(endpoint, Dialer::default()).unwrap(),
            Transport::InProcess => Arc::new(self.server.in_process()),
        }
    }

    pub fn engine(&self) -> Engine<Custom> {
        Engine::with_connector(self.endpoint(), self.connector())
    }

    pub async fn client(&self, app: &NewApp) -> Client {
        self.engine().create_client(&app.app_key).app_secret_key(&app.secret_key).await.unwrap()
    }

    /// The shop's and the warehouse's.
    pub async fn clients(&self) -> (Client, Client) {
        (self.client(&self.shop).await, self.client(&self.warehouse).await)
    }
}

/// The next event, or a failed test if there is none in time.
pub async fn next(events: &mut Subscription) -> ensync_client::Event {
    soon(events.next()).await.expect("the subscription ended").expect("the subscription failed")
}

/// The outcome of `future`, or a failed test if it takes too long.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing happened in time")
}

/// Waits until a condition of the engine's holds.
pub async fn eventually<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    soon(async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Publishes `{"n": n}` to the warehouse.
pub async fn publish(world: &World, from: &Client, event: &str, n: u64) -> Result<ensync_client::Receipt> {
    from.publish(event, &serde_json::json!({"n": n})).to(world.warehouse.app_id).await
}

pub fn n_of(event: &ensync_client::Event) -> u64 {
    event.json().unwrap()["n"].as_u64().unwrap()
}

/// Makes each named async function, which takes a [`World`], a test over each transport.
#[macro_export]
macro_rules! over_every_transport {
    ($($name:ident),* $(,)?) => {
        mod grpc {
            $(#[tokio::test] async fn $name() { super::$name($crate::world::World::start($crate::world::Transport::Grpc).await).await })*
        }
        mod web_socket {
            $(#[tokio::test] async fn $name() { super::$name($crate::world::World::start($crate::world::Transport::WebSocket).await).await })*
        }
        mod in_process {
            $(#[tokio::test] async fn $name() { super::$name($crate::world::World::start($crate::world::Transport::InProcess).await).await })*
        }
    };
}
