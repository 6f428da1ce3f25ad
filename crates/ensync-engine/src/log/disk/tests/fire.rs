//! An engine whose disk fails under it.

use ensync_core::{
    AppId, AppKey, Command, EventName, Login, Metadata, Publish, Reply, Service, Session, Subscribe, WirePayload,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::faults::Faults;
use super::*;
use crate::{EventOptions, Server};

const SHOP: AppId = AppId::from_bytes([6; 32]);

fn paid() -> EventName {
    EventName::parse("orders/paid").unwrap()
}

async fn login(server: &Server, app_key: &AppKey) -> Session {
    server.broker().login(Login { app_key: app_key.clone(), transport: "local", remote: None }).await.unwrap()
}

async fn publish(server: &Server, session: &Session) -> Result<Reply> {
    let publish = Publish {
        event: paid(),
        recipient: SHOP,
        payload: WirePayload::from_wire("cGF5bG9hZA==".to_owned()),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: None,
    };
    server.broker().handle(&session.peer, Command::Publish(publish)).await
}

async fn get(server: &Server, path: &str) -> String {
    let url = server.admin_url().unwrap();
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    said
}

#[tokio::test]
async fn an_engine_whose_disk_fails_says_so_and_delivers_what_it_has() {
    let (place, faults) = (Place::new(), Arc::new(Faults::default()));
    let log = place.open_with(faults.clone()).unwrap();
    let logs = crate::Logs::new(Arc::new(crate::MemoryLog::new().registry()), vec![Arc::new(log)]);
    let localhost = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::builder().logs(logs).listen(localhost).admin(localhost).start().await.unwrap();
    let key = server.broker().create_app("shop", SHOP).await.unwrap();
    server.broker().register_event(paid(), EventOptions::default()).await.unwrap();
    let mut session = login(&server, &key).await;
    let Reply::Published { id } = publish(&server, &session).await.unwrap() else { panic!() };
    assert!(get(&server, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(server.failure().is_none());

    faults.fail_sync();
    let error = publish(&server, &session).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert!(error.to_string().contains("shows when the engine is started again"), "{error}");
    // Those that come later are not stored, and that is known.
    for _ in 0..2 {
        assert_eq!(publish(&server, &session).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    let why = server.failed().await;
    assert!(why.to_string().contains("0000000001.log"), "{why}");
    assert!(server.failure().is_some());
    let said = get(&server, "/readyz").await;
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("0000000001.log"), "{said}");
    assert!(get(&server, "/healthz").await.starts_with("HTTP/1.1 200"), "it lives, and still delivers");

    let subscribe = Command::Subscribe(Subscribe { event: paid(), max_in_flight: None, max_bytes_in_flight: None });
    assert_eq!(server.broker().handle(&session.peer, subscribe).await.unwrap(), Reply::Done);
    assert_eq!(session.inbox.next().await.unwrap().id, id);
    let replay = Command::Replay { id: id.clone(), event: paid() };
    assert!(matches!(server.broker().handle(&session.peer, replay).await.unwrap(), Reply::Replayed(..)));
    server.shutdown().await;
    drop(server);

    // The start afterwards shows what was stored: the first for certain, the one in question perhaps, no later one.
    let stored = records(&place.open()).await;
    let publishes = stored.iter().filter(|record| matches!(***record, Record::Publish(_))).count();
    assert!((1..=2).contains(&publishes), "{publishes}");
}
