//! What one app asks for in masses, and another one that asks for one thing beside it.

use ensync_core::{Command, Service};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::partitions::broker_with_held;
use super::{SHOP, WAREHOUSE, login, send};

/// How many publishes of the shop are answered before the one thing that the warehouse asks for after all of them.
async fn answered_before(sent: usize, heartbeat: bool) -> usize {
    let (broker, hold) = broker_with_held().await;
    let (shop, warehouse) = (login(&broker, SHOP).await, login(&broker, WAREHOUSE).await);
    hold.send_replace(true);
    let mut flood: FuturesUnordered<_> = (0..sent).map(|_| send(&broker, &shop.peer, "b25l")).collect();
    assert!(flood.next().now_or_never().is_none());
    let one = async {
        if heartbeat {
            broker.handle(&warehouse.peer, Command::Heartbeat).await.map(drop)
        } else {
            send(&broker, &warehouse.peer, "b25l").await.map(drop)
        }
    };
    let mut one = std::pin::pin!(one.fuse());
    assert!(one.as_mut().now_or_never().is_none());
    hold.send_replace(false);
    let (mut before, mut after) = (0, None);
    while before < sent {
        tokio::select! {
            biased;
            answer = &mut one => {
                answer.unwrap();
                after.get_or_insert(before);
            }
            answer = flood.next() => {
                answer.unwrap().unwrap();
                before += 1;
            }
        }
    }
    if after.is_none() {
        one.await.unwrap();
    }
    let stats = broker.queue(super::event(), WAREHOUSE).await.unwrap().unwrap();
    assert_eq!(stats.ready as usize, sent + usize::from(!heartbeat), "all of them are stored");
    after.unwrap_or(sent)
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_app_is_waited_for_by_another_for_a_batch_or_two_whatever_its_size() {
    for heartbeat in [false, true] {
        for sent in [5_000, 20_000] {
            let before = answered_before(sent, heartbeat).await;
            assert!(before <= 2_048, "{before} of {sent}");
        }
    }
}

/// Nobody is refused for being in a long line when the engine stops.
#[tokio::test(start_paused = true)]
async fn what_waits_in_a_line_when_the_engine_stops_is_carried_out() {
    let (broker, hold) = broker_with_held().await;
    let shop = login(&broker, SHOP).await;
    hold.send_replace(true);
    let mut flood: FuturesUnordered<_> = (0..3_000).map(|_| send(&broker, &shop.peer, "b25l")).collect();
    assert!(flood.next().now_or_never().is_none());
    let stop = tokio::spawn({
        let broker = broker.clone();
        async move { broker.shutdown().await }
    });
    tokio::task::yield_now().await;
    assert!(send(&broker, &shop.peer, "bmV3").await.unwrap_err().is_retryable(), "what comes now is refused");
    hold.send_replace(false);
    let mut answered = 0;
    while let Some(answer) = flood.next().await {
        answer.unwrap();
        answered += 1;
    }
    assert_eq!(answered, 3_000);
    stop.await.unwrap();
}
