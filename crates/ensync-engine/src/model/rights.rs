//! What an app may do, and how it is known.

use std::fmt;
use std::hash::{Hash, Hasher};

use ensync_core::AppKey;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

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
}
