//! How long a look at the engine may take, and that a change is carried out to its end.

use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use tracing::Instrument as _;

use super::error::Refusal;

/// How long whoever only looks has to wait, however busy the engine is, and however long its disk does not answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Ends a request that only looks, after a while. A change is not ended: whoever asked for it has to be told what came of it.
pub(super) async fn answer(request: Request, next: Next) -> Response {
    if !request.method().is_safe() {
        return whole(request, next).await;
    }
    match tokio::time::timeout(ANSWER, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("the engine has not answered for {} s; its disk may hang", ANSWER.as_secs());
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).into_response()
        }
    }
}

/// Carries a change out to its end, and the audit's line of it, though whoever asked for it has gone: the engine does it in any case.
pub(super) async fn whole(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    tokio::spawn(next.run(request).in_current_span()).await.unwrap_or_else(|_| {
        let message = "the engine failed while it carried this out; look whether it did";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message).into_response()
    })
}
