//! The console: what is served, who gets in, and what a page of another origin gets.

use std::time::Duration;

use ensync_engine::{Server, ServerBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::Engine;

struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    #[track_caller]
    fn refused(&self, status: u16, kind: &str) -> String {
        assert_eq!((self.status, self.json()["error"]["kind"].as_str()), (status, Some(kind)), "{}", self.head);
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(known, _)| known.eq_ignore_ascii_case(name)))
            .map(|(_, v)| v)
    }
}

async fn ask(engine: &Engine, method: &str, path: &str, head: &[&str], body: &str) -> Got {
    let mut stream = TcpStream::connect(engine.address).await.unwrap();
    let head: String = head.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{head}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Got { status, head, body: bytes[end + 4..].to_vec() }
}

const JSON: &str = "Content-Type: application/json";

async fn log_in(engine: &Engine, token: &str) -> Got {
    ask(engine, "POST", "/console/login", &[JSON], &json!({"token": token}).to_string()).await
}

/// The two headers of a session: that of the page, and the cookie.
async fn halves(engine: &Engine, token: &str) -> [String; 2] {
    let got = log_in(engine, token).await;
    assert_eq!(got.status, 200, "{}", got.head);
    let cookie = got.header("set-cookie").unwrap().split(';').next().unwrap();
    [format!("X-EnSync-Console: {}", got.json()["session"].as_str().unwrap()), format!("Cookie: {cookie}")]
}

/// Both, as lines of a head.
async fn session(engine: &Engine, token: &str) -> String {
    halves(engine, token).await.join("\r\n")
}

#[tokio::test]
async fn the_page_is_served_compressed_and_may_ask_this_engine_only() {
    let engine = Engine::start().await;
    for (path, kind) in [
        ("/console", "text/html"),
        ("/console/", "text/html"),
        ("/console/console.js", "text/javascript"),
        ("/console/console.css", "text/css"),
        ("/console/icon.svg", "image/svg+xml"),
    ] {
        for (accept, coding) in [("br, gzip", "br"), ("gzip, deflate", "gzip")] {
            let got = ask(&engine, "GET", path, &[&format!("Accept-Encoding: {accept}")], "").await;
            assert_eq!((got.status, got.header("content-encoding")), (200, Some(coding)), "{path}");
            assert!(got.header("content-type").unwrap().starts_with(kind), "{path}");
            let policy = got.header("content-security-policy").unwrap();
            assert!(
                policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
                "{policy}"
            );
            assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"));
            assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(got.header("referrer-policy"), Some("no-referrer"));
            let tag = got.header("etag").unwrap().to_owned();
            let again = [&*format!("Accept-Encoding: {accept}"), &*format!("If-None-Match: \"x\", {tag}")];
            let again = ask(&engine, "GET", path, &again, "").await;
            assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(&*tag)));
        }
        let plain = ask(&engine, "GET", path, &["Accept-Encoding: identity"], "").await;
        if kind == "text/html" {
            // On a terminal too it says what it is.
            let unsaid = ask(&engine, "GET", path, &[], "").await;
            for got in [plain, unsaid] {
                assert_eq!((got.status, got.header("content-encoding")), (200, None), "{path}");
                assert!(String::from_utf8(got.body).unwrap().contains("needs a browser"), "{path}");
            }
        } else {
            plain.refused(406, "invalid_input");
        }
        assert_eq!(ask(&engine, "POST", path, &[], "").await.status, 405);
    }
    ask(&engine, "GET", "/console/other.js", &[], "").await.refused(404, "not_found");
}

