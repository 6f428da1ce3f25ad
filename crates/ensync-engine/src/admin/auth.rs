//! Who may ask: whoever has the token.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::AdminToken;
use super::error::Refusal;

/// Refuses whoever does not show the token. What he sent instead is neither said nor logged.
pub(super) async fn require_token(State(token): State<AdminToken>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    // RFC 9110, section 11.1: the scheme's name is read in either case.
    let shown = given.and_then(|given| {
        let (scheme, token) = given.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
    });
    let why = match (given, shown) {
        (_, Some(shown)) if token.is(shown) => {
            let mut response = next.run(request).await;
            // Some answers hold keys.
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            return response;
        }
        (_, Some(_)) => "the admin token is not this engine's",
        (Some(_), None) => "the header Authorization is not \"Bearer TOKEN\"",
        (None, None) => "no admin token: send it in the header \"Authorization: Bearer TOKEN\"",
    };
    let message = format!("{why}; an engine with a data directory has it in the file admin.token there");
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", message).into_response()
}
