//! A ring of the next key and the present one, before the engine has said which of them the app's is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensync_client::core::crypto::{Expected, Opener, Suite};
use ensync_client::core::{AppId, Command, ErrorKind, Keyring, Publish, SecretKey};
use ensync_client::{Custom, Engine};

use crate::scripted::{Answer, Scripted};

const SECOND: Duration = Duration::from_secs(1);

struct Rotating {
    next: SecretKey,
    present: SecretKey,
    reader: SecretKey,
    far: Arc<Scripted>,
    /// Whether the engine is there.
    up: Arc<AtomicBool>,
}

impl Rotating {
    /// An engine that is not there yet.
    fn new() -> Self {
        let key = || SecretKey::generate().unwrap();
        let (up, far) = (Arc::new(AtomicBool::new(false)), Scripted::new(|_, _| Answer::Done));
        let is_up = up.clone();
        far.logins(move |_| if is_up.load(Ordering::Relaxed) { Ok(()) } else { Err(ErrorKind::Connect) });
        let rotating = Self { next: key(), present: key(), reader: key(), far, up };
        rotating.far.calls_the_app(rotating.present.app_id().unwrap());
        rotating
    }

    fn ring(&self) -> Keyring {
        Keyring::new(self.next.clone()).with_previous(self.present.clone())
    }

    fn engine(&self) -> Engine<Custom> {
        let engine = self.far.engine().suite(Suite::Aes256Gcm).retry_first_connect(true);
        engine.reconnect_interval(Duration::from_millis(10))
    }

    fn reader(&self) -> AppId {
        self.reader.app_id().unwrap()
    }

    fn published(&self) -> Vec<Publish> {
        let publish = |command| match command {
            Command::Publish(publish) => Some(publish),
            _ => None,
        };
        self.far.of("publish").into_iter().filter_map(|call| publish(call.command)).collect()
    }

    /// Opens the last that was published as its reader does, whom the engine tells that this app sent it.
    fn opens_as_sent_by(&self, app: &SecretKey) {
        let publish = self.published().pop().unwrap();
        let opener = Opener::new(Keyring::new(self.reader.clone()));
        opener.open(&publish.payload, &Expected::event(&publish.event).engine_sender(app.app_id())).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_published_before_the_first_login_is_sealed_by_the_key_that_the_engine_knows() {
    let rotating = Rotating::new();
    let client = rotating.engine().create_client("key").keyring(rotating.ring()).await.unwrap();
    // What is wrong with it is told at once.
    let begun = tokio::time::Instant::now();
    let error = client.publish("a/b", &1).await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed()), (ErrorKind::InvalidInput, Duration::ZERO), "{error}");
    let publish = client.publish("a/b", &1).to(rotating.reader());
    let publishing = tokio::spawn(std::future::IntoFuture::into_future(publish));
    tokio::time::sleep(SECOND).await;
    rotating.up.store(true, Ordering::Relaxed);
    publishing.await.unwrap().unwrap();
    rotating.opens_as_sent_by(&rotating.present);
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_waits_to_know_its_key_ends_at_its_deadline() {
    let rotating = Rotating::new();
    let client = rotating.engine().create_client("key").keyring(rotating.ring()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = client.publish("a/b", &1).to(rotating.reader()).timeout(2 * SECOND).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_happened()), (ErrorKind::Connect, false), "{error}");
    assert!(error.to_string().contains("was not sent"), "{error}");
    assert_eq!(begun.elapsed(), 2 * SECOND);
}

/// A key that is not the app's is found out before anything is sent that nobody can open.
#[tokio::test(start_paused = true)]
async fn a_wrong_key_is_told_though_the_publish_came_before_the_first_login() {
    let rotating = Rotating::new();
    let client = rotating.engine().create_client("key").app_secret_key(&rotating.reader).await.unwrap();
    let publishing =
        tokio::spawn(std::future::IntoFuture::into_future(client.publish("a/b", &1).to(rotating.reader())));
    tokio::time::sleep(SECOND).await;
    rotating.up.store(true, Ordering::Relaxed);
    assert_eq!(publishing.await.unwrap().unwrap_err().kind(), ErrorKind::InvalidKey);
    assert_eq!(rotating.far.count("publish"), 0);
}

