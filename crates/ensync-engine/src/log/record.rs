//! What the log holds. Everything is owned and spelled out, so that it can be written to a disk and read by later versions.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::{
    AppId, AppKey, Block, Error, ErrorKind, EventName, IdempotencyKey, Metadata, Result, Schema, Timestamp, WirePayload,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// One change of the engine's durable state.
///
/// Leases and sessions are not among them: after a restart everything unsettled can be delivered again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// An event was accepted. The same event may be appended again to keep it when what lies before is dropped: the later copy
    /// then is where its payload is read.
    Publish(PublishRecord),
    /// An event is done.
    Ack {
        /// Which.
        event: EventRef,
        /// By which delivery, so that a repeated acknowledgement is recognised.
        block: Block,
    },
    /// An event is not to be delivered before a time.
    Defer {
        /// Which.
        event: EventRef,
        /// When it may be delivered again.
        until: Timestamp,
        /// How often it had been delivered.
        deliveries: u32,
    },
    /// An event went to the dead letters.
    Discard {
        /// Which.
        event: EventRef,
        /// Why, in the client's words or the engine's.
        reason: String,
        /// When.
        at: Timestamp,
        /// How often it had been delivered.
        deliveries: u32,
    },
    /// A dead letter is to be delivered again, its deliveries counted anew.
    Requeue {
        /// Which.
        event: EventRef,
        /// When it expires now, if ever.
        expires_at: Option<Timestamp>,
    },
    /// A dead letter was given up.
    Drop {
        /// Which.
        event: EventRef,
    },
    /// An app was created.
    App {
        /// Its first public key, which is its id for as long as it exists.
        id: AppId,
        /// Its name, for people.
        name: String,
        /// What its key hashes to.
        key_hash: KeyHash,
        /// What it may do with names that no [`Record::Grant`] of its own speaks of.
        rights: Rights,
        /// When.
        at: Timestamp,
    },
    /// An app got another access key.
    AccessKey {
        /// The app, by its id.
        app: AppId,
        /// What the new key hashes to.
        key_hash: KeyHash,
        /// When.
        at: Timestamp,
        /// Until when the one before it logs in too. A still earlier one does not any more.
        old_until: Option<Timestamp>,
    },
    /// An app got another key pair. What is published to the public keys before it still reaches its queues.
    KeyPair {
        /// The app, by its id.
        app: AppId,
        /// The new public key.
        public_key: AppId,
    },
    /// An earlier public key of an app was given up: nothing can be published to it any more.
    RetireKey {
        /// The app, by its id.
        app: AppId,
        /// The key.
        public_key: AppId,
    },
    /// An app may log in, or may not any more.
    Enable {
        /// The app, by its id.
        app: AppId,
        /// Whether it may.
        enabled: bool,
    },
    /// An app is gone, and with it the queues of which it is the recipient.
    DeleteApp {
        /// The app, by its id.
        app: AppId,
    },
    /// An event name was registered, or its options changed.
    Event {
        /// The name.
        name: EventName,
        /// What holds for it.
        options: EventOptions,
        /// Registered by its first use: leaves a name alone that is registered already.
        auto: bool,
    },
    /// An app's rights changed.
    Grant {
        /// The app.
        app: AppId,
        /// For this name, or for all names without a grant of their own.
        event: Option<EventName>,
        /// What it may do.
        rights: Rights,
    },
    /// A grant for a single name was taken back: what holds for all names holds for it again.
    Revoke {
        /// The app, by its id.
        app: AppId,
        /// The name.
        event: EventName,
    },
    /// An event name is gone, and with it its queues and the grants for it.
    DeleteEvent {
        /// The name.
        name: EventName,
    },
}

/// An accepted event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishRecord {
    /// The queue's number and the event's place in it.
    pub at: EventRef,
    /// Drawn anew by every run of the engine, so that an id of a lost log names no event of another.
    pub tag: u32,
    /// The public key that it was sealed for: one of those that its recipient had when it was accepted.
    pub recipient: AppId,
    /// The event name.
    pub event: EventName,
    /// The public key that its publisher had then.
    pub sender: AppId,
    /// The sealed payload.
    pub payload: WirePayload,
    /// What travels in clear.
    pub metadata: Metadata,
    /// When the engine accepted it.
    pub accepted_at: Timestamp,
    /// When it is of no use any more, if ever.
    pub expires_at: Option<Timestamp>,
    /// The key under which the sender may repeat the publish.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl PublishRecord {
    /// What a delivery of it weighs in a window: payload and metadata, in bytes of their text.
    pub fn size(&self) -> usize {
        self.payload.len().saturating_add(self.metadata.as_str().len())
    }
}

