//! Answers that no gRPC server gave: a proxy's, a login page's, another web server's.

use std::fmt;

use ensync_core::{Error, ErrorKind};
use http::{HeaderMap, Response, StatusCode, header};

/// An HTTP answer that is not gRPC.
#[derive(Clone, Debug)]
pub(super) struct NotGrpc {
    status: StatusCode,
    content_type: Option<String>,
}

/// How much of a content type is shown.
const MAX_CONTENT_TYPE: usize = 64;

impl NotGrpc {
    /// Looks at the head of an answer before anybody reads its body as gRPC.
    pub(super) fn check<B>(response: &Response<B>) -> Result<(), Self> {
        let headers = response.headers();
        let status = response.status();
        if headers.contains_key("grpc-status") || (status == StatusCode::OK && may_be_grpc(headers)) {
            return Ok(());
        }
        let shown = |text: &str| text.chars().take(MAX_CONTENT_TYPE).collect();
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(shown);
        Err(Self { status, content_type })
    }

    /// The error of a call that was answered so.
    pub(super) fn error(&self) -> Error {
        use StatusCode as S;
        let error = match self.status {
            S::PAYLOAD_TOO_LARGE => Error::new(
                ErrorKind::PayloadTooLarge,
                format!(
                    "{self}: the request was larger than the proxy lets through; raise its limit for request bodies"
                ),
            ),
            S::TOO_MANY_REQUESTS => Error::new(ErrorKind::LimitExceeded, format!("{self}; try again later")),
            // Gateways refuse so while they are set up, restarted or overloaded: that passes. An engine refuses in gRPC's words.
            _ => Error::new(ErrorKind::Unavailable, format!("{self}, and not the engine")),
        };
        // A client error is told before a request is passed on; of all others, an engine may have got it.
        let before = self.status.is_client_error() && self.status != S::REQUEST_TIMEOUT;
        let error = error.said_on_the_way();
        if before { error } else { error.perhaps_done() }
    }

    /// The error of a login that was answered so.
    pub(super) fn error_of_login(&self) -> Error {
        use StatusCode as S;
        let passes = self.status.is_server_error()
            || matches!(self.status, S::UNAUTHORIZED | S::FORBIDDEN | S::PROXY_AUTHENTICATION_REQUIRED)
            || matches!(self.status, S::REQUEST_TIMEOUT | S::TOO_EARLY | S::TOO_MANY_REQUESTS);
        if passes {
            return self.error();
        }
        Error::new(
            ErrorKind::Protocol,
            format!("what answers speaks HTTP/2 but is no EnSync engine (ensync.EnSyncService): {self}"),
        )
        .said_on_the_way()
    }
}

impl fmt::Display for NotGrpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a proxy answered {}", self.status)?;
        match &self.content_type {
            Some(kind) => write!(f, " ({kind})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NotGrpc {}

/// A server that names no content type is left to prove itself.
fn may_be_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, kind: Option<&str>) -> Result<(), NotGrpc> {
        let mut response = Response::builder().status(status);
        if let Some(kind) = kind {
            response = response.header("content-type", kind);
        }
        NotGrpc::check(&response.body(()).unwrap())
    }

    #[test]
    fn a_page_is_told_by_its_status() {
        for (status, kind, happened, login) in [
            (413, ErrorKind::PayloadTooLarge, false, ErrorKind::Protocol),
            (429, ErrorKind::LimitExceeded, false, ErrorKind::LimitExceeded),
            (401, ErrorKind::Unavailable, false, ErrorKind::Unavailable),
            (403, ErrorKind::Unavailable, false, ErrorKind::Unavailable),
            (404, ErrorKind::Unavailable, false, ErrorKind::Protocol),
            (408, ErrorKind::Unavailable, true, ErrorKind::Unavailable),
            (500, ErrorKind::Unavailable, true, ErrorKind::Unavailable),
            (502, ErrorKind::Unavailable, true, ErrorKind::Unavailable),
            (503, ErrorKind::Unavailable, true, ErrorKind::Unavailable),
            (504, ErrorKind::Unavailable, true, ErrorKind::Unavailable),
            (302, ErrorKind::Unavailable, true, ErrorKind::Protocol),
            (200, ErrorKind::Unavailable, true, ErrorKind::Protocol),
        ] {
            let page = answer(status, Some("text/html; charset=utf-8")).unwrap_err();
            let error = page.error();
            assert_eq!((error.kind(), error.may_have_happened()), (kind, happened), "{error}");
            assert!(error.to_string().starts_with(&format!("a proxy answered {status} ")), "{error}");
            assert_eq!(page.error_of_login().kind(), login, "{status}");
            assert!(error.is_said_on_the_way() && page.error_of_login().is_said_on_the_way(), "{status}");
        }
        assert!(answer(502, None).unwrap_err().to_string().ends_with("502 Bad Gateway"));
        let long = answer(200, Some(&"x".repeat(5_000))).unwrap_err();
        assert!(long.to_string().len() < 200, "{long}");
    }

    #[test]
    fn grpc_passes() {
        for kind in [None, Some("application/grpc"), Some("application/grpc+proto")] {
            answer(200, kind).unwrap();
        }
        // Envoy's own answers carry a gRPC status.
        let envoy = Response::builder().status(503).header("grpc-status", "14").body(()).unwrap();
        NotGrpc::check(&envoy).unwrap();
    }
}
