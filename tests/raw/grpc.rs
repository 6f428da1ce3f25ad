use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::proto::{Fields, Message};

/// An HTTP/2 connection.
#[derive(Clone)]
pub struct Grpc {
    send: SendRequest<Full<Bytes>>,
    user_agent: &'static str,
}

/// What a call was answered.
#[derive(Debug, PartialEq)]
pub struct Answer {
    /// The gRPC status; "0" is good.
    pub status: String,
    /// What it says.
    pub text: String,
    /// The message, if there was one.
    pub fields: Fields,
}

impl Grpc {
    pub async fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).await.unwrap()).await.unwrap()
    }

    pub async fn over(tcp: TcpStream) -> hyper::Result<Self> {
        _ = tcp.set_nodelay(true);
        let (send, connection) = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(tcp)).await?;
        tokio::spawn(connection);
        Ok(Self { send, user_agent: "" })
    }

    /// The same connection, of a client that says it is this.
    pub fn says(self, user_agent: &'static str) -> Self {
        Self { user_agent, ..self }
    }

    /// Logs in; the client id.
    pub async fn log_in(&mut self, app_key: &str) -> String {
        let answer = self.call("Connect", &Message::new().text(1, app_key)).await.unwrap();
        assert_eq!(answer.fields.number(1), 1, "{answer:?}");
        answer.fields.text(2).to_owned()
    }

    pub async fn call(&mut self, method: &str, message: &Message) -> hyper::Result<Answer> {
        self.send(method, message.framed()).await
    }

    /// A call whose body is not necessarily a message. Of a stream of answers, the first.
    pub async fn send(&mut self, method: &str, body: Vec<u8>) -> hyper::Result<Answer> {
        let request = http::Request::post(format!("http://test/ensync.EnSyncService/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", self.user_agent)
            .body(Full::new(Bytes::from(body)));
        self.send.ready().await?;
        let (head, mut body) = self.send.send_request(request.unwrap()).await?.into_parts();
        let (mut data, mut trailers) = (Vec::new(), head.headers);
        // One whole message, and to the end unless it may never come.
        while first_message(&data).is_none() || method != "Subscribe" {
            match body.frame().await {
                None => break,
                Some(frame) => match frame?.into_data() {
                    Ok(more) => data.extend_from_slice(&more),
                    Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
                },
            }
        }
        let text =
            |name: &str| trailers.get(name).map_or_else(String::new, |v| v.to_str().unwrap().replace("%20", " "));
        let fields = first_message(&data).map(Fields::read).unwrap_or_default();
        Ok(Answer { status: text("grpc-status"), text: text("grpc-message"), fields })
    }
}

fn first_message(data: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = data.split_first_chunk::<5>()?;
    let [_, length @ ..] = *prefix;
    rest.get(..u32::from_be_bytes(length) as usize)
}
