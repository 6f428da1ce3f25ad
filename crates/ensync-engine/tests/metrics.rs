//! What the metrics say is what was done, and the manual names each of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ensync_core::{
    Command, Delay, Delivery, EventName, Login, Metadata, Peer, Publish, Result, SecretKey, Service, Session, Settle,
    Settlement, Subscribe, WirePayload,
};
use ensync_engine::{Broker, BrokerOptions, DiskOptions, EventOptions, Logs, MemoryLog};
use futures::StreamExt;

const MANUAL: &str = include_str!("../src/manual/metrics.md");
const DASHBOARD: &str = include_str!("../src/manual/dashboard.json");
const ALERTS: &str = include_str!("../src/manual/alerts.yml");
const OTHER: &str = "(all other)";

/// Every series and its value.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let read = |(name, value): (&str, &str)| (name.to_owned(), value.parse().unwrap());
    lines.map(|line| read(line.rsplit_once(' ').unwrap())).collect()
}

/// What the text declares, by the names that queries use.
fn declared(text: &str) -> BTreeSet<(String, String)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let queried = |(name, kind): (&str, &str)| match kind {
        "counter" => (format!("{name}_total"), kind.to_owned()),
        "info" => (format!("{name}_info"), "gauge".to_owned()),
        _ => (name.to_owned(), kind.to_owned()),
    };
    types.map(queried).collect()
}

/// What the manual's first table names.
fn documented() -> BTreeSet<(String, String)> {
    let rows = MANUAL.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let (name, rest) = row.split_once('`')?;
        Some((name.to_owned(), rest.split('|').nth(1)?.trim().to_owned()))
    };
    rows.map_while(row).collect()
}

struct Client {
    broker: Broker,
    session: Session,
}

impl Client {
    async fn log_in(broker: &Broker, id: u8) -> Self {
        let public_key = SecretKey::from_seed([id; 32]).app_id().unwrap();
        let app_key = broker.create_app(&format!("app {id}"), public_key).await.unwrap();
        let session = broker.login(Login { app_key, transport: "local", remote: None }).await.unwrap();
        Self { broker: broker.clone(), session }
    }

    fn peer(&self) -> &Peer {
        &self.session.peer
    }

    /// To itself.
    async fn publish(&self, event: &str) -> Result<()> {
        let publish = Publish {
            event: event.parse().unwrap(),
            recipient: self.peer().app_id,
            payload: WirePayload::from_wire("cGF5bG9hZA==".to_owned()),
            metadata: Metadata::default(),
            payload_metadata: None,
            idempotency_key: None,
        };
        self.broker.handle(self.peer(), Command::Publish(publish)).await.map(drop)
    }

    async fn subscribe(&self, event: &str) {
        let subscribe = Subscribe { event: event.parse().unwrap(), max_in_flight: None, max_bytes_in_flight: None };
        self.broker.handle(self.peer(), Command::Subscribe(subscribe)).await.unwrap();
    }

    async fn next(&mut self) -> Delivery {
        self.session.inbox.next().await.unwrap()
    }

    async fn settle(&self, delivery: &Delivery, how: Settlement) -> Result<()> {
        let settle = Settle { id: delivery.id.clone(), event: None, block: Some(delivery.block), how };
        self.broker.handle(self.peer(), Command::Settle(settle)).await.map(drop)
    }
}

fn name(text: &str) -> EventName {
    text.parse().unwrap()
}

fn defer(seconds: u64) -> Settlement {
    Settlement::Defer { delay: Delay::new(Duration::from_secs(seconds)).unwrap(), priority: 0, reason: String::new() }
}

fn discard() -> Settlement {
    Settlement::Discard { reason: "no".into() }
}

