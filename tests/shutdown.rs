//! What a shutdown of the engine says to whom, on the wire.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{Transport, World, soon};

/// A WebSocket by hand, so that nothing but the test reads from it: after the engine's answer to the opening handshake.
async fn open_web_socket(world: &World) -> TcpStream {
    let mut tcp = TcpStream::connect(world.endpoint().authority()).await.unwrap();
    let ask = "GET /message HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
               sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    tcp.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon(tcp.read_u8()).await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    tcp
}

#[tokio::test]
async fn a_shutdown_tells_every_web_socket_and_waits_for_its_end() {
    let world = World::start(Transport::WebSocket).await;
    let stranger = open_web_socket(&world).await;
    let mut known = open_web_socket(&world).await;
    let login = format!("CONN;ACCESS_KEY=:{}", world.shop.app_key.expose());
    // RFC 6455 section 5.2: a final text frame, masked with zeros.
    let mut frame = vec![0x81, 0x80 | u8::try_from(login.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(login.bytes());
    known.write_all(&frame).await.unwrap();
    let mut welcome = [0; 9];
    soon(known.read_exact(&mut welcome)).await.unwrap();
    let readers = [(stranger, "the engine stops"), (known, "the engine ended the session")].map(|(mut tcp, why)| {
        tokio::spawn(async move {
            let mut rest = Vec::new();
            tcp.read_to_end(&mut rest).await.unwrap();
            // A close frame with the code 1001.
            let mut goodbye = vec![0x88, u8::try_from(2 + why.len()).unwrap(), 0x03, 0xe9];
            goodbye.extend(why.bytes());
            assert!(rest.ends_with(&goodbye), "{:?}", String::from_utf8_lossy(&rest));
        })
    });
    soon(world.server.shutdown()).await;
    for reader in readers {
        assert!(reader.is_finished(), "the shutdown is over and a connection is still open");
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn half_a_request_holds_up_no_shutdown() {
    let world = World::start(Transport::WebSocket).await;
    let to = world.endpoint().authority();
    let mut halves = Vec::new();
    for half in ["G", "GET /message HTTP/1.1\r\nhost: h\r\nconn", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut tcp = TcpStream::connect(&to).await.unwrap();
        tcp.write_all(half.as_bytes()).await.unwrap();
        halves.push(tcp);
    }
    // One asked and was answered, and then begins another.
    let mut again = TcpStream::connect(&to).await.unwrap();
    again.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    assert_eq!(soon(again.read_u8()).await.unwrap(), b'H');
    again.write_all(b"GET / HT").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let begun = std::time::Instant::now();
    soon(world.server.shutdown()).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(4), "{:?}", begun.elapsed());
    drop((halves, again));
}
