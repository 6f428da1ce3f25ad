use std::sync::Arc;

use zeroize::Zeroizing;

use super::agreement::SharedKey;
use super::secretbox::{NONCE, TAG};
use crate::crypto::agreements::Reading;
use crate::crypto::json::{Object, malformed};
use crate::{Error, ErrorKind, Keyring, Result, SecretKey};

/// What tells one agreement of a reader from another: its own X25519 key and the ephemeral one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::crypto) struct BoxParties {
    own: [u8; 32],
    ephemeral: [u8; 32],
}

/// A reader's agreements.
pub(super) type Known = Reading<BoxParties, SharedKey>;

/// An envelope without a `type`, read but not opened.
pub(in crate::crypto) struct Single(PublicBox);

impl Single {
    /// # Errors
    ///
    /// [`ErrorKind::MalformedEnvelope`].
    pub(in crate::crypto) fn read(members: &Object<'_>) -> Result<Self> {
        PublicBox::read(members, members.bytes("ciphertext")?).map(Self)
    }

    /// The length of the plaintext, in bytes.
    pub(in crate::crypto) fn plaintext_bytes(&self) -> usize {
        self.0.boxed.len().saturating_sub(TAG)
    }

    /// # Errors
    ///
    /// As [`crate::crypto::open`].
    pub(in crate::crypto) fn open(&self, keys: &Keyring, kept: &Known) -> Result<Zeroizing<Vec<u8>>> {
        require_a_key(keys)?;
        for key in keys.iter() {
            if let Some(content) = self.0.open(key, kept)? {
                kept.opened(content.parties, content.shared);
                return Ok(content.bytes);
            }
        }
        Err(does_not_open(match keys.len() {
            1 => "the envelope does not open with the secret key: it was sealed for another key, or altered".into(),
            n => format!(
                "the envelope opens with none of the {n} secret keys: it was sealed for another key, or altered"
            ),
        }))
    }
}

/// # Errors
///
/// [`ErrorKind::NotForMe`] if there is none.
pub(in crate::crypto) fn require_a_key(keys: &Keyring) -> Result<()> {
    if keys.is_empty() {
        return Err(Error::new(
            ErrorKind::NotForMe,
            "no secret key was given to open the envelope with; give the client its app secret key",
        ));
    }
    Ok(())
}

pub(super) fn does_not_open(why: String) -> Error {
    Error::new(ErrorKind::DoesNotOpen, why)
}

pub(super) fn at_least_a_tag(boxed: Vec<u8>) -> Result<Vec<u8>> {
    if boxed.len() < TAG {
        return Err(malformed(format!("ciphertext holds {} bytes, its tag alone has {TAG}", boxed.len())));
    }
    Ok(boxed)
}

/// A box from an ephemeral key to a recipient's.
pub(super) struct PublicBox {
    nonce: [u8; NONCE],
    boxed: Vec<u8>,
    ephemeral: [u8; 32],
}

impl PublicBox {
    /// Other members may be there, for peers may add some.
    pub(super) fn read(members: &Object<'_>, boxed: Vec<u8>) -> Result<Self> {
        Ok(Self {
            nonce: members.array("nonce")?,
            boxed: at_least_a_tag(boxed)?,
            ephemeral: members.array("ephemeralPublicKey")?,
        })
    }

    /// The content; `None` if the box is not for `key`, or was altered.
    pub(super) fn open(&self, key: &SecretKey, kept: &Known) -> Result<Option<Content>> {
        let parties = BoxParties { own: *key.x25519_public(), ephemeral: self.ephemeral };
        let shared = match kept.find(&parties) {
            Some(shared) => shared,
            None => SharedKey::agree(key.agreement(), &self.ephemeral)
                .map(Arc::new)
                .ok_or_else(|| malformed("ephemeralPublicKey is a point of small order"))?,
        };
        Ok(shared.open(&self.nonce, &self.boxed).map(|bytes| Content { bytes, parties, shared }))
    }
}

/// What a box held, and the agreement that it opened with.
pub(super) struct Content {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) parties: BoxParties,
    pub(super) shared: Arc<SharedKey>,
}

/// A message key, and the agreement that its box opened with.
pub(super) struct MessageKey {
    pub(super) key: Zeroizing<[u8; super::secretbox::KEY]>,
    pub(super) parties: BoxParties,
    pub(super) shared: Arc<SharedKey>,
}
