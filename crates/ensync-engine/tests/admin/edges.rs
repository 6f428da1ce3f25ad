//! What must not become an app's key, or a name, at any way in.

use ensync_core::{AppId, AppKey, ErrorKind, SecretKey};
use ensync_engine::Server;
use serde_json::{Value, json};

use super::client::{Engine, encoded, new_key};

/// Public keys for which whoever knows the curve needs no secret, or nobody has one, and what is said of each. The points of small
/// order are those of RFC 7748, section 6.1, on this form of the curve; behind each stand its other spellings.
fn unusable_keys() -> Vec<(AppId, &'static str)> {
    let (small, spelt, point) = ("small order", "not canonical", "not a point");
    let keys = [
        ("0000000000000000000000000000000000000000000000000000000000000000", small),
        ("0000000000000000000000000000000000000000000000000000000000000080", small),
        ("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", spelt),
        ("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", spelt),
        ("0100000000000000000000000000000000000000000000000000000000000000", small),
        ("0100000000000000000000000000000000000000000000000000000000000080", spelt),
        ("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", spelt),
        ("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", spelt),
        ("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", small),
        ("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", spelt),
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", small),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa", small),
        // The base point and a point of order 8.
        ("da99e28ba529cdde35a25fba9059e78ecaee239f99755b9b1aa4f65df00803e2", "prime-order group"),
        // No x belongs to y = 2.
        ("0200000000000000000000000000000000000000000000000000000000000000", point),
    ];
    keys.map(|(hex, why)| {
        let byte = |at: usize| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap();
        (AppId::from_bytes(std::array::from_fn(byte)), why)
    })
    .into()
}

#[tokio::test]
async fn no_unusable_key_becomes_an_apps() {
    let engine = Engine::of(Server::builder().config_manager(([127, 0, 0, 1], 0))).await;
    let broker = engine.server.broker();
    let (shop, _) = engine.create_app("shop").await;
    let own: AppId = shop.parse().unwrap();
    let rotation = format!("/v1/apps/{}/key-pair", encoded(&shop));
    let access_key = AppKey::parse("a-key-that-is-there-already").unwrap();
    for (key, why) in unusable_keys() {
        let text = key.to_string();
        // The admin API: a new app, and new keys of one.
        let new = Some(json!({"name": "stock", "public_key": text}));
        let created = engine.call("POST", "/v1/apps", new).await.refused(422, "invalid_key");
        let rotated =
            engine.call("POST", &rotation, Some(json!({"public_key": text}))).await.refused(422, "invalid_key");
        // Provisioning by whoever embeds the engine.
        let provisioned = [
            broker.create_app("stock", key).await.map(drop).unwrap_err(),
            broker.create_app_with_key("stock", key, &access_key).await.unwrap_err(),
            broker.rotate_key_pair(own, key).await.unwrap_err(),
        ];
        assert!(provisioned.iter().all(|error| error.kind() == ErrorKind::InvalidKey), "{provisioned:?}");
        for said in provisioned.iter().map(ToString::to_string).chain([created, rotated]) {
            assert!(said.contains(why) && said.contains("this cannot be an app's id"), "{text}: {said}");
            // It may be a secret of 32 bytes.
            assert!(!said.contains(&text[..12]), "{said}");
        }
    }
    // The Config Manager API takes no key: it makes each, and one that it is sent is passed over.
    let url = engine.server.config_manager_url().unwrap();
    let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap().parse().unwrap();
    let (key, _) = unusable_keys()[0];
    let pair = json!({"public_key": key.to_string()});
    let made = config_manager(&engine, address, json!({"name": "stock", "service_key_pair": pair})).await;
    let made: AppId = made["service_key_pair"]["public_key"].as_str().unwrap().parse().unwrap();
    assert_ne!(made, key);
    made.check().unwrap();
    let mut apps: Vec<AppId> = broker.apps().await.unwrap().into_iter().map(|app| app.id).collect();
    apps.sort_unstable();
    let mut expected = [own, made];
    expected.sort_unstable();
    assert_eq!(apps, expected);
}

async fn config_manager(engine: &Engine, address: std::net::SocketAddr, body: Value) -> Value {
    let body = body.to_string();
    let (token, length) = (engine.token(), body.len());
    let request = format!(
        "POST /api/v1/ensync/access-key HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-ACCESS-KEY: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}",
        token.expose()
    );
    engine.send_to(address, &request).await.ok(201)
}

