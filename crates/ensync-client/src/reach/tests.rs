use std::sync::atomic::AtomicU32;

use ensync_core::{ClientId, Command, Reply, ServerConfig, Transport, Welcome};
use futures::StreamExt;

use super::*;

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

fn reach(connectors: &[&Arc<Told>]) -> Reach {
    let mut urls = ["grpcs://h", "wss://h", "wss://h/other"].iter().map(|url| Endpoint::parse(url).unwrap());
    let mut connectors = connectors.iter().map(|connector| Arc::<Told>::clone(connector));
    let mut ways = Ways::new(urls.next().unwrap(), connectors.next().unwrap());
    for connector in connectors {
        ways = ways.and(urls.next().unwrap(), connector).unwrap();
    }
    Reach::new(ways, LIMIT)
}

async fn connect(reach: &Reach) -> Result<String> {
    let first = reach.ways.first().clone();
    reach.connect(&first, &AppKey::parse("key").unwrap()).await?;
    Ok(reach.endpoint().to_string())
}

const FIRST: &str = "grpcs://h:443";
const SECOND: &str = "wss://h:443/message";

#[tokio::test(start_paused = true)]
async fn the_winner_is_remembered_for_a_while() {
    let (first, second) = (Told::to(Some(ErrorKind::Connect)), Told::to(None));
    let reach = reach(&[&first, &second]);
    assert_eq!(reach.endpoint().to_string(), FIRST);
    assert_eq!(connect(&reach).await.unwrap(), SECOND);
    *first.outcome.lock().unwrap() = None;
    for _ in 0..3 {
        tokio::time::advance(REMEMBERED / 4).await;
        assert_eq!(connect(&reach).await.unwrap(), SECOND);
    }
    assert_eq!((first.asked(), second.asked()), (1, 4));
    // The first gets its chance, and is the winner from then on.
    tokio::time::advance(REMEMBERED / 4).await;
    assert_eq!(connect(&reach).await.unwrap(), FIRST);
    assert_eq!(connect(&reach).await.unwrap(), FIRST);
    assert_eq!((first.asked(), second.asked()), (2, 0));
    // Another client of the same engine knows.
    let (first, second) = (Told::to(Some(ErrorKind::Connect)), Told::to(None));
    let known = super::tests::reach(&[&first, &second]);
    connect(&known).await.unwrap();
    let other = Reach::new(known.ways.clone(), LIMIT);
    assert_eq!(connect(&other).await.unwrap(), SECOND);
    assert_eq!(first.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_winner_that_fails_is_not_the_last_word() {
    let (first, second) = (Told::to(Some(ErrorKind::Connect)), Told::to(None));
    let reach = reach(&[&first, &second]);
    connect(&reach).await.unwrap();
    *first.outcome.lock().unwrap() = None;
    *second.outcome.lock().unwrap() = Some(ErrorKind::Interrupted);
    assert_eq!(connect(&reach).await.unwrap(), FIRST);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_answer_leaves_the_others_their_share() {
    let (silent, well) = (Told::to_be_silent(), Told::to(None));
    let since = Instant::now();
    assert_eq!(connect(&reach(&[&silent, &well])).await.unwrap(), SECOND);
    assert_eq!(since.elapsed(), LIMIT.mul_f64(0.95) / 2);
    // And all of it ends before the caller's deadline, with each one's cause.
    let reach = reach(&[&silent, &silent, &silent]);
    let error = tokio::time::timeout(LIMIT, connect(&reach)).await.unwrap().unwrap_err();
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
        let outcome = connect(&reach(&[&first, &second])).await;
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
    let ways = |url: &str| Ways::new(Endpoint::parse(url).unwrap(), no());
    for (first, then, allowed) in [
        ("grpcs://h", "wss://h", true),
        ("grpcs://h", "ws://h", false),
        ("grpcs://h", "ws://localhost", true),
        ("grpcs://localhost", "ws://h", false),
        ("grpc://h", "ws://h", true),
        ("grpc://h", "wss://h", true),
        ("grpcs://h", "grpcs://h:443", false),
    ] {
        let outcome = ways(first).and(Endpoint::parse(then).unwrap(), no());
        assert_eq!(outcome.is_ok(), allowed, "{first} {then}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::InvalidUrl);
        }
    }
    let mixed = ways("grpc://h").and(Endpoint::parse("wss://h").unwrap(), no()).unwrap();
    assert!(mixed.and(Endpoint::parse("ws://h").unwrap(), no()).is_err());
}
