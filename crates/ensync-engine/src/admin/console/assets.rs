//! The page's files. They are built from `console/` beside `src/`, and kept compressed: see the README there.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::admin::context::Admin;
use crate::admin::error::Refusal;

/// What the page may do: run its own script, ask this engine, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// A file of the page, as it travels.
#[derive(Debug)]
struct Asset {
    path: &'static str,
    kind: &'static str,
    brotli: &'static [u8],
    gzip: &'static [u8],
    /// As it is, for whoever unpacks nothing: of the page itself only, which says then what it needs.
    plain: Option<&'static [u8]>,
}

macro_rules! asset {
    ($path:literal, $kind:literal, $file:literal) => {
        asset!($path, $kind, $file, None)
    };
    ($path:literal, $kind:literal, $file:literal, $plain:expr) => {
        Asset {
            path: $path,
            kind: $kind,
            plain: $plain,
            brotli: include_bytes!(concat!("../../../console/dist/", $file, ".br")),
            gzip: include_bytes!(concat!("../../../console/dist/", $file, ".gz")),
        }
    };
}

const INDEX: &[u8] = include_bytes!("../../../console/dist/index.html");

static ASSETS: [Asset; 5] = [
    asset!("", "text/html; charset=utf-8", "index.html", Some(INDEX)),
    asset!("/", "text/html; charset=utf-8", "index.html", Some(INDEX)),
    asset!("/console.js", "text/javascript; charset=utf-8", "console.js"),
    asset!("/console.css", "text/css; charset=utf-8", "console.css"),
    asset!("/icon.svg", "image/svg+xml", "icon.svg"),
];

pub(super) fn router(base: &str) -> Router<Admin> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        router.route(
            &format!("{base}{}", asset.path),
            get(move |headers: HeaderMap| async move { asset.answer(&headers) }),
        )
    })
}

impl Asset {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let (bytes, coding) = match (accepted(headers), self.plain) {
            (Some("br"), _) => (self.brotli, Some("br")),
            // A browser always says what it takes.
            (_, Some(plain)) if !headers.contains_key(header::ACCEPT_ENCODING) => (plain, None),
            (Some(_), _) => (self.gzip, Some("gzip")),
            (None, Some(plain)) => (plain, None),
            (None, None) => {
                let message = "the console is kept compressed: use a browser, or send \"Accept-Encoding: gzip\"";
                return Refusal::new(StatusCode::NOT_ACCEPTABLE, "invalid_input", message).into_response();
            }
        };
        let hash = Sha256::digest(bytes);
        let tag = format!("\"{}\"", hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect::<String>());
        let same = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let same = same.flat_map(|tags| tags.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag);
        let mut response = match same {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => (coding.map(|coding| [(header::CONTENT_ENCODING, coding)]), bytes).into_response(),
        };
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, self.kind),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
            // Another engine at the same address has another page.
            (header::CACHE_CONTROL, "no-cache"),
            (header::VARY, "accept-encoding"),
            (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

/// Which of the two codings a client takes, the smaller first: RFC 9110, section 12.5.3. One that says nothing takes any.
fn accepted(headers: &HeaderMap) -> Option<&'static str> {
    if !headers.contains_key(header::ACCEPT_ENCODING) {
        return Some("gzip");
    }
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let (mut found, mut refused) = ([false; 3], [false; 3]);
    for item in values.flat_map(|value| value.split(',')) {
        let (name, weight) = item.split_once(';').unwrap_or((item, ""));
        let Some(which) = ["br", "gzip", "*"].iter().position(|known| name.trim().eq_ignore_ascii_case(known)) else {
            continue;
        };
        let none = weight.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0);
        let list = if none { &mut refused } else { &mut found };
        if let Some(known) = list.get_mut(which) {
            *known = true;
        }
    }
    let [br, gzip, any] = found;
    let [no_br, no_gzip, _] = refused;
    if br || any && !no_br { Some("br") } else { (gzip || any && !no_gzip).then_some("gzip") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coding_is_one_that_the_client_takes() {
        for (accept, coding) in [
            (None, Some("gzip")),
            (Some("gzip, deflate, br, zstd"), Some("br")),
            (Some("gzip, deflate"), Some("gzip")),
            (Some("br;q=0, gzip;q=0.5"), Some("gzip")),
            (Some("*"), Some("br")),
            (Some("*, br;q=0"), Some("gzip")),
            (Some("*, br;q=0, gzip;q=0.0"), None),
            (Some("identity"), None),
            (Some(""), None),
            (Some("BR"), Some("br")),
        ] {
            let headers = accept.map(|accept| (header::ACCEPT_ENCODING, HeaderValue::from_str(accept).unwrap()));
            assert_eq!(accepted(&headers.into_iter().collect()), coding, "{accept:?}");
        }
    }

    #[test]
    fn the_whole_page_is_small() {
        let all: usize = ASSETS.iter().skip(1).map(|asset| asset.brotli.len()).sum();
        assert!((10_000..150_000).contains(&all), "{all} bytes");
        let gzip: usize = ASSETS.iter().skip(1).map(|asset| asset.gzip.len()).sum();
        assert!(gzip < 180_000, "{gzip} bytes");
    }
}
