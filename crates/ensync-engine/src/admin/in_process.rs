use std::fmt;

use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result};
use http::{Request, Response};
use tower_service::Service as _;

use super::router::unguarded;
use crate::Broker;

/// The admin API without a listener, for programs that hold the broker anyway: the same requests and answers, without a token.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ensync_core::Result<()> {
/// use ensync_engine::{AdminApi, Broker, BrokerOptions, MemoryLog};
///
/// let broker = Broker::start(BrokerOptions::default(), MemoryLog::new()).await?;
/// let request = http::Request::get("/v1/apps").body(Default::default()).unwrap();
/// let answer = AdminApi::new(broker).call(request).await?;
/// assert_eq!(answer.body(), r#"{"apps":[],"next":null}"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AdminApi(Router);

impl AdminApi {
    /// The API of a broker.
    pub fn new(broker: Broker) -> Self {
        Self(unguarded(broker))
    }

    /// The Config Manager API of a broker, as whoever has the admin token asks it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] if there is no randomness, or the routes make no document.
    #[cfg(feature = "fuzzing")]
    #[doc(hidden)]
    pub fn of_config_manager(broker: Broker) -> Result<Self> {
        let token = super::AdminToken::generate()?;
        let shown = http::HeaderValue::from_str(token.expose())
            .map_err(|cause| Error::new(ErrorKind::Internal, "the token is no header").with_source(cause))?;
        let tokens = super::Tokens::fixed(token, None);
        let router = super::config_manager_router(broker, tokens, &crate::Limits::default(), None)?;
        let show = move |mut request: Request<Body>| {
            request.headers_mut().insert("x-access-key", shown.clone());
            std::future::ready(request)
        };
        Ok(Self(router.layer(axum::middleware::map_request(show))))
    }

    /// Carries out a request. A refusal is an answer too: its status and its body say what it is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] if the answer has no end.
    pub async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let Ok(answer) = self.0.clone().call(request.map(Body::from)).await;
        let (parts, body) = answer.into_parts();
        let failed =
            |cause| Error::new(ErrorKind::Internal, "the admin API's answer cannot be read").with_source(cause);
        Ok(Response::from_parts(parts, to_bytes(body, usize::MAX).await.map_err(failed)?))
    }
}

impl fmt::Debug for AdminApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminApi")
    }
}
