//! Deliveries that are left, settlements that are given up, and clients that go.

use std::future::IntoFuture;
use std::time::Duration;

use ensync_client::core::{Command, Delivery, Error, ErrorKind, Extension, Settle, Settlement};
use ensync_client::{Event, Unopenable};
use futures::StreamExt;

use crate::scripted::{Answer, Scripted, delivery};

const SECOND: Duration = Duration::from_secs(1);

fn leased(id: &str, lease: Option<Duration>) -> Delivery {
    Delivery { lease, ..delivery("a/b", id, 1) }
}

fn settlements(engine: &Scripted) -> Vec<Settle> {
    let calls = engine.calls.lock().unwrap();
    let settled = calls.iter().filter_map(|call| match &call.command {
        Command::Settle(settle) => Some(settle.clone()),
        _ => None,
    });
    settled.collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_deferred_by_what_is_left_of_its_lease() {
    for extensions in [Extension::ALL, &[]] {
        let engine = Scripted::with(extensions, |_, _| Answer::Done);
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap();
        engine.push(leased("e-1", Some(60 * SECOND)));
        let event = orders.next().await.unwrap().unwrap();
        tokio::time::sleep(20 * SECOND).await;
        let (_, acker) = event.split();
        acker.leave();
        acker.leave();
        assert!(acker.is_lease_lost());
        drop(acker);
        tokio::time::sleep(SECOND).await;
        let [Settle { block: Some(_), how: Settlement::Defer { delay, .. }, .. }] = &settlements(&engine)[..] else {
            panic!("{:?}", settlements(&engine));
        };
        assert!((39 * SECOND..=40 * SECOND).contains(&delay.get()), "{delay:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_of_what_is_soon_back_or_has_no_lease() {
    for lease in [None, Some(SECOND / 2)] {
        let engine = Scripted::new(|_, _| Answer::Done);
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap();
        engine.push(leased("e-1", lease));
        orders.next().await.unwrap().unwrap().leave();
        tokio::time::sleep(SECOND).await;
        assert_eq!(settlements(&engine), [], "{lease:?}");
    }
}

/// An ack that the loop adds would take away what its handler left, or began to defer.
#[tokio::test(start_paused = true)]
async fn what_a_handler_left_or_settles_still_is_not_acknowledged_for_it() {
    for (extensions, lease) in [(Extension::ALL, Some(60 * SECOND)), (&[], None), (&[], Some(SECOND / 2))] {
        let engine = Scripted::with(extensions, |_, _| Answer::Done);
        let client = engine.client().await;
        let _handler = client.subscribe("a/b").await.unwrap().on(async |event: Event| {
            event.leave();
            Ok::<_, Error>(())
        });
        engine.push(leased("e-1", lease));
        tokio::time::sleep(2 * SECOND).await;
        let settled: Vec<_> = settlements(&engine).iter().map(|settle| settle.how.name()).collect();
        assert!(!settled.contains(&"ack"), "{lease:?}: {settled:?}");
    }
    for fails in [false, true] {
        let engine = Scripted::with(Extension::ALL, |_, command| match command {
            Command::Settle(_) => Answer::After(5 * SECOND, Box::new(Answer::Done)),
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let subscription = client.subscribe("a/b").await.unwrap();
        let _handler = subscription.on(move |event: Event| async move {
            // It gives up the answer, which comes later.
            let deferred = tokio::time::timeout(SECOND, event.defer(9 * SECOND, "later")).await;
            assert!(deferred.is_err());
            if fails { Err(Error::new(ErrorKind::Timeout, "it took too long")) } else { Ok(()) }
        });
        engine.push(leased("e-1", Some(60 * SECOND)));
        tokio::time::sleep(20 * SECOND).await;
        let settled: Vec<_> = settlements(&engine).iter().map(|settle| settle.how.clone()).collect();
        assert!(matches!(&settled[..], [Settlement::Defer { delay, .. }] if delay.get() == 9 * SECOND), "{settled:?}");
    }
}

/// The lease is over by this side's clock, and the engine extended it in time: what was broken off is not done.
#[tokio::test(start_paused = true)]
async fn what_a_handler_broke_off_with_its_lease_is_not_acknowledged() {
    let engine = Scripted::with(Extension::ALL, |_, command| match command {
        Command::Settle(Settle { how: Settlement::Extend, .. }) => Answer::After(25 * SECOND, Box::new(Answer::Done)),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let _handler = client.subscribe("a/b").await.unwrap().on(async |event: Event| {
        event.lease_lost().await;
        Ok::<_, Error>(())
    });
    engine.push(leased("e-1", Some(30 * SECOND)));
    tokio::time::sleep(60 * SECOND).await;
    let settled: Vec<_> = settlements(&engine).iter().map(|settle| settle.how.name()).collect();
    assert!(settled.contains(&"extend") && !settled.contains(&"ack"), "{settled:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_opened_and_is_left_is_deferred_too() {
    for (policy, expected) in [(Unopenable::Leave, "defer"), (Unopenable::Discard, "discard")] {
        let engine = Scripted::new(|_, _| Answer::Done);
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").unopenable(policy).await.unwrap();
        engine.push(leased("e-1", Some(60 * SECOND)));
        assert!(tokio::time::timeout(SECOND, orders.next()).await.is_err(), "it does not come out");
        let settled: Vec<_> = settlements(&engine).iter().map(|settle| settle.how.name()).collect();
        assert_eq!(settled, [expected]);
    }
}

/// A defer makes no dead letter, and a rollback counts.
#[tokio::test(start_paused = true)]
async fn each_sixteenth_delivery_that_is_left_is_rolled_back() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    for attempt in [1, 15, 16, 17, 31, 32] {
        engine.push(Delivery { attempt: Some(attempt), ..leased("e-1", Some(60 * SECOND)) });
        orders.next().await.unwrap().unwrap().leave();
    }
    engine.push(Delivery { attempt: None, ..leased("e-2", Some(60 * SECOND)) });
    orders.next().await.unwrap().unwrap().leave();
    tokio::time::sleep(SECOND).await;
    let settled: Vec<_> = settlements(&engine).iter().map(|settle| settle.how.name()).collect();
    assert_eq!(settled, ["defer", "defer", "rollback", "defer", "defer", "rollback", "defer"]);
}

/// Who sends what does not open decides how much there is of it. An engine that answers none of what is said of it, and has no flow
/// control, is asked to pause as if it were in hand.
#[tokio::test(start_paused = true)]
async fn what_is_left_keeps_its_place_until_the_engine_knows() {
    for policy in [Unopenable::Leave, Unopenable::Discard] {
        let engine = Scripted::with(&[], |_, command| match command {
            Command::Settle(_) => Answer::After(5 * SECOND, Box::new(Answer::Done)),
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").max_in_flight(4).unopenable(policy).await.unwrap();
        for n in 0..4 {
            engine.push(leased(&format!("e-{n}"), Some(60 * SECOND)));
        }
        assert!(tokio::time::timeout(SECOND, orders.next()).await.is_err(), "none comes out");
        assert_eq!((engine.count("pause"), engine.count("continue")), (1, 0), "{policy:?}");
        assert!(tokio::time::timeout(6 * SECOND, orders.next()).await.is_err(), "none comes out");
        assert_eq!((engine.count("pause"), engine.count("continue")), (1, 1), "{policy:?}");
    }
}

/// What is meant is what was said last.
#[tokio::test(start_paused = true)]
async fn a_later_settlement_ends_the_repeats_of_an_earlier_one() {
    let engine = Scripted::new(|_, command| match command {
        Command::Settle(Settle { how: Settlement::Ack, .. }) => Answer::No(ErrorKind::Unavailable),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    engine.push(leased("e-1", Some(60 * SECOND)));
    let event = orders.next().await.unwrap().unwrap();
    assert!(tokio::time::timeout(SECOND, event.ack()).await.is_err());
    event.rollback().await.unwrap();
    let before = engine.count("ack");
    assert!(before > 1, "{before}");
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!((engine.count("ack"), engine.count("rollback")), (before, 1));
    // Of one whose caller gave up and said nothing else it goes on.
    engine.push(leased("e-2", Some(60 * SECOND)));
    let event = orders.next().await.unwrap().unwrap();
    assert!(tokio::time::timeout(SECOND, event.ack()).await.is_err());
    let begun = engine.count("ack");
    tokio::time::sleep(10 * SECOND).await;
    assert!(engine.count("ack") > begun + 1);
}

/// Polls once, as a `select!` does whose other branch is ready.
async fn give_up<F: IntoFuture>(work: F) {
    let mut work = std::pin::pin!(work.into_future());
    assert!(futures::poll!(&mut work).is_pending());
}

/// Refused for now, and its caller gives up: it is settled all the same, as it was meant, and once.
#[tokio::test(start_paused = true)]
async fn a_settlement_that_is_given_up_is_carried_out() {
    type Begin = fn(Event) -> futures::future::BoxFuture<'static, ()>;
    let ways: [(&str, Begin); 4] = [
        ("ack", |event| Box::pin(async move { give_up(event.ack()).await })),
        ("defer", |event| Box::pin(async move { give_up(event.defer(SECOND, "later")).await })),
        ("discard", |event| Box::pin(async move { give_up(event.discard("no")).await })),
        ("rollback", |event| Box::pin(async move { give_up(event.rollback()).await })),
    ];
    for (how, begin) in ways {
        let mut refusals = 2;
        let engine = Scripted::new(move |_, command| match command {
            Command::Settle(_) if refusals > 0 => {
                refusals -= 1;
                Answer::After(SECOND, Box::new(Answer::No(ErrorKind::Unavailable)))
            }
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap();
        engine.push(leased("e-1", Some(60 * SECOND)));
        begin(orders.next().await.unwrap().unwrap()).await;
        tokio::time::sleep(30 * SECOND).await;
        let settled: Vec<_> = settlements(&engine).iter().map(|settle| settle.how.name()).collect();
        assert_eq!(settled, [how; 3]);
        client.close().await.unwrap();
    }
}

/// `close` waits for it, and it is bound to its link.
#[tokio::test(start_paused = true)]
async fn a_settlement_that_is_given_up_ends_with_its_link_and_before_close() {
    for ends in [false, true] {
        let engine = Scripted::new(|_, command| match command {
            Command::Settle(_) => Answer::After(2 * SECOND, Box::new(Answer::Done)),
            _ => Answer::Done,
        });
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap();
        engine.push(leased("e-1", Some(60 * SECOND)));
        let event = orders.next().await.unwrap().unwrap();
        give_up(event.ack()).await;
        drop(event);
        if ends {
            engine.end(1, Some(ErrorKind::Interrupted));
            tokio::time::sleep(30 * SECOND).await;
            client.wait_until_live().await.unwrap();
        }
        let begun = tokio::time::Instant::now();
        client.close().await.unwrap();
        assert_eq!(begun.elapsed() >= 2 * SECOND, !ends, "{:?}", begun.elapsed());
        assert_eq!(settlements(&engine).len(), 1);
    }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// A program that makes a client for each job must not collect what they leave behind.
#[tokio::test(start_paused = true)]
async fn a_client_leaves_no_task_behind() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let before = tasks();
    for closed in [true, false] {
        let client = engine.client().await;
        if closed {
            client.close().await.unwrap();
        } else {
            drop(client);
        }
        tokio::time::sleep(SECOND).await;
        assert_eq!(tasks(), before, "closed: {closed}");
    }
}
