//! The generated client, with both generations of method names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ensync_core::{Endpoint, Error, ErrorKind, Result};
use tonic::{Code, Request, Response, Status, Streaming};

use super::http2::Channel;
use crate::generated::en_sync_service_client::EnSyncServiceClient;
use crate::generated::*;
use crate::status;

#[derive(Debug)]
pub(super) struct Rpc {
    client: EnSyncServiceClient<Channel>,
    origin: http::Uri,
    max_message_bytes: usize,
    /// The engine serves the earlier ("event") names only.
    earlier: Arc<AtomicBool>,
}

type Answer<T> = std::result::Result<T, Status>;

/// Calls the current name, and where the engine does not serve it, the earlier one. That is no retry: an unimplemented call was
/// not carried out.
macro_rules! either {
    ($($current:ident, $earlier:ident: $request:ty => $response:ty;)*) => {$(
        pub(super) async fn $current(
            &self,
            request: impl Fn() -> $request,
            limit: Option<Duration>,
        ) -> Answer<$response> {
            let mut client = self.client.clone();
            let earlier = self.earlier.load(Ordering::Relaxed);
            if !earlier {
                let answer = client.$current(within(request(), limit)).await.map(Response::into_inner);
                if !is_unimplemented(&answer) {
                    return answer;
                }
            }
            let answer = client.$earlier(within(request(), limit)).await.map(Response::into_inner);
            if earlier && is_unimplemented(&answer) {
                // It does not serve them any more, or somebody else does.
                self.earlier.store(false, Ordering::Relaxed);
                return client.$current(within(request(), limit)).await.map(Response::into_inner);
            }
            // That it failed may be the word of whoever is on the way, to whom names are nothing.
            if answer.is_ok() {
                self.earlier.store(true, Ordering::Relaxed);
            }
            answer
        }
    )*};
}

impl Rpc {
    pub(super) fn new(channel: Channel, to: &Endpoint, max_message_bytes: usize) -> Result<Self> {
        let scheme = if to.tls() { "https" } else { "http" };
        let origin =
            http::Uri::builder().scheme(scheme).authority(to.authority()).path_and_query("/").build().map_err(
                |cause| {
                    Error::new(ErrorKind::InvalidUrl, format!("{to}: the host cannot be written in a request"))
                        .with_source(cause)
                },
            )?;
        Ok(Self::with(channel, origin, max_message_bytes, Arc::default()))
    }

    fn with(channel: Channel, origin: http::Uri, max_message_bytes: usize, earlier: Arc<AtomicBool>) -> Self {
        let client = EnSyncServiceClient::with_origin(channel.taking(max_message_bytes), origin.clone());
        let client = client.max_decoding_message_size(max_message_bytes);
        Self { client, origin, max_message_bytes, earlier }
    }

    /// The same over another connection.
    pub(super) fn over(&self, channel: Channel) -> Self {
        self.taking(channel, self.max_message_bytes)
    }

    /// The same over this connection, taking messages of up to so many bytes.
    pub(super) fn taking(&self, channel: Channel, max_message_bytes: usize) -> Self {
        Self::with(channel, self.origin.clone(), max_message_bytes, self.earlier.clone())
    }

    pub(super) async fn connect(&self, request: ConnectRequest) -> Answer<ConnectResponse> {
        self.client.clone().connect(request).await.map(Response::into_inner)
    }

    pub(super) async fn heartbeat(
        &self,
        request: HeartbeatRequest,
        limit: Option<Duration>,
    ) -> Answer<HeartbeatResponse> {
        self.client.clone().heartbeat(within(request, limit)).await.map(Response::into_inner)
    }

    pub(super) async fn disconnect(&self, request: DisconnectRequest) -> Answer<DisconnectResponse> {
        self.client.clone().disconnect(request).await.map(Response::into_inner)
    }

    pub(super) async fn extend_lease(
        &self,
        request: ExtendLeaseRequest,
        limit: Option<Duration>,
    ) -> Answer<ExtendLeaseResponse> {
        self.client.clone().extend_lease(within(request, limit)).await.map(Response::into_inner)
    }

    pub(super) async fn release_message(
        &self,
        request: ReleaseRequest,
        limit: Option<Duration>,
    ) -> Answer<ReleaseResponse> {
        self.client.clone().release_message(within(request, limit)).await.map(Response::into_inner)
    }

    /// Resolves with the head of the stream, or with a refusal.
    pub(super) fn subscribe(
        &self,
        request: SubscribeRequest,
    ) -> impl Future<Output = Answer<Streaming<StreamResponse>>> + Send + 'static {
        let mut client = self.client.clone();
        async move { client.subscribe(request).await.map(Response::into_inner) }
    }

    pub(super) async fn unsubscribe(&self, request: UnsubscribeRequest) -> Answer<UnsubscribeResponse> {
        self.client.clone().unsubscribe(request).await.map(Response::into_inner)
    }

    either! {
        publish_message, publish_event: PublishRequest => PublishResponse;
        acknowledge_message, acknowledge_event: AcknowledgeRequest => AcknowledgeResponse;
        defer_message, defer_event: DeferRequest => DeferResponse;
        discard_message, discard_event: DiscardRequest => DiscardResponse;
        replay_message, replay_event: ReplayRequest => ReplayResponse;
        pause_messages, pause_events: PauseRequest => PauseResponse;
        continue_messages, continue_events: ContinueRequest => ContinueResponse;
    }
}

fn is_unimplemented<T>(answer: &Answer<T>) -> bool {
    matches!(answer, Err(status) if status.code() == Code::Unimplemented && !status::is_local(status))
}

/// Tells the other side how long the answer is waited for: `grpc-timeout`, of the gRPC protocol over HTTP/2.
fn within<T>(message: T, limit: Option<Duration>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(limit) = limit {
        request.set_timeout(limit);
    }
    request
}
