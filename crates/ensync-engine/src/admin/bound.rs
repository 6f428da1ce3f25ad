//! How long a look at the engine may take.

use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::error::Refusal;

/// How long whoever only looks has to wait, however busy the engine is, and however long its disk does not answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Ends a request that only looks, after a while. A change is not ended: whoever asked for it has to be told what came of it.
pub(super) async fn answer(request: Request, next: Next) -> Response {
    if !request.method().is_safe() {
        return next.run(request).await;
    }
    match tokio::time::timeout(ANSWER, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("the engine has not answered for {} s; its disk may hang", ANSWER.as_secs());
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).into_response()
        }
    }
}
