use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::context::{Access, Admin, SettingInForce};
use crate::admin::history::{History, Sample};
use crate::broker::Figures;
use crate::state::Limits;

/// An engine. What is null of it was not told in time: `trouble` says why.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Info {
    /// The engine's version.
    version: &'static str,
    /// How long it has been running, in milliseconds.
    uptime_ms: u64,
    /// What time it is there: milliseconds since the Unix epoch.
    now: Option<u64>,
    /// Whether it carries out commands.
    ready: bool,
    /// Why it does not, for people.
    trouble: Option<String>,
    /// Whether an event name is registered by its first use.
    dev: Option<bool>,
    /// What the token that was shown is good for.
    access: Access,
    queues: Option<usize>,
    sessions: Option<usize>,
    apps: Option<usize>,
    connections: Connections,
    /// Deletions of apps and event names whose queues are still stored, as a full disk cannot take that they are gone. It is tried until it can.
    removals_owed: u64,
    /// The log on disk; null too if everything is in memory.
    disk: Option<Disk>,
    limits: Option<InfoLimits>,
    /// The settings that are not as they are by default.
    settings: Vec<SettingInForce>,
}

/// Connections that are open, by what they speak.
#[derive(Debug, Serialize, ToSchema)]
struct Connections {
    open: u64,
    grpc: u64,
    websocket: u64,
}

/// What a log takes up, in bytes.
#[derive(Debug, Serialize, ToSchema)]
struct Disk {
    bytes: u64,
    /// What is free where it is.
    free_bytes: u64,
    /// What is kept of it for acknowledgements, checkpoints and the like: neither free nor in the segments.
    reserved_bytes: u64,
    segments: u64,
    /// The newest checkpoint.
    checkpoint_bytes: u64,
}

/// What clients may use up, and what holds for event names that say nothing else.
#[derive(Debug, Serialize, ToSchema)]
struct InfoLimits {
    max_payload_bytes: usize,
    max_metadata_bytes: usize,
    max_in_flight: u32,
    max_bytes_in_flight: u64,
    max_subscriptions: usize,
    max_sessions: usize,
    max_sessions_per_app: usize,
    /// Events per second that an app may publish; null if any number.
    publish_rate: Option<u32>,
    queue_events: u64,
    queue_bytes: u64,
    app_events: u64,
    app_bytes: u64,
    dedup_window_ms: u64,
    ack_timeout_ms: u64,
    max_deliveries: u32,
    /// How long an event is of use; null if for ever.
    ttl_ms: Option<u64>,
}

/// Say how the engine is, what it holds and what it was told.
#[utoipa::path(get, path = "/v1/info", tag = "engine", responses((status = 200, body = Info)))]
pub(super) async fn show(State(admin): State<Admin>, access: Access) -> Json<Info> {
    let broker = &admin.broker;
    // At once, for each of them may wait for as long as this may take in all.
    let (ready, figures) = tokio::join!(broker.ready(), broker.figures());
    let trouble = ready.err().map(|error| error.to_string());
    let Figures { settings, census, connections, log, owed } = figures;
    Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        uptime_ms: millis(admin.about.started.elapsed()),
        now: census.as_ref().map(|census| census.now.as_millis()),
        ready: trouble.is_none(),
        trouble,
        dev: settings.as_ref().map(|settings| settings.dev),
        access,
        // Those of a partition that does not answer are not known.
        queues: census.as_ref().filter(|census| !census.answers.contains(&false)).map(|census| census.queues),
        sessions: census.as_ref().map(|census| census.sessions),
        apps: census.as_ref().map(|census| census.apps),
        connections: Connections {
            open: connections.open,
            grpc: connections.open_grpc,
            websocket: connections.open_websocket,
        },
        removals_owed: owed,
        disk: log.map(|log| Disk {
            bytes: log.bytes,
            free_bytes: log.free_bytes,
            reserved_bytes: log.reserved_bytes,
            segments: log.segments,
            checkpoint_bytes: log.checkpoint_bytes,
        }),
        limits: settings.map(|settings| limits(&settings.limits, &settings.defaults)),
        settings: admin.about.settings.clone(),
    })
}

fn limits(limits: &Limits, defaults: &crate::Defaults) -> InfoLimits {
    InfoLimits {
        max_payload_bytes: limits.max_payload_bytes,
        max_metadata_bytes: limits.max_metadata_bytes,
        max_in_flight: limits.max_in_flight.get(),
        max_bytes_in_flight: limits.max_bytes_in_flight,
        max_subscriptions: limits.max_subscriptions,
        max_sessions: limits.max_sessions,
        max_sessions_per_app: limits.max_sessions_per_app,
        publish_rate: limits.publish_rate.map(|rate| rate.per_second.get()),
        queue_events: limits.quotas.queue_events,
        queue_bytes: limits.quotas.queue_bytes,
        app_events: limits.quotas.app_events,
        app_bytes: limits.quotas.app_bytes,
        dedup_window_ms: millis(limits.dedup_window),
        ack_timeout_ms: millis(defaults.ack_timeout),
        max_deliveries: defaults.max_deliveries.get(),
        ttl_ms: defaults.ttl.map(millis),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The last hour.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LastHour {
    /// How far samples lie apart, in milliseconds. Where the engine did not answer one is missing.
    every_ms: u64,
    /// The oldest first: at most an hour, and since the engine started.
    samples: Vec<Sample>,
}

/// Show what was counted in the last hour.
#[utoipa::path(get, path = "/v1/history", tag = "engine", responses((status = 200, body = LastHour)))]
pub(super) async fn history(State(admin): State<Admin>) -> Json<LastHour> {
    Json(LastHour { every_ms: millis(History::EVERY), samples: admin.about.history.kept() })
}

#[cfg(test)]
mod tests {
    use ensync_core::{AppId, AppKey, Command, Login, Metadata, Publish, Service, WirePayload};

    use super::*;
    use crate::testing::TestEngine;

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_waits_for_its_disk_says_so_in_time() {
        let engine = TestEngine::start().await.unwrap();
        let admin = || State(Admin::of(engine.broker().clone()));
        let Json(well) = show(admin(), Access::Full).await;
        assert!(well.ready && well.trouble.is_none() && well.limits.is_some() && well.now.is_some());
        let (broker, shop) = (engine.broker().clone(), AppId::from_bytes([6; 32]));
        let app_key = AppKey::parse("key").unwrap();
        broker.create_app_with_key("shop", shop, &app_key).await.unwrap();
        broker.create_event("a/b".parse().unwrap(), crate::EventOptions::default()).await.unwrap();
        let session = broker.login(Login { app_key, transport: "local", remote: None }).await.unwrap();
        let publish = Publish {
            event: "a/b".parse().unwrap(),
            recipient: shop,
            payload: WirePayload::from_wire("e30="),
            metadata: Metadata::default(),
            payload_metadata: None,
            idempotency_key: None,
        };
        let held = engine.log_faults().hold();
        let waits = tokio::spawn(async move { broker.handle(&session.peer, Command::Publish(publish)).await });
        tokio::task::yield_now().await;
        let begun = tokio::time::Instant::now();
        let Json(hung) = show(admin(), Access::Read).await;
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        assert!(!hung.ready && hung.queues.is_none(), "{hung:?}");
        assert_eq!((hung.sessions, hung.apps), (Some(1), Some(1)), "no disk is needed for that");
        assert!(hung.limits.is_some(), "no disk is needed for that");
        assert!(hung.trouble.is_some_and(|trouble| trouble.contains("has not answered")));
        drop(held);
        waits.await.unwrap().unwrap();
    }
}
