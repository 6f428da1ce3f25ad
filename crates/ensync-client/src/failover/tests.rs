use std::net::SocketAddr;
use std::sync::atomic::AtomicU32;

use ensync_core::{ClientId, Command, Reply, ServerConfig, Transport, Welcome};
use futures::StreamExt;

use super::*;
use crate::dial::phase as notes;

/// A connector that does as it is told, and counts.
#[derive(Debug)]
struct Told {
    outcome: Mutex<Option<ErrorKind>>,
    answers: bool,
    asked: AtomicU32,
}

impl Told {
    fn to(outcome: Option<ErrorKind>) -> Arc<Self> {
        Arc::new(Self { outcome: Mutex::new(outcome), answers: true, asked: AtomicU32::new(0) })
    }

    fn to_be_silent() -> Arc<Self> {
        Arc::new(Self { outcome: Mutex::new(None), answers: false, asked: AtomicU32::new(0) })
    }

    fn asked(&self) -> u32 {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Dead;

#[async_trait]
impl Transport for Dead {
    async fn call(&self, _: Command) -> Result<Reply> {
        std::future::pending().await
    }
    async fn close(&self) {}
}

#[async_trait]
impl Connector for Told {
    async fn connect(&self, to: &Endpoint, _: &AppKey) -> Result<Link> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if !self.answers {
            std::future::pending::<()>().await;
        }
        let outcome = *self.outcome.lock().unwrap();
        match outcome {
            Some(kind) => Err(Error::new(kind, format!("no way to {to}"))),
            None => Ok(Link {
                transport: Arc::new(Dead),
                inbox: futures::stream::pending().boxed(),
                welcome: Welcome {
                    client_id: ClientId::parse("c").unwrap(),
                    app_id: None,
                    config: ServerConfig::default(),
                },
            }),
        }
    }
}

const LIMIT: Duration = Duration::from_secs(20);

fn failover(connectors: &[&Arc<Told>]) -> Failover {
    let mut urls = ["grpcs://h", "wss://h", "wss://h/other"].iter().map(|url| Endpoint::parse(url).unwrap());
    let mut connectors = connectors.iter().map(|connector| Arc::<Told>::clone(connector));
    let mut endpoints = Endpoints::new(urls.next().unwrap(), connectors.next().unwrap());
    for connector in connectors {
        endpoints = endpoints.and(urls.next().unwrap(), connector).unwrap();
    }
    Failover::new(endpoints, LIMIT)
}

async fn connect(failover: &Failover) -> Result<String> {
    let first = failover.endpoints.first().clone();
    failover.connect(&first, &AppKey::parse("key").unwrap()).await?;
    Ok(failover.endpoint().to_string())
}

const FIRST: &str = "grpcs://h:443";
const SECOND: &str = "wss://h:443/message";

#[tokio::test(start_paused = true)]
async fn the_winner_is_remembered_for_a_while() {
    let (first, second) = (Told::to(Some(ErrorKind::Connect)), Told::to(None));
    let failover = failover(&[&first, &second]);
    assert_eq!(failover.endpoint().to_string(), FIRST);
    assert_eq!(connect(&failover).await.unwrap(), SECOND);
    *first.outcome.lock().unwrap() = None;
    for _ in 0..3 {
        tokio::time::advance(REMEMBERED / 4).await;
        assert_eq!(connect(&failover).await.unwrap(), SECOND);
    }
    assert_eq!((first.asked(), second.asked()), (1, 4));
    // The first gets its chance, and is the winner from then on.
    tokio::time::advance(REMEMBERED / 4).await;
    assert_eq!(connect(&failover).await.unwrap(), FIRST);
    assert_eq!(connect(&failover).await.unwrap(), FIRST);
    assert_eq!((first.asked(), second.asked()), (2, 0));
    // Another client of the same engine knows.
    let (first, second) = (Told::to(Some(ErrorKind::Connect)), Told::to(None));
    let known = super::tests::failover(&[&first, &second]);
    connect(&known).await.unwrap();
    let other = Failover::new(known.endpoints.clone(), LIMIT);
    assert_eq!(connect(&other).await.unwrap(), SECOND);
    assert_eq!(first.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_winner_that_fails_is_not_the_last_word() {
    let (first, second) = (Told::to(Some(ErrorKind::Connect)), Told::to(None));
    let failover = failover(&[&first, &second]);
    connect(&failover).await.unwrap();
    *first.outcome.lock().unwrap() = None;
    *second.outcome.lock().unwrap() = Some(ErrorKind::Interrupted);
    assert_eq!(connect(&failover).await.unwrap(), FIRST);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_answer_leaves_the_others_their_share() {
    let (silent, well) = (Told::to_be_silent(), Told::to(None));
    let since = Instant::now();
    assert_eq!(connect(&failover(&[&silent, &well])).await.unwrap(), SECOND);
    assert_eq!(since.elapsed(), LIMIT / 2);
    // And all of it ends in time, with each one's cause.
    let (failover, since) = (failover(&[&silent, &silent, &silent]), Instant::now());
    let error = connect(&failover).await.unwrap_err();
    assert!(since.elapsed() <= LIMIT + Duration::from_millis(10), "{:?}", since.elapsed());
    assert_eq!(error.kind(), ErrorKind::Connect);
    let text = error.to_string();
    for url in [FIRST, SECOND, "wss://h:443/other/message"] {
        assert!(text.contains(&format!("{url}: cannot connect to {url}: not connected")), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_networks_failures_lead_on() {
    use ErrorKind::{
        Connect, Forbidden, Internal, Interrupted, InvalidUrl, LimitExceeded, Protocol, Refused, Timeout, Tls,
        Unauthenticated, Unavailable,
    };
    for (kind, leads_on) in [
        (Connect, true),
        (Timeout, true),
        (Interrupted, true),
        (Protocol, true),
        (Unavailable, true),
        // Without a cause that says otherwise, TLS has judged.
        (Tls, false),
        (Unauthenticated, false),
        (Forbidden, false),
        (LimitExceeded, false),
        (Refused, false),
        (InvalidUrl, false),
        (Internal, false),
    ] {
        let (first, second) = (Told::to(Some(kind)), Told::to(None));
        let outcome = connect(&failover(&[&first, &second])).await;
        match outcome {
            Ok(endpoint) => assert!(leads_on && endpoint == SECOND, "{kind:?}"),
            Err(error) => assert!(!leads_on && error.kind() == kind, "{kind:?}: {error}"),
        }
        assert_eq!(second.asked(), u32::from(leads_on), "{kind:?}");
    }
}

#[test]
fn tls_is_not_given_up_and_no_url_comes_twice() {
    let no = || -> Arc<dyn Connector> { Told::to(None) };
    let endpoints = |url: &str| Endpoints::new(Endpoint::parse(url).unwrap(), no());
    for (first, then, allowed) in [
        ("grpcs://h", "wss://h", true),
        ("grpcs://h", "ws://h", false),
        ("grpcs://h", "ws://localhost", true),
        ("grpcs://localhost", "ws://h", false),
        ("grpc://h", "ws://h", true),
        ("grpc://h", "wss://h", true),
        ("grpcs://h", "grpcs://h:443", false),
    ] {
        let outcome = endpoints(first).and(Endpoint::parse(then).unwrap(), no());
        assert_eq!(outcome.is_ok(), allowed, "{first} {then}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::InvalidUrl);
        }
    }
    let mixed = endpoints("grpc://h").and(Endpoint::parse("wss://h").unwrap(), no()).unwrap();
    assert!(mixed.and(Endpoint::parse("ws://h").unwrap(), no()).is_err());
}

/// What an attempt meets.
#[derive(Clone, Copy, Debug)]
enum Meets {
    /// TCP, and nothing behind it.
    Silence,
    /// A login, and then nothing.
    BlackHole,
    Well,
}

/// A name with addresses, of which each attempt takes the first that it is to.
#[derive(Debug)]
struct Addresses {
    list: Vec<(SocketAddr, Meets)>,
    tried: Mutex<Vec<(usize, Instant)>>,
}

impl Addresses {
    fn of(meets: &[Meets]) -> Arc<Self> {
        let list = meets.iter().enumerate().map(|(n, meets)| (SocketAddr::from(([10, 0, 0, n as u8], 1)), *meets));
        Arc::new(Self { list: list.collect(), tried: Mutex::default() })
    }

    fn tried(&self) -> Vec<usize> {
        self.tried.lock().unwrap().iter().map(|(which, _)| *which).collect()
    }

    fn engine(self: &Arc<Self>) -> crate::Engine<crate::engine::Custom> {
        crate::Engine::with_connector(Endpoint::parse("grpc://h").unwrap(), self.clone())
    }
}

#[derive(Debug)]
struct Answers;

#[async_trait]
impl Transport for Answers {
    async fn call(&self, command: Command) -> Result<Reply> {
        Ok(match command {
            Command::Publish(_) => Reply::Published { id: "stored".parse().unwrap() },
            _ => Reply::Done,
        })
    }
    async fn close(&self) {}
}

#[async_trait]
impl Connector for Addresses {
    async fn connect(&self, _: &Endpoint, _: &AppKey) -> Result<Link> {
        notes::waits_for("the name and the port");
        let first = notes::in_order(self.list.iter().map(|(address, _)| *address).collect())[0];
        notes::led_to(first);
        notes::waits_for("the answer to the login");
        let which = self.list.iter().position(|(address, _)| *address == first).unwrap();
        self.tried.lock().unwrap().push((which, Instant::now()));
        let transport: Arc<dyn Transport> = match self.list[which].1 {
            Meets::Silence => std::future::pending().await,
            Meets::BlackHole => Arc::new(Dead),
            Meets::Well => Arc::new(Answers),
        };
        let (client_id, config) = (ClientId::parse("c").unwrap(), ServerConfig::default());
        let inbox = futures::stream::pending().boxed();
        Ok(Link { transport, inbox, welcome: Welcome { client_id, app_id: None, config } })
    }
}

fn somebody() -> ensync_core::AppId {
    ensync_core::SecretKey::generate().unwrap().app_id().unwrap()
}

/// As many publishes as there may be under way wait for it, and none of them ends.
#[tokio::test(start_paused = true)]
async fn a_dead_link_and_then_a_silent_connection_leave_time_within_the_default_deadline() {
    for seed in 0..50 {
        let addresses = Addresses::of(&[Meets::BlackHole, Meets::Silence, Meets::Well]);
        let client = addresses.engine().jitter_seed(seed).create_client("key").await.unwrap();
        let since = Instant::now();
        client
            .publish("a/b", &1)
            .to(somebody())
            .idempotency_key("k")
            .timeout(Duration::from_secs(60))
            .await
            .unwrap_err();
        client.publish("a/b", &1).to(somebody()).await.unwrap();
        assert!(since.elapsed() <= Duration::from_secs(26), "seed {seed}: {:?}", since.elapsed());
        assert_eq!(addresses.tried(), [0, 1, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hears_nothing_is_given_up_and_says_so() {
    let addresses = Addresses::of(&[Meets::Silence]);
    let since = Instant::now();
    let error = addresses.engine().create_client("key").await.unwrap_err();
    assert_eq!((error.kind(), since.elapsed()), (ErrorKind::Connect, LIMIT / 2));
    let text = error.to_string();
    assert!(text.contains("nothing was heard for 10s; it waited for the answer to the login"), "{text}");
}

/// The node behind the address that resolves first hangs: it accepts, and answers nothing.
#[tokio::test(start_paused = true)]
async fn each_address_of_a_name_gets_its_turn() {
    for first in [Meets::Silence, Meets::BlackHole] {
        let addresses = Addresses::of(&[first, Meets::Silence, Meets::Well]);
        let client = addresses.engine().retry_first_connect(true).create_client("key").await.unwrap();
        let since = Instant::now();
        while addresses.tried().last() != Some(&2) {
            // Something must be asked of a link to find that it is dead.
            let _asked = client.replay("a/b", "e").await;
            assert!(since.elapsed() < Duration::from_secs(120), "{first:?}: {:?}", addresses.tried());
        }
        client.publish("a/b", &1).to(somebody()).await.unwrap();
        assert_eq!(addresses.tried(), [0, 1, 2], "{first:?}");
    }
}
