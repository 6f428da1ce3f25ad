//! What a stream brought is this client's until the stream ends, and its end costs nobody else anything.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensync_client::Client;
use ensync_client::core::{Command, Error, ErrorKind, Extension};
use futures::StreamExt;
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted, delivery, somebody};

const SECOND: Duration = Duration::from_secs(1);

/// Publishes in a moment, or the test fails.
async fn publishes(client: &Client) {
    let publish = client.publish("a/b", &1).to(somebody()).into_future();
    tokio::time::timeout(SECOND, publish).await.expect("a publish waits for a subscription").unwrap();
}

fn broke() -> Error {
    Error::new(ErrorKind::Unavailable, "the stream was reset")
}

/// Until the client has seen what was said, and not longer.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// What the engine was told, in order, heartbeats apart.
fn told(engine: &Scripted) -> Vec<&'static str> {
    let calls = engine.calls.lock().unwrap();
    calls.iter().map(|call| call.command.name()).filter(|name| *name != "heartbeat").collect()
}

#[tokio::test(start_paused = true)]
async fn what_an_ended_stream_brought_is_lost_and_not_handed_out() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    let mut others = client.subscribe("a/c").await.unwrap();
    engine.push(delivery("a/b", "taken", 1));
    engine.push(delivery("a/b", "unread", 2));
    engine.push(delivery("a/c", "other", 3));
    let taken = orders.next().await.unwrap().unwrap();
    let other = others.next().await.unwrap().unwrap();
    assert!(!taken.is_lease_lost());
    engine.end_subscription("a/b", broke());
    tokio::time::timeout(SECOND / 10, taken.lease_lost()).await.expect("nobody tells that the lease is lost");
    assert!(taken.is_lease_lost() && !other.is_lease_lost());
    // What was on its way when it ended.
    engine.push(delivery("a/b", "late", 4));
    assert!(tokio::time::timeout(5 * SECOND, orders.next()).await.is_err(), "the engine has it back");
    assert_eq!(engine.count("subscribe"), 3);
    engine.push(delivery("a/b", "anew", 5));
    let anew = tokio::time::timeout(SECOND, orders.next()).await.expect("nothing comes").unwrap().unwrap();
    assert_eq!((anew.id().as_str(), anew.is_lease_lost()), ("anew", false));
    // What an engine had not taken back by itself is given back.
    let calls = engine.calls.lock().unwrap();
    let released = calls.iter().filter_map(|call| match &call.command {
        Command::Settle(settle) => Some(settle.id.as_str()),
        _ => None,
    });
    assert_eq!(released.collect::<Vec<_>>(), ["unread", "late"]);
    assert_eq!(engine.links(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_ended_with_its_stream_is_told_again_when_it_is_due() {
    let engine = Scripted::with(&[Extension::Leases, Extension::Fencing], |_, _| Answer::Done);
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").max_in_flight(4).await.unwrap();
    let mut held = Vec::new();
    for n in 0..4 {
        engine.push(delivery("a/b", &format!("e-{n}"), n + 1));
        held.push(orders.next().await.unwrap().unwrap());
    }
    a_moment().await;
    assert_eq!(told(&engine), ["subscribe", "pause"]);
    engine.end_subscription("a/b", broke());
    tokio::time::sleep(SECOND).await;
    // An engine may keep a pause by the name.
    assert_eq!(told(&engine), ["subscribe", "pause", "subscribe", "continue"]);
    for n in 0..4 {
        engine.push(delivery("a/b", &format!("e-{n}"), n + 11));
        a_moment().await;
    }
    assert_eq!(told(&engine)[4..], ["pause"], "the pause is over with the stream");
    // Room in what is over says nothing of what is.
    for event in held {
        event.leave();
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(told(&engine)[5..], [""; 0]);
}

/// The same word as the end of a stream and as the answer to the subscription that follows means the same.
#[tokio::test(start_paused = true)]
async fn an_engine_that_refuses_one_name_in_any_words_keeps_nobody_from_working() {
    for kind in [ErrorKind::Protocol, ErrorKind::Internal, ErrorKind::Unauthenticated, ErrorKind::Closed] {
        for new_link in [false, true] {
            let refuses = Arc::new(AtomicBool::new(false));
            let script = refuses.clone();
            let engine = Scripted::new(move |_, command| match command {
                Command::Subscribe(subscribe)
                    if subscribe.event.as_str() == "a/bad" && script.load(Ordering::Relaxed) =>
                {
                    Answer::No(kind)
                }
                _ => Answer::Done,
            });
            if kind == ErrorKind::Closed && new_link {
                // Over a link that logs in, it is the link's end.
                continue;
            }
            let client = engine.client().await;
            let mut bad = client.subscribe("a/bad").await.unwrap();
            refuses.store(kind != ErrorKind::Closed, Ordering::Relaxed);
            match new_link {
                true => engine.end(1, None),
                false => engine.end_subscription("a/bad", Error::new(kind, "not this one")),
            }
            for _ in 0..120 {
                tokio::time::sleep(SECOND).await;
                publishes(&client).await;
            }
            assert_eq!(engine.links(), 1 + usize::from(new_link), "{kind:?}");
            refuses.store(false, Ordering::Relaxed);
            tokio::time::sleep(40 * SECOND).await;
            engine.push(delivery("a/bad", "at-last", 1));
            let event = tokio::time::timeout(SECOND, bad.next()).await.expect("nothing comes").unwrap().unwrap();
            event.ack().await.unwrap();
        }
    }
}

/// A policy of a gateway's: every subscription is refused as if there was no session, and everything else is carried out.
#[tokio::test(start_paused = true)]
async fn subscriptions_that_are_refused_as_unknown_end_no_link_ever() {
    let refuses = Arc::new(AtomicBool::new(false));
    let script = refuses.clone();
    let engine = Scripted::new(move |_, command| match command {
        Command::Subscribe(_) if script.load(Ordering::Relaxed) => Answer::No(ErrorKind::Unauthenticated),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let mut subscriptions = Vec::new();
    for n in 0..20 {
        subscriptions.push(client.subscribe(format!("a/{n}")).await.unwrap());
    }
    refuses.store(true, Ordering::Relaxed);
    engine.end(1, None);
    for minute in 0..20 {
        tokio::time::sleep(60 * SECOND).await;
        publishes(&client).await;
        // And whoever tries anew does no harm.
        let anew = client.subscribe(format!("anew/{minute}")).await.unwrap_err();
        assert_eq!(anew.kind(), ErrorKind::Unavailable, "{anew}");
    }
    assert_eq!(engine.links(), 2);
    refuses.store(false, Ordering::Relaxed);
    tokio::time::sleep(40 * SECOND).await;
    for (n, subscription) in subscriptions.iter_mut().enumerate() {
        engine.push(delivery(&format!("a/{n}"), "at-last", 1));
        tokio::time::timeout(SECOND, subscription.next()).await.expect("nothing comes").unwrap().unwrap();
    }
}

/// Whatever of what is said again is out when a subscription is left: a new one to the name is told of last.
#[tokio::test(start_paused = true)]
async fn the_word_that_a_subscription_was_left_comes_before_the_next_one() {
    for (slow, after) in [("pause", 300), ("pause", 900), ("pause", 1_500), ("subscribe", 300), ("subscribe", 900)] {
        let engine = Scripted::new(move |_, command| match command.name() {
            name if name == slow => Answer::After(SECOND, Box::new(Answer::Done)),
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let orders = client.subscribe("a/b").await.unwrap();
        orders.pause("a break").await.unwrap();
        engine.end_subscription("a/b", broke());
        while told(&engine).len() < if slow == "pause" { 3 } else { 4 } {
            a_moment().await;
        }
        tokio::time::sleep(Duration::from_millis(after)).await;
        orders.unsubscribe().await.unwrap();
        let mut orders = client.subscribe("a/b").await.unwrap();
        tokio::time::sleep(10 * SECOND).await;
        let words: Vec<_> = told(&engine).into_iter().filter(|name| name.ends_with("subscribe")).collect();
        assert_eq!(words.last(), Some(&"subscribe"), "{slow} {after}: {words:?}");
        assert_eq!(words.iter().filter(|word| **word == "unsubscribe").count(), 1, "{slow} {after}: {words:?}");
        engine.push(delivery("a/b", "e-1", 1));
        tokio::time::timeout(SECOND, orders.next()).await.expect("nothing comes").unwrap().unwrap();
        assert_eq!(engine.links(), 1);
    }
}

/// An engine ends a session that has lost its streams and from which nothing more comes.
#[tokio::test(start_paused = true)]
async fn a_client_that_waits_with_its_only_subscription_is_heard_of() {
    let engine = Scripted::new(|_, command| match command {
        Command::Subscribe(_) => Answer::Done,
        _ => Answer::After(Duration::from_millis(50), Box::new(Answer::Done)),
    });
    let client = engine.engine().heartbeat_interval(300 * SECOND).create_client("key").await.unwrap();
    let _orders = client.subscribe("a/b").await.unwrap();
    let (mut last, mut longest) = ((Instant::now(), 0), Duration::ZERO);
    let (begun, mut ended) = (Instant::now(), 0);
    while begun.elapsed() < 120 * SECOND {
        if engine.count("subscribe") > ended {
            ended += 1;
            engine.end_subscription("a/b", broke());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        let calls = engine.calls.lock().unwrap().len();
        if calls > last.1 {
            last = (Instant::now(), calls);
        }
        longest = longest.max(last.0.elapsed());
    }
    assert!((4..20).contains(&ended), "{ended}");
    assert!(longest < 5 * SECOND, "silent for {longest:?}");
}
