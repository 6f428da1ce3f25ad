//! One hostile connection after the other: how it begins, what it sends, how it ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ensync_core::AppKey;
use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::mutate::{deep_json, header_block, http2_frame, mutate, random, web_socket_frame};
use crate::raw::grpc::Grpc;
use crate::raw::proto::Message;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const UPGRADE: &[u8] = b"GET /message HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// How long an attacker waits for an answer. Most attackers do not deserve one.
const PATIENCE: Duration = Duration::from_millis(30);

/// What the attackers know.
pub struct Target {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    /// An app of their own.
    pub app_key: AppKey,
    pub app_id: String,
}

/// How a connection went: for the table.
pub type Kind = &'static str;

/// The attacks, by name.
pub const KINDS: [Kind; 11] = [
    "random bytes",
    "HTTP/1, mutated",
    "HTTP/2 frames",
    "HTTP/2 calls, mutated",
    "HTTP/2 floods",
    "WebSocket, not logged in",
    "WebSocket, logged in",
    "gRPC, not logged in",
    "gRPC, logged in",
    "TLS garbage",
    "stalls",
];

/// Attacks once. Whatever the engine answers, or does not, is fine.
pub async fn attack(target: Arc<Target>, kind: Kind, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let rng = &mut rng;
    match kind {
        "random bytes" => {
            let bytes = random(rng, 4_096);
            throw(rng, target.plain, &bytes).await;
        }
        "HTTP/1, mutated" => {
            let bytes = http1(rng);
            throw(rng, target.plain, &bytes).await;
        }
        "HTTP/2 frames" => {
            let bytes = http2_noise(rng);
            throw(rng, target.plain, &bytes).await;
        }
        "HTTP/2 calls, mutated" => {
            let bytes = http2_call(rng);
            let bytes = if rng.bool() { mutate(rng, &bytes) } else { bytes };
            throw(rng, target.plain, &[PREFACE, &http2_frame(4, 0, 0, &[]), &bytes].concat()).await;
        }
        "HTTP/2 floods" => {
            let bytes = http2_flood(rng);
            throw(rng, target.plain, &bytes).await;
        }
        "WebSocket, not logged in" => web_socket(rng, &target, false).await,
        "WebSocket, logged in" => web_socket(rng, &target, true).await,
        "gRPC, not logged in" => grpc(rng, &target, false).await,
        "gRPC, logged in" => grpc(rng, &target, true).await,
        "TLS garbage" => {
            let bytes = tls(rng);
            throw(rng, target.tls, &bytes).await;
        }
        _ => stall(rng, &target).await,
    }
}

/// A connection from one of many addresses: insiders have theirs, so that the failed logins of strangers do not hold them up.
async fn open(rng: &mut Rng, to: SocketAddr, insider: bool) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    let from = Ipv4Addr::new(127, 0, if insider { 2 } else { 1 }, rng.u8(1..250));
    socket.bind((from, 0).into()).ok()?;
    let tcp = timeout(Duration::from_secs(5), socket.connect(to)).await.ok()?.ok()?;
    _ = tcp.set_nodelay(true);
    Some(tcp)
}

/// Sends bytes, perhaps in parts, perhaps not all of them, and leaves in one of three ways.
async fn throw(rng: &mut Rng, to: SocketAddr, bytes: &[u8]) {
    let Some(mut tcp) = open(rng, to, false).await else { return };
    let end = if rng.u8(0..4) == 0 { rng.usize(0..=bytes.len()) } else { bytes.len() };
    let part = if rng.bool() { end.max(1) } else { rng.usize(1..64) + end / 16 };
    for part in bytes[..end].chunks(part) {
        if !matches!(timeout(PATIENCE, tcp.write_all(part)).await, Ok(Ok(()))) {
            break;
        }
    }
    leave(rng, tcp).await;
}

async fn leave(rng: &mut Rng, mut tcp: TcpStream) {
    match rng.u8(0..4) {
        // Without a word, while the engine may be writing.
        0 => {}
        1 => _ = tcp.set_zero_linger(),
        how => {
            if how == 2 {
                _ = tcp.shutdown().await;
            }
            let mut answer = vec![0; 4_096];
            while let Ok(Ok(1..)) = timeout(PATIENCE, tcp.read(&mut answer)).await {}
        }
    }
}

