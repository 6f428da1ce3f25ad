use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use ensync_core::{Error, ErrorKind};
use futures::stream;
use http::header;

use crate::admin::context::Admin;
use crate::admin::error::Result;

/// Whether whoever asked may still: a stream lasts, and what lets somebody in may end before it.
#[derive(Clone)]
pub(in crate::admin) struct StillIn(pub(in crate::admin) Arc<dyn Fn() -> bool + Send + Sync>);

/// Follow what is counted: a sample each second as Server-Sent Events, of which `data` is what `/v1/history` has in `samples`. At most 16
/// may follow at a time. It ends when the token that was shown is not taken any more, and when the engine stops.
#[utoipa::path(
    get, path = "/v1/live", tag = "engine",
    responses((status = 200, description = "Samples.", body = String, content_type = "text/event-stream")),
)]
pub(super) async fn follow(State(admin): State<Admin>, still_in: Option<Extension<StillIn>>) -> Result<Response> {
    let looking = admin.about.history.look().ok_or_else(|| {
        Error::new(ErrorKind::LimitExceeded, "as many follow the engine as may (16); close another page or program")
    })?;
    let still_in = still_in.map(|Extension(still_in)| still_in);
    let samples = stream::unfold(looking, move |mut looking| {
        let still_in = still_in.clone();
        async move {
            let sample = looking.next().await?;
            if still_in.is_some_and(|StillIn(still_in)| !still_in()) {
                return None;
            }
            let text = serde_json::to_string(&sample).ok()?;
            Some((Ok::<_, Infallible>(Bytes::from(format!("data: {text}\n\n"))), looking))
        }
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((kind, Body::from_stream(samples)).into_response())
}