#[cfg(feature = "outbox")]
mod queued {
    use ensync_client::{Client, Outbox, OutboxOptions};

    use super::*;

    async fn soon(outbox: &Outbox) -> ensync_client::OutboxStatus {
        tokio::time::timeout(30 * SECOND, outbox.flush()).await.expect("it is not sent").unwrap()
    }

    async fn client(rotating: &Rotating, outbox: &Outbox) -> Client {
        let client = rotating.engine().create_client("key").keyring(rotating.ring());
        client.outbox(outbox.clone()).await.unwrap()
    }

    /// Nobody ever told which key it is: what the next one sealed is sent once it is the app's, and holds up nothing else.
    #[tokio::test]
    async fn what_the_next_key_sealed_waits_for_the_rotation() {
        let (rotating, place) = (Rotating::new(), tempfile::tempdir().unwrap());
        let outbox = Outbox::open(place.path().join("outbox"), OutboxOptions::new()).await.unwrap();
        let client = client(&rotating, &outbox).await;
        client.publish("a/b", &1).to(rotating.reader()).queue().await.unwrap();
        rotating.up.store(true, Ordering::Relaxed);
        client.wait_until_live().await.unwrap();
        client.publish("other/name", &2).to(rotating.reader()).queue().await.unwrap();
        let sent = async {
            while rotating.published().is_empty() {
                tokio::time::sleep(SECOND / 100).await;
            }
        };
        tokio::time::timeout(30 * SECOND, sent).await.expect("the other is held up");
        tokio::time::sleep(SECOND).await;
        let names: Vec<_> = rotating.published().into_iter().map(|publish| publish.event.to_string()).collect();
        assert_eq!(names, ["other/name"]);
        rotating.opens_as_sent_by(&rotating.present);
        assert_eq!((outbox.status().waiting, outbox.status().parked), (1, 0));
        rotating.far.calls_the_app(rotating.next.app_id().unwrap());
        rotating.far.end(1, None);
        assert_eq!(soon(&outbox).await.parked, 0);
        rotating.opens_as_sent_by(&rotating.next);
        client.close().await.unwrap();
    }

    /// Which key it is the outbox knows from its last client.
    #[tokio::test]
    async fn what_is_queued_before_the_first_login_is_sealed_by_the_key_of_the_last_one() {
        let (rotating, place) = (Rotating::new(), tempfile::tempdir().unwrap());
        let path = place.path().join("outbox");
        let outbox = Outbox::open(&path, OutboxOptions::new()).await.unwrap();
        rotating.up.store(true, Ordering::Relaxed);
        let before = client(&rotating, &outbox).await;
        before.wait_until_live().await.unwrap();
        before.publish("a/b", &1).to(rotating.reader()).queue().await.unwrap();
        soon(&outbox).await;
        before.close().await.unwrap();
        outbox.close().await;
        rotating.up.store(false, Ordering::Relaxed);
        let outbox = Outbox::open(&path, OutboxOptions::new()).await.unwrap();
        let client = client(&rotating, &outbox).await;
        client.publish("a/b", &2).to(rotating.reader()).queue().await.unwrap();
        rotating.up.store(true, Ordering::Relaxed);
        soon(&outbox).await;
        assert_eq!(rotating.published().len(), 2);
        rotating.opens_as_sent_by(&rotating.present);
        client.close().await.unwrap();
    }

    /// One that is no key of the app's, nor of its earlier ones.
    #[tokio::test]
    async fn what_a_wrong_key_sealed_is_parked() {
        let (rotating, place) = (Rotating::new(), tempfile::tempdir().unwrap());
        let outbox = Outbox::open(place.path().join("outbox"), OutboxOptions::new()).await.unwrap();
        let client = rotating.engine().create_client("key").app_secret_key(&rotating.next).outbox(outbox.clone());
        let client = client.await.unwrap();
        client.publish("a/b", &1).to(rotating.reader()).queue().await.unwrap();
        rotating.up.store(true, Ordering::Relaxed);
        assert_eq!(soon(&outbox).await.parked, 1);
        assert_eq!(outbox.parked().await.unwrap().remove(0).why.kind(), ErrorKind::InvalidKey);
        assert_eq!(rotating.far.count("publish"), 0);
        client.close().await.unwrap();
    }
}
