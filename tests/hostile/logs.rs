//! What is logged, at the finest level, of logins, events and attacks: nothing that anybody could use.

use std::io::Write;
use std::sync::{Arc, Mutex};

use ensync_core::{AppKey, Connector, Endpoint, SecretKey};
use ensync_engine::{BrokerOptions, NewApp, Server};
use ensync_sdk::Engine;
use futures::TryStreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::raw::grpc::Grpc;
use crate::raw::proto::Message;
use crate::raw::ws::Ws;

const EVENT: &str = "logged/name";
/// What must not be seen of a payload, nor of metadata.
const PAYLOAD: &str = "the-plaintext-of-a-payload";
const HEADER: &str = "the-value-of-a-header";
const REASON: &str = "the-words-of-a-reason";
/// A key that nobody has, and that somebody may have mistyped.
const WRONG_KEY: &str = "ensync_key_not-quite-the-right-one";

#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Logged {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// What must not be in the log, each with its name.
#[derive(Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn add(&mut self, what: &'static str, secret: impl Into<String>) {
        let secret = secret.into();
        assert!(secret.len() >= 16, "{what} is too short to be looked for");
        self.0.push((what, secret));
    }

    fn app(&mut self, app: &NewApp) {
        self.add("app key", app.app_key.expose());
        self.secret_key(&app.secret_key);
    }

    fn secret_key(&mut self, key: &SecretKey) {
        self.add("secret key", key.to_base64().unwrap().as_str());
    }

    /// The first line with one of them, or a large part of it.
    fn find(&self, text: &str) -> Option<String> {
        let parts = self.0.iter().flat_map(|(what, secret)| {
            [secret.as_str(), &secret[..16], &secret[secret.len() - 16..]].map(|part| (what, part))
        });
        parts.into_iter().find_map(|(what, part)| {
            let line = text.lines().find(|line| line.contains(part))?;
            Some(format!("{what}: {line}"))
        })
    }
}

/// Publishes, delivers and settles in every way, over one transport.
async fn live(url: &str, shop: &NewApp, warehouse: &NewApp, secrets: &mut Secrets) {
    let engine = Engine::new(url).unwrap();
    let stock = engine.create_client(&warehouse.app_key).app_secret_key(&warehouse.secret_key).await.unwrap();
    let mut events = stock.subscribe(EVENT).await.unwrap();
    let till = engine.create_client(&shop.app_key).app_secret_key(&shop.secret_key).await.unwrap();
    for n in 0..5 {
        let payload = serde_json::json!({"text": PAYLOAD, "n": n});
        let published = till.publish(EVENT, &payload).to(warehouse.app_id).header("h", HEADER);
        published.await.unwrap();
    }
    for n in 0..5 {
        let event = events.try_next().await.unwrap().unwrap();
        assert_eq!(event.json().unwrap()["text"], PAYLOAD);
        match n {
            0 => event.ack().await.unwrap(),
            1 => event.discard(REASON).await.unwrap(),
            2 => drop(event.defer(std::time::Duration::from_secs(3_600), REASON).await.unwrap()),
            3 => {
                let id = event.id().clone();
                event.ack().await.unwrap();
                stock.replay(EVENT, id).await.unwrap();
            }
            _ => drop(event),
        }
    }
    // Refused in every way that a client can be.
    engine.create_client(WRONG_KEY).await.unwrap_err();
    till.publish("not/registered", &PAYLOAD).to(warehouse.app_id).await.unwrap_err();
    till.publish(EVENT, &PAYLOAD.repeat(100_000)).to(warehouse.app_id).await.unwrap_err();
    till.subscribe("not/registered").await.unwrap_err();
    let connector: Arc<dyn Connector> = if url.starts_with("grpc") {
        ensync_grpc::GrpcConnector::new(Default::default()).into_shared()
    } else {
        ensync_ws::WsConnector::new(Default::default()).into_shared()
    };
    let endpoint: Endpoint = url.parse().unwrap();
    let link = connector.connect(&endpoint, &shop.app_key).await.unwrap();
    secrets.add("client id", link.welcome.client_id.expose());
    stock.close().await.unwrap();
    till.close().await.unwrap();
}

trait IntoShared {
    fn into_shared(self) -> Arc<dyn Connector>;
}

impl<C: Connector> IntoShared for C {
    fn into_shared(self) -> Arc<dyn Connector> {
        Arc::new(self)
    }
}

