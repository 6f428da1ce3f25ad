//! A client that behaves, and wants to be served meanwhile.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ensync_engine::{NewApp, Server};
use ensync_sdk::{Client, Engine, Subscription};
use futures::TryStreamExt;
use tokio::time::timeout;

pub const EVENT: &str = "good/name";

/// A publisher over one transport and a subscriber over the other.
pub struct Good {
    pub name: &'static str,
    publisher: Client,
    to: NewApp,
    next: u64,
    received: tokio::task::JoinHandle<BTreeSet<u64>>,
}

/// How long publishes took.
#[derive(Default)]
pub struct Latencies(Vec<Duration>);

impl Good {
    pub async fn start(name: &'static str, server: &Server, publish_to: &str, subscribe_at: &str) -> Self {
        let shop = server.create_app(&format!("shop {name}")).await.unwrap();
        let to = server.create_app(&format!("warehouse {name}")).await.unwrap();
        let publisher = Engine::new(publish_to).unwrap().create_client(&shop.app_key).await.unwrap();
        let subscriber = Engine::new(subscribe_at).unwrap().create_client(&to.app_key).app_secret_key(&to.secret_key);
        let subscriber = subscriber.await.unwrap();
        let events = subscriber.subscribe(EVENT).await.unwrap();
        let received = tokio::spawn(receive(subscriber, events));
        Self { name, publisher, to, next: 0, received }
    }

    /// Publishes one event.
    pub async fn publish(&mut self, latencies: &mut Latencies) {
        let since = Instant::now();
        self.publisher.publish(EVENT, &self.next).to(self.to.app_id).await.unwrap();
        latencies.0.push(since.elapsed());
        self.next += 1;
    }

    /// Publishes the last event; says how many there were. All must have come, once each or more often.
    pub async fn finish(self) -> u64 {
        self.publisher.publish(EVENT, &u64::MAX).to(self.to.app_id).await.unwrap();
        let received = timeout(Duration::from_secs(60), self.received).await.expect("events are missing").unwrap();
        assert!(received.iter().copied().eq(0..self.next), "{}: {} of {}", self.name, received.len(), self.next);
        self.next
    }
}

async fn receive(_client: Client, mut events: Subscription) -> BTreeSet<u64> {
    let mut received = BTreeSet::new();
    while let Some(event) = events.try_next().await.unwrap() {
        let n: u64 = event.payload().unwrap();
        event.ack().await.unwrap();
        if n == u64::MAX {
            break;
        }
        received.insert(n);
    }
    received
}

impl Latencies {
    pub fn describe(&mut self) -> String {
        self.0.sort();
        let at = |part: f64| self.0[((self.0.len() - 1) as f64 * part) as usize];
        format!(
            "{:>6} publishes, p50 {:>9.1?}, p99 {:>9.1?}, longest {:>9.1?}",
            self.0.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }
}
