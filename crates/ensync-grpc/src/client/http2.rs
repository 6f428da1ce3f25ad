//! hyper's HTTP/2 client over one open stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use ensync_core::Endpoint;
use futures::future::BoxFuture;
use http::HeaderValue;
use http::header::USER_AGENT;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;

use super::answers::{self, Answer};
use super::gateway::NotGrpc;
use super::{LEAST_MESSAGE, Options};

/// A connection and its driver. Nothing moves unless `driver` is polled; dropping it starts the connection's end, which comes
/// when the last stream is gone.
pub(super) struct Http2 {
    pub(super) channel: Channel,
    pub(super) driver: Driver,
}

/// Resolves when the connection takes no more requests: with an error if it broke.
pub(super) type Driver = BoxFuture<'static, hyper::Result<()>>;

impl Http2 {
    pub(super) async fn open<S>(stream: S, to: &Endpoint, options: &Options) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, driver) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(crate::interval(options.keep_alive_interval))
            .keep_alive_timeout(crate::interval(options.keep_alive_timeout))
            .keep_alive_while_idle(true)
            // A subscription that nobody reads may fill its own window. It must never fill the connection's as well: the answers
            // to calls come through that one, and a reader may be waiting for just such an answer (RFC 9113 §5.2.2).
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 30)
            .handshake(TokioIo::new(stream))
            .await?;
        tracing::debug!(endpoint = %to, "HTTP/2 connection opened");
        Ok(Self { channel: Channel { send, most: LEAST_MESSAGE }, driver: Box::pin(driver) })
    }
}

/// What the generated client sends its requests with.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    send: SendRequest<Body>,
    /// The largest message that is taken.
    most: usize,
}

impl Channel {
    /// The same, which takes messages of up to so many bytes.
    pub(super) fn taking(self, most: usize) -> Self {
        Self { most, ..self }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    /// Always ready, as HTTP/2 is: of a connection that has ended the generated client would tell in a status that looks like the
    /// engine's, where `call` says that nothing was sent.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        const AGENT: HeaderValue = HeaderValue::from_static(concat!("ensync-rust/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(USER_AGENT).or_insert(AGENT);
        // The one call that is answered with a stream.
        let (many, most) = (request.uri().path().ends_with("/Subscribe"), self.most);
        let answer = self.send.send_request(request);
        Box::pin(async move {
            let mut response = answer.await?;
            NotGrpc::check(&response)?;
            answers::make_readable(response.headers_mut());
            Ok(response.map(|body| Answer::new(body, most, many)))
        })
    }
}
