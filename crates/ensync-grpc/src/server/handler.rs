//! The service's methods: both generations of names, one behaviour.

use std::sync::Arc;

use async_trait::async_trait;
use ensync_core::{AppKey, Command, Error, ErrorKind, Login, Reply, Result, Welcome};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::budget::{Answer as Held, Memory, Pool};
use super::session::{Session, Traits, check_fits};
use super::sessions::Sessions;
use super::streams::{Deliveries, lease_ms};
use super::{Connection, read, replay};
use crate::generated::en_sync_service_server::EnSyncService;
use crate::generated::*;
use crate::status;

pub(super) struct Handler {
    sessions: Arc<Sessions>,
    memory: Memory,
    /// The longest metadata that is read, in bytes.
    max_metadata: usize,
}

type Answer<T> = std::result::Result<Response<T>, Status>;

impl Handler {
    pub(super) fn new(sessions: Arc<Sessions>, memory: Memory, max_metadata: usize) -> Self {
        Self { sessions, memory, max_metadata }
    }

    async fn login(&self, request: Request<ConnectRequest>) -> Result<Welcome> {
        let connection = connection_of(&request);
        let agent = user_agent(request.metadata());
        let (multiplexed, max_message) = (agent.starts_with("grpc-node-js/"), max_message(agent));
        let request = request.into_inner();
        let traits = Traits { multiplexed, ends_with_streams: request.ends_with_streams, max_message };
        let app_key = AppKey::parse_received(&Zeroizing::new(request.access_key))?;
        let login = Login { app_key, transport: "grpc", remote: connection.remote() };
        self.sessions.login(login, traits, &connection).await.inspect(|_| connection.used())
    }

    /// The session that a call names.
    fn find(&self, connection: &Connection, client_id: &str) -> Result<Arc<Session>> {
        self.sessions.find(client_id, connection).inspect(|_| connection.used())
    }

    /// Carries out a command of the session that the call names, which is looked for before the command is read: a stranger's is not worth
    /// the work.
    async fn handle(
        &self,
        connection: &Connection,
        client_id: &str,
        command: impl FnOnce() -> Result<Command> + Send,
    ) -> Result<Reply> {
        let session = self.find(connection, client_id)?;
        session.handle(command()?).await
    }

    /// The same, for the answers that say only whether.
    async fn done(
        &self,
        connection: &Connection,
        client_id: &str,
        command: impl FnOnce() -> Result<Command> + Send,
    ) -> (bool, String) {
        verdict("done", self.handle(connection, client_id, command).await)
    }

    /// An event, and what it holds until the client has taken it.
    async fn replay(&self, request: Request<ReplayRequest>) -> Result<(String, Option<Held>)> {
        let (connection, user_agent) = (connection_of(&request), user_agent(request.metadata()).to_owned());
        let request = request.into_inner();
        let permit = connection.replay().await;
        let Reply::Replayed(delivery) = self.handle(&connection, &request.client_id, || read::replay(&request)).await?
        else {
            return Err(Error::new(ErrorKind::Internal, "the engine answered a replay without an event"));
        };
        let data = replay::message_data(&delivery, &user_agent)?;
        check_fits(data.len(), max_message(&user_agent))?;
        let shared = Pool::take(&self.memory.known, data.len()).ok_or_else(|| {
            Error::new(
                ErrorKind::LimitExceeded,
                "clients have not taken as many bytes of replayed events as may wait; try later",
            )
        })?;
        Ok((data, permit.map(|permit| Held(Arc::new((Some(shared), permit))))))
    }
}

/// What a client's gRPC library takes of one message, in bytes, as far as its name tells: most take 4 MiB unless the program asks
/// for more, which the published clients do not; the Go one asks for 6 MiB. Ours takes what the engine announces.
fn max_message(user_agent: &str) -> usize {
    match user_agent {
        ours if ours.starts_with("ensync-rust/") => usize::MAX,
        go if go.starts_with("grpc-go/") => 6 << 20,
        _ => 4 << 20,
    }
}

