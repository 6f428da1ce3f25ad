//! The edges of an engine, where text becomes a value: its transports spoken by hand, its admin API, its Config Manager. What is given
//! in a wrong place is not repeated, one rule holds for JSON, keys and names are checked wherever they enter.

mod conversions;
mod json;
mod logged;
mod names;
mod schemas;
mod secrets;

use std::net::SocketAddr;

use bytes::Bytes;
use ensync_core::SecretKey;
use ensync_engine::{AdminApi, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::soon;

const TOKEN: &str = "ensync_key_0123456789abcdefABCDEF";

fn secret() -> String {
    SecretKey::from_seed([0x5a; 32]).to_base64().unwrap().to_string()
}

/// What of a secret or of [`TOKEN`] a text shows.
fn shown(text: &str) -> Option<&str> {
    let secret = secret();
    let parts = [&secret[..6], &secret[10..18], "ensync_key_0123", "456789ab"];
    parts.iter().any(|part| text.contains(part)).then_some(text)
}

fn app_id() -> String {
    SecretKey::generate().unwrap().app_id().unwrap().to_string()
}

/// Base64, or what else a key is made of, in a path.
fn in_path(text: &str) -> String {
    text.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D")
}

async fn admin(api: &AdminApi, method: &str, path: &str, body: impl Into<Bytes>) -> (u16, String) {
    let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
    let answer = api.call(request.body(body.into()).unwrap()).await.unwrap();
    (answer.status().as_u16(), String::from_utf8_lossy(answer.body()).into_owned())
}

/// What the Config Manager answers, its head included.
async fn config_manager(server: &Server, method: &str, path: &str, body: &str) -> String {
    let (url, token) = (server.config_manager_url().unwrap(), server.admin_token().unwrap());
    let to = url.trim_start_matches("http://").split('/').next().unwrap();
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let request = format!(
        "{method} /api/v1/ensync{path} HTTP/1.1\r\nHost: {to}\r\nX-ACCESS-KEY: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        token.expose(),
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn taken(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 2")
}

/// Whether it was looked at and refused for what it says; not for who asked, or for want of such a door.
fn refused(status: u16) -> bool {
    matches!(status, 400 | 409 | 413 | 422)
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

async fn both() -> Server {
    Server::dev().admin(([127, 0, 0, 1], 0)).config_manager(([127, 0, 0, 1], 0)).start().await.unwrap()
}

fn payload() -> String {
    let key = SecretKey::from_seed([1; 32]);
    let to = [ensync_core::crypto::Recipient::new(key.app_id().unwrap()).unwrap()];
    ensync_core::crypto::seal(b"{\"n\":1}", &to).unwrap().remove(0).as_str().unwrap().to_owned()
}
