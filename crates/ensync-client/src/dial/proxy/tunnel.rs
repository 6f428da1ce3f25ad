//! CONNECT: RFC 9110 section 9.3.6.

use std::io;
use std::sync::Arc;

use ensync_core::{Endpoint, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{Proxy, failed};
use crate::dial::{Carrier, tcp, tls};

/// The longest answer to a CONNECT that is read, without what follows it.
const MAX_HEAD: usize = 16 * 1024;
/// How much of a proxy's own words is repeated.
const MAX_WORDS: usize = 100;

/// A connection to an engine through a proxy, which resolves the engine's name.
pub(in crate::dial) async fn open(proxy: &Proxy, to: &Endpoint, tls: &Arc<tls::Tls>) -> Result<Carrier> {
    let (host, port) = (proxy.host(), proxy.port());
    let tcp = tcp::connect(&host, port).await.map_err(|reason| {
        let what = format!("the proxy cannot be reached: {}", reason.told("proxy"));
        failed(to, proxy, what).with_source(reason.cause)
    })?;
    let mut carrier = if proxy.tls {
        Carrier::Right(Box::new(tls.to_proxy(&proxy.to_string(), &host, tcp).await?))
    } else {
        Carrier::Left(tcp)
    };
    ask(&mut carrier, proxy, to).await?;
    tracing::debug!(endpoint = %to, %proxy, "tunnelled");
    Ok(carrier)
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, proxy: &Proxy, to: &Endpoint) -> Result<()> {
    let broken = |cause: io::Error| failed(to, proxy, "the connection to the proxy broke").with_source(cause);
    let target = to.authority();
    let agent = concat!("ensync-rust/", env!("CARGO_PKG_VERSION"));
    let mut request = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {agent}\r\n"));
    if let Some(authorization) = &proxy.authorization {
        request.push_str("Proxy-Authorization: ");
        request.push_str(authorization);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let head = read_head(stream).await.map_err(|cause| match cause.kind() {
        io::ErrorKind::UnexpectedEof => failed(to, proxy, "the proxy closed the connection instead of answering"),
        io::ErrorKind::InvalidData => failed(to, proxy, "the proxy's answer does not end").with_source(cause),
        _ => broken(cause),
    })?;
    judge(&head, proxy, to)
}

/// Reads to the end of an answer's head and not one byte further, for what follows is the engine's: one that speaks HTTP/2 may do
/// so unasked. A read a byte costs little, once a connection.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        if head.len() >= MAX_HEAD {
            let text = format!("more than {MAX_HEAD} bytes without the end of its head");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

fn judge(head: &[u8], proxy: &Proxy, to: &Endpoint) -> Result<()> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut headers);
    let code = match answer.parse(head) {
        Ok(httparse::Status::Complete(_)) => answer.code.unwrap_or_default(),
        Ok(httparse::Status::Partial) => 0,
        Err(cause) => {
            return Err(failed(to, proxy, "what answers is no HTTP proxy").with_source(cause));
        }
    };
    if (200..300).contains(&code) {
        return Ok(());
    }
    let words =
        |text: &str| -> String { text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(MAX_WORDS).collect() };
    let why = match code {
        407 => {
            let wanted = answer.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("proxy-authenticate"));
            let schemes: Vec<_> = wanted
                .filter_map(|header| std::str::from_utf8(header.value).ok()?.split_whitespace().next().map(words))
                .take(8)
                .collect();
            let basic = schemes.is_empty() || schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
            match (basic, proxy.authorization.is_some()) {
                (false, _) => format!("it wants authentication by {}, and this client knows Basic", schemes.join(", ")),
                (true, true) => "it does not take this user and password".to_owned(),
                (true, false) => "it wants a user and password: http://user:password@host:port".to_owned(),
            }
        }
        403 | 405 => format!("it does not let this machine through to {}", to.authority()),
        502..=504 => format!("it cannot reach {}", to.authority()),
        _ => "it refuses".to_owned(),
    };
    let reason = words(answer.reason.unwrap_or_default());
    Err(failed(to, proxy, format_args!("{why} (HTTP {code} {})", reason.trim())))
}

