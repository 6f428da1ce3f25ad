//! Who may ask: whoever has the token.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::context::Shown;
use super::error::Refusal;
use super::tokens::{Tokens, bearer};

/// Refuses whoever does not show a token. What he sent instead is neither said nor logged.
pub(super) async fn require_token(State(tokens): State<Tokens>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let shown = bearer(headers);
    let why = match shown.map(|shown| tokens.whose(shown)) {
        Some(Some(who)) => {
            request.extensions_mut().insert(Shown(who));
            let mut response = next.run(request).await;
            // Some answers hold keys.
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            return response;
        }
        Some(None) => "the admin token is not this engine's",
        None if headers.contains_key(header::AUTHORIZATION) => "the header Authorization is not \"Bearer TOKEN\"",
        None => "no admin token: send it in the header \"Authorization: Bearer TOKEN\"",
    };
    let message = format!("{why}; an engine with a data directory has it in the file admin.token there");
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", message).into_response()
}
