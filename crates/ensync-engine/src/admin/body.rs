//! Bodies: small, whole, in time; and read as what they should be.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::error::{Refusal, Result};
use super::said;

/// The largest body, in bytes: a schema of thousands of fields fits.
pub(super) const MAX_BODY: usize = 256 << 10;
/// How long a client may take to send one.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes the whole body in before anything looks at the request.
pub(super) async fn whole(request: Request, next: Next) -> Response {
    up_to(MAX_BODY, request, next).await
}

/// The same with another limit, in bytes.
pub(super) async fn up_to(most: usize, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX) > most {
        return too_large(most);
    }
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(cause)) if is_too_large(&cause) => too_large(most),
        Ok(Err(_)) => Refusal::new(StatusCode::BAD_REQUEST, "interrupted", "the body ended early").into_response(),
        Err(_) => {
            let message = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", message).into_response()
        }
    }
}

fn too_large(most: usize) -> Response {
    let message = format!("the body is larger than {most} bytes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message).into_response()
}

fn is_too_large(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>())
}

/// A JSON body. It holds to the rule that holds for all JSON here, so that no reader of it, and no log, takes it for something else.
#[derive(Debug)]
pub(super) struct Read<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Read<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        if !declares_json(request.headers()) {
            let message = "the body is not declared as JSON; send the header \"Content-Type: application/json\"";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_input", message));
        }
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|cause| wrong(cause.status(), "the body did not come whole"))?;
        let read = ensync_core::check_json("the body", &bytes)
            .and_then(|text| ensync_core::read_json("the body", text.as_bytes()))
            .map_err(|error| wrong(StatusCode::BAD_REQUEST, error))?;
        said::body(read).map(Self).map_err(|cause| wrong(StatusCode::UNPROCESSABLE_ENTITY, cause))
    }
}

/// Whether a body is said to be JSON (RFC 9110 section 8.3), in whatever form (RFC 6839 section 3.1).
fn declares_json(headers: &HeaderMap) -> bool {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn wrong(status: StatusCode, why: impl std::fmt::Display) -> Refusal {
    Refusal::new(status, "invalid_input", why.to_string())
}

/// Parameters in the path.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let read = Path::from_request_parts(parts, state).await;
        let refused = |cause: PathRejection| wrong(cause.status(), "the path: a part of it is not text in UTF-8");
        Ok(Self(read.map_err(refused)?.0))
    }
}

/// Parameters behind the question mark.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let pairs = pairs.map_err(|cause| wrong(cause.status(), "the query: it is not made of names and values"))?.0;
        said::query(pairs).map(Self).map_err(|cause| wrong(StatusCode::BAD_REQUEST, cause))
    }
}
