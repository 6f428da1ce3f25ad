//! Clients that take their time, and clients that ask for too much. Time is paused: nothing here waits.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::connection_limiter::ConnectionLimiter;
use super::http::Front;
use super::*;
use crate::MemoryLog;
use crate::counters::ConnectionCounters;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const UPGRADE: &[u8] = b"GET /message HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// RFC 9113 section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block without compression: RFC 7541 section 6.2.2, for names and values shorter than 127 bytes.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn call_head() -> Vec<u8> {
    block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "h"),
        (":path", "/ensync.EnSyncService/Connect"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ])
}

/// Everything that opens an HTTP/2 connection on the client's side.
fn hello() -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[])].concat()
}

struct Bench {
    front: Front,
    limiter: Arc<ConnectionLimiter>,
    stop: CancellationToken,
}

impl Bench {
    async fn start() -> Self {
        let broker = Broker::start(BrokerOptions::dev(), MemoryLog::new()).await.unwrap();
        let counters = Arc::<ConnectionCounters>::default();
        let limits = ConnectionLimits::default();
        let limiter = Arc::new(ConnectionLimiter::new(&limits, counters.clone()));
        let front = Front::new(Arc::new(broker), Default::default(), Default::default(), limits, counters);
        Self { front, limiter, stop: CancellationToken::new() }
    }

    fn open(&self) -> (DuplexStream, JoinHandle<()>) {
        let (stream, (_, serving)) = self.open_until(self.stop.clone());
        (stream, serving)
    }

    fn open_until(&self, stop: CancellationToken) -> (DuplexStream, (CancellationToken, JoinHandle<()>)) {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let remote = SocketAddr::from(([192, 0, 2, 1], 1));
        let permit = Arc::new(self.limiter.admit(remote).unwrap());
        let stream = stream::Admitted::new(theirs, permit.clone());
        let serving = tokio::spawn(self.front.clone().serve(stream, remote, permit, stop.clone()));
        (ours, (stop, serving))
    }
}

