//! Pauses of a user's, and what is told of the same subscription at that time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensync_client::core::{Command, Error, ErrorKind, Extension};
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted};

const SECOND: Duration = Duration::from_secs(1);

/// What the engine was told, when it came.
type Told = Arc<Mutex<Vec<(&'static str, Duration)>>>;

/// From when on there is a subscription.
type Subscribed = Arc<Mutex<Option<Instant>>>;

/// An engine that takes a second for a subscription, and a pause before that or not; and whether it is paused.
fn slow(pauses_first: bool) -> (Arc<Scripted>, Told, Subscribed, Arc<AtomicBool>) {
    let (told, since, paused) = (Told::default(), Subscribed::default(), Arc::<AtomicBool>::default());
    let (noted, subscribed, is_paused, begun) = (told.clone(), since.clone(), paused.clone(), Instant::now());
    let engine = Scripted::new(move |_, command| {
        if !matches!(command, Command::Heartbeat) {
            noted.lock().unwrap().push((command.name(), begun.elapsed()));
        }
        match command {
            Command::Subscribe(_) => {
                *subscribed.lock().unwrap() = Some(Instant::now() + SECOND);
                return Answer::After(SECOND, Box::new(Answer::Done));
            }
            Command::Pause { .. } => {
                let there = subscribed.lock().unwrap().is_some_and(|since| since <= Instant::now());
                if !there && !pauses_first {
                    return Answer::No(ErrorKind::InvalidInput);
                }
                is_paused.store(true, Ordering::Relaxed);
            }
            Command::Continue { .. } => is_paused.store(false, Ordering::Relaxed),
            _ => {}
        }
        Answer::Done
    });
    (engine, told, since, paused)
}

fn names(told: &Told) -> Vec<&'static str> {
    told.lock().unwrap().iter().map(|(name, _)| *name).collect()
}

/// What a user says while the engine is asked for the stream again comes after that, and is what holds.
#[tokio::test(start_paused = true)]
async fn what_is_said_while_a_stream_is_asked_for_again_is_what_holds() {
    for pauses_first in [true, false] {
        for (first, then) in [(true, false), (false, true)] {
            let (engine, told, subscribed, paused) = slow(pauses_first);
            let client = engine.client().await;
            let orders = client.subscribe("a/b").await.unwrap();
            tokio::time::sleep(SECOND / 100).await;
            if first {
                orders.pause("a break").await.unwrap();
            }
            *subscribed.lock().unwrap() = None;
            paused.store(false, Ordering::Relaxed);
            engine.end_subscription("a/b", Error::new(ErrorKind::Unavailable, "gone"));
            let asked = || names(&told).iter().filter(|name| **name == "subscribe").count() == 2;
            while !asked() {
                tokio::time::sleep(SECOND / 100).await;
            }
            tokio::time::sleep(SECOND / 2).await;
            match then {
                true => orders.pause("another").await.unwrap(),
                false => orders.resume().await.unwrap(),
            }
            tokio::time::sleep(60 * SECOND).await;
            let told = told.lock().unwrap().clone();
            assert_eq!(paused.load(Ordering::Relaxed), then, "{told:?}");
            // Not beside it: an engine may begin each subscription without a pause.
            let subscribed = told.iter().filter(|(name, _)| *name == "subscribe").nth(1).unwrap().1;
            let beside = |at: &Duration| (subscribed + SECOND / 10..subscribed + SECOND).contains(at);
            assert!(!told.iter().any(|(_, at)| beside(at)), "{told:?}");
        }
    }
}

/// Whoever pauses while there is no connection is remembered, and holds up nobody who is to be restored.
#[tokio::test(start_paused = true)]
async fn a_pause_without_a_connection_is_told_with_the_subscription() {
    for pause in [true, false] {
        let engine = Scripted::new(|_, _| Answer::Done);
        let client = engine.engine().jitter_seed(1).create_client("key").await.unwrap();
        let orders = client.subscribe("a/b").await.unwrap();
        if !pause {
            orders.pause("a break").await.unwrap();
        }
        let before = engine.calls.lock().unwrap().len();
        engine.logins(|tried| if tried < 4 { Err(ErrorKind::Connect) } else { Ok(()) });
        engine.end(1, Some(ErrorKind::Interrupted));
        tokio::time::sleep(SECOND / 1_000).await;
        assert!(!client.is_connected());
        match pause {
            true => orders.pause("a break").await.unwrap(),
            false => orders.resume().await.unwrap(),
        }
        let logged_in = *engine.tried.lock().unwrap().last().unwrap();
        assert!(client.is_connected() && logged_in.elapsed() < SECOND, "{:?}", logged_in.elapsed());
        let calls: Vec<_> = engine.calls.lock().unwrap()[before..].iter().map(|call| call.command.name()).collect();
        let expected: &[_] = if pause { &["pause", "subscribe", "pause"] } else { &["subscribe", "continue"] };
        assert_eq!(calls, expected);
    }
}

/// An engine that is not ours may begin each subscription without a pause, whatever it was told before.
#[tokio::test(start_paused = true)]
async fn an_engine_without_flow_control_is_told_again_after_the_subscription() {
    const CASES: [(&[Extension], &[&str]); 2] =
        [(Extension::ALL, &["pause", "subscribe"]), (&[Extension::Fencing], &["pause", "subscribe", "pause"])];
    for (extensions, expected) in CASES {
        let engine = Scripted::with(extensions, |_, _| Answer::Done);
        let client = engine.client().await;
        let orders = client.subscribe("a/b").await.unwrap();
        orders.pause("a break").await.unwrap();
        engine.end(1, None);
        tokio::time::sleep(60 * SECOND).await;
        let calls = engine.calls.lock().unwrap();
        let told: Vec<_> = calls.iter().filter(|call| call.link == 2).map(|call| call.command.name()).collect();
        let told: Vec<_> = told.into_iter().filter(|name| *name != "heartbeat").collect();
        assert_eq!(told, expected);
    }
}

/// A pause that the engine refuses is no pause, and one that was meant before it is one still.
#[tokio::test(start_paused = true)]
async fn a_pause_that_is_refused_is_taken_back() {
    for before in [false, true] {
        let refuses = Arc::<AtomicBool>::default();
        let now = refuses.clone();
        let engine = Scripted::new(move |link, command| match command {
            Command::Pause { .. } if link == 1 && now.load(Ordering::Relaxed) => Answer::No(ErrorKind::Forbidden),
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let orders = client.subscribe("a/b").await.unwrap();
        if before {
            orders.pause("first").await.unwrap();
        }
        refuses.store(true, Ordering::Relaxed);
        assert_eq!(orders.pause("second").await.unwrap_err().kind(), ErrorKind::Forbidden);
        engine.end(1, None);
        tokio::time::sleep(SECOND).await;
        let paused: Vec<_> = engine.of("pause").into_iter().filter(|call| call.link == 2).collect();
        assert_eq!(paused.len(), usize::from(before), "{paused:?}");
        let first = |command: &Command| matches!(command, Command::Pause { reason, .. } if reason == "first");
        assert!(paused.iter().all(|call| first(&call.command)), "{paused:?}");
    }
}
