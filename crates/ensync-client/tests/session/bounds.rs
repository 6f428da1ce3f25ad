//! What is bounded, however much the other side sends.

use std::time::Duration;

use ensync_client::core::{Command, ErrorKind, Extension, Reply};
use futures::StreamExt;

use crate::scripted::{Answer, Scripted, delivery, somebody};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_names_makes_few_calls() {
    let engine = Scripted::new(|_, command| match command {
        Command::Heartbeat => Answer::Done,
        _ => Answer::After(SECOND, Box::new(Answer::Done)),
    });
    let _client = engine.client().await;
    for n in 0..100_000 {
        engine.push(delivery(&format!("flood/{n}"), &format!("e{n}"), 1));
    }
    tokio::time::sleep(SECOND / 2).await;
    let calls = engine.calls.lock().unwrap().len();
    assert!((1..=64).contains(&calls), "{calls} at once");
    tokio::time::sleep(600 * SECOND).await;
    let calls = engine.calls.lock().unwrap().len();
    assert!(calls < 10_000, "{calls} in all");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_overflows_stops_no_other() {
    // Sends on whatever it is told.
    let engine = Scripted::with(&[], |_, _| Answer::Done);
    let client = engine.client().await;
    let _slow = client.subscribe("slow/one").max_in_flight(1).await.unwrap();
    let mut other = client.subscribe("other/one").await.unwrap();
    for n in 0..5_000 {
        engine.push(delivery("slow/one", &format!("e{n}"), 1));
    }
    engine.push(delivery("other/one", "e", 1));
    let event = tokio::time::timeout(SECOND, other.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(event.id().as_str(), "e");
}

/// Each is asked to pause, and refuses in passing for ever: that takes no room from what else there is to say.
#[tokio::test(start_paused = true)]
async fn an_engine_that_refuses_to_pause_holds_up_no_other_word() {
    const MANY: usize = 100;
    let engine = Scripted::with(&[], |_, command| match command {
        Command::Pause { .. } => Answer::No(ErrorKind::Unavailable),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let mut full = Vec::new();
    for n in 0..MANY {
        full.push(client.subscribe(format!("full/{n}")).max_in_flight(1).await.unwrap());
        engine.push(delivery(&format!("full/{n}"), "e", 1));
    }
    tokio::time::sleep(SECOND).await;
    assert!(engine.count("pause") >= MANY);
    tokio::time::timeout(SECOND, full[0].unsubscribe()).await.expect("it waits for pauses").unwrap();
    tokio::time::timeout(SECOND, client.close()).await.expect("it waits for pauses").unwrap();
    assert_eq!(engine.count("unsubscribe"), MANY, "no goodbye");
}

#[tokio::test(start_paused = true)]
async fn what_is_buffered_and_comes_again_is_handed_out_once() {
    let engine = Scripted::with(&[], |_, _| Answer::Done);
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    for block in 1..=3 {
        engine.push(delivery("a/b", "e1", block));
    }
    engine.push(delivery("a/b", "e2", 1));
    tokio::time::sleep(SECOND).await;
    let (first, second) = (orders.next().await.unwrap().unwrap(), orders.next().await.unwrap().unwrap());
    assert_eq!((first.id().as_str(), first.block().to_string(), second.id().as_str()), ("e1", "3".to_owned(), "e2"));
}

#[tokio::test(start_paused = true)]
async fn a_replay_of_another_event_is_no_replay() {
    let engine = Scripted::with(Extension::ALL, |_, command| match command {
        Command::Replay { .. } => Answer::With(Reply::Replayed(Box::new(delivery("other/name", "other", 1)))),
        _ => Answer::Done,
    });
    let error = engine.client().await.replay("a/b", "e1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("other/name"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn publishes_under_way_are_bounded_in_number_and_in_bytes() {
    let engine = Scripted::new(|_, command| match command {
        Command::Publish(_) => Answer::After(SECOND, Box::new(Answer::Done)),
        _ => Answer::Done,
    });
    for (most, bytes, expected) in [(2, 1 << 30, 2), (1_000, 100 << 10, 3), (1_000, 1, 1)] {
        engine.calls.lock().unwrap().clear();
        let settings = engine.engine().max_publishes_in_flight(most).max_publish_bytes_in_flight(bytes);
        let client = settings.create_client("key").await.unwrap();
        // About 27 KiB each, once encrypted and in base64.
        let text = "x".repeat(15 << 10);
        let publishes =
            (0..10).map(|_| std::future::IntoFuture::into_future(client.publish("a/b", &text).to(somebody())));
        let all = tokio::spawn(futures::future::join_all(publishes));
        tokio::time::sleep(SECOND / 2).await;
        assert_eq!(engine.count("publish"), expected, "{most} and {bytes}");
        assert!(all.await.unwrap().iter().all(Result::is_ok));
    }
}

/// What the engine said says more than that there was no room for another attempt.
#[tokio::test(start_paused = true)]
async fn one_that_was_refused_and_found_no_room_again_is_told_the_refusal() {
    let (refused, slow) = (somebody(), somebody());
    let engine = Scripted::new(move |_, command| match command {
        Command::Publish(publish) if publish.recipient == refused => Answer::No(ErrorKind::LimitExceeded),
        Command::Publish(_) => Answer::After(15 * SECOND, Box::new(Answer::Done)),
        _ => Answer::Done,
    });
    let client = engine.engine().max_publishes_in_flight(1).create_client("key").await.unwrap();
    let publish = |to| std::future::IntoFuture::into_future(client.publish("a/b", &1).to(to).timeout(10 * SECOND));
    let (told, _) = tokio::join!(publish(refused), publish(slow));
    let error = told.unwrap_err();
    assert!(error.to_string().contains("refused by the script"), "{error}");
}

/// What others free who give up at the same deadline is room for nobody.
#[tokio::test(start_paused = true)]
async fn room_that_comes_too_late_is_told_as_none() {
    let engine = Scripted::new(|_, command| match command {
        Command::Publish(_) => Answer::Never,
        _ => Answer::Done,
    });
    let client = engine.engine().max_publishes_in_flight(1).create_client("key").await.unwrap();
    let publishes = (0..3).map(|_| client.publish("a/b", &1).to(somebody()).timeout(2 * SECOND));
    let outcomes = futures::future::join_all(publishes.map(std::future::IntoFuture::into_future)).await;
    let kinds: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap_err().kind()).collect();
    assert_eq!(kinds, [ErrorKind::Timeout, ErrorKind::LimitExceeded, ErrorKind::LimitExceeded]);
    assert_eq!(engine.count("publish"), 1);
}

#[tokio::test(start_paused = true)]
async fn debug_of_a_publish_shows_no_payload_and_no_time_is_said_as_that() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let publish = client.publish("a/b", "a secret").to(somebody()).header("k", "a value");
    let debug = format!("{publish:?}");
    assert!(!debug.contains("secret") && !debug.contains("a value"), "{debug}");
    let error = publish.timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_happened()), (ErrorKind::InvalidInput, false), "{error}");
    assert_eq!(engine.count("publish"), 0);
}

/// A copy that waits for another attempt leaves its place among those of its publish, and its room among those of its client.
#[tokio::test(start_paused = true)]
async fn recipients_that_are_refused_in_passing_hold_up_no_other() {
    let (troubled, well): (Vec<_>, Vec<_>) =
        ((0..65).map(|_| somebody()).collect(), (0..20).map(|_| somebody()).collect());
    let refused: std::collections::HashSet<_> = troubled.iter().copied().collect();
    let times = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = times.clone();
    let engine = Scripted::new(move |_, command| match command {
        Command::Publish(publish) if refused.contains(&publish.recipient) => Answer::No(ErrorKind::LimitExceeded),
        Command::Publish(_) => {
            noted.lock().unwrap().push(tokio::time::Instant::now());
            Answer::Done
        }
        _ => Answer::Done,
    });
    let client = engine.engine().max_publishes_in_flight(1).create_client("key").await.unwrap();
    let begun = tokio::time::Instant::now();
    let publishing = client.publish("a/b", &1).to_all(troubled.iter().chain(&well).copied()).await;
    assert_eq!(publishing.unwrap_err().kind(), ErrorKind::PartiallyPublished);
    let times = times.lock().unwrap();
    assert!(times.len() == 20 && times.iter().all(|at| *at - begun < SECOND), "{times:?}");
}
