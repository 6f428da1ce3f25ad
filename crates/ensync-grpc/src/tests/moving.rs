//! Links whose connection is ended in good order go on over the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ensync_client::Dialer;
use ensync_core::{AppKey, Command, Connector, Endpoint, ErrorKind, EventId, Link, Reply};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tower_service::Service as _;

use super::fake::*;
use crate::{Connection, GrpcConnector, GrpcServer};

/// A bound against hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// A proxy as seen from a client: an address, and connections that end after some requests.
struct Front {
    endpoint: Endpoint,
    connections: Arc<AtomicUsize>,
    /// Says goodbye on every connection.
    goodbye: Arc<Notify>,
    /// Cuts every connection that has said goodbye, with what is under way on it.
    cut: Arc<Notify>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Front {
    async fn of(server: GrpcServer, requests: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("grpc://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (connections, goodbye) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let cut = Arc::new(Notify::new());
        let (count, say, end) = (connections.clone(), goodbye.clone(), cut.clone());
        let accepting = tokio::spawn(async move {
            loop {
                let (tcp, remote) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let (server, say, end) = (server.clone(), say.clone(), end.clone());
                tokio::spawn(serve_tcp(tcp, Connection::new(Some(remote)), server, requests, say, end));
            }
        });
        Self { endpoint, connections, goodbye, cut, accepting }
    }

    async fn link(&self) -> Link {
        let app_key = AppKey::parse("good").unwrap();
        GrpcConnector::new(Dialer::default()).connect(&self.endpoint, &app_key).await.unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve_tcp(
    tcp: TcpStream,
    connection: Connection,
    server: GrpcServer,
    requests: usize,
    say: Arc<Notify>,
    cut: Arc<Notify>,
) {
    tcp.set_nodelay(true).unwrap();
    let (seen, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let reached = enough.clone();
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        if seen.fetch_add(1, Ordering::Relaxed) + 1 == requests {
            reached.notify_one();
        }
        request.extensions_mut().insert(connection.clone());
        let mut server = server.clone();
        async move { server.call(request).await }
    });
    let serving =
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tcp), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        () = enough.notified() => {}
        () = say.notified() => {}
    }
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        _ = serving => {}
        () = cut.notified() => {}
    }
}

