//! With which keys a subscription opens its events, and what it demands of them.

use ensync_core::crypto::{Opener, Senders};
use ensync_core::{AppId, ErrorKind};

/// How the events of a subscription, or of a replay, are opened.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) opener: Opener,
    pub(crate) senders: Senders,
}

impl Reading {
    /// With these keys, whoever sent it.
    pub(crate) fn any(opener: Opener) -> Self {
        Self { opener, senders: Senders::Any }
    }
}

/// Who sent an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sender {
    /// The envelope proves it: see [`SenderProof`](ensync_core::crypto::SenderProof). Anybody can prove to be himself: compare the
    /// key.
    Verified {
        /// The sender's app id.
        key: AppId,
        /// Whether a signature proves it, which also convinces others.
        signed: bool,
    },
    /// The engine says so, or says nothing; nothing proves it. So it is with every event in the suite "nacl", with an envelope
    /// whose sender gave no key, and with one that does not open.
    Unverified {
        /// What the engine says.
        claimed: Option<AppId>,
    },
}

impl Sender {
    /// The sender's app id, proven or claimed.
    pub fn app_id(&self) -> Option<AppId> {
        match *self {
            Self::Verified { key, .. } => Some(key),
            Self::Unverified { claimed } => claimed,
        }
    }

    /// The sender's app id if it is proven.
    pub fn verified(&self) -> Option<AppId> {
        match *self {
            Self::Verified { key, .. } => Some(key),
            Self::Unverified { .. } => None,
        }
    }
}

/// What a subscription does with an event that cannot be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unopenable {
    /// It comes out like any other; its [`payload`](crate::Event::payload) is the error. The reader settles it. One that is dropped
    /// instead is rolled back, and is a dead letter after `max_deliveries` deliveries.
    #[default]
    HandOver,
    /// It is discarded, so that the engine keeps it with its dead letters. The reason is the kind of the error, a fixed word.
    Discard,
    /// It is [left](crate::Event::leave), for another client of the app that may have the key. When its lease would have run out it is
    /// delivered again, to whichever client is free; each 16th time it is rolled back, and so it ends with the dead letters if it was
    /// delivered `max_deliveries` times by then. How many are left tells the metric `ensync_client_unopenable_total`, and a line at
    /// `WARN`, once a minute; at the engine they are the deferred ones of the queue.
    Leave,
}

/// Whether an error says that an envelope cannot be opened, rather than that its content is not what the caller wants.
pub(crate) fn is_unopenable(kind: ErrorKind) -> bool {
    use ErrorKind::{
        BadSignature, DoesNotOpen, MalformedEnvelope, Misdirected, NotForMe, SenderNotVerified, UnsupportedEnvelope,
    };
    matches!(
        kind,
        MalformedEnvelope
            | UnsupportedEnvelope
            | NotForMe
            | Misdirected
            | SenderNotVerified
            | DoesNotOpen
            | BadSignature
    )
}
