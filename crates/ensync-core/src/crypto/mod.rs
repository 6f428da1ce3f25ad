//! End-to-end encryption: sealing a payload for app ids, and opening it with secret keys. No engine is needed for either.
//!
//! There are two suites (see [`Suite`]). "nacl" is that of the published Python and Node clients: NaCl's `crypto_box` from an
//! ephemeral X25519 key to the recipient's. Every form of it that one of those clients writes is read. It proves nothing about the
//! sender, and any recipient of a payload sealed for several could have made the others' copies: an engine's word is all there is.
//! "aes-256-gcm", the sealed envelope, proves the sender, the event name, the recipient and the time; only this SDK reads it.
//!
//! [`Sealer`] and [`Opener`] do everything. [`seal`] and [`open`] are the simple door, for "nacl" alone:
//!
//! ```
//! use ensync_core::crypto::{self, Recipient};
//! use ensync_core::{Keyring, SecretKey};
//!
//! let secret = SecretKey::generate()?;
//! let to = Recipient::new(secret.app_id().expect("a generated key has one"))?;
//! let copies = crypto::seal(br#"{"order":7}"#, &[to])?;
//!
//! let plaintext = crypto::open(&copies[0], &Keyring::new(secret))?;
//! assert_eq!(plaintext.as_slice(), br#"{"order":7}"#);
//! # Ok::<(), ensync_core::Error>(())
//! ```

mod agreements;
#[cfg(test)]
pub(crate) mod cost;
mod expected;
mod fingerprint;
mod hpke;
mod inspect;
mod json;
mod nacl;
mod opened;
mod opener;
mod recipient;
mod sealed;
mod sealer;
mod senders;
mod suite;

use agreements::{Clock, Reading, Writing};
use json::Object;
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Keyring, Result, WirePayload, encoding};

pub use agreements::Keep;
pub use expected::Expected;
pub use fingerprint::fingerprint;
pub use inspect::{Inspected, inspect};
pub use opened::Opened;
pub use opener::Opener;
pub use recipient::Recipient;
pub use sealed::SealedId;
pub use sealer::{SealOptions, Sealer, SealingInParts};
pub use senders::{SenderProof, Senders};
pub use suite::Suite;

/// Seals `plaintext` (the payload's JSON text) for each recipient in the suite "nacl", keeping nothing. The copies are in the order
/// of `to`; each opens with its own recipient's key only and names no other recipient.
///
/// # Errors
///
/// [`ErrorKind::Internal`] if the operating system gives no randomness.
pub fn seal(plaintext: &[u8], to: &[Recipient]) -> Result<Vec<WirePayload>> {
    nacl::seal(plaintext, to, &Writing::new(Keep::NONE), false)
}

/// Opens a payload of the suite "nacl" with whichever key of the ring it was sealed for, keeping nothing.
///
/// A payload of the suite "aes-256-gcm" is refused: to open one without the event name to compare it with, and to drop the sender
/// that it proves, would lose what it is for. [`Opener`] opens both.
///
/// # Errors
///
/// - [`ErrorKind::MalformedEnvelope`]: it is not an envelope; the message names the member and what is wrong with it.
/// - [`ErrorKind::UnsupportedEnvelope`]: it is of the suite "aes-256-gcm".
/// - [`ErrorKind::NotForMe`]: the ring is empty, or the envelope lists its recipients, the ids of the ring are not among them, and
///   no key opens one of the first 8 entries that are named after no app.
/// - [`ErrorKind::DoesNotOpen`]: no key opens it although nothing says that it is for somebody else: an envelope for one recipient
///   names none, or it lists an id of the ring, or its message key opens and the payload does not.
pub fn open(payload: &WirePayload, keys: &Keyring) -> Result<Zeroizing<Vec<u8>>> {
    let open = || {
        let envelope = envelope(payload)?;
        let kept = Reading::new(Clock::default());
        match Form::read(&envelope)? {
            Form::Single(members) => nacl::Single::read(&members)?.open(keys, &kept),
            Form::Hybrid(members) => nacl::Hybrid::read(&members)?.open(keys, Ok(()), &kept),
            Form::Sealed(_) => Err(Error::new(
                ErrorKind::UnsupportedEnvelope,
                "the envelope is of type \"sealed\" (suite aes-256-gcm), which is not opened without checking \
                 event name and sender; use an opener",
            )),
        }
    };
    open().map_err(say_malformed)
}

/// The JSON of an envelope.
fn envelope(payload: &WirePayload) -> Result<String> {
    if payload.is_empty() {
        return Err(json::malformed("it is empty"));
    }
    let envelope = payload.as_str().and_then(encoding::decode).ok_or_else(|| json::malformed("it is not base64"))?;
    String::from_utf8(envelope).map_err(|_| json::malformed("it is not UTF-8"))
}

/// The three forms of an envelope, each with its members.
enum Form<'a> {
    Single(Object<'a>),
    Hybrid(Object<'a>),
    Sealed(Object<'a>),
}

impl<'a> Form<'a> {
    fn read(envelope: &'a str) -> Result<Self> {
        let members = Object::read(envelope)?;
        match members.optional("type").map(|kind| json::text(kind, "type")).transpose()?.as_deref() {
            None => Ok(Self::Single(members)),
            Some("hybrid") => Ok(Self::Hybrid(members)),
            Some("sealed") => Ok(Self::Sealed(members)),
            Some(other) => {
                let given = crate::Given(other);
                Err(json::malformed(format!("type is {given}, neither absent nor \"hybrid\" nor \"sealed\"")))
            }
        }
    }
}

fn say_malformed(error: Error) -> Error {
    match error.kind() {
        ErrorKind::MalformedEnvelope => error.context("malformed envelope"),
        _ => error,
    }
}