#[tokio::test]
async fn a_proxy_that_says_goodbye_every_fifty_requests_costs_nothing_visible() {
    let mut engine = Engine::start();
    let front = Front::of(engine.server.clone(), 50).await;
    let mut link = front.link().await;
    let mut under_way = FuturesUnordered::new();
    for n in 0..1_000 {
        if n >= 64 {
            let answer: ensync_core::Result<Reply> = timeout(PATIENCE, under_way.next()).await.unwrap().unwrap();
            assert_eq!(answer.unwrap(), Reply::Published { id: EventId::parse("i-1").unwrap() });
        }
        under_way.push(link.transport.call(publish("a")));
    }
    while let Some(answer) = timeout(PATIENCE, under_way.next()).await.unwrap() {
        answer.unwrap();
    }
    assert!(front.connections() >= 5, "{} connections", front.connections());
    let (mut logins, mut publishes) = (0, 0);
    while let Some(told) = engine.told_by_now() {
        match told {
            Told::Login(_) => logins += 1,
            Told::Command(Command::Publish(_)) => publishes += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((logins, publishes), (1, 1_000), "each once, in one session");
    assert!(link.inbox.next().now_or_never().is_none());
}

#[tokio::test]
async fn streams_stay_while_calls_move() {
    let mut engine = Engine::start();
    let front = Front::of(engine.server.clone(), usize::MAX).await;
    let mut link = front.link().await;
    link.transport.call(subscribe("a")).await.unwrap();
    front.goodbye.notify_waiters();
    let slow = link.transport.call(publish("held"));
    while front.connections() < 2 {
        link.transport.call(publish("b")).await.unwrap();
    }
    engine.fake.push(1, delivery("a", 1));
    assert_eq!(timeout(PATIENCE, link.inbox.next()).await.unwrap().unwrap().unwrap(), delivery("a", 1));
    engine.fake.go.notify_one();
    timeout(PATIENCE, slow).await.unwrap().unwrap();
    // A subscription over the new connection, and an end of the one over the old.
    link.transport.call(subscribe("b")).await.unwrap();
    link.transport.call(Command::Unsubscribe { event: name("a") }).await.unwrap();
    engine.fake.push(1, delivery("b", 2));
    assert_eq!(timeout(PATIENCE, link.inbox.next()).await.unwrap().unwrap().unwrap(), delivery("b", 2));
    timeout(PATIENCE, link.transport.close()).await.unwrap();
    while engine.told().await != Told::Logout {}
}

/// What a proxy does whose old process is ended after a reload.
#[tokio::test]
async fn streams_that_end_with_the_old_connection_are_told_and_can_be_asked_for_over_the_next() {
    let mut engine = Engine::start();
    let front = Front::of(engine.server.clone(), usize::MAX).await;
    let mut link = front.link().await;
    for event in ["a", "b"] {
        link.transport.call(subscribe(event)).await.unwrap();
    }
    front.goodbye.notify_waiters();
    while front.connections() < 2 {
        link.transport.call(publish("c")).await.unwrap();
    }
    while engine.told_by_now().is_some() {}
    front.cut.notify_waiters();
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let (event, error) = timeout(PATIENCE, link.transport.ended_subscription()).await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        ended.push(event);
    }
    ended.sort();
    assert_eq!(ended, [name("a"), name("b")]);
    // The engine takes back what they had brought.
    let mut released = 0;
    while released < 2 {
        released += usize::from(matches!(engine.command().await, Command::Release { .. }));
    }
    for event in ["a", "b"] {
        link.transport.call(subscribe(event)).await.unwrap();
    }
    for (event, block) in [("a", 1), ("b", 2)] {
        engine.fake.push(1, delivery(event, block));
        let came = timeout(PATIENCE, link.inbox.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(came, delivery(event, block));
    }
}

#[tokio::test]
async fn where_no_other_connection_can_be_made_the_link_ends_after_its_last_answers() {
    let mut engine = Engine::start();
    let front = Front::of(engine.server.clone(), usize::MAX).await;
    let mut link = front.link().await;
    let transport = link.transport.clone();
    let held = tokio::spawn(async move { transport.call(publish("held")).await });
    while !matches!(engine.told().await, Told::Command(_)) {}
    front.accepting.abort();
    _ = front.accepting.await;
    front.goodbye.notify_waiters();
    while link.transport.call(Command::Heartbeat).await.is_ok() {}
    let error = link.transport.call(publish("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    engine.fake.go.notify_one();
    assert_eq!(held.await.unwrap().unwrap(), Reply::Published { id: EventId::parse("i-held").unwrap() });
    let error = timeout(PATIENCE, link.inbox.next()).await.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("said goodbye"), "{error}");
    let cause = std::error::Error::source(&error).unwrap().downcast_ref::<ensync_core::Error>().unwrap();
    assert_eq!(cause.kind(), ErrorKind::Connect);
}

#[tokio::test]
async fn a_call_that_hangs_after_a_goodbye_holds_up_nobody() {
    let engine = Engine::start();
    let front = Front::of(engine.server.clone(), usize::MAX).await;
    let link = front.link().await;
    let transport = link.transport.clone();
    let hanging = tokio::spawn(async move { transport.call(publish("slow")).await });
    link.transport.call(Command::Heartbeat).await.unwrap();
    front.goodbye.notify_waiters();
    while front.connections() < 2 {
        timeout(PATIENCE, link.transport.call(publish("a"))).await.unwrap().unwrap();
    }
    assert!(!hanging.is_finished());
    link.transport.abort(ensync_core::Error::new(ErrorKind::Timeout, "enough"));
    assert_eq!(hanging.await.unwrap().unwrap_err().kind(), ErrorKind::Interrupted);
}

/// A GOAWAY frame: RFC 9113 section 6.8.
fn goaway(last: u32, code: u32) -> Vec<u8> {
    [&[0, 0, 8, 7, 0, 0, 0, 0, 0][..], &last.to_be_bytes(), &code.to_be_bytes()].concat()
}

/// Connections to an engine, of which the first is swallowed once it has logged in: what goes to the engine from then on does not
/// arrive, and when something came, `answer` is said in the engine's place.
async fn swallowing(engine: &Engine, answer: Vec<u8>) -> (Link, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint: Endpoint = format!("grpc://{}", listener.local_addr().unwrap()).parse().unwrap();
    let swallows = Arc::new(Notify::new());
    let begins = swallows.clone();
    let count = Arc::new(AtomicUsize::new(0));
    let (server, connections) = (engine.server.clone(), count.clone());
    tokio::spawn(async move {
        loop {
            let (mut tcp, remote) = listener.accept().await.unwrap();
            let first = connections.fetch_add(1, Ordering::Relaxed) == 0;
            let (mut near, far) = tokio::io::duplex(64 * 1024);
            let server = server.clone();
            let connection = Connection::new(Some(remote));
            let logged_in = Arc::new(Notify::new());
            let known = logged_in.clone();
            let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(connection.clone());
                known.notify_one();
                let mut server = server.clone();
                async move { server.call(request).await }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(far), service),
            );
            let (answer, begins) = (answer.clone(), begins.clone());
            tokio::spawn(async move {
                if !first {
                    _ = tokio::io::copy_bidirectional(&mut tcp, &mut near).await;
                    return;
                }
                let (mut asked, mut answered) = tcp.split();
                let (mut from_engine, mut to_engine) = tokio::io::split(near);
                // Until it logged in, and the answer to that is out.
                tokio::select! {
                    _ = tokio::io::copy(&mut asked, &mut to_engine) => return,
                    _ = tokio::io::copy(&mut from_engine, &mut answered) => return,
                    () = async { logged_in.notified().await; tokio::time::sleep(Duration::from_millis(100)).await } => {}
                }
                let mut more = [0; 64 * 1024];
                begins.notify_one();
                // A request, and not the acknowledgement of something.
                while asked.read(&mut more).await.is_ok_and(|read| (1..60).contains(&read)) {}
                answered.write_all(&answer).await.unwrap();
                while let Ok(1..) = asked.read(&mut more).await {}
            });
        }
    });
    let app_key = AppKey::parse("good").unwrap();
    let link = GrpcConnector::new(Dialer::default()).connect(&endpoint, &app_key).await.unwrap();
    swallows.notified().await;
    (link, count)
}

#[tokio::test]
async fn what_the_old_connection_did_not_process_goes_over_the_next() {
    let mut engine = Engine::start();
    let (link, connections) = swallowing(&engine, goaway(1, 0)).await;
    let answer = timeout(PATIENCE, link.transport.call(publish("a"))).await.unwrap();
    assert_eq!(answer.unwrap(), Reply::Published { id: EventId::parse("i-1").unwrap() });
    assert_eq!(connections.load(Ordering::Relaxed), 2);
    assert!(matches!(engine.told().await, Told::Login(_)));
    assert_eq!(engine.command().await, publish("a"));
    assert!(engine.is_quiet());
}

#[tokio::test]
async fn what_it_may_have_processed_does_not() {
    // Of an error, or of a request that it took.
    for answer in [goaway(3, 2), [goaway(3, 0), goaway(3, 2)].concat()] {
        let mut engine = Engine::start();
        let (link, _) = swallowing(&engine, answer).await;
        let mut call = std::pin::pin!(link.transport.call(publish("a")));
        let answer = timeout(Duration::from_secs(1), call.as_mut()).await;
        if let Ok(answer) = answer {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Interrupted);
        }
        assert!(matches!(engine.told().await, Told::Login(_)));
        while let Some(told) = engine.told_by_now() {
            assert_ne!(told, Told::Command(publish("a")));
        }
    }
}

