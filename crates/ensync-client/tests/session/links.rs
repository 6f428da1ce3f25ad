//! A link's death, and what follows.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensync_client::core::{Command, ErrorKind};
use ensync_client::{ConnectionEvent, ConnectionState};
use futures::StreamExt;
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted, delivery, somebody};

const SECOND: Duration = Duration::from_secs(1);

/// The first link answers nothing at all.
fn black_hole_first() -> Arc<Scripted> {
    Scripted::new(|link, _| if link == 1 { Answer::Never } else { Answer::Done })
}

#[tokio::test(start_paused = true)]
async fn a_black_holed_link_is_noticed_within_the_default_deadline() {
    let engine = black_hole_first();
    let client = engine.client().await;
    let since = Instant::now();
    let publishes = (0..4).map(|n| client.publish("a/b", &n).to(somebody()).into_future());
    for published in futures::future::join_all(publishes).await {
        published.unwrap();
    }
    assert!(since.elapsed() < 20 * SECOND, "{:?}", since.elapsed());
    assert!(engine.is_over(1), "the old link is closed, whoever still holds it");
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_long_deadline_does_not_stay_on_a_dead_link() {
    let engine = black_hole_first();
    let client = engine.client().await;
    let since = Instant::now();
    client.publish("a/b", &1).to(somebody()).timeout(600 * SECOND).await.unwrap();
    assert!(since.elapsed() < 30 * SECOND, "{:?}", since.elapsed());
    let links: Vec<_> = engine.of("publish").iter().map(|call| call.link).collect();
    assert_eq!(links, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn bytes_are_a_sign_of_life_but_one_answer_that_never_comes_is_not_waited_for() {
    // Heartbeats are answered, the first publish never is.
    let eaten = AtomicBool::new(false);
    let engine = Scripted::new(move |_, command| match command {
        Command::Publish(_) if !eaten.swap(true, Ordering::Relaxed) => Answer::Never,
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let since = Instant::now();
    client.publish("a/b", &1).to(somebody()).await.unwrap();
    assert!((20 * SECOND..30 * SECOND).contains(&since.elapsed()), "{:?}", since.elapsed());
    assert_eq!(engine.links(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_waited_for() {
    let engine = Scripted::new(|_, command| match command {
        Command::Publish(_) => Answer::After(15 * SECOND, Box::new(Answer::Done)),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    client.publish("a/b", &1).to(somebody()).await.unwrap();
    assert_eq!(engine.links(), 1, "the link answers, so it is alive");
}

#[tokio::test(start_paused = true)]
async fn an_idle_link_that_is_silent_is_noticed_by_its_heartbeat() {
    let engine = black_hole_first();
    let client = engine.client().await;
    let mut events = client.events();
    assert!(matches!(events.next().await, Some(ConnectionEvent::Connected)));
    let since = Instant::now();
    assert!(matches!(events.next().await, Some(ConnectionEvent::Disconnected { .. })));
    // 30 s until the heartbeat, and as long as silence may last.
    assert!((30 * SECOND..45 * SECOND).contains(&since.elapsed()), "{:?}", since.elapsed());
    assert!(engine.count("heartbeat") > 0);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_an_idle_session_alive() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let _client = engine.engine().heartbeat_interval(10 * SECOND).create_client("key").await.unwrap();
    tokio::time::sleep(101 * SECOND).await;
    assert_eq!(engine.count("heartbeat"), 10);
    assert_eq!(engine.links(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_the_engine_forgot_is_noticed_by_the_first_call() {
    let engine = Scripted::new(|link, command| match command {
        Command::Publish(_) if link == 1 => Answer::No(ErrorKind::Unauthenticated),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let since = Instant::now();
    for published in
        futures::future::join_all((0..8).map(|n| client.publish("a/b", &n).to(somebody()).into_future())).await
    {
        published.unwrap();
    }
    assert!(since.elapsed() < 6 * SECOND, "{:?}", since.elapsed());
    assert!(engine.of("publish").iter().filter(|call| call.link == 2).count() == 8);
    // Other calls too.
    let engine = Scripted::new(|link, command| match command {
        Command::Subscribe(_) | Command::Heartbeat if link == 1 => Answer::No(ErrorKind::Unauthenticated),
        _ => Answer::Done,
    });
    engine.client().await.subscribe("a/b").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_link_that_ends_in_order_is_followed_at_once() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    for link in 1..=50 {
        client.publish("a/b", &link).to(somebody()).await.unwrap();
        // Some soon after each other, and from then on every 5 s for ever.
        tokio::time::sleep(if link > 8 { 5 * SECOND } else { SECOND / 10 }).await;
        engine.end(link, None);
        let since = Instant::now();
        client.publish("a/b", &link).to(somebody()).await.unwrap();
        assert!(since.elapsed() < SECOND, "link {link}: {:?}", since.elapsed());
    }
    assert_eq!(engine.links(), 51);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_does_not_hold_is_a_failed_attempt() {
    // Accepts, and ends each link in order before anything was carried out.
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let ender = engine.clone();
    tokio::spawn(async move {
        let mut ended = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if ender.links() > ended {
                ended += 1;
                ender.end(ended, None);
            }
        }
    });
    tokio::time::sleep(600 * SECOND).await;
    let links = engine.links();
    assert!((5..80).contains(&links), "it is not stormed, and goes on: {links}");
    assert!(!matches!(client.connection_state(), ConnectionState::Closed { .. }));
}

#[tokio::test(start_paused = true)]
async fn attempts_that_come_to_nothing_run_out_only_if_somebody_says_so() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    engine.logins(|_| Err(ErrorKind::Connect));
    engine.end(1, Some(ErrorKind::Interrupted));
    tokio::time::sleep(3_600 * SECOND).await;
    assert!(matches!(client.connection_state(), ConnectionState::Reconnecting { .. }));
    engine.logins(|_| Ok(()));
    client.wait_until_live().await.unwrap();

    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.engine().max_reconnect_attempts(10).create_client("key").await.unwrap();
    engine.logins(|_| Err(ErrorKind::Connect));
    engine.end(1, Some(ErrorKind::Interrupted));
    tokio::time::sleep(3_600 * SECOND).await;
    assert!(matches!(client.connection_state(), ConnectionState::Closed { .. }));
    assert_eq!(engine.tried.lock().unwrap().len(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_refused_in_passing_is_tried_again_and_a_wrong_key_is_not() {
    for kind in [ErrorKind::Unavailable, ErrorKind::LimitExceeded, ErrorKind::Protocol, ErrorKind::Connect] {
        let engine = Scripted::new(|_, _| Answer::Done);
        let client = engine.client().await;
        engine.logins(move |tried| if tried < 4 { Err(kind) } else { Ok(()) });
        engine.end(1, Some(ErrorKind::Interrupted));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!client.is_connected());
        client.wait_until_live().await.unwrap();
        assert_eq!(engine.tried.lock().unwrap().len(), 5, "{kind:?}");
    }
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    engine.logins(|_| Err(ErrorKind::Unauthenticated));
    engine.end(1, Some(ErrorKind::Interrupted));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(client.wait_until_live().await.unwrap_err().kind(), ErrorKind::Unauthenticated);
}

/// The word that a name was left is for the link that it was left on.
#[tokio::test(start_paused = true)]
async fn a_late_unsubscribe_ends_no_later_subscription() {
    let engine = Scripted::new(|link, command| match command {
        Command::Unsubscribe { .. } if link == 1 => Answer::Never,
        _ => Answer::Done,
    });
    let client = engine.client().await;
    for caller_waits in [true, false] {
        let subscription = client.subscribe("a/b").await.unwrap();
        let control = subscription.control();
        let leaving = tokio::spawn(async move { control.unsubscribe().await });
        tokio::time::sleep(SECOND / 10).await;
        if !caller_waits {
            leaving.abort();
        }
        engine.end(engine.links(), Some(ErrorKind::Interrupted));
        let mut again = client.subscribe("a/b").await.unwrap();
        if caller_waits {
            leaving.await.unwrap().unwrap();
        }
        tokio::time::sleep(60 * SECOND).await;
        let link = engine.links();
        let after: Vec<_> = engine
            .calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| call.link == link)
            .map(|call| call.command.name())
            .filter(|name| *name != "heartbeat")
            .collect();
        assert!(!after.contains(&"unsubscribe"), "{after:?}");
        engine.push(delivery("a/b", "e1", 1));
        assert_eq!(again.next().await.unwrap().unwrap().id().as_str(), "e1");
        again.unsubscribe().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_stays_reserved_until_its_own_link_knows_that_it_was_left() {
    let engine = Scripted::new(|_, command| match command {
        Command::Unsubscribe { .. } => Answer::After(3 * SECOND, Box::new(Answer::Done)),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let subscription = client.subscribe("a/b").await.unwrap();
    let control = subscription.control();
    // Who gives up waiting does not give the name free.
    let _ = tokio::time::timeout(SECOND, control.unsubscribe()).await;
    let since = Instant::now();
    let _again = client.subscribe("a/b").await.unwrap();
    assert!(since.elapsed() >= 2 * SECOND, "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_told_before_what_it_pauses() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let orders = client.subscribe("a/b").await.unwrap();
    orders.pause("maintenance").await.unwrap();
    engine.end(1, Some(ErrorKind::Interrupted));
    tokio::time::sleep(20 * SECOND).await;
    client.wait_until_live().await.unwrap();
    let order: Vec<_> = engine
        .calls
        .lock()
        .unwrap()
        .iter()
        .filter(|call| call.link == 2)
        .map(|call| call.command.name())
        .take(2)
        .collect();
    assert_eq!(order, ["pause", "subscribe"]);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_refused_in_passing_is_asked_for_again() {
    for (kind, mut refusals) in [
        (ErrorKind::LimitExceeded, 3),
        (ErrorKind::Timeout, 3),
        (ErrorKind::Unavailable, 3),
        // The session is gone, it seems, so the next is asked; which knows better than to be asked without end.
        (ErrorKind::Unauthenticated, 1),
    ] {
        let engine = Scripted::new(move |link, command| match command {
            Command::Subscribe(_) if link > 1 && refusals > 0 => {
                refusals -= 1;
                Answer::No(kind)
            }
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap();
        engine.end(1, Some(ErrorKind::Interrupted));
        tokio::time::sleep(120 * SECOND).await;
        engine.push(delivery("a/b", "e1", 1));
        assert_eq!(orders.next().await.unwrap().unwrap().id().as_str(), "e1", "{kind:?}");
    }
    // And one that is refused for good ends, with the reason.
    let engine = Scripted::new(|link, command| match command {
        Command::Subscribe(_) if link > 1 => Answer::No(ErrorKind::Forbidden),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    engine.end(1, Some(ErrorKind::Interrupted));
    assert_eq!(orders.next().await.unwrap().unwrap_err().kind(), ErrorKind::Forbidden);
}

/// Hand-backs that a link took with it do not use up the room for later ones.
#[tokio::test(start_paused = true)]
async fn hand_backs_go_on_after_many_links() {
    let engine = Scripted::new(|_, command| match command {
        Command::Settle(_) => Answer::Never,
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    for link in 1..=80 {
        for n in 0..64 {
            engine.push(delivery("a/b", &format!("e{link}-{n}"), 1));
        }
        for _ in 0..64 {
            drop(orders.next().await.unwrap().unwrap());
        }
        tokio::time::sleep(SECOND / 10).await;
        assert_eq!(engine.of("rollback").iter().filter(|call| call.link == link).count(), 64, "link {link}");
        engine.end(link, Some(ErrorKind::Interrupted));
        tokio::time::sleep(20 * SECOND).await;
        client.wait_until_live().await.unwrap();
        assert_eq!(engine.links(), link + 1);
    }
}

/// Publishes from several tasks until the time is over, and gives the longest that one of them took.
async fn publish_for(client: &ensync_client::Client, time: Duration) -> Duration {
    let until = Instant::now() + time;
    let to = somebody();
    let publishers = (0..8).map(|n| {
        let client = client.clone();
        async move {
            let mut longest = Duration::ZERO;
            while Instant::now() < until {
                let since = Instant::now();
                client.publish("a/b", &n).to(to).await.unwrap();
                longest = longest.max(since.elapsed());
            }
            longest
        }
    });
    futures::future::join_all(publishers).await.into_iter().max().unwrap()
}

/// Whether a call hears of it first or the inbox: an end in order is followed at once, a failure after a random wait, for the many
/// that were cut off with this client are not to come back together.
#[tokio::test(start_paused = true)]
async fn under_load_too_an_end_in_order_is_told_from_a_failure() {
    for (error, at_once) in [(None, true), (Some(ErrorKind::Interrupted), false)] {
        let engine = Scripted::new(|_, command| match command {
            Command::Publish(_) => Answer::After(Duration::from_millis(130), Box::new(Answer::Done)),
            _ => Answer::Done,
        });
        let client = engine.engine().jitter_seed(7).create_client("key").await.unwrap();
        let ender = engine.clone();
        let ending = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(7 * SECOND).await;
                ender.end(ender.links(), error);
            }
        });
        let longest = publish_for(&client, 40 * SECOND).await;
        ending.await.unwrap();
        assert_eq!(engine.links(), 6);
        assert_eq!(longest < SECOND, at_once, "{error:?}: {longest:?}");
    }
}

/// What a gateway refuses it may let through later; what the engine says of the key stays.
#[tokio::test(start_paused = true)]
async fn a_login_that_is_refused_on_the_way_is_tried_again() {
    for kind in [ErrorKind::Unauthenticated, ErrorKind::Forbidden] {
        for on_the_way in [true, false] {
            let engine = Scripted::new(|_, _| Answer::Done);
            engine.logins(move |tried| if (1..4).contains(&tried) { Err(kind) } else { Ok(()) });
            if on_the_way {
                engine.behind_a_gateway();
            }
            let client = engine.client().await;
            engine.end(1, None);
            tokio::time::sleep(Duration::from_secs(60)).await;
            let outcome = client.publish("a/b", &1).to(somebody()).await.map(drop).map_err(|error| error.kind());
            assert_eq!(outcome, if on_the_way { Ok(()) } else { Err(kind) }, "{kind:?}");
            assert_eq!(engine.tried.lock().unwrap().len(), if on_the_way { 5 } else { 2 });
        }
    }
}
