//! One answer to "is this a name?": the library's, the tool's, the engine's.

use ensync_engine::{AdminApi, Server};
use ensync_sdk::core::{AppName, EventName, IdempotencyKey};
use ensync_sdk::{AppId, SecretKey};
use http::StatusCode;

use super::shell::Shell;

const SECRET: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB2hX8vsQ/MVG/NzNwzYwgDgAA/Dk3nieaSflWlKdB+03w==";
const APP_KEY: &str = "ensync_key_q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA";
/// 32 bytes that are no app's id, as a digest is.
const DIGEST: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB0=";

/// A text, and whether it is a name.
fn texts() -> Vec<(String, bool)> {
    let hex: String = [0x7d_u8; 64].iter().map(|byte| format!("{byte:02x}")).collect();
    let id = SecretKey::from_seed([7; 32]).app_id().unwrap().to_string();
    vec![
        ("audit/ensync_key_rotated".into(), true),
        ("ops/ensync_admin_login".into(), true),
        (format!("sums/{DIGEST}"), true),
        (hex, true),
        ("Acme/Billing/Customer/PaymentMethods/Events".into(), true),
        ("Acme/Billing/Subscription/PaymentMethods/Updates".into(), true),
        ("orders/6fa459ea-ee8a-3ca4-894e-db77e160355e".into(), true),
        ("a/-----BEGIN-CERTIFICATE-----".into(), true),
        (DIGEST.into(), false),
        (id.clone(), false),
        (id[..42].into(), false),
        (format!("{id}x"), false),
        (SECRET.into(), false),
        (format!("k={SECRET}"), false),
        (SECRET[..85].into(), false),
        (format!("x/{}", SECRET.replace('/', "%2F")), false),
        (SECRET.replace('/', "\\/"), false),
        (APP_KEY.into(), false),
        (format!("x/{APP_KEY}"), false),
        (format!("x/{}", APP_KEY.replace('_', "%5f")), false),
        ("ensync_key_0123".into(), false),
    ]
}

async fn created(api: &AdminApi, path: &str, body: serde_json::Value) -> bool {
    let request = http::Request::post(path).header("content-type", "application/json");
    let answer = api.call(request.body(body.to_string().into()).unwrap()).await.unwrap();
    let status = answer.status();
    assert!([StatusCode::CREATED, StatusCode::UNPROCESSABLE_ENTITY].contains(&status), "{path} {body}: {status}");
    status == StatusCode::CREATED
}

#[tokio::test]
async fn every_door_takes_the_same_names() {
    let server = Server::builder().admin(([127, 0, 0, 1], 0)).start().await.unwrap();
    let (api, shell) = (AdminApi::new(server.broker().clone()), Shell::of(&server));
    for (text, is_name) in texts() {
        let key = || SecretKey::generate().unwrap().app_id().unwrap().to_string();
        // An event name; and, where it is one, what else the tool does with it.
        assert_eq!(EventName::parse(&text).is_ok(), is_name, "{text}");
        assert_eq!(created(&api, "/v1/events", serde_json::json!({"name": text})).await, is_name, "{text}");
        let said = shell.with(&["event", "create", &text]).await;
        assert!(!said.ok && said.err.contains("registered already") == is_name, "{text}: {}", said.err);
        let said = shell.with(&["event", "show", &text]).await;
        assert_eq!(said.ok, is_name, "{text}: {}", said.err);
        let said = shell.with(&["event", "delete", &text, "--yes"]).await;
        assert_eq!(said.ok, is_name, "{text}: {}", said.err);
        // An app's: ids are looked up before names, so what can be read as one is none, whatever its letters are.
        let (may_be_shown, is_name) = (is_name, is_name && AppId::parse(&text).is_err());
        assert_eq!(AppName::parse(&text).is_ok(), is_name, "{text}");
        let body = serde_json::json!({"name": text, "public_key": key()});
        assert_eq!(created(&api, "/v1/apps", body).await, is_name, "{text}");
        let said = shell.with(&["app", "create", &text, "--same-name"]).await;
        assert_eq!(said.ok, is_name, "{text}: {}", said.err);
        assert!(may_be_shown || !said.err.contains(&text[text.len() / 2..]), "{}", said.err);
    }
}

/// What travels in clear beside a payload may be a digest, and no secret.
#[tokio::test]
async fn headers_and_idempotency_keys_are_refused_alike() {
    let server = Server::dev().start().await.unwrap();
    let (shop, stock) = (server.create_app("shop").await.unwrap(), server.create_app("stock").await.unwrap());
    let shell = Shell::bare().and("ENSYNC_URL", &server.grpc_url()).and("ENSYNC_APP_KEY", shop.app_key.expose());
    let client = ensync_sdk::Engine::new(&server.ws_url()).unwrap().create_client(&shop.app_key).await.unwrap();
    let to = stock.app_id.to_string();
    for (text, is_taken) in [
        (DIGEST, true),
        ("ensync_key_rotated", true),
        ("Acme/Billing/Customer/PaymentMethods/Events", true),
        (SECRET, false),
        (&format!("k={SECRET}"), false),
        (APP_KEY, false),
    ] {
        let sent = client.publish("a/b", &1).to(stock.app_id).header("h", text).await;
        assert_eq!(sent.is_ok(), is_taken, "{text}: {sent:?}");
        let header = format!("h={text}");
        let said = shell.with(&["publish", "a/b", "1", "--to", &to, "--header", &header]).await;
        assert_eq!(said.ok, is_taken, "{text}: {}", said.err);
        let is_key = IdempotencyKey::parse(text).is_ok();
        let said = shell.with(&["publish", "a/b", "1", "--to", &to, "--idempotency-key", text]).await;
        assert_eq!(said.ok, is_key, "{text}: {}", said.err);
        // One that speaks of keys begins as they do.
        assert_eq!(is_key, is_taken && text != "ensync_key_rotated", "{text}");
    }
}
