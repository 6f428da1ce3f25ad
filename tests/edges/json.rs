//! One rule for JSON at every edge, and metadata that comes as it was given.

use bytes::Bytes;
use ensync_core::{ErrorKind, Metadata};
use ensync_engine::{AdminApi, Server};

use super::{admin, both, config_manager, payload, refused, shown, status, taken};
use crate::over_every_transport;
use crate::raw::grpc::Grpc;
use crate::raw::proto::Message;
use crate::raw::ws::Ws;
use crate::world::{Transport, World, next, soon};

const ORDERS: &str = "orders/status/updated";

/// What the admin API takes for a schema, its own tests hold.
#[tokio::test]
async fn bodies_follow_the_rule() {
    let server = both().await;
    let mut bad = Vec::new();
    for (n, (what, schema)) in [
        ("a field twice", r#"{"f":"integer","f":"string"}"#),
        ("a field twice by escape", r#"{"f":"integer","\u0066":"string"}"#),
        ("a type that a name switches", r#"{"f":{"$serde_json::private::RawValue":"\"integer\""}}"#),
        ("a schema that a name switches", r#"{"$serde_json::private::RawValue":"{\"x\":\"integer\"}"}"#),
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!(r#"{{"name":"c/{n}","payload":{schema}}}"#);
        let told = config_manager(&server, "POST", "/event", &body).await;
        if !refused(status(&told)) {
            bad.push(format!("{what}: {} {}", status(&told), told.split("\r\n\r\n").last().unwrap()))
        }
    }
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    for (what, more) in [
        ("a number beyond the range", r#""x":1e400"#),
        ("300 levels", &format!(r#""x":{deep}"#)),
        ("half of a surrogate pair", r#""x":"\ud800""#),
        ("an unknown member twice", r#""x":1,"x":2"#),
        ("a permission twice", r#""permissions":{"send":[],"send":["*"],"receive":[]}"#),
        ("a resource twice", r#""permissions":{"send":[],"receive":[],"resources":{"a":1,"a":2}}"#),
    ] {
        let body = format!(r#"{{"name":"{what}","type":"SERVICE",{more}}}"#);
        let told = config_manager(&server, "POST", "/access-key", &body).await;
        if !refused(status(&told)) {
            bad.push(format!("{what}: {}", status(&told)))
        }
    }
    let api = AdminApi::new(server.broker().clone());
    for (what, body) in [
        ("a byte order mark", &b"\xef\xbb\xbf{\"name\":\"b/m\"}"[..]),
        ("no UTF-8", b"{\"name\":\"b/\xff\"}"),
        ("two values", b"{\"name\":\"b/t\"}{}"),
        ("an array", b"[\"b/a\",null,null,null,null]"),
        ("half of a surrogate pair in the name", br#"{"name":"b/\ud800"}"#),
    ] {
        let (code, told) = admin(&api, "POST", "/v1/events", Bytes::copy_from_slice(body)).await;
        if !refused(code) {
            bad.push(format!("{what}: {code} {told}"))
        }
    }
    assert!(bad.is_empty(), "{} {bad:#?}", bad.len());
    assert_eq!(server.broker().events().await.unwrap(), []);
    // Each of these takes what is right.
    for (path, body) in [
        ("/event", r#"{"name":"c/9","payload":{"f":"integer"}}"#),
        (
            "/access-key",
            r#"{"name":"right","type":"SERVICE","x":1,"permissions":{"send":[],"receive":[],"resources":{"a":1}}}"#,
        ),
    ] {
        let told = config_manager(&server, "POST", path, body).await;
        assert!(taken(&told), "{told}");
    }
    let (code, told) = admin(&api, "POST", "/v1/events", r#"{"name":"b/m"}"#).await;
    assert!((200..300).contains(&code), "{code} {told}");
    assert_eq!(server.broker().events().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_schema_with_a_reserved_field_name_is_shown() {
    let server = both().await;
    let api = AdminApi::new(server.broker().clone());
    let schema = ensync_core::Schema::parse(r#"{"$serde_json::private::RawValue":"string"}"#).unwrap();
    let options = ensync_engine::EventOptions { schema: Some(schema), ..Default::default() };
    server.register_event("r/v", options).await.unwrap();
    let (status, told) = admin(&api, "GET", "/v1/events/r%2Fv", "").await;
    assert_eq!(status, 200, "{told}");
    let manager = config_manager(&server, "GET", "/event/r%2Fv", "").await;
    assert!(told.contains("private::RawValue"), "admin: {told}");
    assert!(manager.contains("private::RawValue"), "Config Manager: {manager}");
    // As the tool reads it.
    let read = ensync_core::read_json("the answer", told.as_bytes()).unwrap();
    assert_eq!(read["schema"]["$serde_json::private::RawValue"], "string");
}

#[tokio::test]
async fn numbers_that_json_has_not_are_refused_in_metadata_too() {
    let world = World::start(Transport::InProcess).await;
    let (shop, _) = world.clients().await;
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let publish = || shop.publish(ORDERS, &1).to(world.warehouse.app_id);
        let error = publish().header("total", number).header("n", 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("the header \"total\" holds an infinite or undefined number"), "{error}");
        let error = publish().metadata("totals", [0.5, number]).await.unwrap_err();
        assert!(
            error.to_string().contains("the metadata \"totals\" holds an infinite or undefined number at [1]"),
            "{error}"
        );
    }
}

async fn metadata_comes_as_it_was_given(world: World) {
    let (shop, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    let mut bad = Vec::new();
    for value in
        ["plain", "a;b", ";", "a\u{2028}b", "é😀", "\u{7f}\u{1}\n", "\\;", "a\\u003bb", "$x", "</script>", "\u{202e}x"]
    {
        soon(async {
            shop.publish(ORDERS, &serde_json::json!({"n": 1}))
                .to(world.warehouse.app_id)
                .header("h", value)
                .header(value.to_owned() + "k", 1)
                .metadata("m", serde_json::json!({"x": [value, 1.5e300, u64::MAX, -0.0]}))
                .await
        })
        .await
        .unwrap();
        let event = next(&mut orders).await;
        let headers = serde_json::json!({"h": value, value.to_owned() + "k": 1});
        let expect = format!(
            r#"{{"headers":{headers},"m":{},"persist":true}}"#,
            serde_json::json!({"x": [value, 1.5e300, u64::MAX, -0.0]})
        );
        let expect = Metadata::parse(&expect).unwrap();
        if event.metadata().as_str() != expect.as_str() {
            bad.push(format!("delivery: {} came as {}", expect.as_str(), event.metadata().as_str()))
        }
        event.ack().await.unwrap();
        let replayed = stock.replay(ORDERS, event.id()).await.unwrap();
        if !replayed.metadata().as_str().starts_with(expect.as_str().trim_end_matches('}')) {
            bad.push(format!("replay: {} came as {}", expect.as_str(), replayed.metadata().as_str()))
        }
    }
    assert!(bad.is_empty(), "{} {bad:#?}", bad.len());
}

over_every_transport!(metadata_comes_as_it_was_given);

#[tokio::test]
async fn raw_metadata_follows_the_rule() {
    let server = Server::dev().start().await.unwrap();
    let (shop, stock) = (server.create_app("shop").await.unwrap(), server.create_app("stock").await.unwrap());
    let to = server.addresses().next().unwrap();
    let engine = ensync_client::Engine::with_connector(
        server.grpc_url().parse().unwrap(),
        std::sync::Arc::new(server.in_process()) as std::sync::Arc<dyn ensync_core::Connector>,
    );
    let reader = engine.create_client(&stock.app_key).app_secret_key(&stock.secret_key).await.unwrap();
    let mut events = reader.subscribe("a/b").await.unwrap();
    let mut grpc = Grpc::connect(to).await;
    let client = grpc.log_in(shop.app_key.expose()).await;
    let mut ws = Ws::connect(to).await;
    let ws_client = ws.log_in(shop.app_key.expose()).await;
    let (payload, recipient) = (payload(), stock.app_id.to_string());
    let mut bad = Vec::new();
    let deep = |n: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(n - 1), "]".repeat(n - 1));
    for (meta, ok) in [
        (r#"{"a":1,"a":2}"#.to_owned(), None),
        (r#"{"headers":{"x":1,"\u0078":2}}"#.into(), None),
        (r#"{"a":"\ud800"}"#.into(), None),
        (r#"{"a":1e400}"#.into(), None),
        (deep(128), None),
        ("[]".into(), None),
        ("7".into(), None),
        ("{}x".into(), None),
        ("\u{feff}{}".into(), None),
        ("{\"a\":\"\u{1}\"}".into(), None),
        ("\u{c}{}".into(), None),
        ("{}\u{c}".into(), None),
        (deep(127), Some(deep(127))),
        (r#"{"$internal":{"replay_info":{"isReplayed":true}},"a":1.10}"#.into(), Some(r#"{"a":1.10}"#.into())),
        (
            r#"{"a":0e5, "\u0024x" : 1 ,"b":12345678901234567890123}"#.into(),
            Some(r#"{"a":0e5,"b":12345678901234567890123}"#.into()),
        ),
        (
            r#"{"headers":{"$h":1},"$serde_json::private::RawValue":"[","z":{"$serde_json::private::RawValue":"["}}"#
                .into(),
            Some(r#"{"headers":{"$h":1},"z":{"$serde_json::private::RawValue":"["}}"#.into()),
        ),
        ("{ \"a\" :\t1 ,\r\n\"b\":\"x;y\"}".into(), Some("{ \"a\" :\t1 ,\r\n\"b\":\"x;y\"}".into())),
        (r#"{"headers":7,"persist":"x"}"#.into(), Some(r#"{"headers":7,"persist":"x"}"#.into())),
        (
            r#"{"headers":{"h":-0,"n":1E+2},"persist":true}"#.into(),
            Some(r#"{"headers":{"h":-0,"n":1E+2},"persist":true}"#.into()),
        ),
    ] {
        for transport in ["grpc", "ws"] {
            let (taken, told) = if transport == "grpc" {
                let answer = grpc
                    .call(
                        "PublishMessage",
                        &Message::new()
                            .text(1, &client)
                            .text(2, "a/b")
                            .text(3, &payload)
                            .text(4, &recipient)
                            .text(5, &meta),
                    )
                    .await
                    .unwrap();
                (answer.status == "0" && answer.fields.number(1) == 1, format!("{answer:?}"))
            } else {
                let answer = ws.ask(&format!("PUB;CLIENT_ID=:{ws_client};EVENT_NAME=:a/b;PAYLOAD=:{payload};DELIVERY_TO=:{recipient};METADATA=:{meta}")).await;
                (answer.starts_with("+PASS"), answer)
            };
            match (&ok, taken) {
                (None, true) => bad.push(format!("{transport} took {meta:.60}")),
                (Some(_), false) => bad.push(format!("{transport} refused {meta:.60}: {told:.200}")),
                (None, false) => {
                    if shown(&told).is_some() {
                        bad.push(told)
                    }
                }
                (Some(_), true) => {}
            }
            if taken {
                let event = next(&mut events).await;
                if let Some(expect) = &ok
                    && event.metadata().as_str() != expect
                {
                    bad.push(format!("{transport} {meta:.80} came as {:.120}", event.metadata().as_str()))
                }
                event.ack().await.unwrap();
                if let Some(expect) = &ok {
                    let replayed = reader.replay("a/b", event.id()).await.unwrap();
                    if !replayed.metadata().as_str().starts_with(expect.strip_suffix('}').unwrap()) {
                        bad.push(format!("{transport} replay {meta:.80} came as {:.120}", replayed.metadata().as_str()))
                    }
                }
            }
        }
    }
    for about in [
        r#"{"byte_size":1,"skeleton":{"a":"string","a":"integer"}}"#,
        r#"{"byte_size":1,"byte_size":2}"#,
        r#"{"x":1e400}"#,
        r#"{"x":"\ud800"}"#,
    ] {
        let answer = grpc
            .call(
                "PublishMessage",
                &Message::new()
                    .text(1, &client)
                    .text(2, "a/b")
                    .text(3, &payload)
                    .text(4, &recipient)
                    .text(5, "{}")
                    .text(6, about),
            )
            .await
            .unwrap();
        if answer.status == "0" && answer.fields.number(1) == 1 {
            bad.push(format!("grpc took payload_metadata {about}"))
        }
        let answer = ws.ask(&format!("PUB;CLIENT_ID=:{ws_client};EVENT_NAME=:a/b;PAYLOAD=:{payload};DELIVERY_TO=:{recipient};METADATA=:{{}};PAYLOAD_METADATA=:{about}")).await;
        if answer.starts_with("+PASS") {
            bad.push(format!("ws took payload_metadata {about}"))
        }
    }
    assert!(bad.is_empty(), "{} {bad:#?}", bad.len());
}
