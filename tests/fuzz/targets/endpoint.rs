use ensync_core::{Endpoint, ErrorKind, Scheme};
use http::Uri;
use url::Url;

use super::check_refusal;

/// Takes the input for an engine's URL, and for parts of one.
pub fn endpoint(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    check_secrets(text);
    match Endpoint::parse(text) {
        Ok(endpoint) => {
            check_endpoint(&endpoint);
            // Who gives no scheme gets TLS, unless it is for this machine.
            if !text.contains("://") {
                assert_eq!((endpoint.scheme(), endpoint.tls()), (Scheme::Grpc, !endpoint.is_loopback()));
            }
            true
        }
        Err(error) => {
            check_refusal(&error, &[ErrorKind::InvalidUrl]);
            false
        }
    }
}

fn check_endpoint(endpoint: &Endpoint) {
    let written = endpoint.to_string();
    let again = Endpoint::parse(&written).unwrap();
    assert_eq!(again, *endpoint);
    assert_eq!(again.to_string(), written);

    assert_ne!(endpoint.port(), 0);
    let path = endpoint.path();
    match endpoint.scheme() {
        Scheme::Grpc => assert_eq!(path, ""),
        Scheme::WebSocket => {
            assert!(path.starts_with('/') && path.ends_with("/message"), "{path}");
            assert!(!path.contains(|c: char| !c.is_ascii_graphic() || "?#\\".contains(c)), "{path}");
        }
    }
    assert!(!endpoint.host().is_empty());
    assert!(!endpoint.authority().contains(|c: char| !c.is_ascii_graphic() || "@/?#\\".contains(c)), "{written}");

    // What is dialled is what others read in it: `url` as browsers do, `http` as the transports' requests are built.
    let uri: Uri = written.parse().unwrap_or_else(|error| panic!("{written}: {error}"));
    assert_eq!(uri.authority().map(|authority| authority.as_str()), Some(&*endpoint.authority()));
    assert_eq!((uri.port_u16(), uri.query()), (Some(endpoint.port()), None));
    let path = if path.is_empty() { "/" } else { path };
    assert_eq!(uri.path(), path);
    let as_web = written.strip_prefix("grpc").map_or_else(|| written.clone(), |rest| format!("http{rest}"));
    let url = Url::parse(&as_web).unwrap_or_else(|error| panic!("{as_web}: {error}"));
    // Unlike `url`, `host` writes an IPv4 address inside an IPv6 one with dots, as Rust does.
    let host = match url.host() {
        Some(url::Host::Ipv6(ip)) => ip.to_string(),
        host => host.unwrap().to_string(),
    };
    assert_eq!(host, endpoint.host());
    assert!(host.len() <= 254, "{} bytes", host.len());
    assert_eq!((url.port_or_known_default(), url.username(), url.password()), (Some(endpoint.port()), "", None));
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name.trim_end_matches('.') == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    };
    assert_eq!(endpoint.is_loopback(), loopback);
}

/// No message repeats a password, whatever stands around it.
fn check_secrets(text: &str) {
    for url in [format!("wss://user:pa55w0rd{text}@host"), format!("grpc://{text}:pa55w0rd@host")] {
        if let Err(error) = Endpoint::parse(&url) {
            check_refusal(&error, &[ErrorKind::InvalidUrl]);
            assert!(!error.to_string().contains("pa55w0rd"), "{url}: {error}");
        }
    }
}
