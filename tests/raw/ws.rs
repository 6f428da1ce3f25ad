use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// A WebSocket.
pub struct Ws(pub WebSocketStream<TcpStream>);

impl Ws {
    pub async fn connect(to: SocketAddr) -> Self {
        Self::connect_at(to, "/message").await
    }

    pub async fn connect_at(to: SocketAddr, path: &str) -> Self {
        let tcp = TcpStream::connect(to).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self(tokio_tungstenite::client_async(format!("ws://{to}{path}"), tcp).await.unwrap().0)
    }

    /// Logs in; the client id.
    pub async fn log_in(&mut self, app_key: &str) -> String {
        let answer = self.ask(&format!("CONN;ACCESS_KEY=:{app_key}")).await;
        let pairs = answer.strip_prefix("+PASS:{").unwrap_or_else(|| panic!("{answer}"));
        pairs.split(',').find_map(|pair| pair.trim().strip_prefix("clientId=")).unwrap().to_owned()
    }

    /// The next record.
    pub async fn record(&mut self) -> serde_json::Value {
        loop {
            if let Message::Text(text) = self.0.next().await.unwrap().unwrap()
                && let Some(record) = text.strip_prefix("+RECORD:")
            {
                return serde_json::from_str(record).unwrap();
            }
        }
    }

    /// Sends a frame of text, and waits for the answer; records that come in between are dropped.
    pub async fn ask(&mut self, frame: &str) -> String {
        self.0.send(Message::text(frame)).await.unwrap();
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Text(text) if text.starts_with("+RECORD:") => {}
                Message::Text(text) => return text.to_string(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
