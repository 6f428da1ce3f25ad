//! What ends: keys, sessions, tasks, the engine; and disks on which something is still owed then.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result};
use ensync_engine::model::{Encoded, Position};
use ensync_engine::{Broker, BrokerOptions, EventOptions, Log, Logs, MemoryLog, Rights};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;

use super::partitions::{TWO, broker_with_held, reader};
use super::{SHOP, WAREHOUSE, consumer, create_apps, event, key, login, send, waiting};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn sessions_of_a_key_end_with_it_though_the_registrar_was_held_up_and_somebody_logged_in() {
    let (broker, hold) = broker_with_held().await;
    let (shop, mut old) = (login(&broker, SHOP).await, reader(&broker, SHOP).await);
    broker.rotate_key(SHOP, 5 * SECOND).await.unwrap();
    hold.send_replace(true);
    let mut stuck = std::pin::pin!(send(&broker, &shop.peer, "b25l"));
    assert!(stuck.as_mut().now_or_never().is_none());
    tokio::time::sleep(SECOND).await;
    let mut grant = std::pin::pin!(broker.grant(WAREHOUSE, None, Rights::ALL));
    assert!(tokio::time::timeout(6 * SECOND, grant.as_mut()).await.is_err(), "it waits for the disk");
    login(&broker, WAREHOUSE).await;
    assert!(old.inbox.next().now_or_never().is_none(), "the registrar is busy");
    hold.send_replace(false);
    grant.await.unwrap();
    stuck.await.unwrap();
    let end = tokio::time::timeout(SECOND, old.inbox.next()).await.expect("its key has ended, and it with that");
    assert_eq!(end, None);
    let error = send(&broker, &shop.peer, "b25l").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
}