fn http1(rng: &mut Rng) -> Vec<u8> {
    let long = "a".repeat(rng.usize(1..40_000));
    let bases: [Vec<u8>; 6] = [
        UPGRADE.to_vec(),
        b"GET / HTTP/1.1\r\nhost: h\r\n\r\n".to_vec(),
        format!("POST /message HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\nx", rng.u64(..)).into_bytes(),
        b"POST /ensync.EnSyncService/Connect HTTP/1.1\r\nhost: h\r\ncontent-type: application/grpc\r\n\
          transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nx"
            .to_vec(),
        format!("GET /{long} HTTP/1.1\r\nhost: h\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(rng.usize(1..3_000))).into_bytes(),
    ];
    let base = &bases[rng.usize(0..bases.len())];
    let times = rng.usize(1..4);
    (0..times).flat_map(|_| mutate(rng, base)).collect()
}

fn http2_noise(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    if rng.u8(0..5) > 0 {
        bytes.extend(http2_frame(4, 0, 0, &[]));
    }
    for _ in 0..rng.usize(1..40) {
        let most = if rng.u8(0..10) == 0 { 20_000 } else { 64 };
        let payload = random(rng, most);
        let mut frame = http2_frame(rng.u8(0..12), rng.u8(..), rng.u32(0..20), &payload);
        if rng.u8(0..10) == 0 {
            frame[0..3].copy_from_slice(&[rng.u8(..), rng.u8(..), rng.u8(..)]);
        }
        bytes.extend(frame);
    }
    bytes
}

fn call_head(rng: &mut Rng) -> Vec<u8> {
    const METHODS: [&str; 8] = [
        "Connect",
        "Heartbeat",
        "PublishMessage",
        "Subscribe",
        "AcknowledgeMessage",
        "DeferMessage",
        "ReplayMessage",
        "Nothing",
    ];
    let path = format!("/ensync.EnSyncService/{}", METHODS[rng.usize(0..METHODS.len())]);
    header_block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "h"),
        (":path", &path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ])
}

fn http2_call(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in 0..rng.u32(1..20) {
        let stream = 2 * n + 1;
        let mut body = message(rng, "nobody", "nobody").framed();
        if rng.u8(0..3) == 0 {
            // A prefix that promises up to 4 GiB.
            body.splice(0..5, [0, rng.u8(..), rng.u8(..), rng.u8(..), rng.u8(..)]);
        }
        bytes.extend(http2_frame(1, 0x4, stream, &call_head(rng)));
        bytes.extend(http2_frame(0, rng.u8(0..2), stream, &body));
    }
    bytes
}

fn http2_flood(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = [PREFACE, &http2_frame(4, 0, 0, &[])].concat();
    let (kind, head) = (rng.u8(0..6), call_head(rng));
    if kind == 0 {
        bytes.extend(http2_frame(1, 0, 1, &head));
    }
    for n in 0..rng.u32(100..2_000) {
        let stream = 2 * n + 1;
        let more = match kind {
            0 => http2_frame(9, 0, 1, &header_block(&[("x", "y")])),
            1 => [http2_frame(1, 0x4, stream, &head), http2_frame(3, 0, stream, &[0, 0, 0, 8])].concat(),
            2 => [http2_frame(1, 0x4, stream, &head), http2_frame(0, 0, stream, &[0, 0, 0xff, 0xff, 0xff])].concat(),
            3 => http2_frame(4, 0, 0, &[]),
            4 => http2_frame(6, 0, 0, &[0; 8]),
            _ => [http2_frame(1, 0x4, stream, &head), http2_frame(8, 0, stream, &[0; 4])].concat(),
        };
        bytes.extend(more);
    }
    bytes
}

