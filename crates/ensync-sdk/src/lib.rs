#![doc = include_str!("intro.md")]

mod transports;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ReadmeOfTheRepository;

#[cfg(any(doc, doctest))]
#[doc = include_str!("coming_from.md")]
pub mod coming_from_python_or_node {}

// The public interface is:
pub use ensync_client::core::crypto::{self, Keep, SealedId, Suite};
pub use ensync_client::core::{
    AppId, AppKey, Block, ClientId, Endpoint, Error, ErrorKind, EventId, EventName, FieldType, IdempotencyKey, Keyring,
    Metadata, PayloadMetadata, ReplayInfo, Result, Schema, Scheme, SecretKey, Timestamp,
};
pub use ensync_client::{
    Acker, Attempts, Client, ConnectionEvent, ConnectionState, Control, CreateClient, Event, ForEach, Handler, OnError,
    PartialPublish, Payload, Publish, Receipt, Sender, Subscribe, Subscription, TlsOptions, Unopenable, core,
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
