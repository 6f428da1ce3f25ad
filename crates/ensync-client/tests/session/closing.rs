//! `close` ends in its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ensync_client::core::{Command, ErrorKind, Extension};
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted, delivery, somebody};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn close_refuses_what_begins_after_it_and_answers_what_began_before() {
    let engine = Scripted::new(|_, command| match command {
        Command::Publish(_) => Answer::After(SECOND / 10, Box::new(Answer::Done)),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let refused = Arc::new(AtomicUsize::new(0));
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..16 {
        let (client, refused) = (client.clone(), refused.clone());
        publishers.spawn(async move {
            for n in 0..10_000 {
                match client.publish("a/b", &n).to(somebody()).await {
                    Ok(_) => {}
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Closed, "publisher {publisher}: {error}");
                        refused.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
            }
        });
    }
    tokio::time::sleep(SECOND).await;
    let since = Instant::now();
    client.close().await.unwrap();
    assert!(since.elapsed() < SECOND, "{:?}", since.elapsed());
    while let Some(ended) = publishers.join_next().await {
        ended.unwrap();
    }
    assert_eq!(refused.load(Ordering::Relaxed), 16);
}

/// An engine that answers nothing more, the goodbye included.
#[tokio::test(start_paused = true)]
async fn close_ends_in_its_time_where_nothing_is_answered() {
    let engine = Scripted::new(|_, command| match command {
        Command::Publish(_) | Command::Unsubscribe { .. } => Answer::Never,
        _ => Answer::Done,
    });
    let client = engine.engine().close_timeout(2 * SECOND).create_client("key").await.unwrap();
    let _events = client.subscribe("a/b").await.unwrap();
    let publishing = tokio::spawn(client.publish("a/b", &1).to(somebody()).into_future());
    tokio::time::sleep(SECOND).await;
    let begun = Instant::now();
    let abandoned = client.close().await.unwrap_err();
    assert_eq!(abandoned.kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() <= 2 * SECOND + SECOND / 2, "{:?}", begun.elapsed());
    publishing.await.unwrap().unwrap_err();
}

#[cfg(feature = "outbox")]
#[tokio::test]
async fn nothing_is_queued_once_the_client_is_closed() {
    use ensync_client::{Outbox, OutboxOptions};

    let place = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(place.path().join("outbox"), OutboxOptions::new()).await.unwrap();
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.engine().create_client("key").outbox(outbox.clone()).await.unwrap();
    client.close().await.unwrap();
    let refused = client.publish("a/b", &1).to(somebody()).queue().await.unwrap_err();
    assert_eq!((refused.kind(), outbox.status().waiting), (ErrorKind::Closed, 0));
}

/// What paces an engine without flow control waits for an answer with the turn of the subscription in its hand.
#[tokio::test(start_paused = true)]
async fn close_does_not_wait_for_a_pause_that_nobody_answers() {
    let engine = Scripted::with(&[Extension::Fencing], |_, command| match command {
        Command::Pause { .. } => Answer::Never,
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let _events = client.subscribe("a/b").max_in_flight(2).await.unwrap();
    for n in 1..=3 {
        engine.push(delivery("a/b", &format!("event-{n}"), n));
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(engine.count("pause"), 1, "the window is full");
    let begun = Instant::now();
    client.close().await.unwrap();
    assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    assert_eq!(engine.count("unsubscribe"), 1);
}
