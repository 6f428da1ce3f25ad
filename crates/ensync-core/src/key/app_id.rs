use std::fmt;

use crate::convert::{from_text, serialize_display};
use crate::text::{Given, reads_as, refuse_keys, trimmed};
use crate::{Error, ErrorKind, Result, encoding};

/// Of a longer text only the length is looked at. A secret key in any writing is shorter, or is not looked for.
const MAX_BYTES: usize = 300;

/// The public address of an app: its Ed25519 public key (RFC 8032), 32 bytes.
///
/// "appId", "recipient", "client hash" and "sender" on the wire all mean this key in base64. Reading takes the standard and the
/// URL-safe alphabet, padded or not; `Display` writes standard base64 with padding. That the bytes are a public key that something
/// can be sealed for is checked by [`check`](AppId::check), once, wherever a key enters: it costs as much as sealing for it.
///
/// ```
/// use ensync_core::AppId;
///
/// let id: AppId = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=".parse()?;
/// assert_eq!("oV_L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8".parse::<AppId>()?, id);
/// id.check()?;
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppId([u8; 32]);

impl AppId {
    /// The length of the key, in bytes.
    pub const BYTES: usize = 32;

    /// From the raw Ed25519 public key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw Ed25519 public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads a key from base64.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the text is not base64 of 32 bytes. The message shows 8 characters of it at most, and nothing
    /// of a secret key.
    pub fn parse(text: &str) -> Result<Self> {
        // Told by the length first, for whoever sent it chose that.
        if text.len() > MAX_BYTES {
            let (given, length) = (Given(text), text.len());
            let message = format!("app id {given} has {length} bytes; an app id has 44 characters");
            return Err(Error::new(ErrorKind::InvalidKey, message));
        }
        // A secret key may have been given instead, so what is decoded is wiped.
        if let Some(bytes) = encoding::decode_secret(text) {
            if let Ok(bytes) = <[u8; 32]>::try_from(bytes.as_slice()) {
                return Ok(Self(bytes));
            }
            refuse_keys(text, ErrorKind::InvalidKey, "an app id")?;
            let (given, length) = (Given(text), bytes.len());
            let message = format!("app id {given} holds {length} bytes, an Ed25519 public key has 32");
            return Err(Error::new(ErrorKind::InvalidKey, message));
        }
        let why = match reads_as(text) {
            Some("a key") => "this app id has white space around it; leave that out".to_owned(),
            Some(_) => return refuse_keys(text, ErrorKind::InvalidKey, "an app id").map(|()| Self([0; 32])),
            None => format!(
                "app id {} is not base64; an app id is the base64 of an app's Ed25519 public key, 44 characters",
                Given(trimmed(text))
            ),
        };
        Err(Error::new(ErrorKind::InvalidKey, why))
    }

    /// Checks that this is a public key that something can be sealed for, with the strictness of libsodium's
    /// `crypto_sign_ed25519_pk_to_curve25519`. [`Recipient`](crate::crypto::Recipient) cannot be made without it, and an engine makes
    /// no app without it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the bytes are no point on the curve, are not the one spelling of their point (RFC 8032
    /// §5.1.3), or are a point of small order or with a part of small order. No key pair has such a public key, but 15 of 16
    /// secrets of 32 bytes look like one: the message does not show it.
    pub fn check(&self) -> Result<()> {
        super::point::of(self).map(drop)
    }

    /// As lower-case hex: how the Python client names a recipient inside a hybrid envelope.
    pub fn to_hex(&self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut hex, byte| {
            for nibble in [byte >> 4, byte & 15] {
                hex.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
            hex
        })
    }
}

from_text!(AppId, "an app id, base64 of 32 bytes");
serialize_display!(AppId);

impl From<[u8; 32]> for AppId {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<AppId> for [u8; 32] {
    fn from(id: AppId) -> Self {
        id.0
    }
}

impl TryFrom<&[u8]> for AppId {
    type Error = Error;
    fn try_from(bytes: &[u8]) -> Result<Self> {
        let refuse = |_| {
            let message = format!("an app id has 32 bytes, not {}", bytes.len());
            Error::new(ErrorKind::InvalidKey, message)
        };
        bytes.try_into().map(Self).map_err(refuse)
    }
}

impl AsRef<[u8]> for AppId {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&encoding::encode(&self.0))
    }
}

impl fmt::Debug for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAREHOUSE: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";

    #[test]
    fn hex_is_what_python_writes() {
        let id = AppId::parse(WAREHOUSE).unwrap();
        assert_eq!(id.to_hex(), "a15fcbec43f3151bf373370cd8c200e0000fc39379e279a49f95694a741fb4df");
        assert_eq!(id.to_string(), WAREHOUSE);
    }

    #[test]
    fn what_is_not_a_key_says_what_it_is() {
        for (text, part) in [
            ("appId", "is not base64"),
            ("warehouse-service", "is not base64"),
            ("", "holds 0 bytes"),
            ("AAAA", "holds 3 bytes, an Ed25519 public key has 32"),
            (&format!("{WAREHOUSE}\n"), "white space around it"),
        ] {
            let error = AppId::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert!(error.to_string().contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn bytes_and_json_go_both_ways() {
        let id = AppId::parse(WAREHOUSE).unwrap();
        let bytes: [u8; 32] = id.into();
        assert_eq!(AppId::from(bytes), id);
        assert_eq!(AppId::try_from(id.as_ref()).unwrap(), id);
        assert!(AppId::try_from(&bytes[1..]).is_err());
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("{WAREHOUSE:?}"));
        assert_eq!(serde_json::from_str::<AppId>(&format!("{WAREHOUSE:?}")).unwrap(), id);
    }
}
