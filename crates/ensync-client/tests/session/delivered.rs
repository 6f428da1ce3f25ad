//! Deliveries: their leases, their settlements, and what a handler does to them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ensync_client::core::{Command, Delivery, Error, ErrorKind, Keyring, Reply, SecretKey, Settlement};
use ensync_client::{Event, OnError, Unopenable};
use futures::StreamExt;

use crate::scripted::{Answer, Scripted, delivery, somebody};

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(3);

fn leased(id: &str) -> Delivery {
    Delivery { lease: Some(LEASE), ..delivery("a/b", id, 1) }
}

fn settlements(engine: &Scripted) -> Vec<(String, &'static str)> {
    let calls = engine.calls.lock().unwrap();
    let settled = calls.iter().filter_map(|call| match &call.command {
        Command::Settle(settle) => Some((settle.id.to_string(), settle.how.name())),
        _ => None,
    });
    settled.collect()
}

fn extends() -> Arc<Scripted> {
    Scripted::new(|_, command| match command {
        Command::Settle(settle) if settle.how == Settlement::Extend => {
            Answer::With(Reply::Extended { lease: Some(LEASE) })
        }
        _ => Answer::Done,
    })
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_slow_handler_is_kept() {
    let engine = extends();
    let client = engine.client().await;
    let handled = Arc::new(AtomicUsize::new(0));
    let count = handled.clone();
    let handler = client.subscribe("a/b").await.unwrap().on(move |_event: Event| {
        let count = count.clone();
        async move {
            tokio::time::sleep(15 * SECOND).await;
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Error>(())
        }
    });
    for n in 0..20 {
        engine.push(leased(&format!("e{n}")));
    }
    tokio::time::sleep(305 * SECOND).await;
    assert_eq!(handled.load(Ordering::Relaxed), 20);
    let settled = settlements(&engine);
    assert!(settled.iter().all(|(_, how)| matches!(*how, "extend" | "ack")), "nothing is handed back: {settled:?}");
    drop(handler);
}

/// The first subscription is answered and its events come, while the second is not answered yet.
#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_while_a_reconnect_is_not_at_its_end() {
    let engine = Scripted::new(move |link, command| match command {
        Command::Subscribe(subscribe) if link > 1 && subscribe.event.as_str() == "a/c" => {
            Answer::After(4 * SECOND, Box::new(Answer::Done))
        }
        Command::Settle(settle) if settle.how == Settlement::Extend => {
            Answer::With(Reply::Extended { lease: Some(LEASE) })
        }
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let handler = |_event: Event| async {
        tokio::time::sleep(20 * SECOND).await;
        Ok::<_, Error>(())
    };
    let _first = client.subscribe("a/b").await.unwrap().on(handler);
    let _second = client.subscribe("a/c").await.unwrap().on(handler);
    engine.end(1, Some(ErrorKind::Interrupted));
    while engine.count("subscribe") < 4 {
        tokio::time::sleep(SECOND / 10).await;
    }
    tokio::time::sleep(SECOND).await;
    assert!(!client.is_connected(), "one is not restored yet");
    engine.push(leased("e-1"));
    tokio::time::sleep(60 * SECOND).await;
    let settled: Vec<_> = settlements(&engine).into_iter().map(|(_, how)| how).collect();
    assert!(settled.len() > 10 && settled.last() == Some(&"ack"), "{settled:?}");
    assert!(settled.iter().filter(|how| **how != "extend").count() == 1, "{settled:?}");
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_is_refused_for_now_is_repeated_while_the_lease_lasts() {
    let mut refusals = 40;
    let engine = Scripted::new(move |_, command| match command {
        Command::Settle(settle) if settle.how == Settlement::Extend => {
            Answer::With(Reply::Extended { lease: Some(LEASE) })
        }
        Command::Settle(settle) if settle.how == Settlement::Ack && refusals > 0 => {
            refusals -= 1;
            Answer::No(ErrorKind::Unavailable)
        }
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let _handler = client.subscribe("a/b").await.unwrap().on(|_event: Event| async { Ok::<_, Error>(()) });
    engine.push(leased("e1"));
    tokio::time::sleep(600 * SECOND).await;
    let settled: Vec<_> = settlements(&engine).into_iter().map(|(_, how)| how).filter(|how| *how != "extend").collect();
    assert_eq!(settled.len(), 41, "{settled:?}");
    assert!(settled.iter().all(|how| *how == "ack"));
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_ack_was_refused_for_now_is_not_handed_back_as_seen() {
    let engine = Scripted::new(|_, command| match command {
        Command::Settle(settle) if settle.how == Settlement::Ack => Answer::No(ErrorKind::Unavailable),
        _ => Answer::Done,
    });
    let client = engine.engine().request_timeout(SECOND).create_client("key").await.unwrap();
    let mut orders = client.subscribe("a/b").await.unwrap();
    engine.push(delivery("a/b", "e1", 1));
    let event = orders.next().await.unwrap().unwrap();
    assert_eq!(event.ack().await.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(event);
    tokio::time::sleep(SECOND).await;
    assert_eq!(settlements(&engine).last().unwrap().1, "release");
}

#[tokio::test(start_paused = true)]
async fn an_ack_that_was_abandoned_is_not_undone() {
    let engine = Scripted::new(|_, command| match command {
        Command::Settle(_) => Answer::Never,
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    engine.push(delivery("a/b", "e1", 1));
    let event = orders.next().await.unwrap().unwrap();
    let _ = tokio::time::timeout(SECOND, event.ack()).await;
    drop(event);
    tokio::time::sleep(SECOND).await;
    assert_eq!(settlements(&engine), [("e1".to_owned(), "ack")]);
}

#[tokio::test(start_paused = true)]
async fn a_settlement_is_not_said_over_another_link() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    engine.push(delivery("a/b", "e1", 1));
    let event = orders.next().await.unwrap().unwrap();
    assert!(!event.is_lease_lost());
    engine.end(1, Some(ErrorKind::Interrupted));
    tokio::time::timeout(SECOND, event.lease_lost()).await.unwrap();
    assert!(event.is_lease_lost());
    let error = event.ack().await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_happened()), (ErrorKind::StaleDelivery, false), "{error}");
    client.wait_until_live().await.unwrap();
    assert_eq!(engine.count("ack"), 0);
}

/// With one at a time, an ack that nobody answers holds its handler up for as long as the link takes to be given up, and no longer.
#[tokio::test(start_paused = true)]
async fn an_ack_that_hangs_on_a_dead_link_holds_its_handler_up_for_a_moment() {
    let engine = Scripted::new(|link, command| match command {
        Command::Settle(_) | Command::Heartbeat if link == 1 => Answer::Never,
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let handled = Arc::new(AtomicUsize::new(0));
    let count = handled.clone();
    let handler = client.subscribe("a/b").await.unwrap().on(move |_event: Event| {
        count.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok::<_, Error>(()))
    });
    engine.push(delivery("a/b", "e1", 1));
    // 10 s until it is noticed, and 5 s until the next.
    tokio::time::sleep(16 * SECOND).await;
    assert_eq!((engine.links(), client.is_connected()), (2, true));
    engine.push(delivery("a/b", "e1", 2));
    tokio::time::sleep(SECOND).await;
    assert_eq!((handled.load(Ordering::Relaxed), engine.count("ack")), (2, 2));
    drop(handler);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_runs_out_is_told_and_an_extended_one_is_not() {
    let engine = extends();
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").await.unwrap();
    engine.push(leased("e1"));
    let event = orders.next().await.unwrap().unwrap();
    tokio::time::sleep(2 * SECOND).await;
    event.extend().await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    assert!(!event.is_lease_lost());
    tokio::time::timeout(2 * SECOND, event.lease_lost()).await.unwrap();
}

/// With a worker more than handlers that block. It blocks from its first line on, until its lease was extended often enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_keeps_its_lease() {
    let lease = Duration::from_millis(300);
    let (extended, extensions) = std::sync::mpsc::channel();
    let engine = Scripted::new(move |_, command| match command {
        Command::Settle(settle) if settle.how == Settlement::Extend => {
            extended.send(()).unwrap();
            Answer::With(Reply::Extended { lease: Some(lease) })
        }
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let (sender, mut lost) = tokio::sync::mpsc::unbounded_channel();
    let extensions = Arc::new(std::sync::Mutex::new(extensions));
    let _handler = client.subscribe("a/b").await.unwrap().on(move |event: Event| {
        let (sender, extensions) = (sender.clone(), extensions.clone());
        async move {
            let extensions = extensions.lock().unwrap();
            // Twice as long as it lasts without them: each comes when a third of it is over.
            let enough = (0..6).all(|_| extensions.recv_timeout(10 * SECOND).is_ok());
            sender.send((enough, event.is_lease_lost())).unwrap();
            Ok::<_, Error>(())
        }
    });
    engine.push(Delivery { lease: Some(lease), ..delivery("a/b", "e1", 1) });
    assert_eq!(lost.recv().await, Some((true, false)), "{:?}", settlements(&engine));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_opened_is_left_or_discarded_as_its_reader_said() {
    for (policy, expected) in [(Unopenable::Leave, None), (Unopenable::Discard, Some("discard"))] {
        let engine = Scripted::new(|_, _| Answer::Done);
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").unopenable(policy).await.unwrap();
        engine.push(delivery("a/b", "e1", 1));
        assert!(tokio::time::timeout(SECOND, orders.next()).await.is_err(), "it does not come out");
        let settled: Vec<_> = settlements(&engine).into_iter().map(|(_, how)| how).collect();
        assert_eq!(settled, Vec::from_iter(expected), "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_always_fails_is_discarded_in_the_end() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let failing = |_event: Event| async { Err::<(), _>("no") };
    let orders = client.subscribe("a/b").await.unwrap();
    let _handler = orders.for_each(failing).max_attempts(3).on_error(OnError::Defer(SECOND)).spawn();
    for attempt in 1..=3 {
        engine.push(Delivery {
            attempt: NonZeroU32::new(attempt).map(Into::into),
            ..delivery("a/b", "e1", attempt.into())
        });
        tokio::time::sleep(SECOND).await;
    }
    let settled: Vec<_> = settlements(&engine).into_iter().map(|(_, how)| how).collect();
    assert_eq!(settled, ["defer", "defer", "discard"]);
}

#[tokio::test(start_paused = true)]
async fn without_auto_ack_the_handler_settles() {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let orders = client.subscribe("a/b").await.unwrap();
    let (sender, mut kept) = tokio::sync::mpsc::unbounded_channel();
    let _handler = orders
        .for_each(move |event: Event| {
            sender.send(event).unwrap();
            async { Ok::<_, Error>(()) }
        })
        .auto_ack(false)
        .spawn();
    engine.push(delivery("a/b", "e1", 1));
    let event = kept.recv().await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(settlements(&engine), []);
    event.ack().await.unwrap();
    assert_eq!(settlements(&engine), [("e1".to_owned(), "ack")]);
}

/// A ring with the next and the present key publishes without a break, whichever the engine knows the app by.
#[tokio::test(start_paused = true)]
async fn the_key_of_the_ring_that_matches_the_login_seals() {
    let (next, present) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let engine = Scripted::new(|_, _| Answer::Done);
    engine.calls_the_app(present.app_id().unwrap());
    let settings = engine.engine().suite(ensync_client::core::crypto::Suite::Aes256Gcm);
    let ring = Keyring::new(next.clone()).with_previous(present.clone());
    let client = settings.create_client("key").keyring(ring).await.unwrap();
    client.publish("a/b", &1).to(somebody()).await.unwrap();
    // The rotation, and another login.
    engine.calls_the_app(next.app_id().unwrap());
    engine.end(1, None);
    client.publish("a/b", &1).to(somebody()).await.unwrap();
    client.wait_until_live().await.unwrap();
    client.publish("a/b", &1).to(somebody()).await.unwrap();
}

/// Before the first login nobody knows which key of the ring is the app's: who publishes waits for it.
#[tokio::test(start_paused = true)]
async fn nothing_is_sealed_in_an_apps_name_before_it_is_known() {
    use ensync_client::core::crypto::Suite;
    let key = || SecretKey::generate().unwrap();
    let (next, present, reader) = (key(), key(), key());
    let is = |key: &SecretKey| key.app_id().unwrap();
    let engine = Scripted::new(|_, _| Answer::Done);
    engine.calls_the_app(is(&present));
    engine.logins(|tried| if tried < 3 { Err(ErrorKind::Connect) } else { Ok(()) });
    let settings = engine.engine().suite(Suite::Aes256Gcm).retry_first_connect(true);
    let ring = Keyring::new(next).with_previous(present.clone());
    let client = settings.create_client("key").keyring(ring).await.unwrap();
    client.publish("a/b", &1).to(is(&reader)).await.unwrap();
    let Some(Command::Publish(sent)) = engine.of("publish").pop().map(|call| call.command) else { panic!("none") };

    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.engine().create_client("key").app_secret_key(&reader).await.unwrap();
    let mut orders = client.subscribe("a/b").await.unwrap();
    let (sender, recipient) = (Some(is(&present)), Some(is(&reader)));
    engine.push(Delivery {
        payload: sent.payload,
        metadata: sent.metadata,
        sender,
        recipient,
        ..delivery("a/b", "e1", 1)
    });
    let event = orders.next().await.unwrap().unwrap();
    assert_eq!(event.payload::<u32>().unwrap(), 1);
}
