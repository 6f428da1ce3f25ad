//! Where an engine is: the URL and port rules, in one place.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use url::Host;

use crate::convert::{from_text, serialize_display};
use crate::text::{Given, refuse_keys};
use crate::{Error, ErrorKind, Result};

/// How to speak to an engine. `Display` writes `grpc` or `ws`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// gRPC over HTTP/2.
    Grpc,
    /// Text frames over WebSocket.
    WebSocket,
}

impl Scheme {
    fn parse(text: &str) -> Result<Self> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "ws" => Ok(Self::WebSocket),
            _ => Err(Error::new(ErrorKind::InvalidInput, format!("{} is neither grpc nor ws", Given(text)))),
        }
    }
}

from_text!(Scheme, "grpc or ws");
serialize_display!(Scheme);

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Grpc => "grpc",
            Self::WebSocket => "ws",
        })
    }
}

/// The address of an engine.
///
/// | given | transport | TLS | host, port |
/// |---|---|---|---|
/// | `grpcs://h` | gRPC | yes | h:443 |
/// | `grpc://h` | gRPC | no | h:50051 |
/// | `h` (no scheme) | gRPC | yes, unless h is a loopback name | h:443, loopback: h:50051 |
/// | `localhost`, `127.0.0.1`, `[::1]` | gRPC | no | :50051 |
/// | `wss://h`, `https://h` | WebSocket | yes | h:443, path `/message` |
/// | `ws://h`, `http://h` | WebSocket | no | h:80, path `/message` |
/// | any of them with `:port` | as above | as above | that port |
///
/// A loopback name is `localhost` or a loopback IP address, compared as a whole: `localhost.example.com` is none, and so is
/// dialled with TLS. A path in a WebSocket URL is kept, and `/message` is appended to it once. Schemes are case-insensitive.
/// Refused, each with its own message: an unknown scheme, an empty host, port 0 or above 65535, user-info (any `@`), a query, a
/// fragment, a path with gRPC, an IPv6 literal without brackets.
///
/// ```
/// use ensync_core::{Endpoint, Scheme};
///
/// let engine: Endpoint = "wss://node.gms.ensync.cloud".parse()?;
/// assert_eq!(engine.scheme(), Scheme::WebSocket);
/// assert_eq!(engine.to_string(), "wss://node.gms.ensync.cloud:443/message");
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    tls: bool,
    host: Host<String>,
    port: u16,
    path: String,
}

impl Endpoint {
    /// Reads a URL by the table above.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`] says what is wrong and what would be right. User-info and keys are never repeated.
    pub fn parse(url: &str) -> Result<Self> {
        let url = url.trim();
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, url),
        };
        // The whole, for a key may stand where the scheme should; what is behind the scheme by itself, for it may be a bare one.
        for part in [rest, url] {
            refuse_keys(part, ErrorKind::InvalidUrl, "the URL of an engine")?;
        }
        let parts = Parts::split(rest)?;
        let host = parse_host(parts.host)?;
        // As it will be looked up: percent-encoding, case and width of the letters are undone in it.
        refuse_keys(&host.to_string(), ErrorKind::InvalidUrl, "the URL of an engine")?;
        let (scheme, tls) = match scheme.as_deref() {
            Some("grpcs") => (Scheme::Grpc, true),
            Some("grpc") => (Scheme::Grpc, false),
            Some("wss" | "https") => (Scheme::WebSocket, true),
            Some("ws" | "http") => (Scheme::WebSocket, false),
            None => (Scheme::Grpc, !is_loopback(&host)),
            Some(other) => {
                return Err(invalid(format!(
                    "unknown scheme {}; use grpcs:// or grpc://, wss:// or ws:// (https:// and http:// mean the same)",
                    Given(other)
                )));
            }
        };
        let port = match (parts.port, scheme, tls) {
            (Some(port), ..) => port,
            (None, _, true) => 443,
            (None, Scheme::Grpc, false) => 50051,
            (None, Scheme::WebSocket, false) => 80,
        };
        let path = parts.path.trim_end_matches('/');
        let path = match scheme {
            Scheme::Grpc if !path.is_empty() => {
                return Err(invalid("a gRPC URL has no path; leave out everything after the host and port".into()));
            }
            Scheme::Grpc => String::new(),
            Scheme::WebSocket if path == "/message" || path.ends_with("/message") => path.to_owned(),
            Scheme::WebSocket => format!("{path}/message"),
        };
        Ok(Self { scheme, tls, host, port, path })
    }

    /// How to speak to it.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether the connection is TLS.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// The host: a name, or an IP address without brackets.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        }
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of a WebSocket URL, which ends in `/message`; empty for gRPC.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `host:port`, IPv6 in brackets.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether the host is `localhost` or a loopback address.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

