//! The drain, over a thread and an engine that do what a test says.

use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use ensync_core::{AppKey, ClientId, Command, Connector, Endpoint, EventId, Link, Reply, Transport, Welcome};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::batch::Turn;
use super::super::thread::Request;
use super::*;
use crate::Engine;

const SECOND: Duration = Duration::from_secs(1);

/// Takes what is published, after it has refused so much of it.
#[derive(Debug)]
pub(super) struct Far {
    refuses: AtomicUsize,
    /// In words of its own, or by a code.
    in_words: bool,
    published: AtomicUsize,
    /// How many attempts there were.
    pub(super) tried: AtomicUsize,
    /// It always refuses what is for these.
    pub(super) troubled: Mutex<HashSet<AppId>>,
    /// Which app it says that the client is.
    app: Option<AppId>,
    /// Its links end once something is published, and so many logins are refused then.
    ends: bool,
    logins_refused: AtomicUsize,
    over: Mutex<CancellationToken>,
    /// What the outbox holds.
    pub(super) now: watch::Sender<Now>,
}

impl Default for Far {
    fn default() -> Self {
        Self {
            refuses: 0.into(),
            in_words: false,
            published: 0.into(),
            tried: 0.into(),
            troubled: Mutex::default(),
            app: entry(1).own,
            ends: false,
            logins_refused: 0.into(),
            over: Mutex::default(),
            now: watch::Sender::new(Now { first: Some(1), next: 2, ..Now::default() }),
        }
    }
}

impl Far {
    /// One that says that the client is this app.
    pub(super) fn of(app: AppId) -> Self {
        Self { app: Some(app), ..Self::default() }
    }
}

#[derive(Debug)]
struct Door(Arc<Far>);

#[async_trait]
impl Connector for Door {
    async fn connect(&self, _: &Endpoint, _: &AppKey) -> Result<Link> {
        let far = &self.0;
        let more = |left: usize| left.checked_sub(1);
        let ended = far.over.lock().unwrap().is_cancelled();
        if ended && far.logins_refused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
            return Err(Error::new(ErrorKind::Unavailable, "not now"));
        }
        let over = CancellationToken::new();
        *far.over.lock().unwrap() = over.clone();
        let client_id = ClientId::parse("client").unwrap();
        Ok(Link {
            transport: far.clone(),
            inbox: futures::stream::pending().take_until(over.cancelled_owned()).boxed(),
            welcome: Welcome { client_id, app_id: far.app, config: std::iter::empty::<(&str, &str)>().collect() },
        })
    }
}

#[async_trait]
impl Transport for Far {
    async fn call(&self, command: Command) -> Result<Reply> {
        let Command::Publish(publish) = command else { return Ok(Reply::Done) };
        self.tried.fetch_add(1, Ordering::Relaxed);
        if self.troubled.lock().unwrap().contains(&publish.recipient) {
            return Err(Error::new(ErrorKind::LimitExceeded, "the queue is full"));
        }
        if self.refuses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(match self.in_words {
                true => Error::from_refusal("the service is busy"),
                false => Error::new(ErrorKind::LimitExceeded, "not now"),
            });
        }
        self.published.fetch_add(1, Ordering::Relaxed);
        if self.ends {
            self.over.lock().unwrap().cancel();
        }
        Ok(Reply::Published { id: EventId::parse("stored").unwrap() })
    }
    fn abort(&self, _: Error) {}
    async fn close(&self) {}
}

fn recipients(numbers: std::ops::RangeInclusive<u8>) -> Mutex<HashSet<AppId>> {
    Mutex::new(numbers.map(|n| entry(n).publish.recipient).collect())
}

/// A client that drains an outbox whose thread is the test.
pub(super) async fn drained(far: &Arc<Far>) -> (Client, mpsc::Receiver<Request>) {
    drained_by(far, None).await
}

pub(super) async fn drained_by(
    far: &Arc<Far>,
    ring: Option<ensync_core::Keyring>,
) -> (Client, mpsc::Receiver<Request>) {
    let (requests, asked) = mpsc::channel(16);
    let outbox = Outbox(Arc::new(Shared {
        path: "outbox".into(),
        thread: Thread::of(requests),
        options: OutboxOptions::new(),
        backpressure: Backpressure::default(),
        now: far.now.subscribe(),
        listeners: broadcast::Sender::new(1),
        queued: Notify::new(),
        attached: AtomicBool::new(false),
        drains: watch::Sender::new(()),
    }));
    let engine = Engine::with_connector(Endpoint::parse("grpc://engine").unwrap(), Arc::new(Door(far.clone())));
    let client = engine.create_client("key").outbox(outbox);
    let client = match ring {
        Some(ring) => client.keyring(ring),
        None => client,
    };
    (client.await.unwrap(), asked)
}

