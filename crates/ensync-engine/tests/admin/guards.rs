//! Who gets in, and what is taken.

use std::time::Duration;

use ensync_core::Service;
use ensync_engine::{AdminToken, Server};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Engine, read};

#[tokio::test]
async fn without_the_token_nothing_is_told() {
    let engine = Engine::start().await;
    let token = engine.token().expose().to_owned();
    let paths = ["/v1/apps", "/v1/apps/x", "/v1/events", "/v1/queues", "/v1/dead-letters"];
    for path in paths {
        let heads = [
            ("", "no admin token"),
            ("Authorization: Basic YTpi", "not \"Bearer TOKEN\""),
            ("Authorization: Bearer ", "not \"Bearer TOKEN\""),
            (&format!("Authorization: {token}"), "not \"Bearer TOKEN\""),
            (&format!("Authorization: Bearer {}", &token[1..]), "not this engine's"),
            (&format!("Authorization: Bearer {token}x"), "not this engine's"),
            ("Authorization: Bearer é", "not \"Bearer TOKEN\""),
        ];
        for (head, part) in heads {
            let answer = engine.raw("GET", path, head, "").await;
            assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
            let message = answer.refused(401, "unauthenticated");
            assert!(message.contains(part) && message.contains("admin.token"), "{head}: {message}");
            assert!(!message.contains(&token[13..]), "{message}");
        }
    }
    let scheme = format!("authorization: bEaReR   {token}");
    assert_eq!(engine.raw("GET", "/v1/apps", &scheme, "").await.status, 200);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there() {
    let engine = Engine::start().await;
    for path in ["/", "/v1", "/v2/apps", "/v1/apps/a/b/c/d"] {
        engine.raw("GET", path, "", "").await.refused(404, "not_found");
    }
    let token = format!("Authorization: Bearer {}\r\nContent-Length: 0", engine.token().expose());
    for (method, path) in [("PUT", "/v1/apps"), ("PATCH", "/v1/apps/x"), ("GET", "/v1/dead-letters/drop")] {
        engine.raw(method, path, &token, "").await.refused(405, "invalid_input");
    }
}

#[tokio::test]
async fn bodies_that_are_not_what_they_should_be() {
    let engine = Engine::start().await;
    let token = format!("Authorization: Bearer {}", engine.token().expose());
    let json = format!("{token}\r\nContent-Type: application/json");
    let post = async |head: &str, body: &str| {
        let head = format!("{head}\r\nContent-Length: {}", body.len());
        engine.raw("POST", "/v1/events", &head, body).await
    };
    for head in [&token, &format!("{token}\r\nContent-Type: text/plain")] {
        let message = post(head, r#"{"name":"a"}"#).await.refused(415, "invalid_input");
        assert!(message.contains("Content-Type: application/json"), "{message}");
    }
    for (status, body, part) in [
        (400, "", "a value should stand here"),
        (400, "{", "line 1 column 2 (byte 1): a name in quotation marks should stand here"),
        (400, r#"{"name":"a"} x"#, "the end should stand here"),
        (400, r#"{"name":"a","name":"b"}"#, "a name that its object has already"),
        (400, r#"{"name":"a\udc00"}"#, "half of a surrogate pair"),
        (422, r#"["a"]"#, "the body: should be an object, and is a list"),
        (422, r#"{"name":1}"#, "name: should be a text, and is a number"),
        (
            422,
            r#"{"name":"a","nmae":1}"#,
            "there is no \"nmae\" here; there are: name, schema, ttl_ms, max_deliveries, ack_timeout_ms",
        ),
        (422, r#"{"name":"a","ttl_ms":-1}"#, "ttl_ms: should be a whole number from 0 on"),
        (422, r#"{"name":"a","max_deliveries":0}"#, "nonzero"),
    ] {
        let message = post(&json, body).await.refused(status, "invalid_input");
        assert!(message.contains(part), "{body}: {message}");
    }
    let large = format!(r#"{{"name":"a","schema":{{"a":"{}"}}}}"#, "x".repeat(256 << 10));
    post(&json, &large).await.refused(413, "payload_too_large");
    // Said to be large, it is not waited for.
    let head = format!("{json}\r\nContent-Length: 1000000000");
    engine.raw("POST", "/v1/events", &head, "").await.refused(413, "payload_too_large");
    assert_eq!(engine.server.broker().events().await.unwrap(), []);
}

#[tokio::test]
async fn what_is_asked_must_be_known() {
    let engine = Engine::start().await;
    for (path, part) in [
        ("/v1/apps?nmae=x", "there is no \"nmae\" here; there are: name,"),
        ("/v1/apps?limit=x", "limit: should be a whole number from 0 on, and is a text"),
        ("/v1/apps?limit=1&limit=2", "\"limit\" is there twice"),
        ("/v1/queues?limit=0", "1 to 1000"),
        ("/v1/events?limit=1001", "1 to 1000"),
        ("/v1/events?offset=1", "there is no \"offset\" here"),
        ("/v1/apps?after=x", "after is not"),
        ("/v1/queues?after=-1", "after is not"),
        ("/v1/queues?app=x", "app id"),
        ("/v1/dead-letters?event=a//b", "empty segment"),
        ("/v1/apps/%FF", "UTF-8"),
    ] {
        let answer = engine.call("GET", path, None).await;
        let message = answer.body["error"]["message"].as_str().unwrap().to_owned();
        assert!((400..=422).contains(&answer.status) && message.contains(part), "{path}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_dawdles_is_dropped() {
    let engine = Engine::start().await;
    let mut stream = TcpStream::connect(engine.address).await.unwrap();
    let token = engine.token();
    let token = token.expose();
    let head = "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 12";
    stream.write_all(format!("{head}\r\nAuthorization: Bearer {token}\r\n\r\n{{\"name").as_bytes()).await.unwrap();
    read(stream).await.refused(408, "timeout");
    // Without the token, nobody waits for the body.
    let mut stream = TcpStream::connect(engine.address).await.unwrap();
    let start = tokio::time::Instant::now();
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
    read(stream).await.refused(401, "unauthenticated");
    // A head that does not come ends the connection.
    let mut silent = TcpStream::connect(engine.address).await.unwrap();
    silent.write_all(b"GET /").await.unwrap();
    let mut rest = Vec::new();
    _ = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut rest).await;
    assert!(start.elapsed() < Duration::from_secs(3_600), "bounded, in the time of the test");
}

/// Twice as many as there are places, of every sort, and a program that watches the engine.
#[tokio::test]
async fn silent_connections_shut_nobody_out() {
    let engine = Engine::start().await;
    let mut silent = Vec::new();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for sent in [&b""[..], b"GET /healthz HTTP/1.1\r\nhost: loc", b"P", preface] {
        for _ in 0..64 {
            let mut stream = TcpStream::connect(engine.address).await.unwrap();
            stream.write_all(sent).await.unwrap();
            silent.push(stream);
        }
        let answer = engine.send("GET /v1/apps HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        tokio::time::timeout(Duration::from_secs(10), answer).await.unwrap().refused(401, "unauthenticated");
    }
    engine.call("GET", "/v1/apps", None).await.ok(200);
}

/// Connections over HTTP/2 that take no answer: a window of 0 bytes, and a request.
#[tokio::test]
async fn connections_that_take_no_answer_shut_nobody_out() {
    let engine = Engine::start().await;
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
    // RFC 7541: GET, http, and two literals that are not indexed.
    let block = [&b"\x82\x86\x04\x08/healthz\x01\x09localhost"[..]].concat();
    let length = u8::try_from(block.len()).unwrap();
    let request = [&[0, 0, length, 1, 5, 0, 0, 0, 1][..], &block].concat();
    let all = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], settings, &request].concat();
    let mut still = Vec::new();
    for _ in 0..128 {
        let mut stream = TcpStream::connect(engine.address).await.unwrap();
        stream.write_all(&all).await.unwrap();
        // Its head comes: HEADERS is a frame of type 1.
        let mut seen = Vec::new();
        while !frames(&seen).contains(&1) {
            let mut buffer = [0; 1_024];
            let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.unwrap().unwrap();
            assert!(read > 0, "it was ended: {seen:?}");
            seen.extend_from_slice(&buffer[..read]);
        }
        still.push(stream);
    }
    for _ in 0..3 {
        let asked = engine.call("GET", "/v1/apps", None);
        tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap().ok(200);
    }
}

/// The types of the frames that begin in some bytes: RFC 9113, section 4.1.
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [a, b, c, kind, rest @ ..] = bytes {
        types.push(*kind);
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        bytes = rest.get(5 + length..).unwrap_or_default();
    }
    types
}

/// A name that a page's owner lets lead to this machine is not one of the listener's.
#[tokio::test]
async fn requests_for_another_name_are_refused() {
    let engine = Engine::of(Server::builder().admin_hosts(["Engine.example"])).await;
    let get = async |path: &str, head: &str| {
        engine.send(&format!("GET {path} HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n")).await
    };
    for host in ["evil.example", "localhost.evil.example:50052"] {
        for path in ["/openapi.json", "/v1/apps", "/nothing"] {
            let message = get(path, &format!("Host: {host}")).await.refused(421, "forbidden");
            assert!(message.contains("admin.hosts"), "{message}");
        }
    }
    for host in ["engine.example:50052", "127.0.0.1", "localhost:1"] {
        assert_eq!(get("/openapi.json", &format!("Host: {host}")).await.status, 200, "{host}");
    }
    // No page has the token.
    let token = engine.token();
    assert_eq!(get("/v1/apps", &format!("Host: e\r\nAuthorization: Bearer {}", token.expose())).await.status, 200);
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_even_with_the_token() {
    let engine = Engine::start().await;
    let token = format!("Authorization: Bearer {}\r\nContent-Length: 0", engine.token().expose());
    for head in ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"] {
        engine.raw("DELETE", "/v1/events/a", &format!("{token}\r\n{head}"), "").await.refused(403, "forbidden");
    }
    let answer = engine.raw("DELETE", "/v1/events/a", &format!("{token}\r\nOrigin: http://localhost"), "").await;
    assert!(answer.head.contains("x-content-type-options: nosniff") && answer.head.contains("frame-ancestors"));
    answer.refused(404, "unknown_event");
}

#[tokio::test]
async fn the_token_of_an_embedder_is_taken_and_not_shown() {
    let token = AdminToken::generate().unwrap();
    let engine = Engine::of(Server::dev().admin_token(token.clone())).await;
    assert_eq!(engine.token(), token);
    engine.call("GET", "/v1/apps", None).await.ok(200);
    for shown in [format!("{:?}", engine.server), format!("{:?}", Server::dev().admin_token(token.clone()))] {
        assert!(!shown.contains(token.expose()), "{shown}");
    }
    assert!(Server::dev().start().await.unwrap().admin_url().is_none());
}

#[tokio::test]
async fn a_restart_keeps_the_token_and_everything_else() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::of(Server::builder().data_dir(directory.path())).await;
    let (key, access_key) = engine.create_app("shop").await;
    engine.call("POST", "/v1/events", Some(json!({"name": "a/b", "ttl_ms": 60000}))).await.ok(201);
    let (token, before) = (engine.token(), engine.call("GET", "/v1/apps", None).await.ok(200));
    let written = std::fs::read_to_string(directory.path().join("admin.token")).unwrap();
    assert_eq!(written.trim_end(), token.expose());
    engine.server.shutdown().await;
    drop(engine);

    let restart = async {
        // The directory is free when the last task of the first engine has ended.
        loop {
            match Server::builder().data_dir(directory.path()).admin(([127, 0, 0, 1], 0)).start().await {
                Ok(server) => return server,
                Err(error) => assert_eq!(error.kind(), ensync_core::ErrorKind::Unavailable, "{error}"),
            }
            tokio::task::yield_now().await;
        }
    };
    let engine = Engine::with(tokio::time::timeout(Duration::from_secs(20), restart).await.unwrap()).await;
    assert_eq!(engine.token(), token);
    assert_eq!(engine.call("GET", "/v1/apps", None).await.ok(200), before);
    assert_eq!(engine.call("GET", "/v1/events/a%2Fb", None).await.ok(200)["ttl_ms"], 60_000);
    let login = ensync_core::Login { app_key: access_key.parse().unwrap(), transport: "local", remote: None };
    let session = engine.server.broker().login(login).await.unwrap();
    assert_eq!(session.welcome.app_id.unwrap().to_string(), key);
}

/// Somebody who may only look chooses how long the path is that the log repeats.
#[tokio::test]
async fn a_long_path_is_refused_at_once() {
    let engine = Engine::start().await;
    for path in ["-".repeat(16_000), "ensync_key_,".repeat(1_000) + &"-".repeat(16_000), "AgQw-".repeat(5_000)] {
        let begun = std::time::Instant::now();
        engine.look("DELETE", &format!("/v1/apps/{path}")).await.refused(403, "forbidden");
        // Milliseconds; what begins anew at each hyphen takes from seconds to hours.
        assert!(begun.elapsed() < Duration::from_secs(2), "{path:.20}: {:?}", begun.elapsed());
    }
}
