use ensync_core::{AppId, Schema, SecretKey, secret_in};
use ensync_engine::{AdminApi, Broker, BrokerOptions, EventOptions, MemoryLog, Rights};
use http::Request;
use serde_json::Value;

use super::MAX_MESSAGE;
use super::json::unique;

const EVENT: &str = "a/b";
/// Its id at the Config Manager.
const EVENT_ID: &str = "YS9i";

/// The routes that take a body: of the admin API, then of the Config Manager's. `{app}` and `{key}` stand for an app's id.
const ROUTES: [(&str, &str); 15] = [
    ("POST", "/v1/events"),
    ("PATCH", "/v1/events/a%2Fb"),
    ("POST", "/v1/apps"),
    ("PUT", "/v1/apps/{app}/rights"),
    ("PUT", "/v1/apps/{app}/grants/a%2Fb"),
    ("POST", "/v1/apps/{app}/access-key"),
    ("POST", "/v1/apps/{app}/key-pair"),
    ("POST", "/v1/dead-letters/requeue"),
    ("POST", "/v1/dead-letters/drop"),
    ("POST", "/api/v1/ensync/event"),
    ("PUT", "/api/v1/ensync/event/YS9i"),
    ("POST", "/api/v1/ensync/access-key"),
    ("POST", "/api/v1/ensync/access-key/{key}/permissions"),
    ("PUT", "/api/v1/ensync/access/service-key-pair"),
    ("POST", "/api/v1/ensync/workspace"),
];

/// Takes the input for a body of an administrator's request: the first byte says which one.
pub fn admin(input: &[u8]) -> bool {
    let Some((route, body)) = input.split_first() else { return false };
    let (method, path) = ROUTES[usize::from(*route) % ROUTES.len()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(ask(method, path, body))
}

/// What an engine with one app and one event name answers: the Config Manager's API at its paths, else the admin API.
struct Engine {
    admin: AdminApi,
    config_manager: AdminApi,
    app: String,
    key: String,
}

impl Engine {
    async fn start() -> Self {
        let broker = Broker::start(BrokerOptions::default(), MemoryLog::new()).await.unwrap();
        let schema = Some(Schema::parse(r#"{"order":"string"}"#).unwrap());
        broker.create_event(EVENT.parse().unwrap(), EventOptions { schema, ..EventOptions::default() }).await.unwrap();
        let id: AppId = SecretKey::from_seed([1; 32]).app_id().unwrap();
        broker.create_app_with_rights("shop", id, Rights::NONE).await.unwrap();
        let config_manager = AdminApi::of_config_manager(broker.clone()).unwrap();
        let app = id.to_string().replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let mut engine = Self { admin: AdminApi::new(broker), config_manager, app, key: String::new() };
        let keys = engine.shown("/api/v1/ensync/access-key").await;
        engine.key = keys["results"][0]["id"].as_str().unwrap().to_owned();
        engine
    }

    async fn call(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let api = if path.starts_with("/v1/") { &self.admin } else { &self.config_manager };
        let path = path.replace("{app}", &self.app).replace("{key}", &self.key);
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header("content-type", "application/json").body(body.to_vec().into()).unwrap();
        let answer = api.call(request).await.unwrap();
        (answer.status().as_u16(), answer.body().to_vec())
    }

    async fn shown(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, b"").await;
        assert_eq!(status, 200, "{path}");
        unique(std::str::from_utf8(&body).unwrap()).expect("an answer is JSON")
    }

    /// All that requests can change.
    async fn all(&self) -> [Value; 2] {
        [self.shown("/v1/events").await, self.shown("/v1/apps").await]
    }
}

async fn ask(method: &str, path: &str, body: &[u8]) -> bool {
    let engine = Engine::start().await;
    let before = engine.all().await;
    let (status, answer) = engine.call(method, path, body).await;
    let oracle = std::str::from_utf8(body).ok().and_then(unique);
    let said = || unique(std::str::from_utf8(&answer).unwrap()).expect("an answer is JSON");
    assert_eq!(status == 400, oracle.is_none(), "{method} {path}: {status}");
    if !(200..300).contains(&status) {
        assert!((400..500).contains(&status), "{method} {path}: {status}");
        let message = said()["error"]["message"].as_str().unwrap().to_owned();
        assert!((1..=MAX_MESSAGE).contains(&message.len()), "{method} {path}: {message}");
        assert_eq!(secret_in(&message), None, "{method} {path}: {message}");
        assert_eq!(engine.all().await, before, "{method} {path}: refused, and changed");
        return false;
    }
    let wanted = oracle.unwrap();
    match path {
        "/v1/events" => check_schema(wanted.get("schema"), &said()["schema"]),
        "/v1/events/a%2Fb" if wanted.get("schema").is_some() => check_schema(wanted.get("schema"), &said()["schema"]),
        "/api/v1/ensync/event" | "/api/v1/ensync/event/YS9i" => check_schema(wanted.get("payload"), &said()["payload"]),
        "/api/v1/ensync/access-key/{key}/permissions" => check_permissions(&engine, path).await,
        _ => {}
    }
    assert!(engine.shown(&format!("/api/v1/ensync/event/{}", EVENT.replace('/', "%2F"))).await["id"] == EVENT_ID);
    true
}

/// What is shown is what was sent, of which types have several spellings.
fn check_schema(sent: Option<&Value>, shown: &Value) {
    let read = |value: &Value| match value {
        Value::Null => Schema::default(),
        value => Schema::parse(&value.to_string()).unwrap(),
    };
    assert_eq!(read(shown), sent.map(read).unwrap_or_default());
}

/// To send back what was answered changes nothing.
async fn check_permissions(engine: &Engine, path: &str) {
    let given = engine.shown(path).await["permissions"].clone();
    let (status, _) = engine.call("POST", path, given.to_string().as_bytes()).await;
    assert_eq!((status, &engine.shown(path).await["permissions"]), (200, &given));
}