from_text!(Endpoint, "the URL of an engine");
serialize_display!(Endpoint);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.scheme, self.tls) {
            (Scheme::Grpc, true) => "grpcs",
            (Scheme::Grpc, false) => "grpc",
            (Scheme::WebSocket, true) => "wss",
            (Scheme::WebSocket, false) => "ws",
        };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

/// What stands behind `scheme://`, cut but not yet read.
struct Parts<'a> {
    host: &'a str,
    port: Option<u16>,
    path: &'a str,
}

impl<'a> Parts<'a> {
    fn split(rest: &'a str) -> Result<Self> {
        let (authority, path) = match rest.find(['/', '?', '#', '\\']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        // A password that holds a '/' ends the authority, and the rest of it stands where a path would. No published engine has an
        // '@' in its path.
        if rest.contains('@') {
            return Err(user_info());
        }
        if path.contains('?') {
            return Err(invalid("the URL has a query ('?'); leave it out".into()));
        }
        if path.contains('#') {
            return Err(invalid("the URL has a fragment ('#'); leave it out".into()));
        }
        // RFC 3986 §3.3, but for the '@'. A request with any other character cannot be built.
        if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/%-._~!$&'()*+,;=:".contains(&b)) {
            return Err(invalid("the URL's path holds a character that a URL cannot; percent-encode it".into()));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => {
                let Some((literal, after)) = inner.split_once(']') else {
                    return Err(invalid(
                        "the URL opens a bracket and never closes it; write IPv6 like [::1]:50051".into(),
                    ));
                };
                match after.strip_prefix(':') {
                    Some(port) => (literal, Some(port)),
                    None if after.is_empty() => (literal, None),
                    None => return Err(invalid("after an IPv6 literal only ':port' may follow".into())),
                }
            }
            None if authority.matches(':').count() > 1 => {
                return Err(invalid(match authority.parse::<Ipv6Addr>() {
                    Ok(_) => format!("an IPv6 literal needs brackets: [{authority}]"),
                    Err(_) => {
                        "the URL has more than one ':' after the host; IPv6 literals need brackets, like [::1]:50051"
                            .into()
                    }
                }));
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(invalid("the URL has no host; write it like grpcs://node.example.com or localhost".into()));
        }
        // Brackets are put back so that the host parser sees which literal it is.
        let host = if authority.starts_with('[') { authority.get(..host.len() + 2).unwrap_or(host) } else { host };
        let port = port.map(parse_port).transpose()?;
        Ok(Self { host, port, path })
    }
}

fn parse_port(port: &str) -> Result<u16> {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if port > 0 && digits => Ok(port),
        _ => Err(invalid(format!("port {} is not a number from 1 to 65535", Given(port)))),
    }
}

fn parse_host(host: &str) -> Result<Host<String>> {
    let refuse = || invalid(format!("{} is not a host name or IP address", Given(host)));
    // `url` reads hosts as browsers do (IDNA, IPv4 in all spellings), so what we compare is what is dialled.
    let parsed = Host::parse(host).map_err(|cause| refuse().with_source(cause))?;
    match &parsed {
        Host::Domain(name) if !is_dns_name(name) => Err(refuse()),
        _ => Ok(parsed),
    }
}

/// RFC 1035 §2.3.4, and underscores. `url` takes longer names and more punctuation, which no name server knows, and of which no
/// request can be built.
fn is_dns_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_loopback(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        Host::Ipv4(ip) => IpAddr::V4(*ip).is_loopback(),
        Host::Ipv6(ip) => IpAddr::V6(*ip).to_canonical().is_loopback(),
    }
}

