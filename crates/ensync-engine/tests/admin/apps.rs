use ensync_core::{AppKey, Login, Service};
use futures::StreamExt;
use serde_json::json;

use super::client::{Engine, encoded, new_key};

#[tokio::test]
async fn an_app_from_its_creation_to_its_end() {
    let engine = Engine::start().await;
    let public_key = new_key();
    let new = json!({"name": "shop", "public_key": public_key});
    let created = engine.call("POST", "/v1/apps", Some(new.clone())).await.ok(201);
    let (app, access_key) = (&created["app"], created["access_key"].as_str().unwrap());
    assert!(access_key.starts_with("ensync_key_"));
    assert_eq!((&app["id"], &app["public_key"]), (&json!(public_key), &json!(public_key)));
    assert_eq!((&app["enabled"], &app["sessions"]), (&json!(true), &json!(0)));
    assert_eq!(app["rights"], json!({"publish": true, "subscribe": true}));
    engine.call("POST", "/v1/apps", Some(new)).await.refused(409, "conflict");
    for (body, status, kind) in [
        (json!({"name": "", "public_key": new_key()}), 422, "invalid_input"),
        (json!({"name": "x", "public_key": "AAAA"}), 422, "invalid_key"),
        (json!({"name": "x"}), 422, "invalid_input"),
        (json!({"name": "x", "public_key": new_key(), "rights": {"publish": true}}), 422, "invalid_input"),
    ] {
        engine.call("POST", "/v1/apps", Some(body)).await.refused(status, kind);
    }

    let path = format!("/v1/apps/{}", encoded(&public_key));
    let shown = engine.call("GET", &path, None).await.ok(200);
    assert_eq!(&shown, app);
    assert!(!shown.to_string().contains(access_key), "shown once");
    let listed = engine.call("GET", "/v1/apps?name=shop", None).await.ok(200);
    assert_eq!(listed, json!({"apps": [app], "next": null}));
    assert_eq!(engine.call("GET", "/v1/apps?name=other", None).await.ok(200)["apps"], json!([]));

    assert_eq!(engine.call("POST", &format!("{path}/disable"), None).await.ok(200)["enabled"], false);
    assert_eq!(engine.call("POST", &format!("{path}/enable"), None).await.ok(200)["enabled"], true);
    engine.call("DELETE", &path, None).await.ok(204);
    for (method, path) in [("GET", path.clone()), ("DELETE", path.clone()), ("POST", format!("{path}/disable"))] {
        engine.call(method, &path, None).await.refused(404, "not_found");
    }
    engine.call("GET", "/v1/apps/nonsense", None).await.refused(422, "invalid_key");
}

#[tokio::test]
async fn keys_are_rotated_and_sessions_end() {
    let engine = Engine::start().await;
    let (first, access_key) = engine.create_app("shop").await;
    let login = async |key: &str| {
        let app_key = AppKey::parse(key).unwrap();
        engine.server.broker().login(Login { app_key, transport: "local", remote: None }).await
    };
    let path = format!("/v1/apps/{}", encoded(&first));
    let mut session = login(&access_key).await.unwrap();
    assert_eq!(engine.call("GET", &path, None).await.ok(200)["sessions"], 1);

    let grace = Some(json!({"grace_ms": 60_000}));
    let rotated = engine.call("POST", &format!("{path}/access-key"), grace).await.ok(200);
    let second_key = rotated["access_key"].as_str().unwrap();
    assert!(rotated["app"]["old_access_key_until"].as_u64().unwrap() > rotated["app"]["created_at"].as_u64().unwrap());
    login(&access_key).await.unwrap();
    let rotated = engine.call("POST", &format!("{path}/access-key"), Some(json!({}))).await.ok(200);
    assert!(session.inbox.next().await.is_none(), "its key is gone");
    login(&access_key).await.unwrap_err();
    login(second_key).await.unwrap_err();
    let access_key = rotated["access_key"].as_str().unwrap();
    let mut session = login(access_key).await.unwrap();

    let second = new_key();
    let rotated = engine.call("POST", &format!("{path}/key-pair"), Some(json!({"public_key": second}))).await.ok(200);
    assert_eq!((&rotated["id"], &rotated["public_key"]), (&json!(first), &json!(second)));
    assert_eq!(rotated["earlier_public_keys"], json!([first]));
    assert!(session.inbox.next().await.is_none(), "it has to learn of the key");
    assert_eq!(login(access_key).await.unwrap().welcome.app_id.unwrap().to_string(), second);
    let again = Some(json!({"public_key": first}));
    engine.call("POST", &format!("{path}/key-pair"), again).await.refused(409, "conflict");

    let retired = format!("{path}/earlier-public-keys");
    engine.call("DELETE", &format!("{retired}/{}", encoded(&second)), None).await.refused(409, "conflict");
    engine.call("DELETE", &format!("{retired}/{}", encoded(&first)), None).await.ok(204);
    engine.call("DELETE", &format!("{retired}/{}", encoded(&first)), None).await.refused(404, "not_found");
    let long = Some(json!({"grace_ms": u64::MAX}));
    engine.call("POST", &format!("{path}/access-key"), long).await.refused(422, "invalid_input");
}

