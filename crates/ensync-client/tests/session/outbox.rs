//! An outbox that is drained over an engine that says little of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ensync_client::core::{AppId, Command, Error, ErrorKind, Keyring, SecretKey};
use ensync_client::{Outbox, OutboxOptions, OutboxStatus};

use crate::scripted::{Answer, Scripted, somebody};

const PATIENCE: Duration = Duration::from_secs(30);

async fn flushed(outbox: &Outbox) -> OutboxStatus {
    tokio::time::timeout(PATIENCE, outbox.flush()).await.expect("it is not drained").unwrap()
}

/// Engines of other makers do not tell which keys an app had before. That one was this app's is known by having it.
#[tokio::test]
async fn what_another_app_queued_is_not_sent_as_ones_own_whatever_the_engine_tells() {
    let closed = Arc::new(AtomicBool::new(true));
    let is_closed = closed.clone();
    let engine = Scripted::with(&[], move |_, command| match command {
        Command::Publish(_) if is_closed.load(Ordering::Relaxed) => Answer::No(ErrorKind::Unavailable),
        _ => Answer::Done,
    });
    let (theirs, ours) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let is = |key: &SecretKey| -> AppId { key.app_id().unwrap() };
    let place = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(place.path().join("outbox"), OutboxOptions::new()).await.unwrap();
    engine.calls_the_app(is(&theirs));
    let client = engine.engine().create_client("key").app_secret_key(&theirs).outbox(outbox.clone()).await.unwrap();
    client.publish("a/b", &1).to(somebody()).queue().await.unwrap();
    client.close().await.unwrap();
    closed.store(false, Ordering::Relaxed);
    engine.calls.lock().unwrap().clear();

    engine.calls_the_app(is(&ours));
    let client = engine.engine().create_client("key").app_secret_key(&ours).outbox(outbox.clone()).await.unwrap();
    let status = flushed(&outbox).await;
    assert_eq!((status.waiting, status.parked, engine.count("publish")), (0, 1, 0));
    let parked = outbox.parked().await.unwrap().remove(0);
    assert_eq!(parked.why.kind(), ErrorKind::InvalidKey, "{}", parked.why);
    client.close().await.unwrap();

    // Who has the key knows that it is his.
    let ring = Keyring::new(ours).with_previous(theirs);
    let client = engine.engine().create_client("key").keyring(ring).outbox(outbox.clone()).await.unwrap();
    assert!(outbox.retry(parked.about.queued).await.unwrap());
    let status = flushed(&outbox).await;
    assert_eq!((status.waiting, status.parked, engine.count("publish")), (0, 0, 1));
    client.close().await.unwrap();
}

/// What is parked waits for somebody: that is not for a gateway to decide, which will let it through in a moment.
#[tokio::test]
async fn what_a_gateway_does_not_let_through_is_not_parked() {
    for (kind, perhaps_done) in
        [(ErrorKind::Forbidden, false), (ErrorKind::Unsupported, false), (ErrorKind::Refused, true)]
    {
        let asked = AtomicUsize::new(0);
        let engine = Scripted::new(move |_, command| match command {
            Command::Publish(_) if asked.fetch_add(1, Ordering::Relaxed) < 2 => {
                let error = Error::new(kind, "upstream connect error").said_on_the_way();
                Answer::Fails(if perhaps_done { error.perhaps_done() } else { error })
            }
            _ => Answer::Done,
        });
        let place = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(place.path().join("outbox"), OutboxOptions::new()).await.unwrap();
        let client = engine.engine().create_client("key").outbox(outbox.clone()).await.unwrap();
        client.publish("a/b", &1).to(somebody()).queue().await.unwrap();
        let status = flushed(&outbox).await;
        assert_eq!((status.waiting, status.parked, engine.count("publish")), (0, 0, 3), "{kind:?}");
        client.close().await.unwrap();
    }
}

/// What is queued is sent as soon after an outage as a reader is back, also if it was queued in the middle of it.
#[tokio::test(start_paused = true)]
async fn an_outbox_with_something_to_send_is_dialled_for() {
    for queues in [true, false] {
        let engine = Scripted::new(|_, _| Answer::Done);
        let place = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(place.path().join("outbox"), OutboxOptions::new()).await.unwrap();
        let key = SecretKey::generate().unwrap();
        let settings = engine.engine().jitter_seed(3);
        let client = settings.create_client("key").app_secret_key(&key).outbox(outbox.clone()).await.unwrap();
        engine.logins(|_| Err(ErrorKind::Connect));
        engine.end(1, Some(ErrorKind::Interrupted));
        tokio::time::sleep(Duration::from_secs(600)).await;
        if queues {
            client.publish("a/b", &1).to(somebody()).queue().await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(600)).await;
        let tried = engine.tried.lock().unwrap().clone();
        let late = &tried[tried.len() - 10..];
        let longest = late.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert_eq!(longest <= Duration::from_secs(10), queues, "{longest:?}");
        engine.logins(|_| Ok(()));
        tokio::time::sleep(Duration::from_secs(61)).await;
        if queues {
            tokio::time::resume();
            assert_eq!((flushed(&outbox).await.waiting, engine.count("publish")), (0, 1));
            tokio::time::pause();
        }
        client.close().await.unwrap();
    }
}
