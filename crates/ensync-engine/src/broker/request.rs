//! What is sent to the broker's task.

use std::fmt;

use ensync_core::{AppId, ClientId, Command, Delivery, Peer, Reply, Result};
use tokio::sync::{mpsc, oneshot};

use crate::log::KeyHash;
use crate::state::{Admitted, Provision, Replay, State};

/// Where an answer goes. Nobody may be waiting any more.
pub(super) type Answer<T> = oneshot::Sender<Result<T>>;

pub(super) enum Request {
    Login {
        key: KeyHash,
        client_id: ClientId,
        answer: Answer<Opened>,
    },
    Logout {
        client_id: ClientId,
        answer: oneshot::Sender<()>,
    },
    Publish {
        peer: Peer,
        publish: Box<Admitted>,
        answer: Answer<Outcome>,
    },
    Command {
        peer: Peer,
        command: Box<Command>,
        answer: Answer<Outcome>,
    },
    Provision {
        what: Box<Provision>,
        answer: Answer<Outcome>,
    },
    /// Those of them that make sense.
    ProvisionEach {
        what: Vec<Provision>,
        answer: Answer<usize>,
    },
    Inspect(Box<dyn FnOnce(&State) + Send>),
    Shutdown,
}

/// A session that was opened.
pub(super) struct Opened {
    /// The app's id, and its public key.
    pub(super) app: AppId,
    pub(super) public_key: AppId,
    pub(super) inbox: mpsc::UnboundedReceiver<Delivery>,
}

/// What a command came to.
pub(super) enum Outcome {
    Reply(Reply),
    /// The caller reads the record, and makes the answer of it.
    Replay(Box<Replay>),
}

impl Request {
    /// What it weighs in a batch, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Publish { publish, .. } => publish.size(),
            _ => 0,
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request(..)")
    }
}
