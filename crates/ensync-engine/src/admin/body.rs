//! Bodies: small, whole, in time; and read as what they should be.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::{Refusal, Result};

/// The largest body, in bytes: a schema of thousands of fields fits.
pub(super) const MAX_BODY: usize = 256 << 10;
/// How long a client may take to send one.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes the whole body in before anything looks at the request.
pub(super) async fn whole(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.size_hint().lower() > MAX_BODY as u64 {
        return too_large();
    }
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(cause)) if is_too_large(&cause) => too_large(),
        Ok(Err(_)) => Refusal::new(StatusCode::BAD_REQUEST, "interrupted", "the body ended early").into_response(),
        Err(_) => {
            let message = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", message).into_response()
        }
    }
}

fn too_large() -> Response {
    let message = format!("the body is larger than {MAX_BODY} bytes");
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
        let (parts, body) = request.into_parts();
        let bytes = Bytes::from_request(Request::from_parts(parts.clone(), body), state).await;
        let bytes = bytes.map_err(|cause| Refusal::new(cause.status(), "invalid_input", cause.body_text()))?;
        let read = Json::from_request(Request::from_parts(parts, Body::from(bytes.clone())), state).await;
        if let Err(rejection @ JsonRejection::MissingJsonContentType(_)) = read {
            return Err(rejection.into());
        }
        ensync_core::check_json("the body", &bytes)
            .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, "invalid_input", error.to_string()))?;
        Ok(Self(read?.0))
    }
}

/// Parameters in the path.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        Ok(Self(Path::from_request_parts(parts, state).await?.0))
    }
}

/// Parameters behind the question mark.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        Ok(Self(Query::from_request_parts(parts, state).await?.0))
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        let kind = match &rejection {
            JsonRejection::MissingJsonContentType(_) => {
                let message = "the body is not declared as JSON; send the header \"Content-Type: application/json\"";
                return Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_input", message);
            }
            _ => "invalid_input",
        };
        Self::new(rejection.status(), kind, rejection.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), "invalid_input", rejection.body_text())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "invalid_input", rejection.body_text())
    }
}
