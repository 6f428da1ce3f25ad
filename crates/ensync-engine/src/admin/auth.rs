//! Who may ask: whoever has a token, and as far as that goes.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ensync_core::{Error, ErrorKind};
use http::{HeaderValue, StatusCode, header};

use super::api::StillIn;
use super::audit::Caller;
use super::context::{Access, Shown};
use super::error::Refusal;
use super::places::Place;
use super::tokens::{Tokens, bearer};

/// Refuses whoever does not show a token. What he sent instead is neither said nor logged.
pub(super) async fn require_token(State(tokens): State<Tokens>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let shown = bearer(headers);
    let why = match shown.map(|shown| (tokens.known(shown), shown.to_owned())) {
        Some((Some((who, access)), shown)) => {
            let still_in = StillIn(Arc::new(move || tokens.known(&shown).is_some()));
            request.extensions_mut().insert(still_in);
            return admit(request, Shown(who, access), next).await;
        }
        Some((None, _)) => "the admin token is not this engine's",
        None if headers.contains_key(header::AUTHORIZATION) => "the header Authorization is not \"Bearer TOKEN\"",
        None => "no admin token: send it in the header \"Authorization: Bearer TOKEN\"",
    };
    let message = format!("{why}; an engine with a data directory has it in the file admin.token there");
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", message).into_response()
}

/// Lets somebody do what he may.
pub(super) async fn admit(mut request: Request, shown: Shown, next: Next) -> Response {
    if let Some(place) = request.extensions().get::<Arc<Place>>() {
        place.shown(shown.1);
    }
    if shown.1 == Access::Read && !request.method().is_safe() {
        let message = "this token is for looking only; a change needs the one in the file admin.token";
        let caller = Caller { who: Some(shown.0), from: request.extensions().get().copied() };
        let subject = format!("{} {}", request.method(), request.uri().path());
        caller.audit::<(), ()>("change", subject, &Err(Error::new(ErrorKind::Forbidden, message)));
        return Refusal::new(StatusCode::FORBIDDEN, "forbidden", message).into_response();
    }
    request.extensions_mut().insert(shown);
    let mut response = next.run(request).await;
    // Some answers hold keys.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
