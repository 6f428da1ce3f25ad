//! What an engine repeats of what it was sent, and what it is sent to keep: no key and no session's id.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ensync_client::Engine;
use ensync_client::core::{
    AppKey, Command, Connector, Endpoint, Error, ErrorKind, Link, Result, SecretKey, Settlement, report,
};
use futures::StreamExt;

use crate::scripted::{Answer, Scripted, delivery, somebody};

/// Another engine's key has no form by which it could be known.
const KEY: &str = "acme-live-0123456789abcdef";
const OURS: &str = "ensync_key_q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA";

#[derive(Debug)]
struct Echo;

#[async_trait]
impl Connector for Echo {
    async fn connect(&self, _: &Endpoint, app_key: &AppKey) -> Result<Link> {
        let said = format!("Invalid access key: {}", app_key.expose());
        let cause = Error::new(ErrorKind::Connect, said.clone());
        Err(Error::from_login_refusal(&said).with_source(cause))
    }
}

fn told(error: &Error) -> String {
    format!("{} {error:?}", report(error))
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_shows_no_app_key() {
    let engine = Engine::with_connector(Endpoint::parse("grpc://engine").unwrap(), Arc::new(Echo));
    let told = told(&engine.create_client(KEY).await.unwrap_err());
    assert!(told.contains("Invalid access key: (not shown: a key)") && !told.contains(KEY), "{told}");
}

#[tokio::test(start_paused = true)]
async fn whatever_is_refused_of_a_session_does_not_show_its_id() {
    let refuses = Arc::new(AtomicBool::new(false));
    let echoes = refuses.clone();
    let engine = Scripted::new(move |link, command| match command {
        Command::Heartbeat => Answer::Done,
        _ if !echoes.load(Ordering::Relaxed) => Answer::Done,
        command => {
            let said = format!("cannot parse {};CLIENT_ID=:client-{link};X=:1", command.name());
            Answer::Fails(Error::from_refusal(&said))
        }
    });
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    let control = orders.control();
    let mut events = Vec::new();
    for n in 0..4 {
        engine.push(delivery("a/b", &format!("e{n}"), 1));
        events.push(orders.next().await.unwrap().unwrap());
    }
    refuses.store(true, Ordering::Relaxed);
    let (id, block) = (events[0].id().clone(), events[0].block());
    let errors = [
        ("publish", client.publish("a/b", &1).to(somebody()).await.map(drop)),
        ("replay", client.replay("a/b", "e1").await.map(drop)),
        ("subscribe", client.subscribe("c/d").await.map(drop)),
        ("pause", control.pause("x").await),
        ("resume", control.resume().await),
        ("ack", control.ack(&id, block).await),
        ("defer", control.defer(&id, Duration::ZERO, "x").await.map(drop)),
        ("discard", control.discard(&id, "x").await),
        ("rollback", control.rollback(&id, block).await),
        ("ack an event", events[0].ack().await),
        ("defer one", events[1].defer(Duration::ZERO, "x").await.map(drop)),
        ("discard one", events[2].discard("x").await),
        ("roll one back", events[3].rollback().await),
    ];
    for (what, done) in errors {
        let told = told(&done.unwrap_err());
        assert!(told.contains("cannot parse") && told.contains("(not shown: a key)"), "{what}: {told}");
        assert!(!told.contains("client-1"), "{what}: {told}");
    }
    // A subscription that is ended from over there, too.
    engine.end_subscription("a/b", Error::new(ErrorKind::Forbidden, "client-1 may not"));
    let told = told(&orders.next().await.unwrap().unwrap_err());
    assert!(told.contains("(not shown: a key) may not") && !told.contains("client-1"), "{told}");
}

/// A dead letter keeps the reason, and headers travel in clear.
#[tokio::test(start_paused = true)]
async fn reasons_and_headers_hold_no_secret() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    let control = orders.control();
    let secret = SecretKey::from_seed([7; 32]).to_base64().unwrap().to_string();
    // 32 bytes are a digest as well.
    let digest = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB0=";
    for (n, held) in [secret.as_str(), OURS].into_iter().enumerate() {
        engine.push(delivery("a/b", &format!("e{n}"), 1));
        engine.push(delivery("a/b", &format!("f{n}"), 1));
        let reason = || format!("{digest} is not {held}");
        orders.next().await.unwrap().unwrap().discard(reason()).await.unwrap();
        let other = orders.next().await.unwrap().unwrap();
        other.defer(Duration::ZERO, reason()).await.unwrap();
        control.discard(other.id(), reason()).await.unwrap();
        control.pause(reason()).await.unwrap();
        let sent = || client.publish("a/b", &1).to(somebody());
        for error in [
            sent().header("h", held).await.unwrap_err(),
            sent().header(format!("k {held}"), 1).await.unwrap_err(),
            sent().metadata("m", [format!("k={held}")]).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("are not encrypted") && !error.to_string().contains(&held[20..30]));
        }
    }
    client.publish("a/b", &1).to(somebody()).header("digest", digest).await.unwrap();
    client.publish("a/b", &1).to(somebody()).header("audit", "ensync_key_rotated").await.unwrap();
    let mut reasons = Vec::new();
    for call in engine.calls.lock().unwrap().iter() {
        match &call.command {
            Command::Pause { reason, .. } => reasons.push(reason.clone()),
            Command::Settle(settle) => match &settle.how {
                Settlement::Defer { reason, .. } | Settlement::Discard { reason } => reasons.push(reason.clone()),
                _ => {}
            },
            _ => {}
        }
    }
    assert_eq!((reasons.len(), engine.count("publish")), (8, 2));
    for reason in reasons {
        assert!(reason.contains("is not (not shown: a key)"), "{reason}");
    }
    control.pause(format!("{digest} differs")).await.unwrap();
    let last = engine.of("pause").pop().unwrap().command;
    assert!(matches!(last, Command::Pause { reason, .. } if reason == format!("{digest} differs")));
}
