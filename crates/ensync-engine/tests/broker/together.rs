//! What is asked for at once, by callers who do not wait for the answer.

use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::{Command, Delay, ErrorKind, IdempotencyKey, Publish, Service, Settle, Settlement};
use ensync_engine::{Broker, BrokerOptions, EventOptions, MemoryLog};
use futures::FutureExt;

use super::{SHOP, WAREHOUSE, broker, consumer, create_apps, event, login, send, settle, start, waiting};

#[tokio::test(start_paused = true)]
async fn what_was_sent_counts_until_it_is_stored_though_its_sender_is_gone() {
    let mut options = BrokerOptions::dev();
    options.limits.quotas.app_waiting = 10;
    let broker = Broker::start(options, MemoryLog::new()).await.unwrap();
    create_apps(&broker).await;
    broker.register_event(event(), EventOptions::default()).await.unwrap();
    let shop = login(&broker, SHOP).await;
    // On its way; then nobody waits for it.
    assert!(send(&broker, &shop.peer, "b25lb25l").now_or_never().is_none());
    let error = send(&broker, &shop.peer, "b25lb25l").now_or_never().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.to_string().contains("quotas.app_waiting"), "{error}");
    // Once it is stored, and for whoever waits for the answer, there is room.
    broker.handle(&shop.peer, Command::Heartbeat).await.unwrap();
    for _ in 0..20 {
        send(&broker, &shop.peer, "b25lb25l").await.unwrap();
    }
    let refused = super::publish("no base64");
    broker.handle(&shop.peer, Command::Publish(refused)).await.unwrap_err();
    send(&broker, &shop.peer, "b25lb25l").await.unwrap();
}

/// Both may wait behind one write of the log.
#[tokio::test(start_paused = true)]
async fn who_defers_an_event_and_goes_has_deferred_it() {
    let hour = Duration::from_secs(3_600);
    for released in [false, true] {
        let log = MemoryLog::new();
        let broker = start(log.clone()).await;
        create_apps(&broker).await;
        let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
        send(&broker, &shop.peer, "b25l").await.unwrap();
        let [delivery] = waiting(&broker, &mut warehouse).await.try_into().unwrap();
        let how = Settlement::Defer { delay: Delay::try_from(hour).unwrap(), priority: 0, reason: String::new() };
        let settle = Settle { id: delivery.id.clone(), event: None, block: Some(delivery.block), how };
        let deferred = broker.handle(&warehouse.peer, Command::Settle(settle));
        let mut deferred = std::pin::pin!(deferred);
        assert!(deferred.as_mut().now_or_never().is_none());
        if released {
            let release = Command::Release { event: event() };
            broker.handle(&warehouse.peer, release).await.unwrap();
        } else {
            broker.logout(&warehouse.peer).await;
        }
        deferred.await.unwrap();
        for restarted in [false, true] {
            let broker = if restarted { start(log.reopen()).await } else { broker.clone() };
            let mut other = consumer(&broker, None).await;
            assert_eq!(waiting(&broker, &mut other).await, [], "{released} {restarted}");
            let stats = broker.queue(event(), WAREHOUSE).await.unwrap().unwrap();
            assert_eq!((stats.deferred, stats.ready, stats.in_flight), (1, 0, 0), "{released} {restarted}");
            if restarted {
                tokio::time::sleep(hour).await;
                let again = waiting(&broker, &mut other).await;
                assert_eq!(again.iter().map(|again| again.attempt).collect::<Vec<_>>(), [Some(2)]);
            } else {
                broker.shutdown().await;
            }
        }
    }
}

