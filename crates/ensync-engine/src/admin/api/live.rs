use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use ensync_core::{Error, ErrorKind};
use futures::stream;
use http::{HeaderName, header};

use crate::admin::context::Admin;
use crate::admin::error::Result;

/// How often something is sent though nothing was counted: whoever sends nothing is not seen to be gone, and a proxy ends it.
const STILL_THERE: Duration = Duration::from_secs(15);

/// Whether whoever asked may still: a stream lasts, and what lets somebody in may end before it.
#[derive(Clone)]
pub(in crate::admin) struct StillIn(pub(in crate::admin) Arc<dyn Fn() -> bool + Send + Sync>);

/// Follow what is counted: a sample each second as Server-Sent Events, of which `data` is what `/v1/history` has in `samples`. At most 16
/// may follow at a time. It ends when the token that was shown is not taken any more, when nothing of it is taken for 30 s, and when the
/// engine stops.
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
            let sample = tokio::time::timeout(STILL_THERE, looking.next()).await.ok();
            if still_in.is_some_and(|StillIn(still_in)| !still_in()) {
                return None;
            }
            let text = match sample {
                Some(sample) => format!("data: {}\n\n", serde_json::to_string(&sample?).ok()?),
                // A comment, which readers leave out.
                None => ":\n\n".to_owned(),
            };
            Some((Ok::<_, Infallible>(Bytes::from(text)), looking))
        }
    });
    let head = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would keep samples back.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((head, Body::from_stream(samples)).into_response())
}
