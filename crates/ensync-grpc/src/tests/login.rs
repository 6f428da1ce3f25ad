//! Connecting and logging in, with engines and with what is none.

use std::error::Error as _;

use ensync_client::{Dialer, Transports};
use ensync_core::{AppId, AppKey, Connector, Endpoint, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fake::*;
use crate::{Grpc, GrpcConnector};

#[tokio::test]
async fn a_login_brings_what_the_engine_says() {
    let mut engine = Engine::start();
    let (stream, _serving) = engine.open();
    let link = connect(stream).await.unwrap();
    assert_eq!(engine.told().await, Told::Login(Some(REMOTE.into())));
    assert_eq!(link.welcome.client_id, client_id(1));
    assert_eq!(link.welcome.app_id, AppId::parse(KEY).ok());
    assert_eq!(link.welcome.config.value("k"), Some("v"));
}

#[tokio::test]
async fn a_refused_login_says_where_and_why() {
    let engine = Engine::start();
    let error = connect_with("bad", engine.open().0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert_eq!(error.to_string(), "log in to grpc://test:50051: no such key");
}

#[tokio::test]
async fn what_is_no_grpc_port_is_named() {
    for (answer, part) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "answers in HTTP/1"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "use grpcs://"),
        (b"", "closed the connection during the HTTP/2 handshake"),
        (b"220 mail ESMTP\r\n", "does not speak HTTP/2"),
        // An empty SETTINGS frame, and then nothing.
        (b"\0\0\0\x04\0\0\0\0\0", "lost during the login"),
    ] {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let mut preface = [0; 24];
            far.read_exact(&mut preface).await.unwrap();
            far.write_all(answer).await.unwrap();
        });
        let error = connect(near).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        assert!(error.to_string().contains(part), "{error} ({:?})", error.source());
        assert!(error.to_string().contains("grpc://test:50051"), "{error}");
    }
}

#[tokio::test]
async fn an_http2_server_without_the_service_is_no_engine() {
    let (stream, _serving) =
        serve(|_| async { http::Response::builder().status(404).body(tonic::body::Body::empty()).unwrap() });
    let error = connect(stream).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("is no EnSync engine"), "{error}");
}

#[tokio::test]
async fn a_websocket_url_names_who_serves_it() {
    let endpoint = Endpoint::parse("wss://h").unwrap();
    for error in [
        Grpc::connector(&endpoint, Dialer::default()).unwrap_err(),
        GrpcConnector::new(Dialer::default()).connect(&endpoint, &AppKey::parse("k").unwrap()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidUrl);
        assert!(error.to_string().contains("ensync-ws"), "{error}");
    }
    assert!(Grpc::connector(&Endpoint::parse("grpcs://h").unwrap(), Dialer::default()).is_ok());
}

#[tokio::test]
async fn the_dialled_way_works_over_tcp() {
    let engine = Engine::start();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint: Endpoint = format!("grpc://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (mut inner, _serving) = engine.open();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut tcp, &mut inner).await;
    });
    let connector = Grpc::connector(&endpoint, Dialer::default()).unwrap();
    let link = connector.connect(&endpoint, &AppKey::parse("good").unwrap()).await.unwrap();
    assert_eq!(link.welcome.client_id, client_id(1));
}
