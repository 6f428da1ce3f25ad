//! What administrators ask for.

use std::time::Duration;

use ensync_core::{AppId, EventName, Timestamp};

use super::{EventChange, EventOptions, KeyHash, Rights};

/// What an administrator asks for: decided, stored and applied as it stands here, whoever asks, on whatever way.
///
/// Where an app is meant, its id names it; to whoever asks, every public key of it that can be published to does so as well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdminCommand {
    /// A new app.
    CreateApp {
        /// Its first public key, which is its id for as long as it exists.
        id: AppId,
        /// Its name, for people.
        name: String,
        /// What its access key hashes to.
        key_hash: KeyHash,
        /// What it may do with names for which it has no grant of its own.
        rights: Rights,
        /// Whether another app may have that name already: then only ids tell the two apart. It is decided before this is stored, and
        /// true of whatever was.
        same_name: bool,
    },
    /// Another access key for an app. Sessions of keys that do not log in any more end.
    RotateKey {
        /// The app.
        app: AppId,
        /// What the new key hashes to.
        key_hash: KeyHash,
        /// How long the one before goes on logging in; zero: not at all. A still earlier one does not.
        grace: Duration,
    },
    /// Another key pair for an app. What is published to the public keys before it still reaches its queues. Its sessions end.
    RotateKeyPair {
        /// The app.
        app: AppId,
        /// The new public key.
        public_key: AppId,
    },
    /// An earlier public key of an app is not to be published to any more.
    RetireKey {
        /// The app.
        app: AppId,
        /// The key.
        public_key: AppId,
    },
    /// Whether an app may log in. If not, its sessions end.
    Enable {
        /// The app.
        app: AppId,
        /// Whether it may.
        enabled: bool,
    },
    /// An app, its sessions and the queues of which it is the recipient are to go.
    DeleteApp {
        /// The app.
        app: AppId,
    },
    /// A new event name.
    CreateEvent {
        /// The name.
        name: EventName,
        /// All of its options.
        options: EventOptions,
    },
    /// A new event name, or new options for one.
    RegisterEvent {
        /// The name.
        name: EventName,
        /// All of its options.
        options: EventOptions,
    },
    /// An event name that is used for the first time: in an engine that registers such names. One that is registered stays as it
    /// is.
    UseEvent {
        /// The name.
        name: EventName,
    },
    /// Some new options for an event name.
    ChangeEvent {
        /// The name.
        name: EventName,
        /// What is new.
        change: EventChange,
    },
    /// An event name that nothing waits under is to go, and with it its queues and the grants for it.
    DeleteEvent {
        /// The name.
        name: EventName,
    },
    /// Rights of an app.
    Grant {
        /// The app.
        app: AppId,
        /// For this name, or for all names without a grant of their own.
        event: Option<EventName>,
        /// What it may do.
        rights: Rights,
    },
    /// A grant for a single name is to be taken back: what holds for all names holds for it again.
    Revoke {
        /// The app.
        app: AppId,
        /// The name.
        event: EventName,
    },
}

impl AdminCommand {
    /// The app that it speaks of, if it is there already: to be looked up, and replaced by its id.
    pub(crate) fn app_mut(&mut self) -> Option<&mut AppId> {
        match self {
            Self::RotateKey { app, .. }
            | Self::RotateKeyPair { app, .. }
            | Self::RetireKey { app, .. }
            | Self::Enable { app, .. }
            | Self::DeleteApp { app }
            | Self::Grant { app, .. }
            | Self::Revoke { app, .. } => Some(app),
            Self::CreateApp { .. }
            | Self::CreateEvent { .. }
            | Self::RegisterEvent { .. }
            | Self::UseEvent { .. }
            | Self::ChangeEvent { .. }
            | Self::DeleteEvent { .. } => None,
        }
    }
}

impl AdminCommand {
    /// The event name whose options it changes, if it does.
    pub(crate) fn event_name(&self) -> Option<&EventName> {
        match self {
            Self::CreateEvent { name, .. }
            | Self::RegisterEvent { name, .. }
            | Self::UseEvent { name }
            | Self::ChangeEvent { name, .. }
            | Self::DeleteEvent { name } => Some(name),
            Self::CreateApp { .. }
            | Self::RotateKey { .. }
            | Self::RotateKeyPair { .. }
            | Self::RetireKey { .. }
            | Self::Enable { .. }
            | Self::DeleteApp { .. }
            | Self::Grant { .. }
            | Self::Revoke { .. } => None,
        }
    }
}

/// Until when the access key before another goes on logging in, which was given out at a time.
pub(crate) fn old_key_until(at: Timestamp, grace: Duration) -> Option<Timestamp> {
    Some(at.after(grace)).filter(|until| *until > at)
}
