//! The one shape of every error: `{"error": {"kind": …, "message": …}}`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use ensync_core::{Error, ErrorKind, Redact, redacted};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request was not carried out.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    error: Details,
}

#[derive(Debug, Serialize, ToSchema)]
struct Details {
    /// Which sort of failure it is, for programs: a stable word such as `not_found`.
    kind: &'static str,
    /// What is wrong and what to do, for people.
    message: String,
}

/// A refusal: a status, and what is said about it.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    problem: Problem,
}

/// What handlers return.
pub(super) type Result<T> = std::result::Result<T, Refusal>;

impl Refusal {
    /// Of what is said, no key and no token leaves the engine: it may repeat what was sent.
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl AsRef<str>) -> Self {
        let message = redacted(message.as_ref(), Redact::Hex).into_owned();
        Self { status, problem: Problem { error: Details { kind, message } } }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = status(error.kind());
        if status.is_server_error() {
            tracing::warn!(error = %ensync_core::report(&error), "an admin request failed");
        }
        Self::new(status, error.kind().code(), error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problem)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110, section 15.5.2: it says how to log in.
            let bearer = HeaderValue::from_static("Bearer realm=\"EnSync admin API\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound | ErrorKind::UnknownEvent | ErrorKind::UnknownRecipient => StatusCode::NOT_FOUND,
        ErrorKind::InvalidInput | ErrorKind::InvalidEventName | ErrorKind::InvalidKey => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::LimitExceeded => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
