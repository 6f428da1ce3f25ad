//! End-to-end encryption: sealing a payload for app ids, and opening it with secret keys. No engine is needed for either.
//!
//! What is written is the suite "nacl" of the published Python and Node clients: NaCl's `crypto_box` from a fresh X25519 key to
//! the recipient's. What is read is every form of it that one of those clients writes. It proves nothing about the sender, and
//! any recipient of a payload sealed for several could have made the others' copies: an engine's word is all there is.
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

mod json;
mod nacl;
mod recipient;

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Keyring, Result, Sealed, encoding};

pub use recipient::Recipient;

/// Seals `plaintext` (the payload's JSON text) for each recipient. The copies are in the order of `to`; each opens with its own
/// recipient's key only and names no other recipient.
///
/// # Errors
///
/// [`ErrorKind::Internal`] if the operating system gives no randomness.
pub fn seal(plaintext: &[u8], to: &[Recipient]) -> Result<Vec<Sealed>> {
    nacl::seal(plaintext, to)
}

/// Opens a payload with whichever key of the ring it was sealed for.
///
/// # Errors
///
/// - [`ErrorKind::MalformedEnvelope`]: it is not an envelope; the message names the member and what is wrong with it.
/// - [`ErrorKind::UnsupportedEnvelope`]: it is of a type that this version cannot read.
/// - [`ErrorKind::NotForMe`]: the ring is empty, or the envelope lists its recipients, the ids of the ring are not among them, and
///   no key opens one of the first 32 entries.
/// - [`ErrorKind::DoesNotOpen`]: no key opens it although nothing says that it is for somebody else: an envelope for one recipient
///   names none, or it lists an id of the ring, or its message key opens and the payload does not.
pub fn open(payload: &Sealed, keys: &Keyring) -> Result<Zeroizing<Vec<u8>>> {
    open_wire(payload.as_str(), keys).map_err(|error| match error.kind() {
        ErrorKind::MalformedEnvelope => error.context("malformed envelope"),
        _ => error,
    })
}

/// The member that says how to read the others.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "json::present")]
    kind: Option<&'a RawValue>,
}

fn open_wire(wire: &str, keys: &Keyring) -> Result<Zeroizing<Vec<u8>>> {
    if wire.is_empty() {
        return Err(json::malformed("it is empty, or not text"));
    }
    let envelope = encoding::decode(wire).ok_or_else(|| json::malformed("it is not base64"))?;
    let envelope = std::str::from_utf8(&envelope).map_err(|_| json::malformed("it is not UTF-8"))?;
    let head: Head<'_> = json::object(envelope)?;
    let Some(kind) = head.kind else { return nacl::open_single(envelope, keys) };
    match json::text(kind, "type")?.as_ref() {
        "hybrid" => nacl::open_hybrid(envelope, keys),
        "sealed" => Err(Error::new(
            ErrorKind::UnsupportedEnvelope,
            "the envelope is of type \"sealed\" (suite aes-256-gcm), which this version does not read; upgrade the SDK, or have \
             the sender use the suite nacl",
        )),
        other => {
            let shown: String = other.chars().take(32).collect();
            Err(json::malformed(format!("type is {shown:?}, neither absent nor \"hybrid\" nor \"sealed\"")))
        }
    }
}
