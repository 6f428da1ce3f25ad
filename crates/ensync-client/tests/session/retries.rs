//! What is sent again, and what is not.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ensync_client::core::{Command, ErrorKind, Extension};
use ensync_client::{PartialPublish, RetryPolicy};
use futures::StreamExt;
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted, delivery, somebody};

const SECOND: Duration = Duration::from_secs(1);

fn refusing(kind: ErrorKind, times: usize) -> Arc<Scripted> {
    let asked = AtomicUsize::new(0);
    Scripted::new(move |_, command| match command {
        Command::Publish(_) if asked.fetch_add(1, Ordering::Relaxed) < times => Answer::No(kind),
        _ => Answer::Done,
    })
}

#[tokio::test(start_paused = true)]
async fn refusals_that_pass_are_outlasted() {
    for kind in [ErrorKind::Unavailable, ErrorKind::LimitExceeded, ErrorKind::Interrupted] {
        let engine = refusing(kind, 5);
        engine.client().await.publish("a/b", &1).to(somebody()).await.unwrap();
        assert_eq!(engine.count("publish"), 6, "{kind:?}");
        let keys: Vec<_> = engine
            .of("publish")
            .into_iter()
            .map(|call| match call.command {
                Command::Publish(publish) => publish.idempotency_key.unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(keys.windows(2).all(|two| two[0] == two[1]), "under one key");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_that_do_not_pass_are_told_at_once() {
    for kind in [ErrorKind::Forbidden, ErrorKind::UnknownEvent, ErrorKind::PayloadTooLarge, ErrorKind::Refused] {
        let engine = refusing(kind, 1);
        let since = Instant::now();
        let error = engine.client().await.publish("a/b", &1).to(somebody()).await.unwrap_err();
        assert_eq!((error.kind(), engine.count("publish")), (kind, 1));
        assert!(since.elapsed().is_zero());
    }
}

#[tokio::test(start_paused = true)]
async fn endless_refusals_are_told_at_the_deadline_and_are_no_storm() {
    let engine = Scripted::new(|_, command| match command {
        Command::Publish(_) => Answer::No(ErrorKind::Interrupted),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let since = Instant::now();
    let error = client.publish("a/b", &1).to(somebody()).await.unwrap_err();
    assert!(error.may_have_happened());
    assert!(since.elapsed() <= 30 * SECOND);
    assert!(engine.count("publish") < 60, "{}", engine.count("publish"));
}

#[tokio::test(start_paused = true)]
async fn repeats_never_multiply_the_load() {
    let engine = Scripted::new(|_, command| match command {
        Command::Publish(_) => Answer::No(ErrorKind::LimitExceeded),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let publishes = (0..1_000).map(|n| std::future::IntoFuture::into_future(client.publish("a/b", &n).to(somebody())));
    let begun = Instant::now();
    let outcomes = futures::future::join_all(publishes).await;
    // Each is told in time, and what the engine said, also if a repeat would have come too late.
    let told = outcomes.into_iter().filter_map(Result::err).filter(|error| error.kind() == ErrorKind::LimitExceeded);
    assert_eq!(told.filter(|error| error.to_string().contains("refused by the script")).count(), 1_000);
    assert!(begun.elapsed() <= 30 * SECOND);
    // 1,000 first attempts, and a repeat of each; what may go out at once; and a hundred a second, with what is owed of the next.
    assert!(engine.count("publish") <= 2 * 1_000 + 256 + 31 * 100, "{}", engine.count("publish"));
}

#[tokio::test(start_paused = true)]
async fn a_publish_may_have_its_own_policy() {
    let engine = refusing(ErrorKind::Unavailable, 100);
    let client = engine.client().await;
    let error = client.publish("a/b", &1).to(somebody()).retry(RetryPolicy::never()).await.unwrap_err();
    assert_eq!((error.kind(), engine.count("publish")), (ErrorKind::Unavailable, 1));
    let policy = RetryPolicy::new().max_attempts(3);
    client.publish("a/b", &1).to(somebody()).retry(policy).await.unwrap_err();
    assert_eq!(engine.count("publish"), 4);
}

/// The window is looked at when the repeat would go out, not before the wait for a connection.
/// However often it was sent since: the engine may have taken the first, and forgets that one first.
#[tokio::test(start_paused = true)]
async fn it_is_the_first_attempt_that_must_not_be_forgotten() {
    let engine = refusing(ErrorKind::Interrupted, usize::MAX);
    let (client, begun) = (engine.client().await, Instant::now());
    let error = client.publish("a/b", &1).to(somebody()).timeout(600 * SECOND).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_happened()), (ErrorKind::Interrupted, true), "{error}");
    assert!((50 * SECOND..=66 * SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

/// Waits are for an engine that goes on. The next link is a new start.
#[tokio::test(start_paused = true)]
async fn no_wait_outlasts_the_link_that_it_was_for() {
    const LONG: Duration = Duration::from_secs(36_000);
    for answer in [None, Some(ErrorKind::Unavailable)] {
        let engine = Scripted::new(move |link, command| match (command, answer) {
            (Command::Publish(_), None) if link == 1 => Answer::Never,
            (Command::Publish(_), Some(kind)) if link == 1 => Answer::No(kind),
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let policy = RetryPolicy::new().first_wait(LONG).longest_wait(LONG);
        // So much time that a repeat may wait, where it has to; and so little that it must not.
        let limit = if answer.is_some() { 2 * LONG } else { 15 * SECOND };
        let publish = client.publish("a/b", &1).to(somebody()).retry(policy).timeout(limit);
        let publishing = tokio::spawn(publish.into_future());
        tokio::time::sleep(SECOND).await;
        engine.end(1, Some(ErrorKind::Interrupted));
        let published = tokio::time::timeout(10 * SECOND, publishing).await.expect("it waits").unwrap();
        assert!(published.is_ok(), "{published:?}");
        assert_eq!((engine.links(), engine.count("publish")), (2, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_link_did_not_carry_is_no_attempt() {
    let mut refused = 0;
    let engine = Scripted::new(move |link, command| match command {
        Command::Publish(_) if link == 1 => Answer::No(ErrorKind::Closed),
        Command::Publish(_) if refused == 0 => {
            refused = 1;
            Answer::No(ErrorKind::Unavailable)
        }
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let policy = RetryPolicy::new().max_attempts(2);
    client.publish("a/b", &1).to(somebody()).retry(policy).await.unwrap();
    assert_eq!((engine.links(), engine.count("publish")), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_repeated_that_the_engine_may_have_forgotten() {
    let engine = Scripted::new(|link, command| match command {
        Command::Publish(_) if link == 1 => Answer::Never,
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let publish = client.publish("a/b", &1).to(somebody()).timeout(600 * SECOND);
    let publishing = tokio::spawn(std::future::IntoFuture::into_future(publish));
    tokio::time::sleep(SECOND).await;
    engine.logins(|_| Err(ErrorKind::Connect));
    engine.end(1, Some(ErrorKind::Interrupted));
    // Longer than the engine remembers.
    tokio::time::sleep(300 * SECOND).await;
    engine.logins(|_| Ok(()));
    let error = publishing.await.unwrap().unwrap_err();
    assert!(error.may_have_happened(), "{error}");
    assert_eq!(engine.count("publish"), 1, "it is not sent where it would be stored twice");
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_deduplicated_a_lost_answer_is_told() {
    let engine = Scripted::with(&[Extension::Fencing], |link, command| match command {
        Command::Publish(_) if link == 1 => Answer::Never,
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let publishing = tokio::spawn(std::future::IntoFuture::into_future(client.publish("a/b", &1).to(somebody())));
    tokio::time::sleep(SECOND).await;
    engine.end(1, Some(ErrorKind::Interrupted));
    let error = publishing.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), engine.count("publish")), (ErrorKind::Interrupted, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_may_have_been_served_is_not_told_as_refused() {
    let (first, second) = (somebody(), somebody());
    let engine = Scripted::with(&[], move |_, command| match command {
        Command::Publish(publish) if publish.recipient == first => Answer::No(ErrorKind::UnknownRecipient),
        Command::Publish(_) => Answer::No(ErrorKind::Interrupted),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let error = client.publish("a/b", &1).to(first).to(second).await.unwrap_err();
    assert!(error.may_have_happened(), "{error}");
    let told = PartialPublish::of(&error).unwrap();
    let kinds: Vec<_> = told.failed.iter().map(|(_, error)| error.kind()).collect();
    assert_eq!(kinds, [ErrorKind::UnknownRecipient, ErrorKind::Interrupted]);
}

#[tokio::test(start_paused = true)]
async fn one_slow_recipient_holds_back_no_other() {
    let slow = somebody();
    let engine = Scripted::new(move |_, command| match command {
        Command::Publish(publish) if publish.recipient == slow => Answer::After(10 * SECOND, Box::new(Answer::Done)),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let others: Vec<_> = (0..200).map(|_| somebody()).collect();
    let publishing =
        tokio::spawn(std::future::IntoFuture::into_future(client.publish("a/b", &1).to(slow).to_all(others)));
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(engine.count("publish"), 201);
    let receipt = publishing.await.unwrap().unwrap();
    assert_eq!(receipt.iter().next().unwrap().0, &slow, "in the order they were named");
}

/// An engine that does 20 publishes a second, one after the other; of so many it answers none to one.
fn slow(eats: Option<usize>) -> Arc<Scripted> {
    let (mut free, mut asked) = (Instant::now(), 0);
    Scripted::new(move |_, command| {
        if !matches!(command, Command::Publish(_)) {
            return Answer::Done;
        }
        asked += 1;
        free = free.max(Instant::now()) + SECOND / 20;
        match eats {
            Some(each) if asked % each == 0 => Answer::Never,
            _ => Answer::After(free - Instant::now(), Box::new(Answer::Done)),
        }
    })
}

/// What is late because much is before it is not lost.
#[tokio::test(start_paused = true)]
async fn a_queue_that_moves_is_no_dead_link() {
    let engine = slow(None);
    let client = engine.client().await;
    let publish =
        |n| std::future::IntoFuture::into_future(client.publish("a/b", &n).to(somebody()).timeout(60 * SECOND));
    let outcomes = futures::future::join_all((0..1_024).map(publish)).await;
    let told = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!((told, engine.count("publish"), engine.links()), (1_024, 1_024, 1));
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_which_some_are_eaten_is_given_up() {
    let engine = slow(Some(7));
    let client = engine.client().await;
    let publish =
        |n| std::future::IntoFuture::into_future(client.publish("a/b", &n).to(somebody()).timeout(60 * SECOND));
    let mut publishing = std::pin::pin!(futures::future::join_all((0..1_024).map(publish)));
    for (after, links) in [(19, 1..2), (11, 2..9)] {
        assert!(tokio::time::timeout(after * SECOND, &mut publishing).await.is_err());
        assert!(links.contains(&engine.links()), "{} links", engine.links());
    }
}

/// Over each link everything is taken, and then the engine does not know the session, or ends the link in order.
#[tokio::test(start_paused = true)]
async fn an_engine_that_forgets_each_session_at_once_is_not_stormed() {
    for (acks, in_order) in [(0, false), (1, false), (1, true)] {
        let links = within_ten_minutes(acks, in_order).await;
        let most = if in_order { 450 } else { 90 };
        assert!((5..most).contains(&links), "{acks} acks, {in_order}: it is not stormed, and goes on: {links}");
    }
}

/// How many links there were, over each of which so many acks were taken.
async fn within_ten_minutes(acks: usize, in_order: bool) -> usize {
    let (mut taken, mut over) = (0, 0);
    let engine = Scripted::new(move |link, command| match command {
        Command::Settle(_) => {
            taken = if link == over { taken + 1 } else { 1 };
            over = link;
            if in_order || taken <= acks { Answer::Done } else { Answer::No(ErrorKind::Unauthenticated) }
        }
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    let sender = engine.clone();
    tokio::spawn(async move {
        let mut sent = 0;
        loop {
            tokio::time::sleep(SECOND / 100).await;
            if sender.links() > sent && sender.count("subscribe") > sent {
                sent = sender.links();
                for n in 0..=acks {
                    sender.push(delivery("a/b", &format!("e-{sent}-{n}"), 1));
                }
            } else if in_order && sender.count("ack") >= (acks + 1) * sent && sent > 0 && !sender.is_over(sent) {
                sender.end(sent, None);
            }
        }
    });
    let reading = async {
        while let Some(event) = orders.next().await {
            let _refused = event.unwrap().ack().await;
        }
    };
    let _goes_on = tokio::time::timeout(600 * SECOND, reading).await;
    engine.links()
}

/// One recipient whose queue is full, for minutes and with short deadlines, takes no repeat from what is refused once.
#[tokio::test(start_paused = true)]
async fn what_is_refused_all_the_time_takes_no_repeats_from_others() {
    let (full, other) = (somebody(), somebody());
    let mut refusals = 0;
    let engine = Scripted::new(move |_, command| match command {
        Command::Publish(publish) if publish.recipient == full => Answer::No(ErrorKind::LimitExceeded),
        // Some more than once.
        Command::Publish(_) if refusals < 4 => {
            refusals += 1;
            Answer::No(ErrorKind::Unavailable)
        }
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let publishing = |limit| {
        let publishes = (0..50).map(|n| client.publish("a/b", &n).to(full).timeout(limit).into_future());
        futures::future::join_all(publishes)
    };
    for limit in [SECOND, 30 * SECOND] {
        let begun = Instant::now();
        while begun.elapsed() < 60 * SECOND {
            publishing(limit).await;
        }
        client.publish("a/b", &1).to(other).await.unwrap();
    }
}
