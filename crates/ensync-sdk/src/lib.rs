#![doc = include_str!("intro.md")]
#![cfg_attr(feature = "outbox", doc = include_str!("outbox.md"))]

mod transports;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ReadmeOfTheRepository;

#[cfg(any(doc, doctest))]
#[doc = include_str!("coming_from.md")]
pub mod coming_from_python_node_or_go {}

#[cfg(any(doc, doctest))]
#[doc = include_str!("published_documents.md")]
pub mod published_documents {}

// The public interface is:
pub use ensync_client::core::crypto::{self, Keep, SealedId, Suite};
pub use ensync_client::core::{
    AppId, AppKey, Block, ClientId, Delay, Endpoint, Error, ErrorKind, EventId, EventName, FieldType, IdempotencyKey,
    Keyring, Metadata, PayloadJson, PayloadMetadata, ReplayInfo, Result, Schema, Scheme, SecretKey, Timestamp,
};
#[cfg(feature = "metrics")]
pub use ensync_client::describe_metrics;
pub use ensync_client::{
    Acker, Attempts, Client, ConnectionEvent, ConnectionState, Control, CreateClient, Dialer, Event, ForEach, Handler,
    OnError, PartialPublish, Payload, Publish, Receipt, RetryPolicy, Sender, Subscribe, Subscription, TlsOptions,
    Unopenable, core,
};
#[cfg(feature = "outbox")]
pub use ensync_client::{
    Outbox, OutboxOptions, OutboxOutcome, OutboxStatus, ParkedEvent, QueuedEvent, QueuedId, QueuedPublish, WhenFull,
};
pub use transports::AllTransports;

/// Where an engine is, and how clients of it behave; the URL's scheme chooses the transport.
///
/// ```
/// use ensync_sdk::{Engine, Scheme};
///
/// let engine = Engine::new("grpcs://node.gms.ensync.cloud")?; // or wss://, grpc://, ws://, "localhost"
/// assert_eq!(engine.endpoint().scheme(), Scheme::Grpc);
/// # Ok::<(), ensync_sdk::Error>(())
/// ```
pub type Engine = ensync_client::Engine<AllTransports>;
