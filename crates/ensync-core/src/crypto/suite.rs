use std::fmt;

use crate::convert::parsed;
use crate::text::Given;
use crate::{Error, ErrorKind, Result};

/// How a payload is sealed. Reading needs no choice: an envelope says which suite it is of.
///
/// ```
/// use ensync_core::crypto::Suite;
///
/// assert_eq!(Suite::default(), Suite::Nacl);
/// assert_eq!("aes-256-gcm".parse::<Suite>()?, Suite::Aes256Gcm);
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Suite {
    /// "nacl": NaCl boxes. The default, because every published client reads it and none reads another. It proves nothing about
    /// the sender, the event name or the time.
    #[default]
    Nacl,
    /// "aes-256-gcm", the sealed envelope: HPKE (RFC 9180) and AES-256-GCM. With the sender's own key it proves who sealed the
    /// payload, for whom, under which event name and when. Only this SDK reads it.
    Aes256Gcm,
}

impl Suite {
    /// Every suite.
    pub const ALL: &'static [Self] = &[Self::Nacl, Self::Aes256Gcm];

    /// Its name, for configuration and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nacl => "nacl",
            Self::Aes256Gcm => "aes-256-gcm",
        }
    }

    /// Reads a suite's name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is none.
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|suite| suite.name() == name).ok_or_else(|| {
            let message = format!("there is no suite {}; there are nacl and aes-256-gcm", Given(name));
            Error::new(ErrorKind::InvalidInput, message)
        })
    }
}

parsed!(Suite);

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_written() {
        for &suite in Suite::ALL {
            assert_eq!(suite.to_string().parse::<Suite>().unwrap(), suite);
        }
        for name in ["", "NaCl", "aes"] {
            assert_eq!(name.parse::<Suite>().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}