#[tokio::test]
async fn the_manual_names_every_metric_and_no_other() {
    let place = tempfile::tempdir().unwrap();
    let log = Logs::open(place.path(), DiskOptions::default()).await.unwrap();
    let broker = Broker::start(BrokerOptions::dev(), log).await.unwrap();
    let client = Client::log_in(&broker, 1).await;
    client.publish("a/b").await.unwrap();
    // Only now is there a checkpoint.
    broker.shutdown().await;
    let log = Logs::open(place.path(), DiskOptions::default()).await.unwrap();
    let broker = Broker::start(BrokerOptions::dev(), log).await.unwrap();
    // A series of refusals begins with the first.
    let gone = broker.handle(client.peer(), Command::Heartbeat).await;
    assert!(gone.is_err());
    let text = broker.metrics().await.unwrap();
    let (declared, mut documented) = (declared(&text), documented());
    if !cfg!(target_os = "linux") {
        documented.retain(|(name, _)| !name.ends_with("_fds") && !name.contains("resident"));
    }
    assert_eq!(declared, documented);
    assert!(text.ends_with("# EOF\n"));
    let series = series(&text);
    assert_eq!(series["ensync_queue_events{event=\"a/b\",state=\"ready\"}"], 1.0);
    assert!(series["ensync_log_segments"] >= 1.0 && series["ensync_log_checkpoint_bytes"] > 0.0);
}

#[tokio::test(start_paused = true)]
async fn the_counters_are_what_was_done() {
    let broker = Broker::start(BrokerOptions::dev(), MemoryLog::new()).await.unwrap();
    let options = EventOptions { ttl: Some(Duration::from_secs(3_600)), ..EventOptions::default() };
    broker.register_event(name("a/b"), options).await.unwrap();
    let mut client = Client::log_in(&broker, 1).await;
    for _ in 0..7 {
        client.publish("a/b").await.unwrap();
    }
    client.publish("expires/soon").await.unwrap();
    client.subscribe("a/b").await;
    let mut taken = Vec::new();
    for _ in 0..7 {
        taken.push(client.next().await);
    }
    client.settle(&taken[0], Settlement::Ack).await.unwrap();
    client.settle(&taken[1], Settlement::Ack).await.unwrap();
    client.settle(&taken[2], defer(60)).await.unwrap();
    client.settle(&taken[3], defer(0)).await.unwrap();
    client.settle(&taken[4], discard()).await.unwrap();
    client.settle(&taken[5], discard()).await.unwrap();
    let again = client.next().await;
    assert_eq!(again.id, taken[3].id);
    client.settle(&again, Settlement::Ack).await.unwrap();
    let dead = broker.dead_letters(None, None, 10).await.unwrap();
    broker.drop_dead_letter(dead[0].id.clone()).await.unwrap();
    assert!(client.settle(&taken[0], discard()).await.is_err(), "settled already");
    assert!(client.publish(&"x".repeat(255)).await.is_ok());

    let read = series(&broker.metrics().await.unwrap());
    let of = |metric: &str| read[&format!("ensync_{metric}{{event=\"a/b\"}}")];
    let place = |state: &str| read[&format!("ensync_queue_events{{event=\"a/b\",state=\"{state}\"}}")];
    assert_eq!(
        (of("events_published_total"), of("events_delivered_total"), of("events_redelivered_total")),
        (7., 8., 1.)
    );
    assert_eq!((of("events_acked_total"), of("events_deferred_total"), of("events_dead_total")), (3., 2., 2.));
    assert_eq!((of("events_dropped_total"), of("events_requeued_total"), of("events_expired_total")), (1., 0., 0.));
    assert_eq!((place("ready"), place("in_flight"), place("deferred"), place("dead")), (0., 1., 1., 1.));
    assert_eq!(
        (of("queue_consumers"), read["ensync_sessions"], read["ensync_apps"], read["ensync_ready"]),
        (1., 1., 1., 1.)
    );
    assert_eq!(read["ensync_refusals_total{command=\"discard\",kind=\"stale_delivery\"}"], 1.0);
    // One for the name, one for the app, nine publishes, two names by first use, and the settlements but the one by no time.
    assert!(read["ensync_commit_records_count"] >= 1.0 && read["ensync_commit_seconds_count"] >= 1.0);

    broker.requeue_dead_letter(dead[1].id.clone()).await.unwrap();
    let last = client.next().await;
    tokio::time::advance(Duration::from_secs(100)).await;
    let read = series(&broker.metrics().await.unwrap());
    assert_eq!(read["ensync_events_requeued_total{event=\"a/b\"}"], 1.0);
    assert!(read["ensync_queue_oldest_age_seconds{event=\"expires/soon\"}"] >= 100.0);
    client.settle(&last, Settlement::Ack).await.unwrap_err();
    // What nobody settles expires, and the counters say so.
    broker.logout(client.peer()).await;
    tokio::time::advance(Duration::from_secs(3_700)).await;
    let read = series(&broker.metrics().await.unwrap());
    assert!(read["ensync_events_expired_total{event=\"a/b\"}"] >= 1.0, "{read:?}");
    assert_eq!(read["ensync_sessions"], 0.0);
}

