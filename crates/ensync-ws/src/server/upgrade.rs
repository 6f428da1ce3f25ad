//! From HTTP to WebSocket: the opening handshake as the server does it, RFC 6455 section 4.2.

use std::net::SocketAddr;
use std::sync::Arc;

use ensync_core::Service;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{ServerOptions, serve_stream};

/// Answers an HTTP request for a WebSocket, and serves the connection in a task of [`ServerOptions::connections`] once the answer is out.
///
/// The path is the caller's to route (clients ask for `/message`, the Go client for `/`). The HTTP/1.1 connection must be served with upgrades. A request
/// that asks for no WebSocket is answered 400, 405 or 426, with a text that says what to do. No `Origin` is refused: a login is a
/// frame with the app key, which a foreign page does not have.
///
/// Call it within a tokio runtime.
pub fn upgrade(
    mut request: Request<Incoming>,
    remote: Option<SocketAddr>,
    service: Arc<dyn Service>,
    options: ServerOptions,
) -> Response<Full<Bytes>> {
    let accept = match check(request.method(), request.version(), request.headers()) {
        Ok(accept) => accept,
        Err(refusal) => return refusal.into_response(),
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let connections = options.connections.clone();
    connections.spawn(async move {
        match upgraded.await {
            Ok(stream) => serve_stream(TokioIo::new(stream), remote, service, options).await,
            Err(cause) => tracing::debug!(?remote, %cause, "the client left during the WebSocket handshake"),
        }
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// Why a request opens no WebSocket.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    header: Option<(HeaderName, &'static str)>,
    text: &'static str,
}

impl Refusal {
    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from_static(self.text.as_bytes())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// Checks what the RFC demands of the request; the value of `Sec-WebSocket-Accept` if it is all there.
fn check(method: &Method, version: Version, headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let refuse = |status, header, text| Err(Refusal { status, header, text });
    if method != Method::GET {
        return refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            Some((ALLOW, "GET")),
            "A WebSocket is opened with GET. Use an EnSync client with a ws:// or wss:// URL.\n",
        );
    }
    if version != Version::HTTP_11 {
        return refuse(
            StatusCode::BAD_REQUEST,
            None,
            "A WebSocket is opened over HTTP/1.1 here. Offer no other version.\n",
        );
    }
    if !has_token(headers, UPGRADE, "websocket") || !has_token(headers, CONNECTION, "upgrade") {
        return refuse(
            StatusCode::UPGRADE_REQUIRED,
            Some((UPGRADE, "websocket")),
            "This address speaks EnSync over WebSocket. Use an EnSync client with a ws:// or wss:// URL; if you did, a proxy in \
             between drops the headers Upgrade and Connection.\n",
        );
    }
    if !has_token(headers, SEC_WEBSOCKET_VERSION, "13") {
        return refuse(
            StatusCode::UPGRADE_REQUIRED,
            Some((SEC_WEBSOCKET_VERSION, "13")),
            "Only version 13 of WebSocket (RFC 6455) is spoken here.\n",
        );
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let accept = match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key.as_bytes()) => HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok(),
        _ => None,
    };
    accept.map_or_else(
        || refuse(StatusCode::BAD_REQUEST, None, "Sec-WebSocket-Key must be there once and be base64 of 16 bytes.\n"),
        Ok,
    )
}

/// Whether a header that is a list has this item, in any case.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// Whether this is base64 of 16 bytes: 22 characters and two of padding.
fn is_key(key: &[u8]) -> bool {
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || b"+/".contains(b);
    matches!(key.split_at_checked(22), Some((text, b"==")) if text.iter().all(base64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let asked = headers(&[
            (UPGRADE, "WebSocket"),
            (CONNECTION, "keep-alive, Upgrade"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, KEY),
        ]);
        assert_eq!(check(&Method::GET, Version::HTTP_11, &asked).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let asked = |skip: HeaderName, instead: Option<&'static str>| {
            let mut all = headers(&[
                (UPGRADE, "websocket"),
                (CONNECTION, "upgrade"),
                (SEC_WEBSOCKET_VERSION, "13"),
                (SEC_WEBSOCKET_KEY, KEY),
            ]);
            all.remove(&skip);
            if let Some(value) = instead {
                all.insert(skip, HeaderValue::from_static(value));
            }
            all
        };
        let good = asked(ALLOW, None);
        for (method, version, headers, status, part) in [
            (Method::POST, Version::HTTP_11, good.clone(), 405, "opened with GET"),
            (Method::GET, Version::HTTP_10, good.clone(), 400, "over HTTP/1.1"),
            (Method::GET, Version::HTTP_2, good, 400, "over HTTP/1.1"),
            (Method::GET, Version::HTTP_11, asked(UPGRADE, None), 426, "ws:// or wss://"),
            (Method::GET, Version::HTTP_11, asked(UPGRADE, Some("h2c")), 426, "ws:// or wss://"),
            (Method::GET, Version::HTTP_11, asked(CONNECTION, Some("close")), 426, "a proxy in between"),
            (Method::GET, Version::HTTP_11, asked(SEC_WEBSOCKET_VERSION, Some("8")), 426, "version 13"),
            (Method::GET, Version::HTTP_11, asked(SEC_WEBSOCKET_KEY, None), 400, "Sec-WebSocket-Key"),
            (Method::GET, Version::HTTP_11, asked(SEC_WEBSOCKET_KEY, Some("short==")), 400, "Sec-WebSocket-Key"),
            (Method::GET, Version::HTTP_11, asked(SEC_WEBSOCKET_KEY, Some("dGhlIHNhbXBsZSBub25jZQ=!")), 400, "base64"),
        ] {
            let refusal = check(&method, version, &headers).unwrap_err();
            assert_eq!(refusal.status.as_u16(), status, "{refusal:?}");
            assert!(refusal.text.contains(part), "{refusal:?}");
            assert_eq!(refusal.into_response().status().as_u16(), status);
        }
    }
}
