//! A key, a token or a session's id that stands in a wrong place is repeated in no refusal.

use std::time::Duration;

use ensync_engine::{AdminApi, Server};
use futures::{SinkExt, StreamExt};

use super::{TOKEN, admin, app_id, both, config_manager, in_path, payload, secret, shown, taken};
use crate::raw::grpc::Grpc;
use crate::raw::proto::Message;
use crate::raw::ws::Ws;
use crate::world::soon;

#[tokio::test]
async fn broken_frames_do_not_repeat_keys() {
    let server = Server::dev().start().await.unwrap();
    let to = server.addresses().next().unwrap();
    let s = secret();
    let (mut bad, mut refused) = (Vec::new(), 0);
    for frame in [
        format!("CONN;{TOKEN}"),
        format!("CONN;ACCESS_KEY={TOKEN}"),
        format!("CONN;ACCESS_KEY:{TOKEN}"),
        format!("CONN;{s}"),
        format!("CONN {TOKEN}"),
        TOKEN.to_owned(),
        s.clone(),
        format!("CONN;ACCESS_KEY=:{s}"),
        format!("CONN;ACCESS_KEY=: {TOKEN} x"),
        format!("SUB;{TOKEN}=:x"),
        format!("DEFER;CLIENT_ID=:c;EVENT_IDEM=:x;EVENT_NAME=:a;DELAY=:{TOKEN}"),
        format!("SUB;CLIENT_ID=:c;EVENT_NAME=:a/b;MAX_IN_FLIGHT=:{s}"),
        format!("SUB;CLIENT_ID=:c;EVENT_NAME=:{s}"),
        format!("SUB;CLIENT_ID=:c;EVENT_NAME=:{TOKEN}"),
        format!("ACK;CLIENT_ID=:c;EVENT_IDEM=:{TOKEN};BLOCK=:x"),
        format!("PUB;CLIENT_ID=:c;EVENT_NAME=:a/b;PAYLOAD=:e30=;DELIVERY_TO=:{TOKEN};METADATA=:{{}}"),
        format!("PUB;CLIENT_ID=:c;EVENT_NAME=:a/b;PAYLOAD=:e30=;DELIVERY_TO=:{s};METADATA=:{{}}"),
        format!("PUB;CLIENT_ID=:c;EVENT_NAME=:a/b;PAYLOAD=:e30=;DELIVERY_TO=:x;METADATA=:{{}}{TOKEN}"),
        format!("PUB;CLIENT_ID=:c;METADATA=:{{\"a\":{s}}}"),
    ] {
        if let Err(error) = ensync_ws::frame::Request::parse(&frame)
            && let Some(told) = shown(&ensync_core::report(&error))
        {
            bad.push(format!("parse {frame:.60} => {told}"))
        }
        let mut ws = Ws::connect(to).await;
        ws.0.send(tokio_tungstenite::tungstenite::Message::text(frame.as_str())).await.unwrap();
        let answer = soon(ws.0.next()).await.unwrap().unwrap();
        refused += usize::from(answer.to_text().is_ok_and(|answer| answer.starts_with("-FAIL")));
        if let Some(told) = shown(&format!("{answer:?}")) {
            bad.push(format!("wire {frame:.60} => {told}"))
        }
    }
    // A client id: a bearer credential.
    let app = server.create_app("a").await.unwrap();
    let mut ws = Ws::connect(to).await;
    let client = ws.log_in(app.app_key.expose()).await;
    for frame in [
        format!("SUB;{client};EVENT_NAME=:a/b"),
        format!("SUB;CLIENT_ID={client};EVENT_NAME=:a/b"),
        format!("SUB;CLIENT_ID=:{client};EVENT_NAME=:{client}"),
        format!("ACK;CLIENT_ID=:{client};EVENT_IDEM=:{client};BLOCK=:1"),
        format!("REPLAY;CLIENT_ID=:{client};EVENT_IDEM=:{client};EVENT_NAME=:a/b"),
        "SUB;CLIENT_ID=:x;EVENT_NAME=:a/b".to_owned(),
        format!("SUB;CLIENT_ID=:{client};EVENT_NAME=:x/{client}/.."),
    ] {
        let mut ws = Ws::connect(to).await;
        ws.log_in(app.app_key.expose()).await;
        let answer = ws.ask(&frame).await;
        refused += usize::from(answer.starts_with("-FAIL"));
        if answer.contains(&client[..client.len().min(12)]) {
            bad.push(format!("client id: {:.60} => {answer:.200}", frame.replace(&client, "<CLIENT ID>")))
        }
    }
    assert!(bad.is_empty() && refused == 26, "{refused} refused, {} {bad:#?}", bad.len());
    // What is right is taken.
    let mut ws = Ws::connect(to).await;
    let client = ws.log_in(app.app_key.expose()).await;
    let answer = ws.ask(&format!("SUB;CLIENT_ID=:{client};EVENT_NAME=:a/b")).await;
    assert!(answer.starts_with("+PASS"), "{answer}");
}

