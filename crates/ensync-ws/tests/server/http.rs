//! The WebSocket handshake on a real HTTP server, and both halves against each other.

use ensync_core::{AppKey, Connector, Endpoint};
use ensync_ws::{Dialer, WsConnector, upgrade};
use futures::TryStreamExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;

async fn listen(script: Arc<Script>) -> String {
    listen_with(script, ServerOptions::default()).await
}

async fn listen_with(script: Arc<Script>, options: ServerOptions) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (tcp, remote) = listener.accept().await.unwrap();
            let (script, options) = (script.clone(), options.clone());
            let service = service_fn(move |request| {
                let response = upgrade(request, Some(remote), script.clone(), options.clone());
                async { Ok::<_, std::convert::Infallible>(response) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(tcp), service).with_upgrades());
        }
    });
    address
}

#[tokio::test]
async fn both_halves_understand_each_other() {
    let script = Arc::new(Script::default());
    let endpoint: Endpoint = format!("ws://{}", listen(script.clone()).await).parse().unwrap();
    let connector = WsConnector::new(Dialer::default());
    let mut link = connector.connect(&endpoint, &AppKey::parse("good").unwrap()).await.unwrap();
    let event = EventName::parse("a/b").unwrap();
    let replay = Command::Replay { id: EventId::parse("e").unwrap(), event: event.clone() };
    let (beat, replayed, refused) = tokio::join!(
        link.transport.call(Command::Heartbeat),
        link.transport.call(replay),
        link.transport.call(Command::Continue { event: EventName::parse("unknown").unwrap() }),
    );
    assert_eq!(beat.unwrap(), Reply::Done);
    assert_eq!(replayed.unwrap(), Reply::Replayed(Box::new(delivery("replayed"))));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::UnknownEvent);
    script.push(delivery("e-1"));
    assert_eq!(link.inbox.try_next().await.unwrap().unwrap(), delivery("e-1"));
    let logout = script.on_logout();
    link.transport.close().await;
    assert!(link.inbox.try_next().await.unwrap().is_none());
    logout.await.unwrap();
    let error = connector.connect(&endpoint, &AppKey::parse("bad").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.to_string().ends_with("no such key"), "{error}");
}

#[tokio::test]
async fn the_end_of_connections_can_be_awaited() {
    let (script, options) = (Arc::new(Script::default()), ServerOptions::default());
    let endpoint: Endpoint = format!("ws://{}", listen_with(script.clone(), options.clone()).await).parse().unwrap();
    let connector = WsConnector::new(Dialer::default());
    let link = connector.connect(&endpoint, &AppKey::parse("good").unwrap()).await.unwrap();
    options.connections.close();
    assert_eq!(options.connections.len(), 1);
    drop(link);
    options.connections.wait().await;
    assert_eq!(script.done(), ["logout"]);
}

#[tokio::test]
async fn a_plain_request_is_told_what_to_do() {
    let address = listen(Arc::new(Script::default())).await;
    let mut tcp = tokio::net::TcpStream::connect(&address).await.unwrap();
    tcp.write_all(b"GET /message HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{answer}");
    assert!(answer.contains("upgrade: websocket\r\n") && answer.contains("Use an EnSync client"), "{answer}");
}
