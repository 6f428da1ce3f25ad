//! Requests that a web page made a browser send.
//!
//! Administrators use browsers on the same machine, for the console and for other things. Two ways lead from a strange page to a listener
//! on the loopback interface: a request across sites, which a browser sends and of which it hides the answer; and a name of the page's
//! own that suddenly leads to 127.0.0.1 (DNS rebinding), for which the browser shows the answer too.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::error::Refusal;
use super::tokens::Tokens;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What is checked of every request.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// The names by which the listener is called, beside addresses and those of the loopback interface; `None`: any, for TLS checks it.
    pub(super) hosts: Option<Arc<[String]>>,
    pub(super) tokens: Tokens,
    /// Whether a request shows one of the tokens.
    pub(super) shown: fn(&Tokens, &HeaderMap) -> bool,
}

/// Whether a request shows a token where the admin API looks for it.
pub(super) fn bearer(tokens: &Tokens, headers: &HeaderMap) -> bool {
    tokens.shown_by(headers)
}

/// Refuses what a strange page sent.
pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let host = host(&request);
    if crosses(request.method(), request.headers(), host.as_ref()) {
        let message = "a web page of another site sent this; this API takes changes from programs, and from pages of its own. \
                       Behind a proxy, have it pass the header Host on as it came";
        return Refusal::new(StatusCode::FORBIDDEN, "forbidden", message).into_response();
    }
    // No page has the token.
    let known = guard.knows(host.as_ref()) || (guard.shown)(&guard.tokens, request.headers());
    let mut response = if known {
        next.run(request).await
    } else {
        let host = host.as_ref().map_or("", Authority::host).chars().take(64).collect::<String>();
        let message = format!(
            "this listener does not go by the name {host:?}; use an address or localhost, or add the name to admin.hosts"
        );
        // RFC 9110, section 15.5.20.
        Refusal::new(StatusCode::MISDIRECTED_REQUEST, "forbidden", message).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A page says for itself what it needs.
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(nothing);
    response
}

impl Guard {
    fn knows(&self, host: Option<&Authority>) -> bool {
        let (Some(hosts), Some(host)) = (&self.hosts, host) else {
            // Every browser says a host.
            return true;
        };
        let host = host.host().trim_end_matches('.').to_ascii_lowercase();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        address || host == "localhost" || host.ends_with(".localhost") || hosts.contains(&host)
    }
}

/// Whom a request is for: RFC 9110, section 7.2.
pub(super) fn host(request: &Request) -> Option<Authority> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.clone());
    }
    let host = request.headers().get(header::HOST)?;
    // One that cannot be read is nobody's.
    Some(Authority::try_from(host.as_bytes()).unwrap_or_else(|_| Authority::from_static("unreadable.invalid")))
}

/// Whether a browser says that a page of another site asks for a change (the Fetch Metadata and Fetch standards).
pub(super) fn crosses(method: &Method, headers: &HeaderMap, host: Option<&Authority>) -> bool {
    if method.is_safe() {
        return false;
    }
    // A browser sets it and no page can, so it decides: behind a proxy the host may be another than the page's. Without TLS there is
    // none, but to the loopback interface.
    if let Some(site) = headers.get(FETCH_SITE).map(HeaderValue::as_bytes) {
        return site != b"same-origin" && site != b"none";
    }
    let Some(origin) = headers.get(header::ORIGIN).map(HeaderValue::as_bytes) else { return false };
    let origin = std::str::from_utf8(origin).ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
    origin.is_none() || origin != host.map(Authority::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(hosts: &[&str]) -> Guard {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Guard { hosts: Some(hosts), tokens: Tokens::fixed(crate::AdminToken::generate().unwrap(), None), shown: bearer }
    }

    #[test]
    fn names_that_others_may_own_are_not_ours() {
        let guard = guard(&["engine.example"]);
        for (host, good) in [
            ("127.0.0.1:50052", true),
            ("10.1.2.3", true),
            ("[::1]:50052", true),
            ("localhost", true),
            ("LocalHost.:50052", true),
            ("a.localhost:1", true),
            ("engine.example:50052", true),
            ("Engine.Example", true),
            ("evil.example", false),
            ("localhost.evil.example:50052", false),
            ("127.0.0.1.evil.example", false),
            ("notlocalhost", false),
        ] {
            let request = Request::builder().header(header::HOST, host).body(Default::default()).unwrap();
            assert_eq!(guard.knows(super::host(&request).as_ref()), good, "{host}");
        }
        let request = Request::builder().header(header::HOST, "a b").body(Default::default()).unwrap();
        assert!(!guard.knows(super::host(&request).as_ref()));
        let any = Guard { hosts: None, ..guard };
        assert!(any.knows(Some(&Authority::from_static("evil.example"))), "its certificate is wrong there");
    }

    #[test]
    fn a_change_is_not_taken_from_a_page_of_another_site() {
        let host = Authority::from_static("127.0.0.1:50052");
        for (name, value, crossing) in [
            ("sec-fetch-site", "cross-site", true),
            ("sec-fetch-site", "same-site", true),
            ("sec-fetch-site", "same-origin", false),
            ("sec-fetch-site", "none", false),
            ("origin", "https://evil.example", true),
            ("origin", "null", true),
            ("origin", "http://127.0.0.1:8000", true),
            ("origin", "http://127.0.0.1:50052", false),
            ("user-agent", "curl", false),
        ] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            assert_eq!(crosses(&Method::POST, &headers, Some(&host)), crossing, "{name}: {value}");
            assert!(!crosses(&Method::GET, &headers, Some(&host)));
        }
        // Behind a proxy that names its upstream.
        let of = |site| {
            let origin = (header::ORIGIN, HeaderValue::from_static("https://console.example"));
            let headers = HeaderMap::from_iter([origin, (FETCH_SITE, HeaderValue::from_static(site))]);
            crosses(&Method::POST, &headers, Some(&host))
        };
        assert!(!of("same-origin") && of("same-site") && of("cross-site"));
    }
}