/// What a client says and cannot be stored, it has not said.
#[tokio::test(start_paused = true)]
async fn who_only_goes_has_handed_it_back() {
    let broker = broker().await;
    let (shop, mut warehouse) = (login(&broker, SHOP).await, consumer(&broker, None).await);
    send(&broker, &shop.peer, "b25l").await.unwrap();
    let [delivery] = waiting(&broker, &mut warehouse).await.try_into().unwrap();
    broker.logout(&warehouse.peer).await;
    let mut other = consumer(&broker, None).await;
    let [again] = waiting(&broker, &mut other).await.try_into().unwrap();
    assert_eq!((&again.id, again.attempt), (&delivery.id, Some(2)));
    settle(&broker, &other.peer, &again, Settlement::Ack).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_log_is_taken_though_the_log_refuses_what_came_with_it() {
    let (log, refuse, _) = super::failing::failing();
    let broker = start(log).await;
    create_apps(&broker).await;
    let shop = login(&broker, SHOP).await;
    send(&broker, &shop.peer, "b25l").await.unwrap();
    refuse.store(true, std::sync::atomic::Ordering::Relaxed);
    let metadata = ensync_core::Metadata::parse(r#"{"persist":false}"#).unwrap();
    let in_memory = Publish { metadata, ..super::publish("b25l") };
    let (stored, kept) =
        tokio::join!(send(&broker, &shop.peer, "b25l"), broker.handle(&shop.peer, Command::Publish(in_memory)));
    assert_eq!(stored.unwrap_err().kind(), ErrorKind::Unavailable);
    kept.unwrap();
}

/// What a repetition is, is decided before the log has it: an engine that remembers longer, or nothing, reads back the same.
#[tokio::test(start_paused = true)]
async fn two_publishes_of_one_key_at_once_are_one_event_whatever_is_remembered_later() {
    let keyed = |text| {
        let idempotency_key = Some(IdempotencyKey::parse("once").unwrap());
        Command::Publish(Publish { idempotency_key, ..super::publish(text) })
    };
    for (window, events) in [(120, 1), (0, 2)] {
        let log = MemoryLog::new();
        let with = |window| {
            let mut options = BrokerOptions::dev();
            options.limits.dedup_window = Duration::from_secs(window);
            options
        };
        let broker = Broker::start(with(window), log.clone()).await.unwrap();
        create_apps(&broker).await;
        broker.register_event(event(), EventOptions::default()).await.unwrap();
        let shop = login(&broker, SHOP).await;
        let send = |text| broker.handle(&shop.peer, keyed(text));
        let (first, other, again) = tokio::join!(send("b25l"), super::send(&broker, &shop.peer, "dHdv"), send("b25l"));
        other.unwrap();
        assert_eq!(first.unwrap() == again.unwrap(), events == 1);
        broker.shutdown().await;
        // Though it remembers otherwise.
        let broker = Broker::start(with(120 - window), log.reopen()).await.unwrap();
        assert_eq!(broker.queue(event(), WAREHOUSE).await.unwrap().unwrap().ready, events + 1);
    }
    // They are refused together, too.
    let (log, refuse, _) = super::failing::failing();
    let broker = start(log).await;
    create_apps(&broker).await;
    let shop = login(&broker, SHOP).await;
    super::send(&broker, &shop.peer, "b25l").await.unwrap();
    refuse.store(true, std::sync::atomic::Ordering::Relaxed);
    let send = || broker.handle(&shop.peer, keyed("b25l"));
    for refused in [tokio::join!(send(), send())].map(|(one, other)| [one, other]).concat() {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    refuse.store(false, std::sync::atomic::Ordering::Relaxed);
    send().await.unwrap();
}

/// More than the engine takes back in one go.
#[tokio::test(start_paused = true)]
async fn an_orderly_stop_forgets_no_delivery_of_a_session_that_has_many() {
    const MANY: usize = 3_000;
    let (log, mut options) = (MemoryLog::new(), BrokerOptions::dev());
    options.limits.max_in_flight = NonZeroU32::new(MANY as u32).unwrap();
    for attempt in 1..=2 {
        let broker = Broker::start(options.clone(), log.reopen()).await.unwrap();
        if attempt == 1 {
            create_apps(&broker).await;
            let shop = login(&broker, SHOP).await;
            for _ in 0..MANY {
                send(&broker, &shop.peer, "b25l").await.unwrap();
            }
        }
        let mut warehouse = consumer(&broker, None).await;
        let mut found = Vec::new();
        while found.len() < MANY {
            found.extend(waiting(&broker, &mut warehouse).await);
        }
        assert!(found.iter().all(|delivery| delivery.attempt == Some(attempt)), "{attempt}");
        broker.shutdown().await;
    }
}

/// A login is answered at once: nobody is gone when the answer comes, and would never log out.
#[tokio::test(start_paused = true)]
async fn a_login_whose_caller_is_gone_before_he_takes_the_answer_leaves_no_session() {
    let broker = broker().await;
    let shop = login(&broker, SHOP).await;
    let mut open = 0;
    for polled in [false, true, false] {
        let mut asking = Box::pin(login(&broker, WAREHOUSE));
        if polled {
            assert!(asking.as_mut().now_or_never().is_some());
            open += 1;
        }
        drop(asking);
    }
    broker.handle(&shop.peer, Command::Heartbeat).await.unwrap();
    let apps = broker.apps().await.unwrap();
    assert_eq!(apps.iter().find(|app| app.id == WAREHOUSE).unwrap().sessions, open);
    assert_eq!(apps.iter().find(|app| app.id == SHOP).unwrap().sessions, 1);
}