/// How long until the engine ends a connection on which `sent` came at once and `dribble` again and again, in seconds.
async fn ends_after(bench: &Bench, sent: &[u8], dribble: &[u8]) -> u64 {
    let since = Instant::now();
    let (stream, _serving) = bench.open();
    let (mut reads, mut writes) = tokio::io::split(stream);
    writes.write_all(sent).await.unwrap();
    let dribble = dribble.to_vec();
    let dribbling = tokio::spawn(async move {
        for byte in dribble.iter().cycle() {
            sleep(Duration::from_secs(1)).await;
            if writes.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
        // Nothing more, but open.
        std::future::pending::<()>().await;
    });
    let mut rest = vec![0; 4096];
    while matches!(reads.read(&mut rest).await, Ok(1..)) {}
    dribbling.abort();
    since.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn who_stalls_before_the_login_is_ended_at_every_stage() {
    let bench = Bench::start().await;
    let head = frame(1, 0x4, 1, &call_head());
    // A message of 1,000 bytes, of which the first five come.
    let begin = frame(0, 0, 1, &[0, 0, 0, 3, 0xe8]);
    for (what, sent, dribble, at_most) in [
        ("nothing", vec![], vec![], 30),
        ("half an HTTP/2 preface", PREFACE[..10].to_vec(), vec![], 30),
        ("a preface byte by byte", vec![], b"PRI * HTTP/2.0\r\n\r\n".to_vec(), 30),
        ("a preface and no settings", PREFACE.to_vec(), vec![], 32),
        ("half an HTTP/1 head", b"GET / HTTP/1.1\r\nhost: h\r\n".to_vec(), vec![], 10),
        ("an HTTP/1 head byte by byte", b"GET / HTTP/1.1\r\n".to_vec(), b"x-a: bbbbbbb\r\n".to_vec(), 10),
        (
            "an HTTP/1 body that never comes",
            b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n".to_vec(),
            vec![],
            32,
        ),
        ("one good request and then nothing", b"GET / HTTP/1.1\r\nhost: h\r\n\r\n".to_vec(), vec![], 30),
        ("no call", hello(), vec![], 32),
        ("pings", hello(), frame(6, 0, 0, &[0; 8]), 32),
        ("half a frame", [hello(), head[..20].to_vec()].concat(), vec![], 32),
        ("headers that go on", [hello(), frame(1, 0, 1, &call_head())].concat(), frame(9, 0, 1, &[]), 32),
        ("a call without its message", [hello(), head.clone()].concat(), vec![], 32),
        ("a message byte by byte", [hello(), head.clone(), begin.clone()].concat(), frame(0, 0, 1, b"x"), 32),
        ("a WebSocket without login", UPGRADE.to_vec(), vec![], 12),
        ("a login byte by byte", UPGRADE.to_vec(), [&[0x81, 0xfe, 1, 0, 0, 0, 0, 0][..], b"CONN"].concat(), 12),
    ] {
        let seconds = ends_after(&bench, &sent, &dribble).await;
        assert!(seconds <= at_most, "{what}: {seconds} s");
        // The engine waits a moment for the client's own end.
        sleep(Duration::from_secs(3)).await;
        assert_eq!(bench.limiter.counters().open.value(), 0, "{what}");
    }
    assert!(bench.limiter.counters().timed_out.value() >= 8);
}

#[tokio::test(start_paused = true)]
async fn floods_end_their_connection() {
    let bench = Bench::start().await;
    let head = call_head();
    let reset = |stream: u32| [frame(1, 0x4, stream, &head), frame(3, 0, stream, &[0, 0, 0, 8])].concat();
    let resets: Vec<u8> = (0..5_000).flat_map(|n| reset(2 * n + 1)).collect();
    let continuations =
        [frame(1, 0, 1, &head), (0..5_000).flat_map(|_| frame(9, 0, 1, &block(&[("x", "y")]))).collect()].concat();
    let long = block(&[("x", "y".repeat(100).as_str()); 100]);
    let long_head = frame(1, 0x4, 1, &[&head[..], &long].concat());
    let window_updates: Vec<u8> =
        (0..5_000).flat_map(|n| [frame(1, 0x4, 2 * n + 1, &head), frame(8, 0, 2 * n + 1, &[0; 4])].concat()).collect();
    for (what, flood) in [
        ("streams that are reset", resets),
        ("continuations", continuations),
        ("updates of nothing, each of which makes us reset a stream", window_updates),
    ] {
        let (stream, _serving) = bench.open();
        let (mut reads, mut writes) = tokio::io::split(stream);
        let since = Instant::now();
        let writing = tokio::spawn(async move { writes.write_all(&[hello(), flood].concat()).await });
        let mut heard = Vec::new();
        _ = reads.read_to_end(&mut heard).await;
        writing.abort();
        assert!(since.elapsed() < Duration::from_secs(1), "{what}: it was the flood that ended it");
        // GOAWAY, RFC 9113 section 6.8.
        assert!(heard.windows(5).any(|part| part[0] == 0 && part[3] == 7), "{what}: {heard:?}");
    }
    // A head that is too long is refused alone: 431, or the stream is reset.
    let (mut stream, _serving) = bench.open();
    stream.write_all(&[hello(), long_head, frame(6, 0, 0, b"12345678")].concat()).await.unwrap();
    let mut heard = Vec::new();
    while !heard.windows(8).any(|part| part == b"12345678") {
        heard.push(stream.read_u8().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_web_socket_opens_at_message_and_at_the_root_and_nowhere_else() {
    let bench = Bench::start().await;
    let hello = String::from_utf8_lossy(UPGRADE).into_owned();
    for (path, status) in [
        ("/message", "101"),
        ("/message/", "101"),
        ("/behind/a/proxy/message", "101"),
        ("/", "101"),
        ("/?a=b", "101"),
        ("/other", "404"),
        ("/messages", "404"),
    ] {
        let (mut stream, _serving) = bench.open();
        stream.write_all(hello.replacen("/message", path, 1).as_bytes()).await.unwrap();
        let mut heard = [0; 12];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), format!("HTTP/1.1 {status}"), "{path}");
    }
    // Whoever looks with a browser is told what this is, at `/` too.
    let (mut stream, _serving) = bench.open();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    assert!(heard.starts_with("HTTP/1.1 404 ") && heard.contains("WebSocket at /message and at /"), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_told_why() {
    let bench = Bench::start().await;
    for refusal in [connection_limiter::Refusal::Full, connection_limiter::Refusal::Address] {
        let (mut ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(bench.front.clone().refuse(theirs, refusal));
        ours.write_all(UPGRADE).await.unwrap();
        let mut heard = vec![0; 1024];
        let read = ours.read(&mut heard).await.unwrap();
        let heard = String::from_utf8_lossy(&heard[..read]).into_owned();
        assert!(heard.starts_with("HTTP/1.1 503 ") && heard.contains(refusal.text()), "{heard}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_who_stalls_and_does_for_a_call() {
    let bench = Bench::start().await;
    for (what, sent, held) in [
        ("half a method", b"GE".to_vec(), false),
        ("half a head", b"GET / HTTP/1.1\r\nhost: h\r\n".to_vec(), false),
        ("half an HTTP/2 preface", PREFACE[..10].to_vec(), false),
        ("a preface and no settings", PREFACE.to_vec(), false),
        ("no call", hello(), false),
        ("half a frame", [hello(), frame(1, 0x4, 1, &call_head())[..20].to_vec()].concat(), false),
        ("a call under way", [hello(), frame(1, 0x4, 1, &call_head())].concat(), true),
    ] {
        let (mut stream, serving) = bench.open_until(CancellationToken::new());
        let (stop, serving) = serving;
        stream.write_all(&sent).await.unwrap();
        sleep(Duration::from_millis(10)).await;
        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(2), serving).await;
        assert_eq!(ended.is_err(), held, "{what}");
    }
}
