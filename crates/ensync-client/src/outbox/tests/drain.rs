//! The drain, over a thread and an engine that do what a test says.

use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use ensync_core::{AppKey, ClientId, Command, Connector, Endpoint, EventId, Link, Reply, Transport, Welcome};
use tokio::sync::mpsc;

use super::super::batch::Turn;
use super::super::thread::Request;
use super::*;
use crate::Engine;

const SECOND: Duration = Duration::from_secs(1);

/// Takes what is published, after it has refused so much of it.
#[derive(Debug, Default)]
struct Far {
    refuses: AtomicUsize,
    published: AtomicUsize,
}

#[derive(Debug)]
struct Door(Arc<Far>);

#[async_trait]
impl Connector for Door {
    async fn connect(&self, _: &Endpoint, _: &AppKey) -> Result<Link> {
        let client_id = ClientId::parse("client").unwrap();
        Ok(Link {
            transport: self.0.clone(),
            inbox: futures::stream::pending().boxed(),
            welcome: Welcome { client_id, app_id: None, config: std::iter::empty::<(&str, &str)>().collect() },
        })
    }
}

#[async_trait]
impl Transport for Far {
    async fn call(&self, command: Command) -> Result<Reply> {
        if !matches!(command, Command::Publish(_)) {
            return Ok(Reply::Done);
        }
        if self.refuses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(Error::new(ErrorKind::LimitExceeded, "not now"));
        }
        self.published.fetch_add(1, Ordering::Relaxed);
        Ok(Reply::Published { id: EventId::parse("stored").unwrap() })
    }
    fn abort(&self, _: Error) {}
    async fn close(&self) {}
}

/// A client that drains an outbox whose thread is the test.
async fn drained(far: &Arc<Far>) -> (Client, mpsc::Receiver<Request>) {
    let (requests, asked) = mpsc::channel(16);
    let outbox = Outbox(Arc::new(Shared {
        path: "outbox".into(),
        thread: Thread::of(requests),
        options: OutboxOptions::new(),
        backpressure: Backpressure::default(),
        now: watch::channel(Now::default()).1,
        listeners: broadcast::Sender::new(1),
        queued: Notify::new(),
        attached: AtomicBool::new(false),
        drains: watch::Sender::new(()),
    }));
    let engine = Engine::with_connector(Endpoint::parse("grpc://engine").unwrap(), Arc::new(Door(far.clone())));
    (engine.create_client("key").outbox(outbox).await.unwrap(), asked)
}

fn one() -> Vec<Turn> {
    vec![(entry(1).lane(), vec![(QueuedId(1), entry(1))])]
}

async fn next(asked: &mut mpsc::Receiver<Request>) -> Request {
    tokio::time::timeout(60 * SECOND, asked.recv()).await.expect("the drain sleeps without a timer").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_long_to_fail_is_asked_again() {
    let (_client, mut asked) = drained(&Arc::default()).await;
    for _ in 0..5 {
        let Request::Take(.., answer) = next(&mut asked).await else { panic!("not read") };
        // Longer than it would be held after a first failure.
        tokio::time::sleep(6 * SECOND).await;
        let failed = Err(Error::new(ErrorKind::Unavailable, "the operating system refuses"));
        assert!(answer.send(failed).is_ok());
    }
    assert!(matches!(next(&mut asked).await, Request::Take(..)));
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_ends_while_the_disk_is_read_is_not_slept_through() {
    let far = Arc::new(Far { refuses: 3.into(), ..Far::default() });
    let (_client, mut asked) = drained(&far).await;
    loop {
        match next(&mut asked).await {
            Request::Take(_, not, answer) => {
                // The first wait is over by then.
                tokio::time::sleep(SECOND).await;
                let turns = if not.contains(&entry(1).lane()) { Vec::new() } else { one() };
                assert!(answer.send(Ok(turns)).is_ok());
            }
            Request::Write(Write::Done(id), _) => break assert_eq!(id, QueuedId(1)),
            _ => panic!("neither read nor let go"),
        }
    }
    assert_eq!(far.published.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_is_not_sent_again_though_the_disk_cannot_note_it() {
    let far = Arc::new(Far::default());
    let (_client, mut asked) = drained(&far).await;
    let mut refused = 0;
    while refused < 5 {
        match next(&mut asked).await {
            Request::Take(_, not, answer) => {
                let turns = if not.contains(&entry(1).lane()) { Vec::new() } else { one() };
                assert!(answer.send(Ok(turns)).is_ok());
            }
            Request::Write(Write::Done(_), answer) => {
                refused += 1;
                assert!(answer.send(Err(Error::new(ErrorKind::Unavailable, "the disk is full"))).is_ok());
            }
            _ => panic!("neither read nor let go"),
        }
    }
    assert_eq!(far.published.load(Ordering::Relaxed), 1);
}
