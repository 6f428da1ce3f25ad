//! The client half against an engine that follows a script, over loopback.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic in a test's helper is a failed test, too"
)]

mod calls;
mod ends;
mod login;
mod silence;

use std::sync::Arc;

use ensync_core::{
    AppKey, Command, Connector, Endpoint, Error, ErrorKind, EventName, Link, Reply, Result, Settle, Settlement,
    Transport,
};
use ensync_ws::{Dialer, Transports, Ws, WsConnector};
use futures::{SinkExt, StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

type Socket = WebSocketStream<TcpStream>;

const KEY: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";

fn key() -> AppKey {
    AppKey::parse("key-1").unwrap()
}

async fn listen() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap();
    (listener, endpoint)
}

async fn accept(listener: &TcpListener) -> Socket {
    let (tcp, _) = listener.accept().await.unwrap();
    tokio_tungstenite::accept_async(tcp).await.unwrap()
}

async fn say(engine: &mut Socket, text: &str) {
    engine.send(Message::text(text)).await.unwrap();
}

/// The next frame of text.
async fn hear(engine: &mut Socket) -> String {
    loop {
        match engine.next().await.unwrap().unwrap() {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A link, and the engine's end of it.
async fn linked_by(connector: WsConnector, welcome: &str) -> (Link, Socket) {
    let (listener, endpoint) = listen().await;
    let engine = async {
        let mut engine = accept(&listener).await;
        assert_eq!(hear(&mut engine).await, "CONN;ACCESS_KEY=:key-1");
        say(&mut engine, welcome).await;
        engine
    };
    let key = key();
    let (link, engine) = tokio::join!(connector.connect(&endpoint, &key), engine);
    (link.unwrap(), engine)
}

async fn linked() -> (Link, Socket) {
    linked_by(WsConnector::new(Dialer::default()), &format!("+PASS:{{clientId=c-1, clientHash={KEY}, note=x}}")).await
}

fn resume(name: &str) -> Command {
    Command::Continue { event: EventName::parse(name).unwrap() }
}

fn call(transport: &Arc<dyn Transport>, command: Command) -> tokio::task::JoinHandle<Result<Reply>> {
    let transport = transport.clone();
    tokio::spawn(async move { transport.call(command).await })
}

fn record(id: &str) -> String {
    format!(r#"+RECORD:{{"name":"a","idem":"{id}","block":1,"payload":"e30=","metadata":{{}}}}"#)
}
