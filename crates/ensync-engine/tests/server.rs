//! The server around the broker.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::time::Duration;

use ensync_core::{Command, Connector, Endpoint, ErrorKind};
use ensync_engine::{MemoryLog, Server};
use futures::StreamExt;
use tokio::time::timeout;

/// A bound against hanging.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn dropping_a_server_ends_its_sessions() {
    let server = Server::dev().start().await.unwrap();
    let app = server.create_app("warehouse").await.unwrap();
    let endpoint: Endpoint = server.grpc_url().parse().unwrap();
    // The connector outlives the server, as the task of a WebSocket connection does.
    let connector = server.in_process();
    let mut link = connector.connect(&endpoint, &app.app_key).await.unwrap();
    drop(server);
    while timeout(PATIENCE, link.inbox.next()).await.unwrap().is_some() {}
    assert_eq!(link.transport.call(Command::Heartbeat).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(connector.connect(&endpoint, &app.app_key).await.map(drop).unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_server_goes_on_with_its_log() {
    let log = MemoryLog::new();
    let server = Server::dev().logs(log.clone()).start().await.unwrap();
    let app = server.create_app("warehouse").await.unwrap();
    server.shutdown().await;

    let server = Server::dev().logs(log.reopen()).start().await.unwrap();
    let endpoint: Endpoint = server.grpc_url().parse().unwrap();
    let link = server.in_process().connect(&endpoint, &app.app_key).await.unwrap();
    assert_eq!(link.welcome.app_id, Some(app.app_id));
}

#[tokio::test]
async fn dropping_a_server_outside_of_its_runtime() {
    let server = Server::dev().start().await.unwrap();
    let in_process = server.in_process();
    let app = server.create_app("warehouse").await.unwrap();
    let endpoint: Endpoint = server.grpc_url().parse().unwrap();
    let mut link = in_process.connect(&endpoint, &app.app_key).await.unwrap();
    std::thread::spawn(move || drop(server)).join().unwrap();
    while timeout(PATIENCE, link.inbox.next()).await.unwrap().is_some() {}
}
