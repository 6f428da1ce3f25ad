//! What a gateway between a client and its engine says, and takes back in a moment.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ensync_client::core::{Command, Error, ErrorKind, Extension};
use futures::StreamExt;
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted, delivery, somebody};

const SECOND: Duration = Duration::from_secs(1);

/// What passes: the kind, and whether what was asked for may have been carried out.
const PASSES: [(ErrorKind, bool); 4] = [
    (ErrorKind::Forbidden, false),
    (ErrorKind::Unsupported, false),
    (ErrorKind::Refused, true),
    (ErrorKind::Protocol, true),
];

fn word((kind, perhaps_done): (ErrorKind, bool)) -> Error {
    let error = Error::new(kind, "RBAC: access denied").said_on_the_way();
    if perhaps_done { error.perhaps_done() } else { error }
}

/// A gateway answers the first so many commands of that name.
fn behind(
    extensions: &'static [Extension],
    name: &'static str,
    says: (ErrorKind, bool),
    times: usize,
) -> Arc<Scripted> {
    let asked = AtomicUsize::new(0);
    Scripted::with(extensions, move |_, command| {
        let is = command.name() == name && asked.fetch_add(1, Ordering::Relaxed) < times;
        if is { Answer::Fails(word(says)) } else { Answer::Done }
    })
}

#[tokio::test(start_paused = true)]
async fn whatever_every_engine_serves_is_outlasted() {
    for says in PASSES {
        let engine = behind(Extension::ALL, "publish", says, 5);
        engine.client().await.publish("a/b", &1).to(somebody()).await.unwrap();
        assert_eq!((engine.count("publish"), engine.links()), (6, 1), "{says:?}");

        let engine = behind(Extension::ALL, "subscribe", says, 3);
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap_or_else(|error| panic!("{says:?}: {error}"));
        engine.push(delivery("a/b", "e1", 1));
        assert_eq!(orders.next().await.unwrap().unwrap().id().as_str(), "e1", "{says:?}");

        let engine = behind(Extension::ALL, "ack", says, 3);
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap();
        engine.push(delivery("a/b", "e1", 1));
        orders.next().await.unwrap().unwrap().ack().await.unwrap();
        assert_eq!((engine.count("ack"), engine.links()), (4, 1), "{says:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_asked_for_again_whatever_a_gateway_says_of_it() {
    for says in PASSES {
        let asked = AtomicUsize::new(0);
        let engine = Scripted::new(move |link, command| match command {
            Command::Subscribe(_) if link == 2 && asked.fetch_add(1, Ordering::Relaxed) < 3 => {
                Answer::Fails(word(says))
            }
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap();
        engine.end(1, Some(ErrorKind::Interrupted));
        tokio::time::sleep(30 * SECOND).await;
        engine.end_subscription("a/b", word(says));
        tokio::time::sleep(30 * SECOND).await;
        engine.push(delivery("a/b", "e1", 1));
        assert_eq!(orders.next().await.unwrap().unwrap().id().as_str(), "e1", "{says:?}");
        assert_eq!(engine.links(), 2, "{says:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_carried_out_is_repeated_only_where_that_does_no_harm() {
    for says in PASSES {
        let engine = behind(&[Extension::Fencing], "publish", says, 1);
        let published = engine.client().await.publish("a/b", &1).to(somebody()).await;
        let perhaps_done = says.1;
        assert_eq!((published.is_err(), engine.count("publish") == 1), (perhaps_done, perhaps_done), "{says:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_does_not_relent_is_told_at_the_deadline_with_what_it_says() {
    let engine = behind(Extension::ALL, "publish", PASSES[0], usize::MAX);
    let (client, since) = (engine.client().await, Instant::now());
    let error = client.publish("a/b", &1).to(somebody()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_said_on_the_way(), error.is_retryable()), (ErrorKind::Forbidden, true, true));
    assert!(error.to_string().contains("RBAC"), "{error}");
    assert!((20 * SECOND..=30 * SECOND).contains(&since.elapsed()), "{:?}", since.elapsed());
    assert!((5..40).contains(&engine.count("publish")), "{}", engine.count("publish"));
}

/// An engine may be without it, and then says the same words.
#[tokio::test(start_paused = true)]
async fn what_an_engine_need_not_have_is_not_waited_for() {
    let engine = behind(Extension::ALL, "replay", (ErrorKind::Unsupported, false), usize::MAX);
    let (client, since) = (engine.client().await, Instant::now());
    let error = client.replay("a/b", "e1").await.unwrap_err();
    assert_eq!((error.kind(), engine.count("replay")), (ErrorKind::Unsupported, 1));
    assert!(since.elapsed().is_zero());
    // Told to pause for want of flow control, again and again, it would be asked for ever.
    let says = (ErrorKind::Unsupported, false);
    let engine = behind(&[], "pause", says, usize::MAX);
    let client = engine.client().await;
    let _full = client.subscribe("a/b").max_in_flight(1).await.unwrap();
    for n in 0..3 {
        engine.push(delivery("a/b", &format!("e{n}"), 1));
    }
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(engine.count("pause"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_a_gateway_refuses_is_an_answer() {
    for says in PASSES {
        let engine = behind(Extension::ALL, "heartbeat", says, 5);
        let client = engine.engine().heartbeat_interval(10 * SECOND).create_client("key").await.unwrap();
        tokio::time::sleep(101 * SECOND).await;
        assert_eq!((engine.count("heartbeat"), engine.links(), client.is_connected()), (10, 1, true), "{says:?}");
    }
}

/// Not even at the next login is that the engine's word about the key.
#[tokio::test(start_paused = true)]
async fn a_command_and_the_next_logins_may_be_refused_for_want_of_a_login() {
    let asked = AtomicUsize::new(0);
    let engine = Scripted::new(move |_, command| match command {
        Command::Publish(_) if asked.fetch_add(1, Ordering::Relaxed) == 0 => {
            Answer::Fails(word((ErrorKind::Unauthenticated, false)))
        }
        _ => Answer::Done,
    });
    engine.logins(|tried| if (1..4).contains(&tried) { Err(ErrorKind::Unauthenticated) } else { Ok(()) });
    engine.behind_a_gateway();
    let client = engine.client().await;
    let mut orders = client.subscribe("c/d").await.unwrap();
    client.publish("a/b", &1).to(somebody()).into_future().await.unwrap();
    assert_eq!((engine.count("publish"), engine.links()), (2, 2));
    engine.push(delivery("c/d", "e1", 1));
    assert_eq!(orders.next().await.unwrap().unwrap().id().as_str(), "e1");
}
