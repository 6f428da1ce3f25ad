//! What an engine logs.

use ensync_sdk::Engine as Sdk;
use serde_json::Value;

use crate::process::Engine;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_lines_tell_the_life_of_an_engine_and_no_secret() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::start(place.path(), &["--log-format", "json", "--app", "shop", "--event", "a/b"]);
    let (key, app) = (engine.keys["ENSYNC_APP_KEY"].clone(), engine.keys["ENSYNC_APP_ID"].clone());
    let client = Sdk::new(engine.url("ws")).unwrap().create_client(key.as_str()).await.unwrap();
    client.publish("a/b", &"nobody's business").to(app.as_str()).await.unwrap();
    client.close().await.unwrap();
    engine.wait_for("session ended");
    let refused = Sdk::new(engine.url("grpc")).unwrap().create_client("no-such-app-key").await;
    assert!(refused.is_err());
    engine.wait_for("login refused");
    let secrets =
        [key.as_str(), &engine.keys["ENSYNC_SECRET_KEY"], "no-such-app-key", "nobody's business"].map(str::to_owned);
    let token = engine.token("ensync-data");
    engine.signal("TERM");
    let (status, log) = engine.ended();
    assert!(status.success());
    for secret in secrets.iter().chain([&token]) {
        assert!(!log.contains(secret.as_str()), "{log}");
    }
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |message: &str| {
        let found = lines.iter().find(|line| line["message"] == message);
        found.unwrap_or_else(|| panic!("no {message:?} in\n{log}"))
    };
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["target"].is_string(), "{line}");
    }
    assert_eq!(
        (&find("starting")["version"], &find("starting")["dev"]),
        (&env!("CARGO_PKG_VERSION").into(), &false.into())
    );
    let read_back = find("log read back");
    assert_eq!((&read_back["epoch"], &read_back["waiting"]), (&1.into(), &0.into()));
    assert!(find("listening")["address"].is_string() && find("ready")["took_ms"].is_number());
    let login = find("login");
    assert_eq!((&login["app"], &login["transport"]), (&app.as_str().into(), &"ws".into()));
    assert_eq!(find("session ended")["session"], login["session"]);
    assert_eq!(find("session ended")["reason"], "connection");
    assert_eq!(find("login refused")["transport"], "grpc");
    assert_eq!(find("stopping; once more stops at once")["signal"], "SIGTERM");
    assert_eq!(find("stopped")["level"], "INFO");
}

#[test]
fn the_level_is_a_setting_and_rust_log_goes_before_it() {
    let place = tempfile::tempdir().unwrap();
    let quiet = Engine::start(place.path(), &["--dev", "--log-level", "error"]);
    quiet.signal("TERM");
    assert_eq!(quiet.ended().1, "");
    let loud =
        Engine::start_with(place.path(), &["--dev", "--log-level", "error"], &[("RUST_LOG", "ensync_engine=info")]);
    loud.signal("TERM");
    assert!(loud.ended().1.contains("log read back"));
}

/// Standard error is a pipe that nobody reads, or one whose reader is gone.
#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    for closed in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let arguments = ["--dev", "--log-level", "trace"];
        let engine = Engine::start_with_stderr(place.path(), &arguments, writer);
        let reader = (!closed).then_some(reader);
        // Each is worth some lines at this level; a pipe holds 64 KiB.
        for _ in 0..500 {
            assert_eq!(engine.get_plain("/nothing").0, 404);
        }
        assert_eq!(engine.get("/healthz", None).0, 200);
        engine.signal("TERM");
        assert!(engine.ended().0.success(), "closed: {closed}");
        drop(reader);
    }
}