/// What only a hostile client says, with secrets in every place where there should be none.
async fn hostile(server: &Server, app: &NewApp, secrets: &mut Secrets) {
    let address = server.addresses().next().unwrap();
    let key = app.app_key.expose();
    let mut ws = Ws::connect(address).await;
    let client_id = ws.log_in(key).await;
    secrets.add("client id", &client_id);
    for frame in [
        format!("PUB;CLIENT_ID=:{client_id};EVENT_NAME=:{EVENT};PAYLOAD=:{PAYLOAD}!;DELIVERY_TO=:{key};METADATA=:{{}}"),
        format!(
            "PUB;CLIENT_ID=:{client_id};EVENT_NAME=:{EVENT};PAYLOAD=:e30=;DELIVERY_TO=:{};METADATA=:{HEADER}",
            app.app_id
        ),
        format!("{key};CLIENT_ID=:{client_id}"),
        format!("CONN;ACCESS_KEY=:{key}"),
        format!("SUB;CLIENT_ID=:{key};EVENT_NAME=:{EVENT}"),
        format!("SUB;CLIENT_ID=:{client_id};EVENT_NAME=:a//{EVENT}"),
        format!("ACK;CLIENT_ID=:{client_id};EVENT_IDEM=:{PAYLOAD};BLOCK=:{HEADER}"),
        format!("DISCARD;CLIENT_ID=:{client_id};EVENT_IDEM=:AQ;REASON=:{REASON}"),
        format!("PAUSE;CLIENT_ID=:{client_id};EVENT_NAME=:{EVENT};REASON=:{REASON}"),
    ] {
        ws.ask(&frame).await;
    }
    let mut grpc = Grpc::connect(address).await;
    let client_id = grpc.log_in(key).await;
    secrets.add("client id", &client_id);
    for message in [
        Message::new().text(1, WRONG_KEY),
        Message::new().text(1, &format!("{key};{key}")),
        Message::new().text(1, &client_id).text(2, key).text(3, PAYLOAD).text(4, key).text(5, HEADER),
        Message::new().text(1, key).text(2, EVENT).text(3, EVENT),
        Message::new().text(1, &client_id).text(2, PAYLOAD).text(3, EVENT).number(4, 7).text(6, REASON),
    ] {
        for method in ["Connect", "PublishMessage", "AcknowledgeMessage", "DeferMessage", "PauseMessages", "Heartbeat"]
        {
            grpc.call(method, &message).await.unwrap();
            grpc.send(method, message.framed()[3..].to_vec()).await.unwrap();
        }
    }
    // A frame that is no frame, a request that is none, and a login in the URL.
    for bytes in [
        format!("GET /message?key={key} HTTP/1.1\r\nauthorization: {key}\r\nhost: h\r\n\r\n"),
        format!("{key} {PAYLOAD}\r\n\r\n"),
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{key}{PAYLOAD}"),
    ] {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(bytes.as_bytes()).await.unwrap();
        tcp.shutdown().await.unwrap();
        _ = tcp.read_to_end(&mut Vec::new()).await;
    }
}

/// The filter of `ensync serve -vv`, and finer: our crates say everything, others only what is wrong.
const FILTER: &str = "warn,ensync=trace,ensync_core=trace,ensync_client=trace,ensync_engine=trace,ensync_grpc=trace,\
                      ensync_ws=trace,ensync_sdk=trace";

#[tokio::test]
async fn no_secret_and_no_payload_is_logged() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(FILTER).with_ansi(false).with_writer(move || writer.clone()).finish();
    // This test has one thread, so that all of it is seen, and no other test's.
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut options = BrokerOptions::default();
    options.limits.login_failures = 100;
    let directory = tempfile::TempDir::new().unwrap();
    let server = Server::builder().options(options).data_dir(directory.path()).start().await.unwrap();
    server.register_event(EVENT, Default::default()).await.unwrap();
    let (shop, warehouse) = (server.create_app("shop").await.unwrap(), server.create_app("warehouse").await.unwrap());
    let mut secrets = Secrets::default();
    secrets.app(&shop);
    secrets.app(&warehouse);
    secrets.add("payload", PAYLOAD);
    secrets.add("payload, as base64", base64_of(PAYLOAD));
    secrets.add("header", HEADER);
    secrets.add("reason", REASON);
    secrets.add("mistyped key", WRONG_KEY);
    for url in [server.grpc_url(), server.ws_url()] {
        live(&url, &shop, &warehouse, &mut secrets).await;
    }
    hostile(&server, &shop, &mut secrets).await;
    // What an operator asks, and is refused.
    server.broker().create_app_with_key("again", shop.app_id, &AppKey::parse(WRONG_KEY).unwrap()).await.unwrap_err();
    server.shutdown().await;
    let text = logged.text();
    for expected in ["ensync_engine", "ensync_grpc", "ensync_ws", "login refused"] {
        assert!(text.contains(expected), "{expected} logged nothing, so that this proves nothing:\n{text}");
    }
    assert_eq!(secrets.find(&text), None);
    println!("{} lines are logged, and nothing of {} secrets is in them", text.lines().count(), secrets.0.len());
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn what_is_logged_is_found() {
    let mut secrets = Secrets::default();
    secrets.add("client id", "0123456789abcdefghij");
    for text in ["some words\nand 456789abcdefghij, half of one", "0123456789abcdefghij", "x0123456789abcdefx"] {
        assert!(secrets.find(text).unwrap().starts_with("client id: "));
    }
    assert_eq!(secrets.find("0123456789 abcdefghij"), None);
}
