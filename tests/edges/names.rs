//! Keys and names are checked alike wherever they enter.

use ensync_core::{AppId, SecretKey};
use ensync_engine::{AdminApi, Rights};

use super::{TOKEN, admin, app_id, both, config_manager, in_path, refused, secret, status, taken};

fn bad_points() -> Vec<(&'static str, [u8; 32])> {
    let mut one = [0; 32];
    one[0] = 1;
    let mut negative_zero = one;
    negative_zero[31] = 0x80;
    let mut two = [0; 32];
    two[0] = 2;
    let mut p = [0xff; 32];
    p[0] = 0xed;
    p[31] = 0x7f;
    let mut p1 = p;
    p1[0] = 0xee;
    let mut minus = p;
    minus[0] = 0xec;
    vec![
        ("zero", [0; 32]),
        ("one", one),
        ("negative zero", negative_zero),
        ("no point", two),
        ("p", p),
        ("p+1", p1),
        ("-1", minus),
        ("ff", [0xff; 32]),
    ]
}

#[tokio::test]
async fn keys_are_checked_wherever_they_enter() {
    let server = both().await;
    let api = AdminApi::new(server.broker().clone());
    let good = server.create_app("good").await.unwrap();
    let client = ensync_client::Engine::with_connector(
        server.grpc_url().parse().unwrap(),
        std::sync::Arc::new(server.in_process()) as std::sync::Arc<dyn ensync_core::Connector>,
    )
    .create_client(&good.app_key)
    .await
    .unwrap();
    let mut bad = Vec::new();
    for (what, bytes) in bad_points() {
        let key = AppId::from_bytes(bytes);
        if server.broker().create_app_with_rights("x", key, Rights::ALL).await.is_ok() {
            bad.push(format!("broker create {what}"))
        }
        if server.broker().create_app("x", key).await.is_ok() {
            bad.push(format!("broker create {what}"))
        }
        if server.broker().rotate_key_pair(good.app_id, key).await.is_ok() {
            bad.push(format!("broker rotate {what}"))
        }
        let (status, told) = admin(&api, "POST", "/v1/apps", format!(r#"{{"name":"y","public_key":"{key}"}}"#)).await;
        if !refused(status) {
            bad.push(format!("admin create {what}: {status} {told}"))
        }
        let path = format!("/v1/apps/{}/key-pair", in_path(&good.app_id.to_string()));
        let (status, told) = admin(&api, "POST", &path, format!(r#"{{"public_key":"{key}"}}"#)).await;
        if !refused(status) {
            bad.push(format!("admin rotate {what}: {status} {told}"))
        }
        let sent = client.publish("a/b", &1).to(key).await;
        match sent {
            Err(error) if error.kind() == ensync_core::ErrorKind::InvalidKey => {}
            other => bad.push(format!("publish to {what}: {other:?}")),
        }
    }
    // Each of these takes what is right.
    let key = || SecretKey::generate().unwrap().app_id().unwrap();
    server.broker().create_app_with_rights("x1", key(), Rights::ALL).await.unwrap();
    server.broker().create_app("x2", key()).await.unwrap();
    server.broker().rotate_key_pair(good.app_id, key()).await.unwrap();
    let reader = key();
    let (status, told) = admin(&api, "POST", "/v1/apps", format!(r#"{{"name":"y","public_key":"{reader}"}}"#)).await;
    assert!((200..300).contains(&status), "{status} {told}");
    let path = format!("/v1/apps/{}/key-pair", in_path(&good.app_id.to_string()));
    let (status, told) = admin(&api, "POST", &path, format!(r#"{{"public_key":"{}"}}"#, key())).await;
    assert!((200..300).contains(&status), "{status} {told}");
    client.publish("a/b", &1).to(reader).await.unwrap();
    assert!(bad.is_empty(), "{} {bad:#?}", bad.len());
}

#[tokio::test]
async fn names_are_checked_wherever_they_enter() {
    let server = both().await;
    let api = AdminApi::new(server.broker().clone());
    let mut bad = Vec::new();
    for name in [
        String::new(),
        " x".into(),
        "x\u{a0}".into(),
        "\u{3000}x".into(),
        "a\u{200b}b".into(),
        "a\u{202e}b".into(),
        "a\nb".into(),
        "\u{feff}x".into(),
        "a\u{ad}b".into(),
        "a\u{e0041}b".into(),
        "a\u{0}b".into(),
        "a\u{85}b".into(),
        "a\u{2028}b".into(),
        "x".repeat(257),
        "é".repeat(129),
        app_id(),
        app_id().trim_end_matches('=').to_owned(),
        "A".repeat(43),
        secret(),
        TOKEN.into(),
        "a\u{fe0f}b".into(),
        "a\u{3164}b".into(),
        "a\u{fff9}b".into(),
    ] {
        let quoted = serde_json::Value::from(name.clone()).to_string();
        if server.create_app(&name).await.is_ok() {
            bad.push(format!("server.create_app {name:?}"))
        }
        let key = SecretKey::generate().unwrap().app_id().unwrap();
        if server.broker().create_app(&name, key).await.is_ok() {
            bad.push(format!("broker {name:?}"))
        }
        let (code, told) =
            admin(&api, "POST", "/v1/apps", format!(r#"{{"name":{quoted},"public_key":"{key}"}}"#)).await;
        if !refused(code) {
            bad.push(format!("admin {name:?}: {code} {told}"))
        }
        let told =
            config_manager(&server, "POST", "/access-key", &format!(r#"{{"name":{quoted},"type":"SERVICE"}}"#)).await;
        if !refused(status(&told)) {
            bad.push(format!("CM {name:?}: {}", status(&told)))
        }
    }
    for name in [
        "",
        "/",
        "a//b",
        "a/./b",
        "..",
        "a b",
        "a;b",
        "a,b",
        "a{b",
        "a\"b",
        "a\\b",
        "a\u{200b}b",
        "a\u{202e}b",
        "a\u{a0}b",
        &"x".repeat(256),
        &app_id(),
        TOKEN,
        &secret(),
    ] {
        let quoted = serde_json::Value::from(name).to_string();
        if server.register_event(name, ensync_engine::EventOptions::default()).await.is_ok() {
            bad.push(format!("register {name:?}"))
        }
        let (code, told) = admin(&api, "POST", "/v1/events", format!(r#"{{"name":{quoted}}}"#)).await;
        if !refused(code) {
            bad.push(format!("admin event {name:?}: {code} {told}"))
        }
        let told = config_manager(&server, "POST", "/event", &format!(r#"{{"name":{quoted},"payload":{{}}}}"#)).await;
        if !refused(status(&told)) {
            bad.push(format!("CM event {name:?}: {}", status(&told)))
        }
    }
    // Each of these takes what is right.
    server.create_app("shop 1").await.unwrap();
    let key = || SecretKey::generate().unwrap().app_id().unwrap();
    server.broker().create_app("shop 2", key()).await.unwrap();
    let body = format!(r#"{{"name":"shop 3","public_key":"{}"}}"#, key());
    let (code, told) = admin(&api, "POST", "/v1/apps", body).await;
    assert!((200..300).contains(&code), "{code} {told}");
    let told = config_manager(&server, "POST", "/access-key", r#"{"name":"shop 4","type":"SERVICE"}"#).await;
    assert!(taken(&told), "{told}");
    server.register_event("a/b1", ensync_engine::EventOptions::default()).await.unwrap();
    let (code, told) = admin(&api, "POST", "/v1/events", r#"{"name":"a/b2"}"#).await;
    assert!((200..300).contains(&code), "{code} {told}");
    let told = config_manager(&server, "POST", "/event", r#"{"name":"a/b3","payload":{}}"#).await;
    assert!(taken(&told), "{told}");
    assert!(bad.is_empty(), "{} {bad:#?}", bad.len());
}