#[tokio::test]
async fn each_change_by_an_administrator_is_a_line() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::start(place.path(), &["--log-format", "json"]);
    let token = engine.token("ensync-data");
    let secret = ensync_sdk::SecretKey::generate().unwrap();
    let id = secret.app_id().unwrap().to_string();
    let path: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let call = |method: &str, path: &str, body: &str| engine.call(method, path, &token, body).0;
    assert_eq!(call("POST", "/v1/apps", &format!(r#"{{"name":"shop","public_key":"{id}"}}"#)), 201);
    assert_eq!(call("POST", &format!("/v1/apps/{path}/disable"), ""), 200);
    assert_eq!(call("POST", &format!("/v1/apps/{path}/access-key"), "{}"), 200);
    assert_eq!(call("POST", "/v1/events", r#"{"name":"a/b"}"#), 201);
    assert_eq!(call("PUT", &format!("/v1/apps/{path}/grants/a%2Fb"), r#"{"publish":true,"subscribe":false}"#), 200);
    assert_eq!(call("POST", "/v1/dead-letters/drop", r#"{"all":true}"#), 200);
    assert_eq!(call("DELETE", &format!("/v1/apps/{path}"), ""), 204);
    assert_eq!(call("DELETE", &format!("/v1/apps/{path}"), ""), 404);
    engine.signal("TERM");
    let (_, log) = engine.ended();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let audit: Vec<_> = lines.iter().filter(|line| line["target"] == "ensync::audit").collect();
    let seen: Vec<_> =
        audit.iter().map(|line| (line["action"].as_str().unwrap(), line["outcome"].as_str().unwrap())).collect();
    let expected = [
        ("app.create", "done"),
        ("app.disable", "done"),
        ("app.access-key.rotate", "done"),
        ("event.create", "done"),
        ("app.grant.set", "done"),
        ("dead-letter.drop", "done"),
        ("app.delete", "done"),
        ("app.delete", "not_found"),
    ];
    assert_eq!(seen, expected);
    for line in &audit {
        assert_eq!(line["level"], "INFO");
        assert!(line["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        let who = line["who"].as_str().unwrap();
        assert!(who.len() == 8 && !token.contains(who), "{line}");
    }
    let read = |line: usize, when: &str| serde_json::from_str::<Value>(audit[line][when].as_str().unwrap()).unwrap();
    assert_eq!(audit[1]["subject"], id);
    assert_eq!((&read(1, "before")["enabled"], &read(1, "after")["enabled"]), (&true.into(), &false.into()));
    assert_eq!(read(4, "after"), serde_json::json!({"publish": true, "subscribe": false}));
    assert!(audit[4]["before"].is_null() && audit[6]["after"].is_null());
    assert!(!log.contains(&token) && !log.contains("ensync_key_"), "{log}");
}

/// Of the makers' API, too: what was so before and after, and no key, by whatever it was asked for.
#[test]
fn each_change_over_the_config_manager_api_is_a_line() {
    let place = tempfile::tempdir().unwrap();
    let arguments = ["--log-format", "json", "--set", "config_manager.listen=127.0.0.1:0"];
    let engine = Engine::start(place.path(), &arguments);
    let token = engine.token("ensync-data");
    let call = |method: &str, path: &str, body: &str| engine.manage(method, path, &token, body);
    assert_eq!(call("POST", "/event", r#"{"name":"a/b","payload":{"n":"string"}}"#).0, 201);
    assert_eq!(call("PUT", "/event/YS9i", r#"{"payload":{"n":"double"}}"#).0, 200);
    let (status, answer) =
        call("POST", "/access-key", r#"{"name":"shop","permissions":{"send":["a/b"],"receive":[]}}"#);
    assert_eq!(status, 201, "{answer}");
    let made: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let (id, key) = (made["id"].as_str().unwrap(), made["accessKey"].as_str().unwrap());
    let secret = made["service_key_pair"]["private_key"].as_str().unwrap();
    assert_eq!(call("POST", &format!("/access-key/{key}/permissions"), r#"{"send":[],"receive":["*"]}"#).0, 200);
    assert_eq!(call("POST", &format!("/access-key/{key}x/permissions"), r#"{"send":[],"receive":[]}"#).0, 404);
    assert_eq!(engine.manage("DELETE", &format!("/access-key/{key}"), key, "").0, 403);
    assert_eq!(call("PUT", "/access/service-key-pair", &format!(r#"{{"access_key":"{key}"}}"#)).0, 200);
    assert_eq!(call("DELETE", &format!("/access-key/{id}"), "").0, 200);
    engine.signal("TERM");
    let (_, log) = engine.ended();
    for hidden in [token.as_str(), key, secret] {
        assert!(!log.contains(hidden), "{log}");
    }
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let audit: Vec<Value> = lines.filter(|line| line["target"] == "ensync::audit").collect();
    let seen: Vec<_> =
        audit.iter().map(|line| [&line["action"], &line["outcome"]].map(|text| text.as_str().unwrap())).collect();
    let expected = [
        ["event.create", "done"],
        ["event.change", "done"],
        ["app.create", "done"],
        ["app.permissions.set", "done"],
        ["config-manager", "not_found"],
        ["config-manager", "forbidden"],
        ["app.key-pair.rotate", "done"],
        ["app.delete", "done"],
    ];
    assert_eq!(seen, expected);
    let read = |line: usize, when: &str| serde_json::from_str::<Value>(audit[line][when].as_str().unwrap()).unwrap();
    assert_eq!((&audit[1]["subject"], &read(1, "before")["payload"]["n"]), (&"a/b".into(), &"string".into()));
    assert_eq!(read(1, "after")["payload"]["n"], "double");
    assert_eq!(read(3, "before"), serde_json::json!({"send": ["a/b"], "receive": []}));
    assert_eq!(read(3, "after"), serde_json::json!({"send": [], "receive": ["*"]}));
    assert_eq!(audit[4]["subject"], "/access-key/…/permissions");
    assert_ne!(read(6, "before")["service_key_pair"], read(6, "after")["service_key_pair"]);
    assert!(audit[7]["after"].is_null() && read(7, "before")["name"] == "shop");
}

#[test]
fn the_admin_token_changes_without_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::start(place.path(), &["--set", "admin.token_overlap=1h"]);
    let (old, new) = (engine.token("ensync-data"), "a-token-of-another-administrator");
    assert_eq!(engine.get("/v1/apps", Some(new)).0, 401);
    let file = place.path().join("ensync-data/admin.token");
    std::fs::write(&file, new).unwrap();
    engine.wait_for("there is another admin token");
    assert_eq!([&old, new].map(|token| engine.get("/v1/apps", Some(token)).0), [200, 200]);
    assert!(!engine.log().contains(new) && !engine.log().contains(&old));
}
