//! Words about a subscription, and the link they are for.

use std::time::Duration;

use ensync_client::core::{Command, Delivery, Error, ErrorKind, Extension, Reply, Settlement};
use futures::StreamExt;
use tokio::time::Instant;

use crate::scripted::{Answer, Call, Scripted, delivery};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn to_unsubscribe_from_a_session_that_the_engine_forgot_is_done() {
    let engine = Scripted::new(|link, command| match command {
        Command::Unsubscribe { .. } if link == 1 => Answer::No(ErrorKind::Unauthenticated),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let events = client.subscribe("a/b").await.unwrap();
    events.unsubscribe().await.unwrap();
    // The name is free, and the next link is told of the new subscription alone.
    let _again = client.subscribe("a/b").await.unwrap();
    let told: Vec<_> = engine.of("subscribe").iter().map(|call| call.link).collect();
    assert_eq!((told, engine.count("unsubscribe")), (vec![1, 2], 1));
    client.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn to_subscribe_without_a_connection_is_told_as_that() {
    let engine = Scripted::new(|_, _| Answer::Done);
    engine.logins(|_| Err(ErrorKind::Connect));
    let client = engine.engine().retry_first_connect(true).create_client("key").await.unwrap();
    let begun = Instant::now();
    let error = client.subscribe("a/b").await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_happened()), (ErrorKind::Connect, false), "{error}");
    assert!(error.to_string().contains("was not sent"), "{error}");
    assert_eq!(begun.elapsed(), 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_same_over_a_link_that_ends_meanwhile() {
    for kind in [ErrorKind::Closed, ErrorKind::Interrupted] {
        let engine = Scripted::new(move |link, command| match command {
            Command::Unsubscribe { .. } if link == 1 => Answer::After(SECOND, Box::new(Answer::No(kind))),
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let events = client.subscribe("a/b").await.unwrap();
        let (left, ()) = tokio::join!(events.unsubscribe(), async {
            tokio::time::sleep(SECOND / 2).await;
            engine.end(1, None);
        });
        left.unwrap();
        let _again = client.subscribe("a/b").await.unwrap();
        client.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_has_one_deadline_whatever_it_waits_for() {
    // The pause that makes up for missing flow control is refused for ever; the user's waits for its turn.
    let engine = Scripted::with(&[Extension::Fencing], |_, command| match command {
        Command::Pause { .. } => Answer::No(ErrorKind::Unavailable),
        _ => Answer::Done,
    });
    let limit = 10 * SECOND;
    let client = engine.engine().request_timeout(limit).create_client("key").await.unwrap();
    let events = client.subscribe("a/b").max_in_flight(2).await.unwrap();
    for n in 1..=2 {
        engine.push(delivery("a/b", &format!("e-{n}"), n));
    }
    tokio::time::sleep(SECOND).await;
    assert!(engine.count("pause") > 0);
    let begun = Instant::now();
    let refused = events.pause("a break").await.unwrap_err();
    assert_eq!((refused.kind(), refused.may_have_happened()), (ErrorKind::Unavailable, false));
    assert!(begun.elapsed() <= limit + SECOND / 10, "{:?}", begun.elapsed());
    let begun = Instant::now();
    let _ = events.resume().await;
    assert!(begun.elapsed() <= limit + SECOND / 10, "{:?}", begun.elapsed());
}

/// A handler that never returns holds its own subscription up, and nothing else of its client: the others go on, what waits behind
/// it keeps its lease, and no more waits than its window.
#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_starves_no_other_subscription() {
    let engine = Scripted::new(|_, command| match command {
        Command::Settle(settle) if settle.how == Settlement::Extend => {
            Answer::With(Reply::Extended { lease: Some(30 * SECOND) })
        }
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let hung = client.subscribe("a/hangs").max_in_flight(10).await.unwrap();
    let mut flows = client.subscribe("a/flows").await.unwrap();
    let handler = hung.on(|_| std::future::pending::<Result<(), Error>>());
    let leased = |event: &str, id: String, n| Delivery { lease: Some(30 * SECOND), ..delivery(event, &id, n) };
    for n in 1..=10 {
        engine.push(leased("a/hangs", format!("hangs-{n}"), n));
    }
    for n in 1..=100 {
        engine.push(leased("a/flows", format!("flows-{n}"), n));
        let event = tokio::time::timeout(SECOND, flows.next()).await.expect("it starves").unwrap().unwrap();
        event.ack().await.unwrap();
        tokio::time::sleep(3 * SECOND).await;
    }
    // Five minutes later all of it is still this client's, the nine that wait included.
    let of_the_hung =
        |call: &Call| matches!(&call.command, Command::Settle(settle) if settle.id.as_str().starts_with("hangs"));
    let extended = engine.of("extend").iter().filter(|call| of_the_hung(call)).count();
    assert!(extended >= 10 * 10, "{extended}");
    assert_eq!(engine.of("release").len() + engine.of("rollback").len(), 0);
    // It is stopped all the same: the engine takes everything back with the session.
    assert!(client.close().await.is_err());
    drop(handler);
}

/// For longer than a call may take.
#[tokio::test(start_paused = true)]
async fn an_engine_that_will_not_hear_that_it_may_go_on_is_told_until_it_does() {
    let begun = Instant::now();
    let engine = Scripted::with(&[Extension::Fencing], move |_, command| match command {
        Command::Continue { .. } if begun.elapsed() < 100 * SECOND => Answer::No(ErrorKind::LimitExceeded),
        _ => Answer::Done,
    });
    let client = engine.engine().request_timeout(5 * SECOND).create_client("key").await.unwrap();
    let mut events = client.subscribe("a/b").max_in_flight(2).await.unwrap();
    for n in 1..=2 {
        engine.push(delivery("a/b", &format!("e-{n}"), n));
    }
    for _ in 1..=2 {
        events.next().await.unwrap().unwrap().ack().await.unwrap();
    }
    tokio::time::sleep(150 * SECOND).await;
    assert_eq!(engine.count("pause"), 1);
    let told: Vec<_> = engine.calls.lock().unwrap().iter().map(|call| call.command.name()).collect();
    let last = told.iter().rfind(|name| matches!(**name, "pause" | "continue"));
    assert_eq!(last, Some(&"continue"), "the engine is paused for ever");
    let tries = engine.count("continue");
    assert!((10..300).contains(&tries), "{tries}");
    client.close().await.unwrap();
}