#[cfg(test)]
mod tests {
    use ensync_core::ErrorKind;
    use tokio::io::DuplexStream;

    use super::*;

    /// What asking a proxy that answers `answer` comes to; what it was asked; and what is left to read.
    async fn asked(proxy: &str, answer: &[u8]) -> (Result<()>, String, Vec<u8>) {
        let (mut near, mut far): (DuplexStream, _) = tokio::io::duplex(64 * 1024);
        far.write_all(answer).await.unwrap();
        far.shutdown().await.unwrap();
        let outcome = ask(&mut near, &Proxy::parse(proxy).unwrap(), &"grpcs://h".parse().unwrap()).await;
        let mut left = Vec::new();
        near.read_to_end(&mut left).await.unwrap();
        drop(near);
        let mut request = String::new();
        far.read_to_string(&mut request).await.unwrap();
        (outcome, request, left)
    }

    #[tokio::test]
    async fn the_request_and_what_follows_the_answer() {
        let (outcome, request, left) = asked("http://p:1", b"HTTP/1.1 200 Connection established\r\n\r\nPRI").await;
        outcome.unwrap();
        assert!(request.starts_with("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\nUser-Agent: ensync-rust/"), "{request}");
        assert!(request.ends_with("\r\n\r\n") && !request.contains("Authorization"), "{request}");
        assert_eq!(left, b"PRI");
        let (outcome, request, left) = asked("http://u:p@p:1", b"HTTP/1.0 200\nX: y\n\nrest").await;
        outcome.unwrap();
        assert!(request.contains("\r\nProxy-Authorization: Basic dTpw\r\n"), "{request}");
        assert_eq!(left, b"rest");
    }

    #[tokio::test]
    async fn each_refusal_is_told_apart() {
        let long = format!("HTTP/1.1 418 {}\r\n\r\n", "x".repeat(5_000));
        for (proxy, answer, part) in [
            ("http://p:1", "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", "wants a user and password"),
            ("http://p:1", "HTTP/1.1 407 No\r\n\r\n", "wants a user and password"),
            ("http://u:secret@p:1", "HTTP/1.1 407 No\r\nproxy-authenticate: basic\r\n\r\n", "does not take this user"),
            ("http://u:secret@p:1", "HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n", "by NTLM, and this client"),
            (
                "http://p:1",
                "HTTP/1.1 403 Forbidden by policy\r\n\r\n",
                "let this machine through to h:443 (HTTP 403 Forbidden by policy)",
            ),
            ("http://p:1", "HTTP/1.1 502 Bad Gateway\r\n\r\n", "cannot reach h:443"),
            ("http://p:1", "HTTP/1.1 302 Found\r\nLocation: http://evil\r\n\r\n", "it refuses (HTTP 302 Found)"),
            ("http://p:1", "SSH-2.0-OpenSSH_9.6\r\n\r\n", "no HTTP proxy"),
            ("http://p:1", "\x15\x03\x01\n\n", "no HTTP proxy"),
            ("http://p:1", "", "closed the connection instead of answering"),
            ("http://p:1", "HTTP/1.1 200 OK\r\n", "closed the connection instead of answering"),
            ("http://p:1", long.as_str(), "HTTP 418 xxx"),
        ] {
            let error = asked(proxy, answer.as_bytes()).await.0.expect_err(answer);
            assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
            let text = error.to_string();
            assert!(text.contains(part) && text.contains("grpcs://h:443 through the proxy http://p:1"), "{text}");
            assert!(!text.contains("secret") && text.len() < 400, "{text}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_read_to_its_end() {
        let mut endless = b"HTTP/1.1 200 OK\r\n".to_vec();
        endless.resize(40_000, b'x');
        let (outcome, _, left) = asked("http://p:1", &endless).await;
        assert!(outcome.unwrap_err().to_string().contains("does not end"));
        assert_eq!(left.len(), 40_000 - MAX_HEAD);
        let many: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
        let (outcome, ..) = asked("http://p:1", format!("HTTP/1.1 200 OK\r\n{many}\r\n").as_bytes()).await;
        assert!(outcome.unwrap_err().to_string().contains("no HTTP proxy"));
    }
}