#[tokio::test]
async fn admin_refusals_do_not_repeat_keys() {
    let server = both().await;
    let api = AdminApi::new(server.broker().clone());
    let (s, key) = (secret(), app_id());
    let mut bad = Vec::new();
    let enc = in_path(&s);
    let mut cases = Vec::new();
    for s in [s.as_str(), TOKEN] {
        cases.extend([
            ("POST", "/v1/apps".to_owned(), format!(r#"{{"name":"{s}","public_key":"{key}"}}"#)),
            ("POST", "/v1/apps".to_owned(), format!(r#"{{"name":"x","public_key":"{s}"}}"#)),
            ("POST", "/v1/apps".to_owned(), format!(r#"{{"name":"x","public_key":"{key}","rights":"{s}"}}"#)),
            ("POST", "/v1/apps".to_owned(), format!(r#"{{"name":"x","public_key":"{key}","{s}":1}}"#)),
            ("POST", "/v1/apps".to_owned(), format!(r#"{{"name":"x","public_key":"{key}","same_name":"{s}"}}"#)),
            ("POST", "/v1/apps".to_owned(), format!(r#""{s}""#)),
            ("POST", "/v1/apps".to_owned(), s.to_owned()),
            ("POST", "/v1/events".to_owned(), format!(r#"{{"name":"{s}"}}"#)),
            ("POST", "/v1/events".to_owned(), format!(r#"{{"name":"x/y","ttl_ms":"{s}"}}"#)),
            ("POST", "/v1/events".to_owned(), format!(r#"{{"name":"x/y","schema":"{s}"}}"#)),
            ("POST", "/v1/events".to_owned(), format!(r#"{{"name":"x/y","schema":{{"a":"{s}"}}}}"#)),
            ("POST", "/v1/events".to_owned(), format!(r#"{{"name":"x/y","schema":{{"{s}":"x"}}}}"#)),
            ("POST", "/v1/dead-letters/requeue".to_owned(), format!(r#"{{"id":"{s}"}}"#)),
            ("POST", "/v1/dead-letters/requeue".to_owned(), format!(r#"{{"all":"{s}"}}"#)),
            ("POST", "/v1/dead-letters/requeue".to_owned(), format!(r#"{{"event":"{s}"}}"#)),
        ]);
    }
    for e in [enc.as_str(), TOKEN] {
        cases.extend([
            ("GET", format!("/v1/apps/{e}"), String::new()),
            ("GET", format!("/v1/events/{e}"), String::new()),
            ("GET", format!("/v1/apps?limit={e}"), String::new()),
            ("GET", format!("/v1/apps?{e}=1"), String::new()),
            ("GET", format!("/v1/apps?after={e}"), String::new()),
            ("GET", format!("/v1/dead-letters?app={e}"), String::new()),
            ("GET", format!("/v1/dead-letters?event={e}"), String::new()),
            ("GET", format!("/v1/dead-letters?after={e}"), String::new()),
            ("GET", format!("/v1/queues?event={e}"), String::new()),
            ("GET", format!("/v1/{e}"), String::new()),
            ("PUT", format!("/v1/apps/{}/grants/{e}", in_path(&key)), r#"{"publish":true,"subscribe":true}"#.into()),
        ]);
    }
    let mut refused = 0;
    for (method, path, body) in cases {
        let (status, told) = admin(&api, method, &path, body.clone()).await;
        refused += usize::from(status >= 400);
        if let Some(told) = shown(&told) {
            bad.push(format!("{method} {path:.40} {body:.90} => {status} {told}"))
        }
    }
    for s in [s.as_str(), TOKEN] {
        let e = in_path(s);
        for (method, path, body) in [
            ("GET", format!("/event/{e}"), String::new()),
            ("GET", format!("/access-key/{e}"), String::new()),
            ("GET", format!("/access-key/{e}/permissions"), String::new()),
            ("GET", format!("/access-key?accessKey={e}"), String::new()),
            ("GET", format!("/access-key?limit={e}"), String::new()),
            ("GET", format!("/access-key?order={e}"), String::new()),
            ("GET", format!("/access/verify/{e}"), String::new()),
            ("POST", "/access-key".into(), format!(r#"{{"name":"x","type":"{s}"}}"#)),
            ("POST", "/access-key".into(), format!(r#"{{"name":"{s}","type":"SERVICE"}}"#)),
            ("POST", "/access-key".into(), format!(r#"{{"name":"x","permissions":{{"send":["{s}"],"receive":[]}}}}"#)),
            ("POST", "/access-key".into(), format!(r#"{{"name":"x","permissions":"{s}"}}"#)),
            ("PUT", "/access/service-key-pair".into(), format!(r#"{{"access_key":"{s}"}}"#)),
            ("PUT", "/access/service-key-pair".into(), format!(r#""{s}""#)),
            ("POST", "/event".into(), format!(r#"{{"name":"{s}","payload":{{}}}}"#)),
            ("POST", "/event".into(), format!(r#"{{"name":"u/v","payload":"{s}"}}"#)),
            ("PUT", format!("/event/{e}"), r#"{"name":"u/v","payload":{}}"#.into()),
            ("POST", "/workspace".into(), format!(r#"{{"name":"{s}"}}"#)),
        ] {
            let told = config_manager(&server, method, &path, &body).await;
            refused += usize::from(!taken(&told));
            if !taken(&told) && shown(&told).is_some() {
                bad.push(format!("CM {method} {path:.50} {body:.80} => {}", told.split("\r\n\r\n").last().unwrap()))
            }
        }
    }
    assert!(bad.is_empty() && refused >= 70, "{refused} refused, {} {bad:#?}", bad.len());
}

#[tokio::test]
async fn grpc_refusals_do_not_repeat_keys() {
    let server = Server::dev().start().await.unwrap();
    let shop = server.create_app("shop").await.unwrap();
    let mut grpc = Grpc::connect(server.addresses().next().unwrap()).await;
    let client = grpc.log_in(shop.app_key.expose()).await;
    let (s, p, mut bad) = (secret(), payload(), Vec::new());
    let (mut answered, mut refused) = (0, 0);
    for v in [s.as_str(), TOKEN, client.as_str()] {
        for (method, message) in [
            ("Connect", Message::new().text(1, v)),
            ("Heartbeat", Message::new().text(1, v)),
            ("Subscribe", Message::new().text(1, &client).text(2, v)),
            ("Subscribe", Message::new().text(1, v).text(2, "a/b")),
            ("PublishMessage", Message::new().text(1, &client).text(2, v).text(3, &p).text(4, &app_id()).text(5, "{}")),
            ("PublishMessage", Message::new().text(1, &client).text(2, "a/b").text(3, &p).text(4, v).text(5, "{}")),
            (
                "PublishMessage",
                Message::new().text(1, &client).text(2, "a/b").text(3, &p).text(4, &app_id()).text(5, v),
            ),
            (
                "PublishMessage",
                Message::new().text(1, &client).text(2, "a/b").text(3, v).text(4, &app_id()).text(5, "{}"),
            ),
            (
                "PublishMessage",
                Message::new().text(1, &client).text(2, "a/b").text(3, &p).text(4, &app_id()).text(5, "{}").text(6, v),
            ),
            ("AcknowledgeMessage", Message::new().text(1, &client).text(2, v).text(3, "a/b").number(4, 1)),
            ("ReplayMessage", Message::new().text(1, &client).text(2, v).text(3, "a/b")),
            ("DiscardMessage", Message::new().text(1, &client).text(2, v).text(3, "a/b")),
            ("PauseMessages", Message::new().text(1, &client).text(2, v)),
            ("Unsubscribe", Message::new().text(1, &client).text(2, v)),
        ] {
            let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(3), grpc.call(method, &message)).await else {
                continue;
            };
            let told = format!("{answer:?}");
            answered += 1;
            refused += usize::from(answer.status != "0" || answer.fields.number(1) == 0);
            if method == "Connect" && v == client {
                continue;
            }
            let hit = if v == client { told.contains(&v[..10]) } else { shown(&told).is_some() };
            if hit {
                bad.push(format!("{method} => {told:.240}"))
            }
        }
    }
    assert!(bad.is_empty(), "{} {bad:#?}", bad.len());
    assert!(answered >= 40 && refused >= 37, "of {answered} answers {refused} refuse");
    // What is right is taken.
    let message =
        Message::new().text(1, &client).text(2, "a/b").text(3, &p).text(4, &shop.app_id.to_string()).text(5, "{}");
    let answer = soon(grpc.call("PublishMessage", &message)).await.unwrap();
    assert!(answer.status == "0" && answer.fields.number(1) == 1, "{answer:?}");
}
