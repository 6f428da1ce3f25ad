//! The makers' Config Manager API over a socket: each request of their command line, in its form, and who may see what.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a panic here is a failed test")]

use std::net::SocketAddr;

use ensync_core::{AppId, AppKey, Connector, SecretKey};
use ensync_engine::{EventOptions, Rights, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Engine {
    server: Server,
    address: SocketAddr,
    key: String,
}

impl Engine {
    async fn start() -> Self {
        let server = Server::builder().config_manager(([127, 0, 0, 1], 0)).start().await.unwrap();
        let url = server.config_manager_url().unwrap();
        let address = url.strip_prefix("http://").unwrap().strip_suffix("/api/v1/ensync").unwrap().parse().unwrap();
        let key = server.admin_token().unwrap().expose().to_owned();
        Self { server, address, key }
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.ask_as(&self.key, method, path, body).await
    }

    async fn ask_as(&self, key: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, head, body) = self.raw(key, method, &format!("/api/v1/ensync{path}"), body).await;
        if status < 400 && path != "/ping" {
            assert!(head.contains("cache-control: no-store"), "{head}");
        }
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    async fn raw(&self, key: &str, method: &str, path: &str, body: Value) -> (u16, String, String) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.raw_body(key, method, path, &body).await
    }

    async fn raw_body(&self, key: &str, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-ACCESS-KEY: {key}\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        _ = stream.write_all(request.as_bytes()).await;
        let mut answer = String::new();
        _ = stream.read_to_string(&mut answer).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
    }

    /// An app that this API made.
    async fn app(&self, name: &str, permissions: Value) -> Value {
        let new = json!({"type": "SERVICE", "name": name, "permissions": permissions});
        let (status, created) = self.ask("POST", "/access-key", new).await;
        assert_eq!(status, 201, "{created}");
        created
    }

    async fn register(&self, name: &str) {
        self.server.register_event(name, EventOptions::default()).await.unwrap();
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

fn names(list: &Value, member: &str) -> Vec<String> {
    list["results"].as_array().unwrap().iter().map(|item| item[member].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn events_are_created_listed_shown_and_changed() {
    let engine = Engine::start().await;
    // Their command line sends times, of which nobody asked.
    let new = |name: &str, payload: Value| json!({"name": name, "payload": payload, "createdAt": "0001-01-01T00:00:00Z", "updatedAt": "0001-01-01T00:00:00Z"});
    for name in ["shop/orders/created", "shop/orders/paid", "test-event"] {
        let (status, event) = engine.ask("POST", "/event", new(name, json!({"order": "string"}))).await;
        assert_eq!((status, text(&event, "/name")), (201, name));
    }
    let (status, refused) = engine.ask("POST", "/event", new("test-event", json!({}))).await;
    assert_eq!((status, text(&refused, "/error/kind")), (409, "conflict"));
    let (status, refused) = engine.ask("POST", "/event", new("other", json!({"key": "value"}))).await;
    assert_eq!(status, 422);
    assert!(text(&refused, "/error/message").contains("payload"), "{refused}");
    for (body, status, part) in [
        (r#"{"name":"other","payload":{"total":"string","total":"long"}}"#, 400, "a name that its object has already"),
        (
            r#"{"name":"other","payload":[]}"#,
            422,
            "payload: should be an object that holds the type of each field, like",
        ),
    ] {
        let (found, _, refused) = engine.raw_body(&engine.key, "POST", "/api/v1/ensync/event", body).await;
        assert!(found == status && refused.contains(part), "{body}: {refused}");
    }

    let (_, list) = engine.ask("GET", "/event?pageIndex=0&limit=2&order=DESC&orderBy=createdAt", Value::Null).await;
    assert_eq!(
        (&list["resultsLength"], names(&list, "name")),
        (&json!(3), vec!["test-event".into(), "shop/orders/paid".into()])
    );
    let (_, list) = engine.ask("GET", "/event?pageIndex=1&limit=2&order=desc&orderBy=name", Value::Null).await;
    assert_eq!(names(&list, "name"), ["shop/orders/created"]);
    let (_, list) = engine.ask("GET", "/event?name=paid", Value::Null).await;
    assert_eq!(names(&list, "name"), ["shop/orders/paid"]);
    for bad in ["limit=0", "limit=101", "limit=x", "order=UP", "orderBy=size", "pageIndex=-1"] {
        let (status, _) = engine.ask("GET", &format!("/event?{bad}"), Value::Null).await;
        assert!([400, 422].contains(&status), "{bad}: {status}");
    }

    let (status, event) = engine.ask("GET", "/event/shop%2Forders%2Fpaid", Value::Null).await;
    assert_eq!((status, &event["payload"]), (200, &json!({"order": "string"})));
    // Their command line puts the id into the path as it is, and sends an empty name if it was not told one.
    let path = format!("/event/{}", text(&event, "/id"));
    let (status, event) = engine.ask("PUT", &path, json!({"name": "", "payload": {"total": "double"}})).await;
    assert_eq!((status, &event["payload"]), (200, &json!({"total": "double"})));
    // One without a schema, or with its name misspelt, takes none away.
    for body in
        [json!({"name": "shop/orders/paid"}), json!({"payLoad": {"x": "string"}}), json!({"payload": null}), json!({})]
    {
        let (status, refused) = engine.ask("PUT", &path, body.clone()).await;
        assert!(status == 422 && text(&refused, "/error/message").contains("payload"), "{body}: {status} {refused}");
        let (status, refused) = engine.ask("POST", "/event", body.clone()).await;
        assert!(status == 422 && text(&refused, "/error/message").contains("payload"), "{body}: {status} {refused}");
        let (_, event) = engine.ask("GET", "/event/shop%2Forders%2Fpaid", Value::Null).await;
        assert_eq!(event["payload"], json!({"total": "double"}), "{body}");
    }
    let (status, event) = engine.ask("PUT", &path, json!({"name": "shop/orders/paid", "payload": {}})).await;
    assert_eq!((status, &event["payload"]), (200, &json!({})));
    let (status, refused) = engine.ask("PUT", &path, json!({"name": "updated/name/name", "payload": {}})).await;
    assert_eq!(status, 409);
    assert!(text(&refused, "/error/message").contains("cannot be changed"), "{refused}");
    for none in ["/event/nowhere", "/event/a%2Fb"] {
        assert_eq!(engine.ask("GET", none, Value::Null).await.0, 404);
        assert_eq!(engine.ask("PUT", none, json!({"payload": {}})).await.0, 404);
    }
}

#[tokio::test]
async fn a_key_that_it_made_logs_in_with_its_rights_and_its_pair() {
    let engine = Engine::start().await;
    let (_, refused) = engine
        .ask("POST", "/access-key", json!({"name": "early", "permissions": {"send": ["event1"], "receive": []}}))
        .await;
    assert!(text(&refused, "/error/message").contains("event1 is not registered"), "{refused}");
    assert!(engine.server.broker().apps().await.unwrap().is_empty(), "nothing is made before all is known to be right");

    for name in ["event1", "event2"] {
        engine.register(name).await;
    }
    let created = engine.app("shop", json!({"send": ["event1"], "receive": ["event2"]})).await;
    assert_eq!(text(&created, "/type"), "SERVICE");
    assert_eq!(created["permissions"], json!({"send": ["event1"], "receive": ["event2"]}));
    let secret = SecretKey::parse(text(&created, "/service_key_pair/private_key")).unwrap();
    let id: AppId = text(&created, "/service_key_pair/public_key").parse().unwrap();
    assert_eq!(secret.app_id(), Some(id), "one pair");
    let key = AppKey::parse(text(&created, "/accessKey")).unwrap();
    let link = engine.server.in_process().connect(&engine.server.grpc_url().parse().unwrap(), &key).await.unwrap();
    assert_eq!(link.welcome.app_id, Some(id));
    let app = engine.server.broker().app(id).await.unwrap().unwrap();
    assert_eq!(app.rights, Rights::NONE);
    let (send, receive) = (Rights { publish: true, subscribe: false }, Rights { publish: false, subscribe: true });
    assert_eq!(app.grants, [("event1".parse().unwrap(), send), ("event2".parse().unwrap(), receive)]);

    // Neither half of what was told once is told again.
    let path = format!("/access-key/{}", text(&created, "/id"));
    let filtered = format!("/access-key?accessKey={}", key.expose());
    for path in
        [path.clone(), format!("{path}/permissions"), filtered, "/access-key?orderBy=key&order=DESC&limit=20".into()]
    {
        let (status, shown) = engine.ask("GET", &path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {shown}");
        let shown = shown.to_string();
        assert!(shown.contains(&id.to_string()) && !shown.contains(key.expose()), "{path}: {shown}");
        assert!(!shown.contains(text(&created, "/service_key_pair/private_key")), "{path}");
    }
    // What permissions are asked by is the key, at both paths.
    for path in
        [format!("/access-key/{}/permissions", key.expose()), format!("/access-key/permissions/{}", key.expose())]
    {
        let (status, shown) = engine.ask("GET", &path, Value::Null).await;
        assert_eq!((status, &shown["permissions"]), (200, &created["permissions"]));
        let (status, shown) = engine.ask("POST", &path, json!({"send": ["*"], "receive": ["event1"]})).await;
        assert_eq!((status, &shown["permissions"]["send"]), (200, &json!(["*"])));
        let (_, shown) = engine.ask("POST", &path, json!({"send": ["event1"], "receive": ["event2"]})).await;
        assert_eq!(shown["permissions"], created["permissions"], "{path}");
    }
    // A right that was taken with our own tools has its place as well.
    let broker = engine.server.broker();
    broker.grant(id, None, Rights::ALL).await.unwrap();
    broker.grant(id, Some("event1".parse().unwrap()), receive).await.unwrap();
    let (_, shown) = engine.ask("GET", &path, Value::Null).await;
    assert_eq!(shown["permissions"]["send"], json!(["*"]));
    assert_eq!(shown["permissions"]["resources"]["send_except"], json!(["event1", "event2"]));

    let (status, pair) = engine.ask("PUT", "/access/service-key-pair", json!({"access_key": key.expose()})).await;
    assert_eq!(status, 200);
    let app = broker.app(id).await.unwrap().unwrap();
    assert_eq!(app.public_key.to_string(), text(&pair, "/public_key"));
    assert_eq!(SecretKey::parse(text(&pair, "/private_key")).unwrap().app_id(), Some(app.public_key));

    let (status, _) = engine.ask("DELETE", &path, Value::Null).await;
    assert_eq!((status, engine.ask("GET", &path, Value::Null).await.0), (200, 404));
    let (_, verified) = engine.ask("GET", &format!("/access/verify/{}", key.expose()), Value::Null).await;
    assert_eq!(verified, json!({"status": false}));
}

#[tokio::test]
async fn what_the_engine_cannot_be_it_says() {
    let engine = Engine::start().await;
    let (status, refused) = engine.ask("POST", "/access-key", json!({"type": "ACCOUNT", "name": "boss"})).await;
    assert_eq!(status, 422);
    assert!(text(&refused, "/error/message").contains("admin.token"), "{refused}");
    let (status, refused) = engine.ask("POST", "/workspace", json!({"name": "shop"})).await;
    assert_eq!(status, 409);
    assert!(text(&refused, "/error/message").contains("shop/created"), "{refused}");
    engine.register("shop/orders/created").await;
    assert_eq!(engine.ask("POST", "/workspace", json!({"name": "/shop/"})).await.0, 200);
    let (_, list) = engine.ask("GET", "/workspace?limit=20&order=DESC&orderBy=name", Value::Null).await;
    assert_eq!((&list["resultsLength"], names(&list, "path")), (&json!(1), vec!["shop".to_owned()]));
    let (inner, outer) = (&list["results"][0]["children"][0], &list["results"][0]);
    assert_eq!((text(inner, "/path"), &inner["parentId"]), ("shop/orders", &outer["id"]));
}

#[tokio::test]
async fn an_app_sees_itself_and_changes_nothing() {
    let engine = Engine::start().await;
    for name in ["mine", "hidden"] {
        engine.register(name).await;
    }
    let own = engine.app("own", json!({"send": ["mine"], "receive": []})).await;
    let other = engine.app("other", json!({"send": ["*"], "receive": ["*"]})).await;
    let (own_key, other_key) = (text(&own, "/accessKey"), text(&other, "/accessKey"));
    let secrets = ["/id", "/accessKey", "/service_key_pair/public_key", "/service_key_pair/private_key", "/name"]
        .map(|pointer| text(&other, pointer));
    let ids = [secrets[0], other_key];
    let mut asked = Vec::new();
    for id in ids {
        asked.push(("GET", format!("/access-key/{id}"), Value::Null, 404));
        asked.push(("GET", format!("/access-key/{id}/permissions"), Value::Null, 404));
        asked.push(("GET", format!("/access-key/permissions/{id}"), Value::Null, 404));
        asked.push(("GET", format!("/access-key?accessKey={id}"), Value::Null, 200));
        asked.push(("POST", format!("/access-key/{id}/permissions"), json!({"send": ["*"], "receive": []}), 403));
        asked.push(("DELETE", format!("/access-key/{id}"), Value::Null, 403));
        asked.push(("PUT", "/access/service-key-pair".into(), json!({"access_key": id}), 403));
        asked.push(("GET", format!("/access/verify/{id}"), Value::Null, 200));
    }
    asked.push(("GET", "/access-key?limit=100".into(), Value::Null, 200));
    asked.push(("GET", "/event?limit=100".into(), Value::Null, 200));
    asked.push(("GET", "/event/hidden".into(), Value::Null, 404));
    asked.push(("GET", "/workspace".into(), Value::Null, 200));
    asked.push(("POST", "/access-key".into(), json!({"name": "x"}), 403));
    asked.push(("POST", "/event".into(), json!({"name": "x", "payload": {}}), 403));
    asked.push(("PUT", "/event/bWluZQ".into(), json!({"payload": {}}), 403));
    asked.push(("POST", "/workspace".into(), json!({"name": "x"}), 403));
    asked.push(("PUT", "/access/service-key-pair".into(), json!({"access_key": own_key}), 403));
    for (method, path, body, expected) in asked {
        let (status, answer) = engine.ask_as(own_key, method, &path, body).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
        let answer = answer.to_string();
        // A name that it may not use is like one that nobody registered.
        let unregistered = r#"{"error":{"kind":"unknown_event","message":"the event name hidden is not registered"}}"#;
        assert!(!answer.contains("hidden") || answer == unregistered, "{method} {path}: {answer}");
        for secret in secrets {
            assert!(!answer.contains(&format!("\"{secret}\"")), "{method} {path}: {answer}");
        }
    }
    let (_, verified) = engine.ask_as(own_key, "GET", &format!("/access/verify/{other_key}"), Value::Null).await;
    assert_eq!(verified["status"], false);
    let (_, verified) = engine.ask_as(own_key, "GET", &format!("/access/verify/{own_key}"), Value::Null).await;
    assert_eq!(verified["status"], true);
    let (_, list) = engine.ask_as(own_key, "GET", "/access-key", Value::Null).await;
    assert_eq!(names(&list, "name"), ["own"]);
    let (_, list) = engine.ask_as(own_key, "GET", "/event", Value::Null).await;
    assert_eq!(names(&list, "name"), ["mine"]);

    // Disabled, it gets nothing.
    let id: AppId = text(&own, "/service_key_pair/public_key").parse().unwrap();
    engine.server.broker().enable_app(id, false).await.unwrap();
    assert_eq!(engine.ask_as(own_key, "GET", "/event", Value::Null).await.0, 403);
}

#[tokio::test]
async fn who_guesses_keys_is_told_to_wait_and_learns_nothing() {
    let engine = Engine::start().await;
    assert_eq!(engine.ask_as("", "GET", "/ping", Value::Null).await, (200, Value::String("pong\n".into())));
    let mut seen = Vec::new();
    for guess in 0..40 {
        let guess = format!("guess-number-{guess}-of-many");
        let (status, head, body) = engine.raw(&guess, "GET", "/api/v1/ensync/event", Value::Null).await;
        assert!(!body.contains(&guess) && !body.contains(&engine.key), "{body}");
        assert!(status != 401 || head.contains("www-authenticate: accesskey"), "{head}");
        seen.push(status);
    }
    assert_eq!(seen[0], 401);
    assert_eq!(seen[39], 429, "{seen:?}");
    // Only failures wait: a good key from the same address is let in.
    assert_eq!(engine.ask("GET", "/event", Value::Null).await.0, 200);
}

/// A name that leads to this machine may be somebody else's: only who has the admin token may call it by any.
#[tokio::test]
async fn it_goes_by_no_strange_name_and_takes_nothing_from_strange_pages() {
    let engine = Engine::start().await;
    let made = engine.app("shop", json!({"send": [], "receive": []})).await;
    let service = text(&made, "/accessKey").to_owned();
    let ask = async |method: &str, head: &str, key: &str| {
        let mut stream = TcpStream::connect(engine.address).await.unwrap();
        let request = format!(
            "{method} /api/v1/ensync/access-key HTTP/1.1\r\n{head}\r\nX-ACCESS-KEY: {key}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!(ask("GET", "Host: evil.example", "guess").await, 421);
    assert_eq!(ask("GET", "Host: evil.example", &service).await, 421);
    assert_eq!(ask("GET", "Host: evil.example", &engine.key).await, 200, "no page has it");
    for host in ["localhost", "127.0.0.1:443", "a.localhost", "[::1]"] {
        assert_eq!(ask("GET", &format!("Host: {host}"), &service).await, 200, "{host}");
    }
    let crossing = "Host: localhost\r\nOrigin: https://evil.example";
    assert_eq!(ask("POST", crossing, &engine.key).await, 403);
    assert_eq!(ask("GET", crossing, &engine.key).await, 200);

    let hosts = ["config.example".to_owned()];
    let server = Server::builder().admin_hosts(&hosts).config_manager(([127, 0, 0, 1], 0)).start().await.unwrap();
    let url = server.config_manager_url().unwrap();
    let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap().parse().unwrap();
    let engine = Engine { key: String::new(), address, server };
    let ask = async |host: &str| {
        let mut stream = TcpStream::connect(engine.address).await.unwrap();
        let request = format!("GET /api/v1/ensync/ping HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!((ask("config.example").await, ask("other.example").await), (200, 421));
}

#[tokio::test]
async fn every_operation_is_in_the_document() {
    let engine = Engine::start().await;
    let (status, _, body) = engine.raw("", "GET", "/openapi.json", Value::Null).await;
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&body).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1/ensync").unwrap();
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
            assert_eq!(operation["security"].is_array(), path != "/ping", "{method} {path}");
            operations.push(format!("{method} {path}"));
        }
    }
    operations.sort();
    let mut expected = [
        "get /ping",
        "get /event",
        "post /event",
        "get /event/{event}",
        "put /event/{event}",
        "get /access-key",
        "post /access-key",
        "get /access-key/{id}",
        "delete /access-key/{id}",
        "get /access-key/{id}/permissions",
        "post /access-key/{id}/permissions",
        "get /access-key/permissions/{id}",
        "post /access-key/permissions/{id}",
        "put /access/service-key-pair",
        "get /access/verify/{key}",
        "get /workspace",
        "post /workspace",
    ];
    expected.sort_unstable();
    assert_eq!(operations, expected);
}
