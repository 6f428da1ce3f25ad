//! What is kept of wrong values: the engine's log, and the names that others see.

use std::io::Write;
use std::sync::{Arc, Mutex};

use ensync_engine::Server;

use super::{TOKEN, admin, app_id, both, config_manager, in_path, secret, shown};
use crate::raw::ws::Ws;

#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_of_changes_holds_no_key() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = both().await;
    let api = ensync_engine::AdminApi::new(server.broker().clone());
    let (base64, key) = (secret(), app_id());
    let hex: String = ensync_core::SecretKey::from_seed([0x5a; 32]).app_id().unwrap().to_hex();
    let hex = format!("{}{hex}", "5a".repeat(32));
    let mut changes = 0;
    for s in [base64.as_str(), TOKEN, &hex, &in_path(&base64)] {
        let path = in_path(s).replace("%252", "%2");
        for (method, path, body) in [
            ("DELETE", format!("/v1/events/{path}"), String::new()),
            ("PATCH", format!("/v1/events/{path}"), r#"{"ttl_ms":1000}"#.to_owned()),
            ("POST", "/v1/events".to_owned(), format!(r#"{{"name":"{s}"}}"#)),
            ("POST", "/v1/events".to_owned(), format!(r#"{{"name":"x/{s}"}}"#)),
            ("POST", "/v1/apps".to_owned(), format!(r#"{{"name":"{s}","public_key":"{key}"}}"#)),
            ("DELETE", format!("/v1/apps/{path}"), String::new()),
            ("POST", "/v1/dead-letters/drop".to_owned(), format!(r#"{{"event":"{s}"}}"#)),
            ("POST", "/v1/dead-letters/requeue".to_owned(), format!(r#"{{"reason":"{s}"}}"#)),
        ] {
            let (_, told) = admin(&api, method, &path, body.clone()).await;
            assert_eq!(shown(&told), None, "{method} {path:.40} {body:.40}");
            changes += 1;
        }
        for (method, path, body) in [
            ("POST", "/access-key".to_owned(), format!(r#"{{"name":"{s}","type":"SERVICE"}}"#)),
            ("POST", "/event".to_owned(), format!(r#"{{"name":"{s}","payload":{{}}}}"#)),
            ("DELETE", format!("/event/{path}"), String::new()),
        ] {
            config_manager(&server, method, &path, &body).await;
            changes += 1;
        }
    }
    let text = String::from_utf8_lossy(&logged.0.lock().unwrap()).into_owned();
    let lines = text.lines().filter(|line| line.contains("ensync::audit")).count();
    assert!(lines * 2 >= changes, "{lines} lines for {changes} changes");
    for line in text.lines() {
        assert!(shown(line).is_none() && !line.contains(&hex[100..120]), "{line:.400}");
    }
}

/// Whoever holds a client id may act as that session, and names are in every list.
#[tokio::test]
async fn a_client_id_is_no_name_and_no_id_and_is_not_repeated() {
    let server = Server::dev().start().await.unwrap();
    let to = server.addresses().next().unwrap();
    let app = server.create_app("a").await.unwrap();
    let mut ws = Ws::connect(to).await;
    let c = ws.log_in(app.app_key.expose()).await;
    let (payload, id) = (super::payload(), app_id());
    for frame in [
        format!("SUB;CLIENT_ID=:{c};EVENT_NAME=:{c}"),
        format!("SUB;CLIENT_ID=:{c};EVENT_NAME=:x/{c}"),
        format!("PUB;CLIENT_ID=:{c};EVENT_NAME=:{c};PAYLOAD=:{payload};DELIVERY_TO=:{id};METADATA=:{{}}"),
        format!("PUB;CLIENT_ID=:{c};EVENT_NAME=:a/b;PAYLOAD=:{payload};DELIVERY_TO=:{c};METADATA=:{{}}"),
        format!(
            "PUB;CLIENT_ID=:{c};EVENT_NAME=:a/b;PAYLOAD=:{payload};DELIVERY_TO=:{id};IDEMPOTENCY_KEY=:{c};METADATA=:{{}}"
        ),
        format!("ACK;CLIENT_ID=:{c};EVENT_IDEM=:{c};BLOCK=:1"),
        format!("ACK;CLIENT_ID=:{c};EVENT_IDEM=:x;BLOCK=:{c}"),
        format!("ACK;CLIENT_ID=:{c};EVENT_IDEM=:x;BLOCK=:1;EVENT_NAME=:{c}"),
        format!("REPLAY;CLIENT_ID=:{c};EVENT_IDEM=:{c};EVENT_NAME=:a/b"),
        format!("DEFER;CLIENT_ID=:{c};EVENT_IDEM=:x;DELAY=:{c}"),
    ] {
        let answer = ws.ask(&frame).await;
        let frame = frame.replace(&c, "<CLIENT ID>");
        assert!(answer.starts_with("-FAIL"), "{frame}: {answer:.40}");
        assert!(!answer.contains(&c[..c.len().min(8)]) && !answer.contains(&c[c.len() - 8..]), "{frame}");
    }
    let heartbeat = ws.ask(&format!("SUB;CLIENT_ID=:{c};EVENT_NAME=:a/b")).await;
    assert!(heartbeat.starts_with("+PASS"), "the session goes on: {heartbeat}");
}
