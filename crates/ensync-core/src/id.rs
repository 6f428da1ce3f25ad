//! Identifiers that the engine gives out: events, deliveries, sessions.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use crate::convert::{as_text, from_text, parsed};
use crate::text::{Given, holds, reads_as};
use crate::{Error, ErrorKind, Result, Timestamp};

/// The longest identifier, in bytes.
const MAX_BYTES: usize = 256;

/// Whether `text` is 1 to 256 visible ASCII characters without `, ; { }`, which the WebSocket grammar reserves.
fn is_token(text: &str) -> bool {
    (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && !b",;{}".contains(&b))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

/// Another engine's ids may be 64 bytes in base64, so only a whole secret key is known by its two halves, which belong together.
fn check_token(text: &str, what: &str) -> Result<()> {
    // The length first: whoever sent it chose it, and the search for keys is slow.
    if text.len() > MAX_BYTES {
        return check_form(text, what);
    }
    let refuse = |why: fmt::Arguments<'_>| Err(invalid(format!("this {why} an {what}; keep it on this machine")));
    match reads_as(text) {
        Some("a secret key") if crate::SecretKey::parse(text).is_err() => {}
        None | Some("a key") => {
            if let Some(secret) = holds(text) {
                return refuse(format_args!("holds {secret}, which is no part of"));
            }
        }
        Some(secret) => return refuse(format_args!("is {secret}, not")),
    }
    check_form(text, what)
}

fn check_form(text: &str, what: &str) -> Result<()> {
    if is_token(text) {
        return Ok(());
    }
    let given = Given(text);
    Err(invalid(format!("{what} {given} is not 1 to {MAX_BYTES} visible ASCII characters without , ; {{ }}")))
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The longest one, in bytes.
            pub const MAX_BYTES: usize = MAX_BYTES;

            /// Reads it: 1 to 256 visible ASCII characters, none of them `, ; { }`, and no secret key.
            ///
            /// # Errors
            ///
            /// [`ErrorKind::InvalidInput`] otherwise.
            pub fn parse(text: &str) -> Result<Self> {
                check_token(text, $what).map(|()| Self(text.into()))
            }

            /// Reads one that was accepted once and stored since: only its form counts.
            ///
            /// # Errors
            ///
            /// As [`parse`](Self::parse).
            pub fn parse_stored(text: &str) -> Result<Self> {
                check_form(text, $what).map(|()| Self(text.into()))
            }

            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        from_text!($name, concat!("an ", $what));
        as_text!($name);
    };
}

token! {
    /// The engine's id of one event for one recipient ("idem" on the wire). Opaque; cheap to clone.
    EventId, "event id"
}

token! {
    /// Names one publish, so that an engine which deduplicates stores a retried publish once. Cheap to clone.
    IdempotencyKey, "idempotency key"
}

impl IdempotencyKey {
    /// A key that nobody else has: a ULID, its randomness from the operating system.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] if the operating system gives no randomness.
    pub fn random() -> Result<Self> {
        Self::parse(&random_ulid()?)
    }
}

/// A fresh ULID as 26 characters, its randomness from the operating system.
pub(crate) fn random_ulid() -> Result<String> {
    let random = crate::random::array::<16>()?;
    Ok(ulid::Ulid::from_parts(Timestamp::now().as_millis(), u128::from_be_bytes(random)).to_string())
}

/// The engine's name for one session of an app: a bearer credential, for whoever holds it may act as that session.
///
/// Redacted in `Debug`, compared in constant time. There is no `Display`: call [`expose`](ClientId::expose). Cheap to clone.
#[derive(Clone)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// What every client id that an EnSync engine makes begins with, so that one in a wrong place is recognised. Other engines' begin as
    /// they like.
    pub const PREFIX: &str = "ensync_session_";

    /// Reads it: 1 to 256 visible ASCII characters, none of them `, ; { }`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] otherwise; the message does not repeat the text.
    pub fn parse(text: &str) -> Result<Self> {
        if is_token(text) {
            return Ok(Self(text.into()));
        }
        Err(invalid(format!("the client id is not 1 to {MAX_BYTES} visible ASCII characters without , ; {{ }}")))
    }

    /// The id itself, for the wire.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

