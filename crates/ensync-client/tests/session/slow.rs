//! Networks that are slow, and engines that are well.

use std::time::Duration;

use ensync_client::core::{Command, Delivery, WirePayload};
use futures::StreamExt;
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted, delivery, somebody};

const SECOND: Duration = Duration::from_secs(1);

/// A large event takes a minute to get there, in which nothing comes and a heartbeat is behind it: that is no dead link.
#[tokio::test(start_paused = true)]
async fn a_large_event_is_waited_for_as_long_as_a_slow_network_takes() {
    // A megabyte may take 16 s.
    let sizes = [(2 << 20, 50 * SECOND, 1), (4 << 20, 80 * SECOND, 1), (64 << 10, 3_600 * SECOND, 2)];
    for (bytes, takes, links) in sizes {
        let text = "x".repeat(bytes);
        let mut until = None::<Instant>;
        let engine = Scripted::new(move |link, command| {
            if let (Command::Publish(_), None) = (command, until) {
                until = Some(Instant::now() + takes);
            }
            let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            if link > 1 { Answer::Done } else { Answer::After(left, Box::new(Answer::Done)) }
        });
        let client = engine.client().await;
        let begun = Instant::now();
        client.publish("a/b", &text).to(somebody()).timeout(600 * SECOND).await.unwrap();
        assert_eq!((engine.links(), engine.count("publish")), (links, links), "{takes:?}");
        assert!(begun.elapsed() <= takes.min(84 * SECOND), "{:?}", begun.elapsed());
    }
}

/// Answers stand behind the events that were sent before them.
#[tokio::test(start_paused = true)]
async fn an_answer_behind_many_events_is_waited_for() {
    // So many bytes a second; and how long the answer takes.
    for (each_second, takes, links) in [(150 << 10, 55, 1), (1 << 10, 55, 2), (2 << 20, 55, 2)] {
        let engine = Scripted::new(move |link, command| match command {
            Command::Settle(_) if link == 1 => Answer::After(takes * SECOND, Box::new(Answer::Done)),
            _ => Answer::Done,
        });
        let client = engine.engine().request_timeout(120 * SECOND).create_client("key").await.unwrap();
        let mut orders = client.subscribe("a/b").max_in_flight(1_000).await.unwrap();
        engine.push(delivery("a/b", "first", 1));
        let first = orders.next().await.unwrap().unwrap();
        let acked = tokio::spawn(async move { first.ack().await });
        for n in 0..takes {
            let payload = WirePayload::from_wire("A".repeat(each_second));
            engine.push(Delivery { payload, ..delivery("a/b", &format!("e-{n}"), 1) });
            tokio::time::sleep(SECOND).await;
            let came = tokio::time::timeout(SECOND, orders.next()).await;
            if came.is_err() || engine.links() > 1 {
                break;
            }
        }
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!((engine.links(), acked.await.unwrap().is_ok()), (links, links == 1), "{each_second} bytes a second");
    }
}

/// The same behind one large event, of which nothing is whole for a minute. Where others are answered meanwhile, it is not that.
#[tokio::test(start_paused = true)]
async fn an_answer_behind_a_large_event_is_waited_for() {
    for (each_second, others, links) in
        [(120 << 10, false, 1), (1 << 10, false, 2), (4 << 20, false, 2), (120 << 10, true, 2)]
    {
        let engine = Scripted::new(move |link, command| match command {
            Command::Settle(_) if link == 1 => Answer::After(55 * SECOND, Box::new(Answer::Done)),
            _ => Answer::Done,
        });
        engine.sends(0);
        let client = engine.engine().request_timeout(120 * SECOND).create_client("key").await.unwrap();
        let mut orders = client.subscribe("a/b").await.unwrap();
        engine.push(delivery("a/b", "first", 1));
        let first = orders.next().await.unwrap().unwrap();
        let acked = tokio::spawn(async move { first.ack().await });
        for _ in 0..60 {
            tokio::time::sleep(SECOND).await;
            engine.sends(each_second);
            if others {
                client.publish("a/b", &1).to(somebody()).await.unwrap();
            }
        }
        assert_eq!((engine.links(), acked.await.unwrap().is_ok()), (links, links == 1), "{each_second}, {others}");
    }
}

/// A process that was stopped finds what came meanwhile in its socket, once it looks there.
#[tokio::test(start_paused = true)]
async fn a_side_that_stood_still_does_not_blame_the_other() {
    for stood_still in [3, 25, 600] {
        let engine = Scripted::new(|_, command| match command {
            Command::Publish(_) => Answer::After(SECOND, Box::new(Answer::Done)),
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let publish = client.publish("a/b", &1).to(somebody()).timeout(3_600 * SECOND);
        let publishing = tokio::spawn(std::future::IntoFuture::into_future(publish));
        tokio::time::sleep(SECOND / 2).await;
        tokio::time::advance(stood_still * SECOND).await;
        publishing.await.unwrap().unwrap();
        assert_eq!((engine.links(), engine.count("publish")), (1, 1), "{stood_still} s");
    }
}

/// How long ago others were answered says nothing of a call that has just begun.
#[tokio::test(start_paused = true)]
async fn a_call_after_a_quiet_time_has_its_time() {
    let engine = Scripted::new(|_, command| match command {
        Command::Publish(_) => Answer::After(SECOND, Box::new(Answer::Done)),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    for _ in 0..3 {
        client.publish("a/b", &1).to(somebody()).await.unwrap();
        tokio::time::sleep(25 * SECOND).await;
    }
    assert_eq!((engine.links(), engine.count("publish")), (1, 3));
}