/// HAProxy resets with REFUSED_STREAM whatever it has not begun to answer, so also what it had passed on to an engine that then went.
#[tokio::test]
async fn what_a_proxy_gives_back_may_have_happened() {
    for leaving in [false, true] {
        let mut engine = Engine::start();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint: Endpoint = format!("grpc://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (server, goodbye) = (engine.server.clone(), Arc::new(Notify::new()));
        let say = goodbye.clone();
        let proxy = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (server, goodbye) = (server.clone(), say.clone());
                tokio::spawn(async move {
                    let says = goodbye.clone();
                    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let (mut server, says) = (server.clone(), says.clone());
                        async move {
                            let gives_back = request.uri().path().ends_with("/PublishMessage");
                            let Ok(answer) = server.call(request).await;
                            match gives_back {
                                true => {
                                    if leaving {
                                        says.notify_one();
                                        // The goodbye is on its way before the reset.
                                        tokio::time::sleep(Duration::from_millis(50)).await;
                                    }
                                    Err(h2::Error::from(h2::Reason::REFUSED_STREAM))
                                }
                                false => Ok(answer),
                            }
                        }
                    });
                    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(tcp), service);
                    let mut serving = std::pin::pin!(serving);
                    tokio::select! {
                        _ = serving.as_mut() => return,
                        () = goodbye.notified() => serving.as_mut().graceful_shutdown(),
                    }
                    _ = serving.await;
                });
            }
        });
        let link =
            GrpcConnector::new(Dialer::default()).connect(&endpoint, &AppKey::parse("good").unwrap()).await.unwrap();
        let error = timeout(PATIENCE, link.transport.call(publish("a"))).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.may_have_happened()), (ErrorKind::Unavailable, true), "{leaving}: {error}");
        let mut seen = 0;
        while let Some(told) = engine.told_by_now() {
            seen += usize::from(matches!(told, Told::Command(Command::Publish(_))));
        }
        assert_eq!(seen, 1, "it is the caller's to say whether it is asked for again");
        proxy.abort();
    }
}