from_text!(ClientId, "a client id");

impl PartialEq for ClientId {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for ClientId {}

impl Hash for ClientId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientId(..)")
    }
}

/// The number of one delivery of an event, from 1. It is the fencing token: an acknowledgement that carries the block of an
/// earlier delivery is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block(u64);

impl Block {
    /// The largest block: what an `i64` on the wire can carry.
    pub const MAX: u64 = i64::MAX as u64;
    /// No delivery's block: that of a replay whose engine tells none.
    pub const UNKNOWN: Self = Self(0);

    /// A block.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is 0, or larger than [`Block::MAX`].
    pub fn new(block: u64) -> Result<Self> {
        if (1..=Self::MAX).contains(&block) {
            return Ok(Self(block));
        }
        Err(invalid(format!("block {block} is not a number from 1 to {}", Self::MAX)))
    }

    /// Reads it: decimal digits, without a sign.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is anything else, 0, or larger than [`Block::MAX`].
    pub fn parse(text: &str) -> Result<Self> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let block = text.parse::<NonZeroU64>().ok().filter(|block| digits && block.get() <= Self::MAX);
        let refuse = || invalid(format!("block {} is not a number from 1 to {}", Given(text), Self::MAX));
        block.map(|block| Self(block.get())).ok_or_else(refuse)
    }

    /// As a number.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// As gRPC carries it.
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

impl TryFrom<i64> for Block {
    type Error = Error;
    fn try_from(block: i64) -> Result<Self> {
        let refuse = |_| invalid(format!("block {block} is negative"));
        u64::try_from(block).map_err(refuse).and_then(Self::new)
    }
}

impl TryFrom<u64> for Block {
    type Error = Error;
    fn try_from(block: u64) -> Result<Self> {
        Self::new(block)
    }
}

parsed!(Block);

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for Block {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Block {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let block = u64::deserialize(deserializer)?;
        if block == 0 { Ok(Self::UNKNOWN) } else { Self::new(block).map_err(serde::de::Error::custom) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_on_every_wire() {
        let id = EventId::parse("abc-123_=+/").unwrap();
        assert_eq!(id.to_string(), "abc-123_=+/");
        assert_eq!(id, "abc-123_=+/");
        assert_eq!("abc-123_=+/", id);
        for bad in ["", "a;b", "a,b", "{", "a b", "é", "\n", &"x".repeat(257)] {
            assert_eq!(EventId::parse(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }

    #[test]
    fn a_client_id_does_not_reach_logs() {
        assert_eq!(format!("{:?}", ClientId::parse("secret").unwrap()), "ClientId(..)");
        let error = ClientId::parse("secret session").unwrap_err();
        assert!(!error.to_string().contains("sec"), "{error}");
        assert_eq!(ClientId::parse("a").unwrap(), ClientId::parse("a").unwrap());
        assert_ne!(ClientId::parse("a").unwrap(), ClientId::parse("b").unwrap());
    }

    #[test]
    fn blocks_are_unsigned_numbers() {
        assert_eq!("456".parse::<Block>().unwrap().as_i64(), 456);
        for bad in ["", "-1", "+5", "0", "1.0", " 5", "9223372036854775808", "99999999999999999999", "x"] {
            assert!(bad.parse::<Block>().is_err(), "{bad:?}");
        }
        assert!(Block::try_from(-1_i64).is_err() && Block::try_from(0_i64).is_err() && Block::new(0).is_err());
        assert_eq!(serde_json::from_str::<Block>("7").unwrap(), Block::new(7).unwrap());
        assert_eq!(serde_json::to_string(&Block::MAX).unwrap(), Block::MAX.to_string());
    }

    #[test]
    fn idempotency_keys_differ() {
        assert_ne!(IdempotencyKey::random().unwrap(), IdempotencyKey::random().unwrap());
    }
}
