//! Subscriptions that end by themselves, or are refused as if there was no session: no others pay for that.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use ensync_client::core::{Command, Error, ErrorKind};
use ensync_client::{Client, ConnectionEvent, Subscription};
use futures::StreamExt;
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted, delivery, somebody};

const SECOND: Duration = Duration::from_secs(1);

/// Publishes in a moment, or the test fails.
async fn publishes(client: &Client) {
    let publish = client.publish("a/b", &1).to(somebody()).into_future();
    tokio::time::timeout(SECOND, publish).await.expect("a publish waits for a subscription").unwrap();
}

async fn comes(engine: &Scripted, orders: &mut Subscription, id: &str) {
    engine.push(delivery("a/b", id, 1));
    let event = tokio::time::timeout(SECOND, orders.next()).await.expect("nothing comes").unwrap().unwrap();
    assert_eq!(event.id().as_str(), id);
    event.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_asked_for_again_over_the_same_link() {
    for error in [
        Error::new(ErrorKind::Unavailable, "gone for a moment"),
        Error::new(ErrorKind::LimitExceeded, "too much"),
        Error::new(ErrorKind::Interrupted, "reset"),
        Error::new(ErrorKind::Refused, "cancelled").perhaps_done(),
        Error::new(ErrorKind::Protocol, "a proxy's word for a stream that broke"),
    ] {
        let engine = Scripted::new(|_, _| Answer::Done);
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap();
        for n in 0..3 {
            engine.end_subscription("a/b", error.clone());
            publishes(&client).await;
            tokio::time::sleep(5 * SECOND).await;
            comes(&engine, &mut orders, &format!("e-{n}")).await;
        }
        assert_eq!((engine.links(), engine.count("subscribe")), (1, 4), "{error}");
        client.close().await.unwrap();
    }
}

/// That it failed to subscribe may pass, or mean that there is no such name: it is asked for again for some minutes, then its reader is
/// told. That it cannot now is no such word.
#[tokio::test(start_paused = true)]
async fn a_refusal_in_words_that_may_mean_anything_is_told_in_the_end() {
    for (words, is_told) in [("Failed to subscribe: no such event", true), ("Service temporarily unavailable", false)] {
        let engine = Scripted::new(move |link, command| match command {
            Command::Subscribe(_) if link > 1 => Answer::Says(words),
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap();
        engine.end(1, None);
        let begun = Instant::now();
        let told = tokio::time::timeout(3_600 * SECOND, orders.next()).await;
        assert_eq!(told.is_ok(), is_told, "{words}");
        if let Ok(told) = told {
            let error = told.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert!((200 * SECOND..600 * SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
            assert_eq!((engine.count("subscribe"), engine.links()), (21, 2));
        }
        publishes(&client).await;
        client.close().await.unwrap();
    }
}

/// One that ends each time it is made is no storm, and what goes beside it goes on.
#[tokio::test(start_paused = true)]
async fn one_that_ends_without_end_is_asked_for_ever_more_seldom() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let _orders = client.subscribe("a/b").await.unwrap();
    let begun = Instant::now();
    let mut ended = 0;
    while begun.elapsed() < 600 * SECOND {
        if engine.count("subscribe") > ended {
            ended += 1;
            engine.end_subscription("a/b", Error::new(ErrorKind::Unavailable, "again"));
        }
        publishes(&client).await;
        tokio::time::sleep(SECOND / 10).await;
    }
    assert!((20..60).contains(&ended), "{ended}");
    assert_eq!(engine.links(), 1);
    client.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_meanwhile_is_told_and_one_that_is_over_is_not() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let orders = client.subscribe("a/b").await.unwrap();
    let names = |engine: &Scripted| {
        let calls = engine.calls.lock().unwrap();
        calls.iter().map(|call| call.command.name()).filter(|name| *name != "heartbeat").collect::<Vec<_>>()
    };
    engine.end_subscription("a/b", Error::new(ErrorKind::Unavailable, "gone"));
    tokio::task::yield_now().await;
    orders.pause("a break").await.unwrap();
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(names(&engine), ["subscribe", "pause", "pause", "subscribe"]);
    engine.end_subscription("a/b", Error::new(ErrorKind::Unavailable, "gone"));
    tokio::task::yield_now().await;
    orders.resume().await.unwrap();
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(names(&engine)[4..], ["continue", "subscribe"]);
    client.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_ends_the_stream_with_the_reason() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let mut events = client.events();
    let mut orders = client.subscribe("a/b").await.unwrap();
    engine.end_subscription("a/b", Error::new(ErrorKind::Forbidden, "not yours"));
    assert_eq!(orders.next().await.unwrap().unwrap_err().kind(), ErrorKind::Forbidden);
    assert!(orders.next().await.is_none());
    assert!(matches!(events.next().await, Some(ConnectionEvent::Connected)));
    assert!(matches!(events.next().await, Some(ConnectionEvent::SubscriptionRefused { .. })));
    assert_eq!(engine.links(), 1);
}

/// It refuses this name as if there was no session, and answers everything else.
fn refuses_one_name() -> Arc<Scripted> {
    Scripted::new(|_, command| match command {
        Command::Subscribe(subscribe) if subscribe.event.as_str() == "a/bad" => Answer::No(ErrorKind::Unauthenticated),
        _ => Answer::Done,
    })
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_as_unknown_is_refused_alone() {
    let engine = refuses_one_name();
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    let error = client.subscribe("a/bad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("answers its heartbeat"), "{error}");
    publishes(&client).await;
    comes(&engine, &mut orders, "e-1").await;
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(engine.links(), 1);
}

/// The same where the engine says so once the subscription is made.
#[tokio::test(start_paused = true)]
async fn one_that_ends_as_unknown_ends_alone() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    let mut bad = client.subscribe("a/bad").await.unwrap();
    let unknown = || Error::new(ErrorKind::Unauthenticated, "no such session");
    for n in 0..5 {
        engine.end_subscription("a/bad", unknown());
        publishes(&client).await;
        tokio::time::sleep(20 * SECOND).await;
        engine.push(delivery("a/bad", &format!("b-{n}"), 1));
        let event = tokio::time::timeout(SECOND, bad.next()).await.expect("nothing comes").unwrap().unwrap();
        event.ack().await.unwrap();
    }
    comes(&engine, &mut orders, "e-1").await;
    assert_eq!(engine.links(), 1);
}

/// But where the session is not known by any word it is over; nor is it known if a proxy says meanwhile that the engine is not there.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_really_gone_ends_no_subscription() {
    for word in [ErrorKind::Unauthenticated, ErrorKind::Unavailable] {
        let engine = Scripted::new(move |link, command| match command {
            Command::Subscribe(_) if (2..6).contains(&link) => Answer::No(ErrorKind::Unauthenticated),
            Command::Heartbeat if (2..6).contains(&link) => Answer::No(word),
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap();
        engine.end(1, None);
        tokio::time::sleep(120 * SECOND).await;
        assert_eq!(engine.links(), 6, "{word:?}");
        comes(&engine, &mut orders, "e-1").await;
    }
}

/// Each login works, and no session is known: it was sent, and refused.
#[tokio::test(start_paused = true)]
async fn an_engine_that_always_forgets_is_told_as_that() {
    let engine = Scripted::new(|_, command| match command {
        Command::Publish(_) => Answer::No(ErrorKind::Unauthenticated),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let error = client.publish("a/b", &1).to(somebody()).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_happened()), (ErrorKind::Connect, false));
    let text = error.to_string();
    assert!(text.contains("did not know the session") && !text.contains("not sent"), "{text}");
}

/// One name that an engine never answers for must not keep the client from all else.
#[tokio::test(start_paused = true)]
async fn one_that_is_never_answered_leaves_the_link_to_the_others() {
    let engine = Scripted::new(|link, command| match command {
        Command::Subscribe(subscribe) if link > 1 && subscribe.event.as_str() == "a/bad" => Answer::Never,
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let _bad = client.subscribe("a/bad").await.unwrap();
    let mut good = client.subscribe("a/good").await.unwrap();
    engine.end(1, None);
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    for n in 0..200 {
        tokio::time::sleep(Duration::from_secs(9)).await;
        let asked = Instant::now();
        client.publish("a/b", &n).to(somebody()).await.unwrap();
        longest = longest.max(asked.elapsed());
        if n % 20 == 0 {
            engine.push(delivery("a/good", &format!("e-{n}"), 1));
            good.next().await.unwrap().unwrap().ack().await.unwrap();
        }
    }
    // The first links are used after some seconds; the later are ended seldom.
    assert!(longest <= Duration::from_secs(8), "{longest:?}");
    let (links, took) = (engine.links(), begun.elapsed());
    // With the shortest of all waits there are 18 or 19.
    assert!((3..=20).contains(&links), "{links} links within {took:?}");
    let asked = engine
        .of("subscribe")
        .iter()
        .filter(|call| matches!(&call.command, Command::Subscribe(subscribe) if subscribe.event.as_str() == "a/bad"))
        .count();
    assert!(asked >= links - 1, "it is asked for over each link: {asked} of {links}");
}

/// An engine that has no codes says in its own words that it does not know the session.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_forgotten_in_words_is_noticed_by_the_first_refusal() {
    for forgot in [true, false] {
        let engine = Scripted::new(move |link, command| match command {
            Command::Heartbeat if link == 1 && forgot => Answer::No(ErrorKind::Unauthenticated),
            Command::Publish(_) if link == 1 => Answer::Says("Client not found"),
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let outcomes: Vec<_> = futures::stream::iter(0..32)
            .map(|n| client.publish("a/b", &n).to(somebody()).into_future())
            .buffer_unordered(32)
            .map(|outcome| outcome.map(drop).map_err(|error| error.kind()))
            .collect()
            .await;
        let refused = outcomes.iter().filter(|outcome| **outcome == Err(ErrorKind::Refused)).count();
        if forgot {
            // Those that were refused at the same moment, while the engine is asked, are told so.
            assert_eq!((refused, engine.links()), (0, 2), "{outcomes:?}");
        } else {
            assert_eq!((refused, engine.links()), (32, 1));
            assert_eq!(engine.count("heartbeat"), 1, "it is asked now and then, not each time");
        }
    }
}

/// Where heartbeats are answered on the way, as pings are, a new login is the question; a refusal that has nothing to do with sessions asks
/// none, and one that comes again over the new link is told, and asks seldom from then on.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_forgotten_behind_a_gateway_is_noticed_by_a_new_login() {
    for (words, forgot, links) in
        [("Client not found", true, 2), ("Client not found", false, 2), ("Event not found", true, 1)]
    {
        let mut known = 0;
        let engine = Scripted::new(move |link, command| match command {
            Command::Publish(_) => {
                known += usize::from(link == 1);
                if known == 1 || (forgot && link > 1) { Answer::Done } else { Answer::Says(words) }
            }
            _ => Answer::Done,
        });
        engine.heartbeats_are_answered_on_the_way();
        let client = engine.client().await;
        let publishes = || async {
            futures::stream::iter(0..32)
                .map(|n| client.publish("a/b", &n).to(somebody()).into_future())
                .buffer_unordered(32)
                .map(|outcome| outcome.map(drop).map_err(|error| error.kind()))
                .collect::<Vec<_>>()
                .await
        };
        client.publish("a/b", &0).to(somebody()).await.unwrap();
        let refused = |outcomes: &[_]| outcomes.iter().filter(|outcome| **outcome == Err(ErrorKind::Refused)).count();
        let outcomes = publishes().await;
        let expected = if links == 2 && forgot { 0 } else { 32 };
        assert_eq!((refused(&outcomes), engine.links()), (expected, links), "{words}, {forgot}: {outcomes:?}");
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(61)).await;
            assert_eq!(refused(&publishes().await), expected);
        }
        // No link on which nothing was carried out is asked so.
        assert_eq!(engine.links(), links, "{words}, {forgot}");
    }
}

/// The same where something else is carried out over each link.
#[tokio::test(start_paused = true)]
async fn words_that_mean_something_else_cost_ever_fewer_logins() {
    let engine = Scripted::new(|_, command| match command {
        Command::Publish(_) => Answer::Says("the client of the recipient is not known: client not found"),
        _ => Answer::Done,
    });
    engine.heartbeats_are_answered_on_the_way();
    let client = engine.client().await;
    let _orders = client.subscribe("a/b").await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3_600) {
        let error = client.publish("a/b", &1).to(somebody()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((3..=7).contains(&engine.links()), "{} links", engine.links());
}

/// Over WebSocket answers bear no id: behind one that was never answered a subscription may be told that a delivery is stale. That is no
/// word about the subscription.
#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_told_the_answer_to_a_settlement_goes_on() {
    for over_the_same in [true, false] {
        let mut refusals = 0;
        let engine = Scripted::new(move |_, command| match command {
            Command::Subscribe(_) => {
                refusals += 1;
                if (2..=4).contains(&refusals) { Answer::No(ErrorKind::StaleDelivery) } else { Answer::Done }
            }
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap();
        match over_the_same {
            true => engine.end_subscription("a/b", Error::new(ErrorKind::StaleDelivery, "of another")),
            false => engine.end(1, None),
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((engine.count("subscribe"), engine.links()), (5, 1 + usize::from(!over_the_same)));
        comes(&engine, &mut orders, "e-1").await;
    }
}