#[tokio::test]
async fn no_bad_name_becomes_an_apps() {
    let engine = Engine::start().await;
    let (id, _) = engine.create_app("shop").await;
    let secret = SecretKey::generate().unwrap().to_base64().unwrap().to_string();
    let long = "x".repeat(257);
    for (name, why) in [
        ("", "is empty"),
        (" ", "begins or ends with a blank"),
        (" stock", "begins or ends with a blank"),
        ("stock\u{a0}", "begins or ends with a blank"),
        ("st\u{200b}ock", "'\\u{200b}'"),
        ("\u{feff}stock", "'\\u{feff}'"),
        ("stock\u{202e}pohs", "'\\u{202e}'"),
        ("st\u{7}ock", "'\\u{7}'"),
        ("st\u{9b}ock", "'\\u{9b}'"),
        ("st\nock", "'\\n'"),
        ("st\u{2028}ock", "'\\u{2028}'"),
        (&long, "has 257 bytes, the limit is 256"),
        (&id, "this is a key"),
        (id.trim_end_matches('='), "this is a key"),
        (&secret, "this is a secret key"),
        ("ensync_key_0123456789", "this is an app key"),
    ] {
        let said = [engine.call("POST", "/v1/apps", Some(json!({"name": name, "public_key": new_key()}))).await]
            .map(|answer| answer.refused(422, "invalid_input"));
        let key: AppId = new_key().parse().unwrap();
        let provisioned = engine.server.broker().create_app(name, key).await.unwrap_err();
        assert_eq!(provisioned.kind(), ErrorKind::InvalidInput);
        for said in said.into_iter().chain([provisioned.to_string()]) {
            assert!(said.contains(why), "{name:?}: {said}");
            assert!(!said.contains(&secret[..12]) && said.len() < 200, "{said}");
        }
    }
    // What is there already is refused, unless it is asked for.
    let again = json!({"name": "shop", "public_key": new_key()});
    engine.call("POST", "/v1/apps", Some(again)).await.refused(409, "conflict");
    let asked = json!({"name": "shop", "public_key": new_key(), "same_name": true});
    engine.call("POST", "/v1/apps", Some(asked)).await.ok(201);
    assert_eq!(engine.server.broker().apps().await.unwrap().len(), 2);
}

#[tokio::test]
async fn no_bad_name_becomes_an_events() {
    let engine = Engine::start().await;
    let secret = SecretKey::generate().unwrap().to_base64().unwrap().to_string();
    let long = "x".repeat(256);
    for (name, why) in [
        ("", "is empty"),
        ("a//b", "empty segment"),
        ("/a", "empty segment"),
        ("a/", "empty segment"),
        ("a/../b", "has the segment \"..\""),
        (".", "has the segment \".\""),
        ("a b", "' '"),
        ("a\u{a0}b", "'\\u{a0}'"),
        ("a;b", "';'"),
        ("a\"b", "'\\\"'"),
        ("a\u{200d}b", "'\\u{200d}'"),
        ("a\u{202e}b", "'\\u{202e}'"),
        ("a\u{1b}[2J", "'\\u{1b}'"),
        (&long, "has 256 bytes, the limit is 255"),
        (&secret, "this is a secret key"),
    ] {
        let said =
            engine.call("POST", "/v1/events", Some(json!({"name": name}))).await.refused(422, "invalid_event_name");
        assert!(said.contains(why), "{name:?}: {said}");
        assert!(!said.contains(&secret[..12]) && said.len() < 200, "{said}");
        let grant = format!("/v1/apps/{}/grants/{}", encoded(&new_key()), encoded(name));
        if !name.is_empty() {
            let may = json!({"publish": true, "subscribe": true});
            engine.call("PUT", &grant, Some(may)).await.refused(422, "invalid_event_name");
        }
    }
    assert_eq!(engine.server.broker().events().await.unwrap(), []);
}

/// A map between the text and the schema would keep one of two fields of a name.
#[tokio::test]
async fn a_schema_is_read_as_it_was_sent() {
    let engine = Engine::start().await;
    engine.call("POST", "/v1/events", Some(json!({"name": "there"}))).await.ok(201);
    let deep = format!("{}1{}", "[".repeat(127), "]".repeat(127));
    let bomb = (0..12)
        .fold("1".to_owned(), |inner, _| json!({"$serde_json::private::RawValue": format!("[{inner}]")}).to_string());
    for (schema, status, part) in [
        (r#"{"total":"string","total":"integer"}"#, 400, "a name that its object has already"),
        (r#"{"total":"string","\u0074otal":"integer"}"#, 400, "a name that its object has already"),
        (r#"{"total":{"a":1,"a":2}}"#, 400, "a name that its object has already"),
        (r#"{"total":"\ud800"}"#, 400, "half of a surrogate pair"),
        (r#"{"total":1e400}"#, 400, "beyond the range"),
        (&deep, 400, "more than 127 levels"),
        ("[]", 422, "schema: should be an object that holds the type of each field"),
        (r#""string""#, 422, "schema: should be an object that holds the type of each field"),
        (&bomb, 422, "the type of field"),
        // A parser that gives such a name a meaning would take these.
        (r#"{"$serde_json::private::RawValue":"{\"x\":\"integer\"}"}"#, 422, "the type of field"),
        (r#"{"f":{"$serde_json::private::RawValue":"\"integer\""}}"#, 422, "should be a text, and is an object"),
        (&format!(r#"{{"total":{bomb}}}"#), 422, "should be a text, and is an object"),
    ] {
        let said = [
            ("POST", "/v1/events", format!(r#"{{"name":"new","schema":{schema}}}"#)),
            ("PATCH", "/v1/events/there", format!(r#"{{"schema":{schema}}}"#)),
        ];
        for (method, path, body) in said {
            let said = engine.call_with(method, path, &body).await.refused(status, "invalid_input");
            assert!(said.contains(part) && said.len() < 400, "{schema}: {said}");
        }
    }
    let (name, options) = engine.server.broker().events().await.unwrap().remove(0);
    assert_eq!((name.as_str(), options.schema), ("there", None));
}
