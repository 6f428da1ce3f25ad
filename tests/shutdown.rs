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
