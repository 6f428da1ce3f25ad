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