fn user_info() -> Error {
    invalid("the URL holds user-info before '@'; the app key is given to create_client, not in the URL".into())
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::InvalidUrl, format!("engine URL: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        for (given, canonical, loopback) in [
            ("grpcs://h", "grpcs://h:443", false),
            ("grpc://h", "grpc://h:50051", false),
            ("grpc://h/", "grpc://h:50051", false),
            ("h", "grpcs://h:443", false),
            ("h:9090", "grpcs://h:9090", false),
            ("localhost", "grpc://localhost:50051", true),
            ("LOCALHOST", "grpc://localhost:50051", true),
            ("localhost.", "grpc://localhost.:50051", true),
            ("localhost:1234", "grpc://localhost:1234", true),
            ("127.0.0.1", "grpc://127.0.0.1:50051", true),
            ("[::1]", "grpc://[::1]:50051", true),
            ("[::1]:9", "grpc://[::1]:9", true),
            ("grpcs://[2001:db8::1]", "grpcs://[2001:db8::1]:443", false),
            ("localhost.evil.com", "grpcs://localhost.evil.com:443", false),
            ("127.0.0.1.evil.com", "grpcs://127.0.0.1.evil.com:443", false),
            ("h_1.local", "grpcs://h_1.local:443", false),
            ("mylocalhost.example.com", "grpcs://mylocalhost.example.com:443", false),
            ("grpcs://localhost", "grpcs://localhost:443", true),
            ("wss://h", "wss://h:443/message", false),
            ("ws://h", "ws://h:80/message", false),
            ("ws://h/", "ws://h:80/message", false),
            ("ws://h/message", "ws://h:80/message", false),
            ("ws://h/message/", "ws://h:80/message", false),
            ("ws://h:8082/a/b", "ws://h:8082/a/b/message", false),
            ("ws://h/~a/b:c;e=%20/", "ws://h:80/~a/b:c;e=%20/message", false),
            ("https://h", "wss://h:443/message", false),
            ("http://http.example.com", "ws://http.example.com:80/message", false),
            ("WSS://H", "wss://h:443/message", false),
            (" grpcs://node.gms.ensync.cloud ", "grpcs://node.gms.ensync.cloud:443", false),
            ("grpc://bücher.example", "grpc://xn--bcher-kva.example:50051", false),
        ] {
            let endpoint = Endpoint::parse(given).unwrap_or_else(|error| panic!("{given}: {error}"));
            assert_eq!(endpoint.to_string(), canonical, "{given}");
            assert_eq!(endpoint.is_loopback(), loopback, "{given}");
            assert_eq!(Endpoint::parse(canonical).unwrap(), endpoint, "{given}");
        }
    }

    #[test]
    fn each_rejected_form_has_its_message() {
        for (given, part) in [
            ("", "no host"),
            ("grpc://", "no host"),
            ("grpc://:50051", "no host"),
            ("ftp://h", "unknown scheme \"ftp\"; use grpcs://"),
            ("://h", "unknown scheme \"\""),
            ("grpc://h:0", "port \"0\" is not a number from 1 to 65535"),
            ("grpc://h:65536", "port \"65536\""),
            ("grpc://h:", "port \"\""),
            ("grpc://h:+80", "port \"+80\""),
            ("grpc://h:x", "port \"x\""),
            ("wss://user:pass@h", "user-info"),
            ("wss://user:pa/ss@h", "user-info"),
            ("wss://user/pa:ss@h", "user-info"),
            ("wss://user/pass@h:1/x", "user-info"),
            ("oV_L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8", "this is a key"),
            ("ensync_key_abcdefgh", "this is an app key, not the URL"),
            ("wss://ensync_key_abcdefgh", "this is an app key, not the URL"),
            ("wss://h?x=1", "query"),
            ("wss://h/message?x=1", "query"),
            ("wss://h#top", "fragment"),
            ("grpc://h/path", "a gRPC URL has no path"),
            ("::1", "needs brackets: [::1]"),
            ("grpc://2001:db8::1", "needs brackets: [2001:db8::1]"),
            ("grpc://h:1:2", "more than one ':'"),
            ("grpc://[::1", "never closes"),
            ("grpc://[::1]x", "only ':port'"),
            ("grpc://[::g]", "not a host name"),
            ("grpc://[]", "no host"),
            ("grpc://h h", "not a host name"),
            ("grpc://h;`", "\"h;`\" is not a host name"),
            ("ws://a%26b", "not a host name"),
            ("ws://a..b", "not a host name"),
            ("ws://localhost..", "not a host name"),
            (&"a".repeat(64), "not a host name"),
            (&"a.".repeat(128), "not a host name"),
            ("ws://h/a b", "percent-encode"),
            ("ws://h/<a>", "percent-encode"),
            ("ws://h/é", "percent-encode"),
            ("node.gms.ensync.cloud\\@evil", "user-info"),
            ("node.gms.ensync.cloud\\evil", "percent-encode"),
        ] {
            let error = Endpoint::parse(given).expect_err(given);
            assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{given}");
            assert!(error.to_string().contains(part), "{given}: {error}");
        }
        for given in [
            "wss://user:pass@h",
            "wss://user/pass@h",
            "wss://user:pass/word@h",
            "grpc://user:pass?word@h",
            "user:pass#word@h",
        ] {
            assert!(!Endpoint::parse(given).unwrap_err().to_string().contains("pass"), "{given}");
        }
    }
}