#[tokio::test]
async fn a_token_is_a_session_until_it_is_ended() {
    let engine = Engine::start().await;
    engine.create_app("shop").await;
    let got = log_in(&engine, &format!(" {} ", engine.token().expose())).await;
    assert_eq!((got.status, got.json()["access"].as_str()), (200, Some("full")));
    assert_eq!(got.json()["session"].as_str().unwrap().len(), 43);
    assert!(!String::from_utf8(got.body.clone()).unwrap().contains(engine.token().expose()));
    assert_eq!(got.header("cache-control"), Some("no-store"));
    let port = engine.address.port();
    let cookie = got.header("set-cookie").unwrap();
    assert!(cookie.starts_with(&format!("ensync-console-{port}=")), "{cookie}");
    assert!(cookie.ends_with("; Max-Age=43200; Path=/console; HttpOnly; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains(got.json()["session"].as_str().unwrap()), "neither half tells the other");

    let session = session(&engine, engine.token().expose()).await;
    let apps = ask(&engine, "GET", "/console/api/v1/apps", &[&session], "").await;
    assert_eq!((apps.status, apps.json()["apps"][0]["name"].as_str()), (200, Some("shop")));
    assert_eq!(apps.header("cache-control"), Some("no-store"));
    let made = ask(&engine, "POST", "/console/api/v1/events", &[&session, JSON], r#"{"name":"a/b"}"#).await;
    assert_eq!(made.status, 201);
    // The API beside it does not look at sessions, and the console's not at tokens.
    ask(&engine, "GET", "/v1/apps", &[&session], "").await.refused(401, "unauthenticated");
    let bearer = format!("Authorization: Bearer {}", engine.token().expose());
    ask(&engine, "GET", "/console/api/v1/apps", &[&bearer], "").await.refused(401, "unauthenticated");

    let out = ask(&engine, "POST", "/console/logout", &[&session], "").await;
    assert_eq!(out.status, 204);
    assert!(out.header("set-cookie").unwrap().contains("=; Max-Age=0; Path=/console;"), "{}", out.head);
    ask(&engine, "GET", "/console/api/v1/apps", &[&session], "").await.refused(401, "unauthenticated");
}

/// A cookie alone goes to every port of a host and comes from every port of it; a header alone could be taken by a script.
#[tokio::test]
async fn neither_half_of_a_session_lets_anybody_in() {
    let engine = Engine::start().await;
    let [header, cookie] = halves(&engine, engine.token().expose()).await;
    let [other_header, other_cookie] = halves(&engine, engine.server.admin_read_token().unwrap().expose()).await;
    let (key, id) = (header.split_once(": ").unwrap().1, cookie.split_once('=').unwrap().1);
    let name = cookie.split_once(": ").unwrap().1.split_once('=').unwrap().0;
    let swapped = format!("X-EnSync-Console: {id}\r\nCookie: {name}={key}");
    let elsewhere = format!("{header}\r\nCookie: {name}x={id}");
    for shown in [
        cookie.clone(),
        header.clone(),
        format!("{header}\r\n{other_cookie}"),
        format!("{other_header}\r\n{cookie}"),
        format!("X-EnSync-Console: {id}\r\n{cookie}"),
        format!("{header}\r\nCookie: {name}={key}"),
        swapped,
        elsewhere,
    ] {
        for (method, path) in [("GET", "/console/api/v1/apps"), ("POST", "/console/api/v1/events")] {
            ask(&engine, method, path, &[&shown, JSON], r#"{"name":"a/b"}"#).await.refused(401, "unauthenticated");
        }
        // Nor does it end the session.
        ask(&engine, "POST", "/console/logout", &[&shown], "").await;
    }
    // A cookie of the same name that another port of the host has set shuts nobody out.
    let crowded = format!("{header}\r\nCookie: {name}=planted; {}", cookie.split_once(": ").unwrap().1);
    assert_eq!(ask(&engine, "GET", "/console/api/v1/apps", &[&crowded], "").await.status, 200);
}

#[tokio::test]
async fn the_address_alone_leads_browsers_to_the_page_and_programs_to_what_there_is() {
    let engine = Engine::start().await;
    let browser = ["Accept: text/html,application/xhtml+xml,*/*;q=0.8"];
    let got = ask(&engine, "GET", "/", &browser, "").await;
    assert_eq!((got.status, got.header("location")), (307, Some("/console")));
    let message = ask(&engine, "GET", "/", &["Accept: */*"], "").await.refused(404, "not_found");
    assert!(message.contains("/openapi.json"), "{message}");
    let without = Engine::of(Server::dev().console(false)).await;
    ask(&without, "GET", "/", &browser, "").await.refused(404, "not_found");
}

#[tokio::test]
async fn a_new_login_of_a_browser_ends_the_session_that_it_had() {
    let engine = Engine::start().await;
    let former = session(&engine, engine.token().expose()).await;
    let token = json!({"token": engine.token().expose()}).to_string();
    assert_eq!(ask(&engine, "POST", "/console/login", &[&former, JSON], &token).await.status, 200);
    ask(&engine, "GET", "/console/api/v1/apps", &[&former], "").await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_stranger_s_body_is_small() {
    let engine = Engine::start().await;
    let body = json!({"token": "x".repeat(2_000)}).to_string();
    ask(&engine, "POST", "/console/login", &[JSON], &body).await.refused(413, "payload_too_large");
}

#[tokio::test]
async fn whoever_may_only_look_changes_nothing_there_either() {
    let engine = Engine::start().await;
    let reader = engine.server.admin_read_token().unwrap();
    let session = session(&engine, reader.expose()).await;
    let info = ask(&engine, "GET", "/console/api/v1/info", &[&session], "").await;
    assert_eq!(info.json()["access"], "read");
    let made = ask(&engine, "POST", "/console/api/v1/events", &[&session, JSON], r#"{"name":"a/b"}"#).await;
    made.refused(403, "forbidden");
    assert_eq!(engine.server.broker().events().await.unwrap(), []);
}

#[tokio::test]
async fn what_a_page_of_another_origin_can_send_is_refused() {
    let engine = Engine::start().await;
    let session = session(&engine, engine.token().expose()).await;
    let body = r#"{"name":"a/b"}"#;
    for head in [
        vec![&*session, JSON, "Origin: https://evil.example"],
        vec![&*session, JSON, "Sec-Fetch-Site: cross-site"],
        vec![&*session, JSON, "Sec-Fetch-Site: same-site"],
        vec![&*session, JSON, "Origin: null"],
    ] {
        ask(&engine, "POST", "/console/api/v1/events", &head, body).await.refused(403, "forbidden");
        ask(&engine, "POST", "/console/logout", &head, "").await.refused(403, "forbidden");
    }
    // A form of another page cannot say that it sends JSON.
    let token = json!({"token": engine.token().expose()}).to_string();
    ask(&engine, "POST", "/console/login", &["Content-Type: text/plain"], &token).await.refused(415, "invalid_input");
    for ours in [["Origin: http://localhost", JSON], ["Origin: https://console.example", "Sec-Fetch-Site: same-origin"]]
    {
        let got = ask(&engine, "POST", "/console/logout", &ours, "").await;
        assert_eq!(got.status, 204, "{ours:?}");
    }
    // A name that a strange page's owner lets lead here.
    let strange = "GET /console/api/v1/apps HTTP/1.1\r\nHost: evil.example\r\nConnection: close";
    engine.send(&format!("{strange}\r\n{session}\r\n\r\n")).await.refused(421, "forbidden");
}

#[tokio::test]
async fn wrong_tokens_are_told_so_and_then_to_wait_and_a_right_one_is_let_in() {
    let engine = Engine::start().await;
    let wrong = format!("{}x", engine.token().expose());
    let (mut unknown, mut told_to_wait) = (0, 0);
    for _ in 0..14 {
        let got = log_in(&engine, &wrong).await;
        match got.status {
            401 => {
                let message = got.refused(401, "unauthenticated");
                assert!(message.contains("admin.token") && !message.contains(&wrong), "{message}");
                unknown += 1;
            }
            _ => {
                let message = got.refused(429, "limit_exceeded");
                assert!(message.contains("try again in ") && message.ends_with(" s"), "{message}");
                told_to_wait += 1;
            }
        }
        assert!(got.json()["session"].is_null());
    }
    assert!(unknown >= 10 && told_to_wait >= 1, "{unknown} {told_to_wait}");
    assert_eq!(log_in(&engine, engine.token().expose()).await.status, 200);
    for body in ["", "{}", r#"{"token":1}"#, r#"{"token":"x","more":1}"#] {
        let got = ask(&engine, "POST", "/console/login", &[JSON], body).await;
        assert!([400, 422].contains(&got.status), "{body} {}", got.status);
    }
}

#[tokio::test]
async fn it_is_there_where_only_this_machine_can_reach_it_unless_somebody_says() {
    let start = async |builder: ServerBuilder| builder.start().await.unwrap();
    let loopback = start(Server::dev().admin(([127, 0, 0, 1], 0))).await;
    assert_eq!(loopback.console_url(), loopback.admin_url().map(|url| url + "/console"));
    assert!(start(Server::dev()).await.console_url().is_none());
    let anywhere = || Server::dev().allow_plaintext().admin(([0, 0, 0, 0], 0));
    assert!(start(anywhere()).await.console_url().is_none());
    assert!(start(anywhere().console(true)).await.console_url().is_some());
    let engine = Engine::of(Server::dev().console(false)).await;
    for path in ["/console", "/console/", "/console/console.js", "/console/api/v1/apps"] {
        ask(&engine, "GET", path, &[], "").await.refused(404, "not_found");
    }
    ask(&engine, "POST", "/console/login", &[JSON], "{}").await.refused(404, "not_found");
}

#[tokio::test]
async fn another_token_in_the_file_ends_sessions_and_what_they_follow() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::of(Server::dev().data_dir(directory.path())).await;
    let session = session(&engine, engine.token().expose()).await;
    let mut stream = TcpStream::connect(engine.address).await.unwrap();
    let head = format!("GET /console/api/v1/live HTTP/1.1\r\nHost: localhost\r\n{session}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let file = directory.path().join("admin.token");
    std::fs::write(file, ensync_engine::AdminToken::generate().unwrap().expose()).unwrap();
    // The file is looked at every 5 s, and who follows hears each second.
    let mut followed = Vec::new();
    let read = async {
        let mut buffer = [0; 4_096];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            followed.extend_from_slice(&buffer[..read]);
            if followed.ends_with(b"0\r\n\r\n") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.unwrap();
    assert!(followed.starts_with(b"HTTP/1.1 200"));
    ask(&engine, "GET", "/console/api/v1/apps", &[&session], "").await.refused(401, "unauthenticated");
}

/// The page's types are generated from this copy of the document: `ENSYNC_WRITE=1` writes it anew.
#[tokio::test]
async fn the_page_is_made_for_the_document_that_is_served() {
    let engine = Engine::start().await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/console/openapi.json");
    let served = serde_json::to_string_pretty(engine.document()).unwrap() + "\n";
    if std::env::var_os("ENSYNC_WRITE").is_some() {
        std::fs::write(file, &served).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap();
    assert!(
        kept == served,
        "console/openapi.json is of another version: see console/README.md for how to make it and the page anew"
    );
}