#[tokio::test]
async fn rights_are_set_and_taken_back() {
    let engine = Engine::start().await;
    let (app, _) = engine.create_app("shop").await;
    engine.call("POST", "/v1/events", Some(json!({"name": "orders/new"}))).await.ok(201);
    let path = format!("/v1/apps/{}", encoded(&app));
    let may = json!({"publish": true, "subscribe": false});
    let none = json!({"publish": false, "subscribe": false});
    let shown = engine.call("PUT", &format!("{path}/rights"), Some(none.clone())).await.ok(200);
    assert_eq!((&shown["rights"], &shown["grants"]), (&none, &json!([])));
    let grant = format!("{path}/grants/orders%2Fnew");
    let shown = engine.call("PUT", &grant, Some(may.clone())).await.ok(200);
    assert_eq!(shown["grants"], json!([{"event": "orders/new", "rights": may}]));
    engine.call("DELETE", &grant, None).await.ok(204);
    engine.call("DELETE", &grant, None).await.refused(404, "not_found");
    engine.call("PUT", &format!("{path}/grants/unknown"), Some(may.clone())).await.refused(404, "unknown_event");
    engine.call("PUT", &format!("{path}/grants/a%2F%2Fb"), Some(may)).await.refused(422, "invalid_event_name");
    engine.call("PUT", &format!("{path}/rights"), Some(json!({"publish": true}))).await.refused(422, "invalid_input");
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let engine = Engine::start().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(engine.create_app(&format!("app {n}")).await.0);
    }
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = engine.call("GET", &format!("/v1/apps?limit=2{after}"), None).await.ok(200);
        found.extend(page["apps"].as_array().unwrap().iter().map(|app| app["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={}", encoded(next));
    }
    ids.sort_by_key(|id| *id.parse::<ensync_core::AppId>().unwrap().as_bytes());
    assert_eq!(found, ids);
}

/// Whoever is told of an app sees it as it was made, with its key, also if somebody else deletes it at once.
#[tokio::test]
async fn a_key_is_shown_whoever_deletes_its_app() {
    let engine = Engine::start().await;
    let public_key = new_key();
    let id = ensync_core::AppId::parse(&public_key).unwrap();
    let broker = engine.server.broker().clone();
    let deleting = tokio::spawn(async move {
        let mut deleted = 0;
        while deleted < 100 {
            deleted += u32::from(broker.delete_app(id).await.is_ok());
        }
    });
    while !deleting.is_finished() {
        let new = json!({"name": "shop", "public_key": public_key});
        let made = engine.call("POST", "/v1/apps", Some(new)).await;
        if made.status != 409 {
            assert!(made.ok(201)["access_key"].is_string());
        }
    }
    deleting.await.unwrap();
}
