//! Settlements of handlers' events that the engine does not take, and what goes beside them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensync_client::core::{Command, Delivery, Error, ErrorKind, Extension, Reply, Settlement};
use ensync_client::{Client, Event, Handler, OnError};
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted, delivery};

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(3);

/// An engine that cannot settle "e1", ever. It extends leases, if it knows any.
fn stuck(extensions: &'static [Extension]) -> Arc<Scripted> {
    Scripted::with(extensions, |_, command| match command {
        Command::Settle(settle) if settle.how == Settlement::Extend => {
            Answer::With(Reply::Extended { lease: Some(LEASE) })
        }
        Command::Settle(settle) if settle.id.as_str() == "e1" => Answer::No(ErrorKind::Unavailable),
        _ => Answer::Done,
    })
}

/// Handles one at a time; what was handled, and when.
async fn handled(client: &Client, fails: bool) -> (Handler, Arc<Mutex<Vec<(String, Instant)>>>) {
    let handled = Arc::new(Mutex::new(Vec::new()));
    let noted = handled.clone();
    let handler = move |event: Event| {
        noted.lock().unwrap().push((event.id().to_string(), Instant::now()));
        std::future::ready(if fails { Err(Error::new(ErrorKind::Internal, "it failed")) } else { Ok(()) })
    };
    let orders = client.subscribe("a/b").await.unwrap();
    (orders.for_each(handler).on_error(OnError::Rollback).spawn(), handled)
}

fn push(engine: &Scripted, ids: std::ops::RangeInclusive<u64>, lease: Option<Duration>) {
    for n in ids {
        engine.push(Delivery { lease, ..delivery("a/b", &format!("e{n}"), n) });
    }
}

/// How often "e1" was settled or extended.
fn asked(engine: &Scripted, name: &str) -> usize {
    let of_the_first = |command: &Command| matches!(command, Command::Settle(settle) if settle.id.as_str() == "e1");
    engine.of(name).iter().filter(|call| of_the_first(&call.command)).count()
}

#[tokio::test(start_paused = true)]
async fn one_settlement_that_is_not_taken_holds_up_no_other_event() {
    for (extensions, lease) in [(&[][..], None), (Extension::ALL, Some(LEASE))] {
        for fails in [false, true] {
            let engine = stuck(extensions);
            let client = engine.client().await;
            let (handler, handled) = handled(&client, fails).await;
            let begun = Instant::now();
            push(&engine, 1..=5, lease);
            tokio::time::sleep(5 * SECOND).await;
            let handled = handled.lock().unwrap().clone();
            let ids: Vec<_> = handled.iter().map(|(id, _)| id.as_str()).collect();
            assert_eq!(ids, ["e1", "e2", "e3", "e4", "e5"]);
            assert!(handled.iter().all(|(_, at)| at.duration_since(begun) < 2 * SECOND), "{handled:?}");
            let how = if fails { "rollback" } else { "ack" };
            assert!(asked(&engine, how) > 3, "it is repeated");
            assert_eq!(engine.count(how) - asked(&engine, how), 4);
            drop(handler);
        }
    }
}

/// It ends when whatever of it could still be done in time is done.
#[tokio::test(start_paused = true)]
async fn a_handler_stops_though_a_settlement_is_not_taken() {
    for (extensions, lease) in [(&[][..], None), (Extension::ALL, Some(LEASE))] {
        let engine = stuck(extensions);
        let client = engine.engine().request_timeout(20 * SECOND).create_client("key").await.unwrap();
        let (handler, _) = handled(&client, false).await;
        push(&engine, 1..=2, lease);
        tokio::time::sleep(10 * SECOND).await;
        let begun = Instant::now();
        handler.stop().await.unwrap();
        assert!(begun.elapsed() <= 21 * SECOND, "{:?}", begun.elapsed());
        assert_eq!(engine.count("ack") - asked(&engine, "ack"), 1);
    }
}

/// Its lease is extended meanwhile, but not for ever: the engine gives the event to somebody else then, or lets it go.
#[tokio::test(start_paused = true)]
async fn a_settlement_that_is_never_taken_is_given_up() {
    for (extensions, lease, longest) in [(&[][..], None, 30 * SECOND), (Extension::ALL, Some(LEASE), 310 * SECOND)] {
        let engine = stuck(extensions);
        let client = engine.client().await;
        let (handler, _) = handled(&client, false).await;
        push(&engine, 1..=1, lease);
        tokio::time::sleep(longest / 2).await;
        let halfway = (asked(&engine, "ack"), asked(&engine, "extend"));
        tokio::time::sleep(longest / 2 + SECOND).await;
        let all = (asked(&engine, "ack"), asked(&engine, "extend"));
        assert!(all.0 > halfway.0 && (lease.is_none() || all.1 > halfway.1), "{halfway:?} {all:?}");
        tokio::time::sleep(600 * SECOND).await;
        assert_eq!((asked(&engine, "ack"), asked(&engine, "extend")), all);
        handler.stop().await.unwrap();
    }
}
