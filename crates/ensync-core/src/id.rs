//! Identifiers that the engine gives out: events, deliveries, sessions.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Error, ErrorKind, Result, Timestamp};

/// Whether `text` is 1 to `max` visible ASCII characters without `, ; { }`, which the WebSocket grammar reserves.
fn is_token(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && !b",;{}".contains(&b))
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads it: 1 to 256 visible ASCII characters, none of them `, ; { }`.
            ///
            /// # Errors
            ///
            /// [`ErrorKind::InvalidInput`] otherwise.
            pub fn parse(text: &str) -> Result<Self> {
                if is_token(text, 256) {
                    return Ok(Self(text.into()));
                }
                let shown: String = text.chars().take(64).collect();
                Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!(concat!($what, " {:?} is not 1 to 256 visible ASCII characters without , ; {{ }}"), shown),
                ))
            }

            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::parse(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = Error;
            fn try_from(text: &str) -> Result<Self> {
                Self::parse(text)
            }
        }

        impl TryFrom<&$name> for $name {
            type Error = Error;
            fn try_from(id: &$name) -> Result<Self> {
                Ok(id.clone())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

token! {
    /// The engine's id of one event for one recipient ("idem" on the wire). Opaque; cheap to clone.
    #[derive(Debug)]
    EventId, "event id"
}

token! {
    /// The engine's name for one session of an app. Whoever holds it may act as that session, so its `Debug` is redacted.
    ClientId, "client id"
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientId(..)")
    }
}

token! {
    /// Names one publish, so that an engine which deduplicates stores a retried publish once. Cheap to clone.
    #[derive(Debug)]
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

/// The number of one delivery of an event, from 1. It is the fencing token: an acknowledgement that carries the block of an
/// earlier delivery is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block(u64);

impl Block {
    /// The largest block: what an `i64` on the wire can carry.
    pub const MAX: u64 = i64::MAX as u64;

    /// A block.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is larger than [`Block::MAX`].
    pub fn new(block: u64) -> Result<Self> {
        if block > Self::MAX {
            return Err(Error::new(ErrorKind::InvalidInput, format!("block {block} does not fit 63 bits")));
        }
        Ok(Self(block))
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
        u64::try_from(block)
            .map(Self)
            .map_err(|_| Error::new(ErrorKind::InvalidInput, format!("block {block} is negative")))
    }
}

impl FromStr for Block {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let shown = || text.chars().take(32).collect::<String>();
        text.parse()
            .map_err(|_| Error::new(ErrorKind::InvalidInput, format!("block {:?} is not a number", shown())))
            .and_then(Self::new)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_on_every_wire() {
        assert_eq!(EventId::parse("abc-123_=+/").unwrap().to_string(), "abc-123_=+/");
        for bad in ["", "a;b", "a,b", "{", "a b", "é", "\n", &"x".repeat(257)] {
            assert_eq!(EventId::parse(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }

    #[test]
    fn a_client_id_does_not_reach_logs() {
        assert_eq!(format!("{:?}", ClientId::parse("secret").unwrap()), "ClientId(..)");
    }

    #[test]
    fn blocks_are_unsigned_numbers() {
        assert_eq!("456".parse::<Block>().unwrap().as_i64(), 456);
        for bad in ["", "-1", "1.0", "9223372036854775808", "x"] {
            assert!(bad.parse::<Block>().is_err(), "{bad:?}");
        }
        assert!(Block::try_from(-1).is_err());
    }

    #[test]
    fn idempotency_keys_differ() {
        assert_ne!(IdempotencyKey::random().unwrap(), IdempotencyKey::random().unwrap());
    }
}