fn one() -> Vec<Turn> {
    vec![(entry(1).lane(), vec![(QueuedId(1), entry(1))])]
}

pub(super) async fn next(asked: &mut mpsc::Receiver<Request>) -> Request {
    loop {
        let next = tokio::time::timeout(60 * SECOND, asked.recv()).await.expect("the drain sleeps without a timer");
        match next.unwrap() {
            Request::Write(Write::App(_), answer) => drop(answer.send(Ok(Written::Found(true)))),
            other => break other,
        }
    }
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

/// What waits no more is nothing to know of: else a client that lives for long collects it.
#[tokio::test(start_paused = true)]
async fn of_what_is_gone_from_the_outbox_nothing_is_kept() {
    let far = Arc::new(Far::default());
    let (_client, mut asked) = drained(&far).await;
    let (mut unwritten, mut gone) = (0, false);
    loop {
        match next(&mut asked).await {
            Request::Take(_, not, answer) => {
                let turns = if not.contains(&entry(1).lane()) { Vec::new() } else { one() };
                assert!(answer.send(Ok(turns)).is_ok());
            }
            Request::Write(Write::Done(_), answer) if gone => {
                // The name that was known is another's now, as far as the drain can tell: it was published anew.
                drop(answer);
                break assert_eq!(far.published.load(Ordering::Relaxed), 2);
            }
            Request::Write(Write::Done(_), answer) => {
                assert!(answer.send(Err(Error::new(ErrorKind::Unavailable, "the disk is full"))).is_ok());
                unwritten += 1;
                assert_eq!(far.published.load(Ordering::Relaxed), 1);
                if unwritten == 3 {
                    gone = true;
                    // It made room for others, and the drain looks at the outbox once more.
                    far.now.send_replace(Now { first: Some(2), next: 3, ..Now::default() });
                    let Request::Take(.., answer) = next(&mut asked).await else { panic!("not read") };
                    assert!(answer.send(Ok(Vec::new())).is_ok());
                }
            }
            _ => panic!("neither read nor let go"),
        }
    }
}

/// Words may mean something else than they seem to: they hold up a lane for a while. A code does so for as long as it is said.
#[tokio::test(start_paused = true)]
async fn a_refusal_in_words_is_taken_for_one_in_the_end() {
    for in_words in [true, false] {
        let far = Arc::new(Far { refuses: usize::MAX.into(), in_words, ..Far::default() });
        let (_client, mut asked) = drained(&far).await;
        let begun = tokio::time::Instant::now();
        let parked = loop {
            match next(&mut asked).await {
                Request::Take(_, not, answer) => {
                    let turns = if not.contains(&entry(1).lane()) { Vec::new() } else { one() };
                    assert!(answer.send(Ok(turns)).is_ok());
                }
                Request::Write(Write::Park(id, _, why), _) => {
                    assert_eq!((id, why.error().kind()), (QueuedId(1), ErrorKind::Unavailable));
                    break true;
                }
                _ => panic!("neither read nor parked"),
            }
            if begun.elapsed() > 3_600 * SECOND {
                break false;
            }
        };
        assert_eq!(parked, in_words);
        if in_words {
            let took = begun.elapsed();
            assert_eq!(far.tried.load(Ordering::Relaxed), 21);
            assert!((200 * SECOND..600 * SECOND).contains(&took), "{took:?}");
        }
    }
}

/// One that another app's key sealed is not published while there is no connection to tell whose it is.
#[tokio::test(start_paused = true)]
async fn whose_an_event_is_is_asked_of_the_last_login() {
    let (own, others) = (AppId::from_bytes([9; 32]), AppId::from_bytes([7; 32]));
    // Of an app that the engine does not tell, it is nobody's of whom anything is known.
    for app in [Some(own), None] {
        let far = Arc::new(Far { app, ends: true, logins_refused: 3.into(), ..Far::default() });
        let (_client, mut asked) = drained(&far).await;
        let of = |n, own| (QueuedId(n), Entry { own, ..entry(1) });
        // Nobody's, by which the link ends; then one that another app's key sealed.
        let mut turn = vec![of(1, None), of(2, Some(others))];
        let parked = loop {
            match next(&mut asked).await {
                Request::Take(_, _, answer) => {
                    let turns = if turn.is_empty() { Vec::new() } else { vec![(entry(1).lane(), turn.clone())] };
                    assert!(answer.send(Ok(turns)).is_ok());
                }
                Request::Write(Write::Done(id), answer) => {
                    assert_eq!(id, QueuedId(1));
                    turn.retain(|(known, _)| *known != id);
                    assert!(answer.send(Ok(Written::Found(true))).is_ok());
                }
                Request::Write(Write::Park(id, _, why), _) => break (id, why.error()),
                _ => panic!("neither read nor let go nor parked"),
            }
        };
        assert_eq!((parked.0, parked.1.kind()), (QueuedId(2), ErrorKind::InvalidKey));
        assert!(parked.1.to_string().contains("was queued by app"), "{}", parked.1);
        assert_eq!(far.published.load(Ordering::Relaxed), 1, "{app:?}");
        assert!(far.over.lock().unwrap().is_cancelled() || far.logins_refused.load(Ordering::Relaxed) == 0);
    }
}

/// However many recipients are in trouble, and for however long, what is for others is sent, and the engine is not asked more often.
#[tokio::test(start_paused = true)]
async fn many_in_trouble_hold_up_no_other() {
    const HEALTHY: u8 = 200;
    for troubled in [12, 60] {
        let far = Arc::new(Far { troubled: recipients(1..=troubled), ..Far::default() });
        let (_client, mut asked) = drained(&far).await;
        let mut waiting: Vec<_> = (1..=troubled).map(|n| (QueuedId(n.into()), entry(n))).collect();
        let (begun, mut sent, mut queued) = (tokio::time::Instant::now(), 0u32, None);
        while sent < 10 {
            match next(&mut asked).await {
                Request::Take(most, not, answer) => {
                    // One more each minute, after ten in which nothing went.
                    let now = tokio::time::Instant::now();
                    if queued.is_none() && begun.elapsed() > (600 + 60 * sent) * SECOND {
                        queued = Some(now);
                        waiting.push((QueuedId(1_000 + u64::from(sent)), entry(HEALTHY)));
                    }
                    let free = waiting.iter().filter(|(_, entry)| !not.contains(&entry.lane())).take(most);
                    let turns = free.map(|(id, entry)| (entry.lane(), vec![(*id, entry.clone())])).collect();
                    assert!(answer.send(Ok(turns)).is_ok());
                }
                Request::Write(Write::Done(id), answer) => {
                    let took = queued.take().expect("only what is healthy goes").elapsed();
                    assert!(took <= 6 * SECOND, "{troubled}: {took:?}");
                    (sent, waiting) = (sent + 1, waiting.into_iter().filter(|(known, _)| *known != id).collect());
                    assert!(answer.send(Ok(Written::Found(true))).is_ok());
                }
                _ => panic!("neither read nor let go"),
            }
        }
        // Each by itself a few times after each success, and one every few seconds.
        let (tried, took) = (far.tried.load(Ordering::Relaxed), begun.elapsed());
        let most = took.as_secs() / 2 + u64::from(sent + 1) * (u64::from(troubled) + 40);
        assert!((tried as u64) < most, "{troubled}: {tried} within {took:?}");
    }
}

/// What waited for one of them expired, or made room, while nothing went: its turn is the next one's.
#[tokio::test(start_paused = true)]
async fn who_has_nothing_left_keeps_no_turn() {
    for gone in 1..=9 {
        let far = Arc::new(Far { troubled: recipients(1..=9), ..Far::default() });
        let (_client, mut asked) = drained(&far).await;
        let mut waiting: Vec<_> = (1..=9).map(|n| (QueuedId(n.into()), entry(n))).collect();
        let begun = tokio::time::Instant::now();
        let mut well = None;
        while !waiting.is_empty() {
            match next(&mut asked).await {
                Request::Take(most, not, answer) => {
                    if well.is_none() && begun.elapsed() > 60 * SECOND {
                        waiting.retain(|(id, _)| *id != QueuedId(gone));
                        far.troubled.lock().unwrap().clear();
                        well = Some(tokio::time::Instant::now());
                    }
                    let free = waiting.iter().filter(|(_, entry)| !not.contains(&entry.lane())).take(most);
                    let turns = free.map(|(id, entry)| (entry.lane(), vec![(*id, entry.clone())])).collect();
                    assert!(answer.send(Ok(turns)).is_ok());
                }
                Request::Write(Write::Done(id), answer) => {
                    waiting.retain(|(known, _)| *known != id);
                    assert!(answer.send(Ok(Written::Found(true))).is_ok());
                }
                _ => panic!("neither read nor let go"),
            }
        }
        let took = well.expect("nothing goes before").elapsed();
        assert!(took <= 60 * SECOND, "{gone}: {took:?}");
    }
}
