//! How soon a connection is sought for those who wait for one.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ensync_client::core::{AppKey, Connector, Endpoint, Error, ErrorKind, Link, Result};
use ensync_client::{Client, ConnectionEvent, Engine};
use futures::StreamExt;
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted, somebody};

const SECOND: Duration = Duration::from_secs(1);

/// An engine and a client of it whose connection has just been lost, by a seed.
async fn lost(seed: u64, why: ErrorKind) -> (Arc<Scripted>, Client) {
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.engine().jitter_seed(seed).create_client("key").await.unwrap();
    engine.logins(move |_| Err(why));
    engine.end(1, Some(ErrorKind::Interrupted));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!client.is_connected());
    (engine, client)
}

#[tokio::test(start_paused = true)]
async fn publishes_outlast_most_of_their_time_without_an_engine() {
    let mut longest = Duration::ZERO;
    for seed in 0..1_000 {
        let why = if seed % 2 == 0 { ErrorKind::Connect } else { ErrorKind::Unavailable };
        let (engine, client) = lost(seed, why).await;
        let publishing = tokio::spawn(client.publish("a/b", &1).to(somebody()).into_future());
        tokio::time::sleep(20 * SECOND).await;
        engine.logins(|_| Ok(()));
        let since = Instant::now();
        publishing.await.unwrap().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        longest = longest.max(since.elapsed());
    }
    assert!((SECOND / 2..=2 * SECOND).contains(&longest), "{longest:?} after it was back");
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_late_in_an_outage_does_not_wait_for_the_wait_of_others() {
    let mut longest = Duration::ZERO;
    for seed in 0..100 {
        let (engine, client) = lost(seed, ErrorKind::Connect).await;
        tokio::time::sleep(3_600 * SECOND).await;
        engine.logins(|_| Ok(()));
        let since = Instant::now();
        client.publish("a/b", &1).to(somebody()).await.unwrap();
        longest = longest.max(since.elapsed());
    }
    assert!(longest <= 6 * SECOND, "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn attempts_become_rare_if_nobody_waits_and_stay_bounded_if_somebody_does() {
    let (engine, _client) = lost(1, ErrorKind::Connect).await;
    tokio::time::sleep(3_600 * SECOND).await;
    let alone = engine.tried.lock().unwrap().len();
    assert!((60..200).contains(&alone), "{alone}");

    let (engine, client) = lost(1, ErrorKind::Connect).await;
    let mut events = client.events();
    let publish = client.publish("a/b", &1).to(somebody()).timeout(3_600 * SECOND);
    let error = publish.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    let awaited = engine.tried.lock().unwrap().len();
    assert!((600..2_400).contains(&awaited), "{awaited}");
    // What is told of the waits is what they are.
    let told = async {
        loop {
            if let Some(ConnectionEvent::Reconnecting { wait, .. }) = events.next().await {
                return wait;
            }
        }
    };
    assert!(told.await <= 60 * SECOND);
}

/// Somebody who only reads has no deadline; what waits for him is as late as he is.
#[tokio::test(start_paused = true)]
async fn readers_are_back_soon_though_nobody_calls() {
    for reads in [true, false] {
        let mut longest = Duration::ZERO;
        for seed in 0..100 {
            let engine = Scripted::new(|_, _| Answer::Done);
            let client = engine.engine().jitter_seed(seed).create_client("key").await.unwrap();
            let orders = if reads { Some(client.subscribe("a/b").await.unwrap()) } else { None };
            engine.logins(move |_| Err(ErrorKind::Connect));
            engine.end(1, Some(ErrorKind::Interrupted));
            tokio::time::sleep(600 * SECOND).await;
            let tried = engine.tried.lock().unwrap().len();
            // Five seconds between two on average, after some that were sooner.
            assert!(!reads || (100..250).contains(&tried), "{tried} attempts");
            engine.logins(|_| Ok(()));
            let since = Instant::now();
            while !client.is_connected() {
                tokio::time::sleep(SECOND / 10).await;
            }
            longest = longest.max(since.elapsed());
            drop(orders);
        }
        let expected = if reads { 8 * SECOND..11 * SECOND } else { 30 * SECOND..61 * SECOND };
        assert!(expected.contains(&longest), "reads: {reads}: {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_full_is_not_asked_more_often_by_those_who_wait() {
    let mut tried = Vec::new();
    for waits in [false, true] {
        let (engine, client) = lost(5, ErrorKind::LimitExceeded).await;
        let publish = client.publish("a/b", &1).to(somebody()).timeout(1_200 * SECOND).into_future();
        let publishing = waits.then(|| tokio::spawn(publish));
        tokio::time::sleep(600 * SECOND).await;
        tried.push(engine.tried.lock().unwrap().len());
        drop(publishing);
    }
    assert!(tried[0] == tried[1] && tried[0] < 40, "{tried:?}");
}

#[tokio::test(start_paused = true)]
async fn counted_attempts_are_not_used_up_sooner() {
    let mut took = Vec::new();
    for waits in [false, true] {
        let engine = Scripted::new(|_, _| Answer::Done);
        let settings = engine.engine().jitter_seed(9).max_reconnect_attempts(10);
        let client = settings.create_client("key").await.unwrap();
        engine.logins(|_| Err(ErrorKind::Connect));
        engine.end(1, Some(ErrorKind::Interrupted));
        let since = Instant::now();
        if waits {
            let publish = client.publish("a/b", &1).to(somebody()).timeout(3_600 * SECOND);
            assert_eq!(publish.await.unwrap_err().kind(), ErrorKind::Closed);
        } else {
            tokio::time::sleep(SECOND).await;
            while !matches!(client.connection_state(), ensync_client::ConnectionState::Closed { .. }) {
                tokio::time::sleep(SECOND / 100).await;
            }
        }
        took.push(since.elapsed());
    }
    assert!(took[0] > 60 * SECOND && took[0].abs_diff(took[1]) < SECOND, "{took:?}");
}

/// Counts attempts, each of which comes to nothing after some time.
#[derive(Debug)]
struct InVain(Arc<AtomicUsize>);

const TAKES: Duration = Duration::from_secs(10);

#[async_trait]
impl Connector for InVain {
    async fn connect(&self, _: &Endpoint, _: &AppKey) -> Result<Link> {
        self.0.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(TAKES).await;
        Err(Error::new(ErrorKind::Connect, "nobody answers"))
    }
}

/// One that was waited for in vain was a wait: the next follows it, if it took as long as that.
#[tokio::test(start_paused = true)]
async fn what_an_attempt_takes_is_a_part_of_the_wait() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let engine = Engine::with_connector("grpc://engine".parse().unwrap(), Arc::new(InVain(attempts.clone())));
    let engine = engine.retry_first_connect(true).reconnect_interval(TAKES).reconnect_factor(1.0);
    let _client = engine.create_client("key").await.unwrap();
    tokio::time::sleep(60 * TAKES).await;
    let attempts = attempts.load(Ordering::Relaxed);
    assert!((58..=61).contains(&attempts), "{attempts}");
}
