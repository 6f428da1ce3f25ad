use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind, Result, encoding};

/// The public address of an app: its Ed25519 public key (RFC 8032), 32 bytes.
///
/// "appId", "recipient", "client hash" and "sender" on the wire all mean this key in base64. Reading takes the standard and the
/// URL-safe alphabet, padded or not; `Display` writes standard base64 with padding. That the bytes are a point on the curve is
/// checked where something is sealed for the key, not here.
///
/// ```
/// use ensync_core::AppId;
///
/// let id: AppId = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=".parse()?;
/// assert_eq!("oV_L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8".parse::<AppId>()?, id);
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
    /// [`ErrorKind::InvalidKey`] if the text is not base64 of 32 bytes.
    pub fn parse(text: &str) -> Result<Self> {
        let shown = || text.chars().take(48).collect::<String>();
        let bytes = encoding::decode(text).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidKey,
                format!(
                    "app id {:?} is not base64; an app id is the base64 of an app's Ed25519 public key, 44 characters",
                    shown()
                ),
            )
        })?;
        <[u8; 32]>::try_from(bytes.as_slice()).map(Self).map_err(|_| {
            Error::new(
                ErrorKind::InvalidKey,
                format!("app id {:?} holds {} bytes, an Ed25519 public key has 32", shown(), bytes.len()),
            )
        })
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

impl FromStr for AppId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for AppId {
    type Error = Error;
    fn try_from(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for AppId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl TryFrom<&String> for AppId {
    type Error = Error;
    fn try_from(text: &String) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<&AppId> for AppId {
    type Error = Error;
    fn try_from(id: &AppId) -> Result<Self> {
        Ok(*id)
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding::encode(&self.0))
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
        ] {
            let error = AppId::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert!(error.to_string().contains(part), "{text:?}: {error}");
        }
    }
}