/// Names an event in the log: its queue's number, and its sequence number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventRef {
    /// The queue. Numbers are given out once and belong to one app and event name, also when either is gone.
    pub queue: u32,
    /// The event's number in its queue; later events have larger ones.
    pub seq: u64,
}

/// The SHA-256 of an app key (FIPS 180-4): all the engine keeps of it. Keys the engine makes hold 256 random bits, so nothing
/// slower is needed. Compared in constant time.
#[derive(Clone, Copy, Eq, PartialOrd, Ord)]
pub struct KeyHash([u8; 32]);

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl KeyHash {
    /// Of an app key.
    pub fn of(key: &AppKey) -> Self {
        Self(Sha256::digest(key.expose().as_bytes()).into())
    }

    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// What an app may do with an event name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Publish it.
    pub publish: bool,
    /// Subscribe to it and replay it.
    pub subscribe: bool,
}

impl Rights {
    /// Both.
    pub const ALL: Self = Self { publish: true, subscribe: true };
    /// Neither.
    pub const NONE: Self = Self { publish: false, subscribe: false };
}

/// What holds for an event name. `None` leaves it to the engine's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventOptions {
    /// What payloads must look like.
    pub schema: Option<Schema>,
    /// How long an event is of use, from its acceptance. Changes hold for later events.
    pub ttl: Option<Duration>,
    /// After how many deliveries an event that nobody settles goes to the dead letters.
    ///
    /// A delivery counts when its lease runs out, and when the client rolls it back or defers it; a defer to a later time makes
    /// no dead letter by itself. The first 100 that come back because the client's session or connection ended do not count,
    /// for the client may never have looked at them; they do raise the attempt that the next reader sees. The count starts anew
    /// when a dead letter is queued again, and when the engine is started again: from all deliveries before the last defer, if
    /// there was one, otherwise from none.
    pub max_deliveries: Option<NonZeroU32>,
    /// How long a client may take to settle a delivery.
    pub ack_timeout: Option<Duration>,
}

impl EventOptions {
    /// The shortest `ttl` and `ack_timeout`.
    pub const MIN_DURATION: Duration = Duration::from_millis(100);
    /// The longest `ack_timeout`: what a client holds longer it should defer.
    pub const MAX_ACK_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if a duration is too short or too long.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: &str, given: Duration, rule: &str| {
            Err(Error::new(ErrorKind::InvalidInput, format!("{what} of {} ms: {rule}", given.as_millis())))
        };
        match (self.ttl, self.ack_timeout) {
            (Some(ttl), _) if ttl < Self::MIN_DURATION => refuse("ttl", ttl, "it must be at least 100 ms"),
            (_, Some(timeout)) if !(Self::MIN_DURATION..=Self::MAX_ACK_TIMEOUT).contains(&timeout) => {
                refuse("ack timeout", timeout, "it must be 100 ms to 24 hours")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_hash_does_not_reach_logs() {
        let hash = KeyHash::of(&AppKey::parse("hush").unwrap());
        assert_eq!(format!("{hash:?}"), "KeyHash(..)");
        // FIPS 180-4, as `printf hush | sha256sum` prints it.
        assert_eq!(hash.as_bytes()[..4], [0xdc, 0x83, 0x31, 0xbc]);
    }

    #[test]
    fn options_out_of_range_say_which() {
        EventOptions::default().check().unwrap();
        let ms = |ms| Some(Duration::from_millis(ms));
        for (options, part) in [
            (EventOptions { ttl: ms(99), ..Default::default() }, "ttl of 99 ms"),
            (EventOptions { ack_timeout: ms(0), ..Default::default() }, "ack timeout of 0 ms"),
            (EventOptions { ack_timeout: ms(86_400_001), ..Default::default() }, "ack timeout of 86400001 ms"),
        ] {
            let error = options.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