#[async_trait]
impl EnSyncService for Handler {
    async fn connect(&self, request: Request<ConnectRequest>) -> Answer<ConnectResponse> {
        Ok(Response::new(match self.login(request).await {
            Ok(welcome) => ConnectResponse {
                success: true,
                client_id: welcome.client_id.expose().to_owned(),
                client_hash: welcome.app_id.map(|id| id.to_string()).unwrap_or_default(),
                server_config: welcome.config.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
                error_message: String::new(),
            },
            Err(error) => ConnectResponse { error_message: error.to_refusal(), ..ConnectResponse::default() },
        }))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Answer<HeartbeatResponse> {
        let connection = connection_of(&request);
        match self.handle(&connection, &request.get_ref().client_id, || Ok(Command::Heartbeat)).await {
            Ok(_) => Ok(Response::new(HeartbeatResponse { success: true })),
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {
                Ok(Response::new(HeartbeatResponse { success: false }))
            }
            // The answer has no room for a reason, and the session is not gone.
            Err(error) => Err(status::to_status(&error)),
        }
    }

    async fn disconnect(&self, request: Request<DisconnectRequest>) -> Answer<DisconnectResponse> {
        let left = self.sessions.leave(&request.get_ref().client_id, &connection_of(&request)).await;
        Ok(Response::new(DisconnectResponse { success: left.is_ok() }))
    }

    async fn publish_message(&self, request: Request<PublishRequest>) -> Answer<PublishResponse> {
        let (connection, mut request) = (connection_of(&request), request.into_inner());
        let client_id = std::mem::take(&mut request.client_id);
        let answer = match self.handle(&connection, &client_id, || read::publish(request, self.max_metadata)).await {
            Ok(Reply::Published { id }) => Ok(id.to_string()),
            Ok(_) => Err(Error::new(ErrorKind::Internal, "the engine answered a publish without an id")),
            Err(error) => Err(error),
        };
        Ok(Response::new(match answer {
            Ok(message_idem) => PublishResponse { success: true, message_idem, error_message: String::new() },
            Err(error) => PublishResponse { error_message: error.to_refusal(), ..PublishResponse::default() },
        }))
    }

    type SubscribeStream = Deliveries;

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Answer<Deliveries> {
        let (connection, request) = (connection_of(&request), request.into_inner());
        let subscribed = async {
            let session = self.find(&connection, &request.client_id)?;
            let deliveries = session.subscribe(read::subscribe(&request)?).await?;
            Ok(deliveries.down(connection.stream()))
        };
        subscribed.await.map(Response::new).map_err(|error: Error| status::to_status(&error))
    }

    async fn unsubscribe(&self, request: Request<UnsubscribeRequest>) -> Answer<UnsubscribeResponse> {
        let (connection, request) = (connection_of(&request), request.into_inner());
        let unsubscribed = async {
            let session = self.find(&connection, &request.client_id)?;
            session.unsubscribe(request.message_name.parse()?).await
        };
        let (success, message) = verdict("unsubscribed", unsubscribed.await);
        Ok(Response::new(UnsubscribeResponse { success, message }))
    }

    async fn acknowledge_message(&self, request: Request<AcknowledgeRequest>) -> Answer<AcknowledgeResponse> {
        let (connection, request) = (connection_of(&request), request.into_inner());
        let (success, message) = self.done(&connection, &request.client_id, || read::ack(&request)).await;
        Ok(Response::new(AcknowledgeResponse { success, message }))
    }

    async fn defer_message(&self, request: Request<DeferRequest>) -> Answer<DeferResponse> {
        let (connection, mut request) = (connection_of(&request), request.into_inner());
        let client_id = std::mem::take(&mut request.client_id);
        let answer = self.handle(&connection, &client_id, || read::defer(request)).await;
        let until = match &answer {
            Ok(Reply::Deferred { until }) => *until,
            _ => None,
        };
        let (success, message) = verdict("deferred", answer);
        let delivery_time = until.map_or(0, |at| i64::try_from(at.as_millis()).unwrap_or(i64::MAX));
        Ok(Response::new(DeferResponse { success, message, delivery_time }))
    }

    async fn discard_message(&self, request: Request<DiscardRequest>) -> Answer<DiscardResponse> {
        let (connection, mut request) = (connection_of(&request), request.into_inner());
        let client_id = std::mem::take(&mut request.client_id);
        let (success, message) = self.done(&connection, &client_id, || read::discard(request)).await;
        Ok(Response::new(DiscardResponse { success, message }))
    }

    async fn extend_lease(&self, request: Request<ExtendLeaseRequest>) -> Answer<ExtendLeaseResponse> {
        let (connection, request) = (connection_of(&request), request.into_inner());
        let answer = self.handle(&connection, &request.client_id, || read::extend(&request)).await;
        let lease = match &answer {
            Ok(Reply::Extended { lease }) => *lease,
            _ => None,
        };
        let (success, message) = verdict("extended", answer);
        Ok(Response::new(ExtendLeaseResponse { success, message, lease_ms: lease_ms(lease) }))
    }

    async fn release_message(&self, request: Request<ReleaseRequest>) -> Answer<ReleaseResponse> {
        let (connection, request) = (connection_of(&request), request.into_inner());
        let (success, message) = self.done(&connection, &request.client_id, || read::release(&request)).await;
        Ok(Response::new(ReleaseResponse { success, message }))
    }

    async fn replay_message(&self, request: Request<ReplayRequest>) -> Answer<ReplayResponse> {
        let (message_data, held) = match self.replay(request).await {
            Ok(replayed) => replayed,
            Err(error) => {
                return Ok(Response::new(ReplayResponse { message: error.to_refusal(), ..ReplayResponse::default() }));
            }
        };
        let mut answer = Response::new(ReplayResponse { success: true, message: "replayed".into(), message_data });
        if let Some(held) = held {
            answer.extensions_mut().insert(held);
        }
        Ok(answer)
    }

    async fn pause_messages(&self, request: Request<PauseRequest>) -> Answer<PauseResponse> {
        let (connection, mut request) = (connection_of(&request), request.into_inner());
        let client_id = std::mem::take(&mut request.client_id);
        let (success, message) = self.done(&connection, &client_id, || read::pause(request)).await;
        Ok(Response::new(PauseResponse { success, message }))
    }

    async fn continue_messages(&self, request: Request<ContinueRequest>) -> Answer<ContinueResponse> {
        let (connection, request) = (connection_of(&request), request.into_inner());
        let (success, message) = self.done(&connection, &request.client_id, || read::resume(&request)).await;
        Ok(Response::new(ContinueResponse { success, message }))
    }

    async fn publish_event(&self, request: Request<PublishRequest>) -> Answer<PublishResponse> {
        self.publish_message(request).await
    }

    async fn acknowledge_event(&self, request: Request<AcknowledgeRequest>) -> Answer<AcknowledgeResponse> {
        self.acknowledge_message(request).await
    }

    async fn defer_event(&self, request: Request<DeferRequest>) -> Answer<DeferResponse> {
        self.defer_message(request).await
    }

    async fn discard_event(&self, request: Request<DiscardRequest>) -> Answer<DiscardResponse> {
        self.discard_message(request).await
    }

    async fn replay_event(&self, request: Request<ReplayRequest>) -> Answer<ReplayResponse> {
        self.replay_message(request).await
    }

    async fn pause_events(&self, request: Request<PauseRequest>) -> Answer<PauseResponse> {
        self.pause_messages(request).await
    }

    async fn continue_events(&self, request: Request<ContinueRequest>) -> Answer<ContinueResponse> {
        self.continue_messages(request).await
    }
}

/// `success` and `message` of an answer.
fn verdict(done: &str, answer: Result<Reply>) -> (bool, String) {
    match answer {
        Ok(_) => (true, done.to_owned()),
        Err(error) => (false, error.to_refusal()),
    }
}

/// The listener's, or the one that the service made for it.
fn connection_of<T>(request: &Request<T>) -> Connection {
    request.extensions().get::<Connection>().cloned().unwrap_or_else(Connection::unknown)
}

fn user_agent(metadata: &MetadataMap) -> &str {
    metadata.get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or_default()
}
