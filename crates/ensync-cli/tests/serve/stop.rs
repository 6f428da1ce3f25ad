//! How an engine stops.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ensync_sdk::{Engine as Sdk, SecretKey};
use futures::StreamExt;

use crate::process::Engine;

/// A client in the middle of a call, for whom a stop waits: the call's message has not come yet.
fn slow_client(engine: &Engine) -> TcpStream {
    // RFC 9113 section 4.1, RFC 7541 section 6.2.2.
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let mut head = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/ensync.EnSyncService/Connect"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        head.push(0);
        for text in [name, value] {
            head.push(u8::try_from(text.len()).unwrap());
            head.extend_from_slice(text.as_bytes());
        }
    }
    let call = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, &[])[..], &frame(1, 4, 1, &head)].concat();
    connected(engine, &call)
}

/// A client that sent something, which the engine has seen.
fn connected(engine: &Engine, sent: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(engine.address()).unwrap();
    tcp.write_all(sent).unwrap();
    // An answer to somebody else, later, says that the engine has seen this one.
    let mut other = TcpStream::connect(engine.address()).unwrap();
    other.write_all(b"GET /x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    other.read_to_end(&mut Vec::new()).unwrap();
    tcp
}

#[test]
fn who_asks_for_nothing_holds_no_stop() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::start(place.path(), &["--dev", "--set", "shutdown_timeout=1h"]);
    let _silent = connected(&engine, b"");
    let _half = connected(&engine, b"GET /message HTTP/1.1\r\nhost: localhost\r\n");
    let _preface = connected(&engine, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let begun = std::time::Instant::now();
    engine.signal("TERM");
    let (status, log) = engine.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_told_and_what_they_held_is_there_after_the_next_start() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::start(place.path(), &["--app", "shop", "--event", "a/b"]);
    let keys = engine.keys.clone();
    let client = |url: &str| {
        let (sdk, key) = (Sdk::new(url).unwrap(), keys["ENSYNC_APP_KEY"].clone());
        let secret: SecretKey = keys["ENSYNC_SECRET_KEY"].parse().unwrap();
        async move { sdk.create_client(key).app_secret_key(secret).await.unwrap() }
    };
    let to: ensync_sdk::AppId = keys["ENSYNC_APP_ID"].parse().unwrap();
    let publisher = client(engine.url("grpc")).await;
    for n in 0..4 {
        publisher.publish("a/b", &n).to(to).await.unwrap();
    }
    let (over_grpc, over_ws) = (client(engine.url("grpc")).await, client(engine.url("ws")).await);
    let mut held = Vec::new();
    for reader in [&over_grpc, &over_ws] {
        let mut events = reader.subscribe("a/b").max_in_flight(2).await.unwrap();
        held.push(events.next().await.unwrap().unwrap());
    }
    engine.signal("INT");
    let (status, log) = engine.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("stopping") && log.contains("sessions ended") && !log.contains("cut off"), "{log}");
    // Nobody settled anything: the log, read back, has all four.
    let engine = Engine::start(place.path(), &[]);
    let (_, text) = engine.get("/metrics", None);
    assert!(text.contains("ensync_queue_events{event=\"a/b\",state=\"ready\"} 4.0"), "{text}");
    engine.wait_for("waiting=4");
}

#[test]
fn it_says_that_it_is_not_ready_as_soon_as_it_stops() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::start(place.path(), &["--dev", "--set", "shutdown_timeout=60s"]);
    assert_eq!(engine.get("/readyz", None).0, 200);
    let slow = slow_client(&engine);
    engine.signal("TERM");
    engine.wait_for("stopping; once more stops at once");
    while engine.get("/readyz", None).0 == 200 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (status, said) = engine.get("/readyz", None);
    assert!(status == 503 && said.contains("not ready: the engine is stopping"), "{said}");
    assert_eq!(engine.get("/healthz", None).0, 200);
    // It ends with its last client.
    drop(slow);
    let (status, log) = engine.ended();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn who_takes_too_long_is_cut_off_at_the_deadline() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::start(place.path(), &["--dev", "--set", "shutdown_timeout=4s"]);
    let _slow = slow_client(&engine);
    let begun = std::time::Instant::now();
    engine.signal("TERM");
    let (status, log) = engine.ended();
    // Once, not once more for the error that this is.
    assert!((4..8).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(status.code() == Some(3) && log.contains("1 connections were cut off"), "{status}: {log}");
}

#[test]
fn a_second_signal_stops_at_once() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::start(place.path(), &["--set", "shutdown_timeout=1h", "--set", "limits.login_timeout=1h"]);
    let _slow = slow_client(&engine);
    engine.signal_twice("TERM");
    engine.wait_for("stopping; once more stops at once");
    std::thread::sleep(Duration::from_millis(300));
    let begun = std::time::Instant::now();
    engine.signal("INT");
    let (status, log) = engine.ended();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(status.code() == Some(3) && log.contains("stopped at once by a second signal, SIGINT"), "{status}: {log}");
}

/// A limit on the size of files makes the operating system refuse what the log writes, as a broken disk does.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_an_error_when_its_log_fails() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::start_to_be_limited(place.path(), &["--app", "shop", "--event", "a/b"]);
    let sdk = Sdk::new(engine.url("grpc")).unwrap();
    let client = sdk.create_client(engine.keys["ENSYNC_APP_KEY"].clone()).await.unwrap();
    let to: ensync_sdk::AppId = engine.keys["ENSYNC_APP_ID"].parse().unwrap();
    client.publish("a/b", &1).to(to).await.unwrap();
    engine.limit_files(64 << 10);
    let large = "x".repeat(200_000);
    let refused = client.publish("a/b", &large).to(to).timeout(Duration::from_secs(2)).await;
    assert!(refused.is_err(), "{refused:?}");
    let (status, log) = engine.ended();
    assert_eq!(status.code(), Some(1), "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(log.contains("0000000001.log") && last.starts_with("ensync: the disk failed"), "{log}");
    // The next start has what was stored.
    let engine = Engine::start(place.path(), &[]);
    engine.wait_for("waiting=1");
}