#[tokio::test]
async fn names_beyond_the_limit_are_summed_up_and_none_changes_its_place() {
    let options = BrokerOptions { max_metric_events: 2, ..BrokerOptions::dev() };
    let broker = Broker::start(options, MemoryLog::new()).await.unwrap();
    let client = Client::log_in(&broker, 1).await;
    client.publish("m").await.unwrap();
    client.publish("z").await.unwrap();
    let published = |text: String| {
        let read = series(&text).into_iter().filter_map(|(series, value)| {
            let event = series.strip_prefix("ensync_events_published_total{event=\"")?.strip_suffix("\"}")?;
            Some((event.to_owned(), value))
        });
        read.collect::<Vec<_>>()
    };
    let pair = |name: &str, value| (name.to_owned(), value);
    assert_eq!(published(broker.metrics().await.unwrap()), [pair("m", 1.), pair("z", 1.)]);
    client.publish("a").await.unwrap();
    client.publish("b").await.unwrap();
    client.publish("z").await.unwrap();
    assert_eq!(published(broker.metrics().await.unwrap()), [pair(OTHER, 2.), pair("m", 1.), pair("z", 2.)]);
    assert!(EventName::parse(OTHER).is_err());
}

#[tokio::test]
async fn a_stopped_broker_is_not_ready_and_says_why() {
    let broker = Broker::start(BrokerOptions::dev(), MemoryLog::new()).await.unwrap();
    broker.ready().await.unwrap();
    broker.shutdown().await;
    assert!(broker.ready().await.unwrap_err().to_string().contains("stopping"));
    assert!(broker.metrics().await.is_err());
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("ensync_") || word.starts_with("process_")).collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_there_are() {
    let mut known: BTreeSet<String> = BTreeSet::new();
    for (name, kind) in documented() {
        if kind == "histogram" {
            known.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        } else {
            known.insert(name);
        }
    }
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let shown: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    let alerts: Vec<&str> = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert!(panels.len() >= 20 && alerts.len() >= 12, "{} {}", panels.len(), alerts.len());
    for expression in shown.iter().chain(&alerts) {
        let named = named(expression);
        assert!(!named.is_empty(), "{expression}");
        for name in named {
            assert!(known.contains(name), "{name} in {expression}");
        }
        for [open, close] in [['(', ')'], ['{', '}'], ['[', ']']] {
            assert_eq!(expression.matches(open).count(), expression.matches(close).count(), "{expression}");
        }
    }
    // Nothing that is measured is left out of sight.
    let on_it: BTreeSet<_> = shown.iter().flat_map(|expression| named(expression)).collect();
    let base = |name: &str| {
        ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    let on_it: BTreeSet<String> = on_it.into_iter().map(base).collect();
    for (name, _) in documented() {
        assert!(on_it.contains(&name), "{name} is on no panel");
    }
    // The manual's table and the rules say the same.
    let table = MANUAL.split("# What to alert on").nth(1).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| alert")).count();
    assert_eq!(rows, ALERTS.lines().filter(|line| line.trim().starts_with("- alert: ")).count());
    for expression in alerts {
        for name in named(expression) {
            assert!(table.contains(name), "{name} is in a rule, and not in the manual's table");
        }
    }
}