/// A message of some call: fields of several, well-formed or not.
fn message(rng: &mut Rng, client_id: &str, app_id: &str) -> Message {
    let metadata = match rng.u8(0..4) {
        0 => deep_json(rng),
        1 => String::from_utf8_lossy(&random(rng, 200)).into_owned(),
        _ => r#"{"headers":{"a":"b"},"persist":true}"#.to_owned(),
    };
    let about = match rng.u8(0..3) {
        0 => deep_json(rng),
        1 => format!(r#"{{"byte_size":{},"skeleton":{{"a":"string"}}}}"#, rng.i64(..)),
        _ => String::new(),
    };
    let id = format!("AQ{}", "x".repeat(rng.usize(0..300)));
    let message = match rng.u8(0..4) {
        0 => Message::new().text(1, client_id).text(2, "hostile/name").text(3, "e30=").text(4, app_id),
        1 => Message::new().text(1, client_id).text(2, &id).text(3, "hostile/name").number(4, rng.u64(..)),
        2 => Message::new().text(1, client_id).text(2, "hostile/name").number(100, rng.u64(..)),
        _ => Message::new().text(1, client_id).number(2, 1).text(3, &id),
    };
    let message = if rng.bool() { message.text(5, &metadata).text(6, &about) } else { message };
    if rng.bool() { Message(mutate(rng, &message.0)) } else { message }
}

const METHODS: [&str; 21] = [
    "Connect",
    "Heartbeat",
    "Disconnect",
    "PublishMessage",
    "PublishEvent",
    "Subscribe",
    "Unsubscribe",
    "AcknowledgeMessage",
    "AcknowledgeEvent",
    "DeferMessage",
    "DeferEvent",
    "DiscardMessage",
    "DiscardEvent",
    "ExtendLease",
    "ReleaseMessage",
    "ReplayMessage",
    "PauseMessages",
    "PauseEvents",
    "ContinueMessages",
    "ContinueEvents",
    "NoSuchMethod",
];

async fn grpc(rng: &mut Rng, target: &Target, insider: bool) {
    let Some(tcp) = open(rng, target.plain, insider).await else { return };
    let Ok(mut client) = Grpc::over(tcp).await else { return };
    let mut client_id = "nobody".to_owned();
    if insider {
        let login = Message::new().text(1, target.app_key.expose());
        if let Ok(Ok(answer)) = timeout(Duration::from_secs(5), client.call("Connect", &login)).await {
            client_id = answer.fields.text(2).to_owned();
        }
    }
    for _ in 0..rng.usize(1..12) {
        let method = METHODS[rng.usize(0..METHODS.len())];
        let mut body = message(rng, &client_id, &target.app_id).framed();
        match rng.u8(0..8) {
            0 => body = mutate(rng, &body),
            1 => body.extend(random(rng, 100)),
            2 => body.splice(0..5, [rng.u8(0..3), rng.u8(..), rng.u8(..), 0, 0]).for_each(drop),
            _ => {}
        }
        _ = timeout(PATIENCE, client.send(method, body)).await;
    }
}

async fn web_socket(rng: &mut Rng, target: &Target, insider: bool) {
    let Some(mut tcp) = open(rng, target.plain, insider).await else { return };
    if tcp.write_all(UPGRADE).await.is_err() {
        return;
    }
    let mut client_id = "nobody".to_owned();
    let mut answer = vec![0; 4_096];
    _ = timeout(Duration::from_secs(5), tcp.read(&mut answer)).await;
    if insider {
        let login = format!("CONN;ACCESS_KEY=:{}", target.app_key.expose());
        let frame = [&[0x81, 0x80 | login.len() as u8, 0, 0, 0, 0], login.as_bytes()].concat();
        _ = tcp.write_all(&frame).await;
        if let Ok(Ok(read)) = timeout(Duration::from_secs(5), tcp.read(&mut answer)).await {
            let text = String::from_utf8_lossy(&answer[..read]).into_owned();
            let id = text.split("clientId=").nth(1).and_then(|rest| rest.split([',', '}']).next());
            client_id = id.unwrap_or("nobody").to_owned();
        }
    }
    for _ in 0..rng.usize(1..30) {
        let text = command(rng, &client_id, &target.app_id);
        let text = if rng.u8(0..3) == 0 { text.into_bytes() } else { mutate(rng, text.as_bytes()) };
        let frame = web_socket_frame(rng, &text);
        if !matches!(timeout(PATIENCE, tcp.write_all(&frame)).await, Ok(Ok(()))) {
            break;
        }
    }
    leave(rng, tcp).await;
}

/// A frame of text that could be good.
fn command(rng: &mut Rng, client_id: &str, app_id: &str) -> String {
    let id = format!("CLIENT_ID=:{client_id}");
    match rng.u8(0..14) {
        0 => format!("CONN;ACCESS_KEY=:guess-{}", rng.u64(..)),
        1 => format!(
            "PUB;{id};EVENT_NAME=:hostile/name;PAYLOAD=:e30=;DELIVERY_TO=:{app_id};METADATA=:{};PAYLOAD_METADATA=:{}",
            deep_json(rng),
            deep_json(rng)
        ),
        2 => format!(
            "PUB;{id};EVENT_NAME=:hostile/name;PAYLOAD=:{};DELIVERY_TO=:{app_id};METADATA=:{{}}",
            "A".repeat(rng.usize(0..60_000))
        ),
        3 => format!("SUB;{id};EVENT_NAME=:hostile/name;MAX_IN_FLIGHT=:{}", rng.u64(..)),
        4 => format!("UNSUB;{id};EVENT_NAME=:hostile/name"),
        5 => format!("ACK;{id};EVENT_IDEM=:AQ;BLOCK=:{};EVENT_NAME=:undefined", rng.i64(..)),
        6 => format!("ROLLBACK;{id};EVENT_IDEM=:AQAAAAA;BLOCK=:{}", rng.u64(..)),
        7 => format!("DISCARD;{id};EVENT_IDEM=:x;EVENT_NAME=:hostile/name;REASON=:{}", ";=:".repeat(rng.usize(0..900))),
        8 => format!("DEFER;{id};EVENT_IDEM=:x;EVENT_NAME=:hostile/name;DELAY=:{};REASON=:", rng.u64(..)),
        9 => format!("PAUSE;{id};EVENT_NAME=:hostile/name;REASON=:"),
        10 => format!("CONTINUE;{id};EVENT_NAME=:hostile/name"),
        11 => format!("REPLAY;{id};EVENT_IDEM=:AQAAAAAAAAA;EVENT_NAME=:hostile/name"),
        12 => "PING".to_owned(),
        _ => format!("PUB;{}", format!("A{}=:", "B".repeat(rng.usize(0..9))).repeat(rng.usize(1..200))),
    }
}

fn tls(rng: &mut Rng) -> Vec<u8> {
    // A record of the handshake with the beginning of a ClientHello: RFC 8446 sections 5.1 and 4.1.2.
    let mut hello = vec![0x16, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3];
    hello.extend((0..32).map(|_| rng.u8(..)));
    hello.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    hello.extend(random(rng, 300));
    let length = (hello.len() - 5) as u16;
    hello[3..5].copy_from_slice(&length.to_be_bytes());
    match rng.u8(0..5) {
        0 => random(rng, 2_000),
        1 => [PREFACE, &http2_frame(4, 0, 0, &[])].concat(),
        2 => UPGRADE.to_vec(),
        3 => hello,
        _ => mutate(rng, &hello),
    }
}

/// Sends half of something and stays, until the engine has enough of it.
async fn stall(rng: &mut Rng, target: &Target) {
    let to = if rng.bool() { target.tls } else { target.plain };
    let Some(mut tcp) = open(rng, to, false).await else { return };
    let whole = match rng.u8(0..5) {
        0 => Vec::new(),
        1 => UPGRADE.to_vec(),
        2 => [PREFACE, &http2_frame(4, 0, 0, &[]), &http2_call(rng)].concat(),
        3 => tls(rng),
        _ => http1(rng),
    };
    let end = rng.usize(0..=whole.len());
    _ = timeout(PATIENCE, tcp.write_all(&whole[..end])).await;
    let mut answer = vec![0; 4_096];
    let ends = async { while matches!(tcp.read(&mut answer).await, Ok(1..)) {} };
    timeout(Duration::from_secs(30), ends).await.expect("the engine keeps who stalls");
}
