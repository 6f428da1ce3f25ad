use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::agreement::SharedKey;
use super::secretbox::{self, KEY, NONCE, TAG};
use crate::crypto::agreements::Reading;
use crate::crypto::json::{self, Members, malformed};
use crate::{Error, ErrorKind, Keyring, Result, SecretKey, encoding};

/// How many entries under foreign ids are tried, in the order of the ids, once with each key of the ring.
///
/// Own ids are always found. A foreign one may be meant for a bare X25519 secret, which has no id, or be spelled unusually; but
/// each costs an agreement to try, and whoever made the envelope chose how many there are.
const FOREIGN_ENTRIES: usize = 32;

/// The base64 text of a message key is this long, in bytes.
const KEY_TEXT: usize = 44;

/// What tells one agreement of a reader from another: its own X25519 key and the ephemeral one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::crypto) struct BoxParties {
    own: [u8; 32],
    ephemeral: [u8; 32],
}

type Known = Reading<BoxParties, SharedKey>;

/// Opens an envelope without a `type`.
///
/// # Errors
///
/// As [`crate::crypto::open`].
pub(in crate::crypto) fn open_single(envelope: &str, keys: &Keyring, kept: &Known) -> Result<Zeroizing<Vec<u8>>> {
    let sealed = read_single(envelope)?;
    require_a_key(keys)?;
    for key in keys.iter() {
        if let Some(content) = sealed.open(key, kept)? {
            kept.opened(content.parties, content.shared);
            return Ok(content.bytes);
        }
    }
    Err(does_not_open(match keys.len() {
        1 => "the envelope does not open with the secret key: it was sealed for another key, or altered".into(),
        n => format!("the envelope opens with none of the {n} secret keys: it was sealed for another key, or altered"),
    }))
}

fn read_single(envelope: &str) -> Result<PublicBox> {
    let members: BoxMembers<'_> = json::object(envelope)?;
    PublicBox::read(&members, json::bytes(members.ciphertext, "ciphertext")?)
}

/// The length of the plaintext, in bytes, of an envelope without a `type`.
pub(in crate::crypto) fn inspect_single(envelope: &str) -> Result<usize> {
    read_single(envelope).map(|sealed| sealed.boxed.len().saturating_sub(TAG))
}

/// Opens an envelope of type "hybrid".
///
/// # Errors
///
/// As [`crate::crypto::open`].
pub(in crate::crypto) fn open_hybrid(envelope: &str, keys: &Keyring, kept: &Known) -> Result<Zeroizing<Vec<u8>>> {
    let (entries, nonce, boxed) = read_hybrid(envelope)?;
    require_a_key(keys)?;
    let MessageKey { key, parties, shared } = message_key(entries, keys, kept)?;
    let plaintext = secretbox::open(&key, &nonce, &boxed)
        .ok_or_else(|| does_not_open("the message key opens but the payload does not: it was altered".into()))?;
    kept.opened(parties, shared);
    Ok(plaintext)
}

/// The names of the entries, and the length of the plaintext, in bytes, of an envelope of type "hybrid".
pub(in crate::crypto) fn inspect_hybrid(envelope: &str) -> Result<(Vec<Cow<'_, str>>, usize)> {
    let (entries, _, boxed) = read_hybrid(envelope)?;
    Ok((entries.0.into_keys().collect(), boxed.len().saturating_sub(TAG)))
}

fn read_hybrid(envelope: &str) -> Result<(Members<'_>, [u8; NONCE], Vec<u8>)> {
    #[derive(Deserialize)]
    struct Hybrid<'a> {
        #[serde(borrow, default, deserialize_with = "json::present")]
        payload: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "json::present")]
        keys: Option<&'a RawValue>,
    }

    let hybrid: Hybrid<'_> = json::object(envelope)?;
    let payload = json::required(hybrid.payload, "payload")?;
    let (nonce, boxed) = read_secretbox(payload).map_err(|error| error.context("payload"))?;
    let entries = json::required(hybrid.keys, "keys")?;
    let entries: Members<'_> = json::object(entries.get()).map_err(|error| error.context("keys"))?;
    if entries.0.is_empty() {
        return Err(malformed("keys is empty, so nobody can open it"));
    }
    Ok((entries, nonce, boxed))
}

/// A message key, and the agreement that its box opened with.
struct MessageKey {
    key: Zeroizing<[u8; KEY]>,
    parties: BoxParties,
    shared: Arc<SharedKey>,
}

/// Finds and opens the message key: entries under the ring's ids first, then some of the others.
///
/// An entry that does not open is skipped, as the peers do. If none opens, what went wrong with the ring's own decides.
fn message_key(mut entries: Members<'_>, keys: &Keyring, kept: &Known) -> Result<MessageKey> {
    let listed = entries.0.len();
    let mut failure: Option<Error> = None;
    for key in keys.iter() {
        let Some(id) = key.app_id() else { continue };
        // As the Node client names a recipient, and as the Python client does.
        for name in [id.to_string(), id.to_hex()] {
            let Some(entry) = entries.0.remove(name.as_str()) else { continue };
            let error = match WrappedKey::read(entry).and_then(|wrapped| wrapped.open(key, kept)) {
                Ok(Some(message_key)) => return Ok(message_key),
                Ok(None) => does_not_open(format!("the envelope lists app {id}, but its entry does not open")),
                Err(error) => error.context(format_args!("keys: the entry of app {id}")),
            };
            if failure.as_ref().is_none_or(|known| known.kind() != ErrorKind::DoesNotOpen) {
                failure = Some(error);
            }
        }
    }
    for entry in entries.0.values().take(FOREIGN_ENTRIES) {
        let Ok(wrapped) = WrappedKey::read(entry) else { continue };
        for key in keys.iter() {
            if let Ok(Some(message_key)) = wrapped.open(key, kept) {
                return Ok(message_key);
            }
        }
    }
    Err(failure.unwrap_or_else(|| {
        Error::new(
            ErrorKind::NotForMe,
            format!(
                "the envelope is for other recipients: none of its {listed} entries is named after an app id of the secret \
                 keys, and of the first {FOREIGN_ENTRIES} none opens"
            ),
        )
    }))
}

fn require_a_key(keys: &Keyring) -> Result<()> {
    if keys.is_empty() {
        return Err(Error::new(
            ErrorKind::NotForMe,
            "no secret key was given to open the envelope with; give the client its app secret key",
        ));
    }
    Ok(())
}

fn does_not_open(why: String) -> Error {
    Error::new(ErrorKind::DoesNotOpen, why)
}

/// The members of a box of either kind. Others may be there, for peers may add some.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BoxMembers<'a> {
    #[serde(borrow, default, deserialize_with = "json::present")]
    nonce: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    ciphertext: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    encrypted_key: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    ephemeral_public_key: Option<&'a RawValue>,
}

fn read_secretbox(member: &RawValue) -> Result<([u8; NONCE], Vec<u8>)> {
    let members: BoxMembers<'_> = json::object(member.get())?;
    let nonce = json::array(members.nonce, "nonce")?;
    Ok((nonce, at_least_a_tag(json::bytes(members.ciphertext, "ciphertext")?)?))
}

fn at_least_a_tag(boxed: Vec<u8>) -> Result<Vec<u8>> {
    if boxed.len() < TAG {
        return Err(malformed(format!("ciphertext holds {} bytes, its tag alone has {TAG}", boxed.len())));
    }
    Ok(boxed)
}

/// A box from an ephemeral key to a recipient's.
struct PublicBox {
    nonce: [u8; NONCE],
    boxed: Vec<u8>,
    ephemeral: [u8; 32],
}

impl PublicBox {
    fn read(members: &BoxMembers<'_>, boxed: Vec<u8>) -> Result<Self> {
        Ok(Self {
            nonce: json::array(members.nonce, "nonce")?,
            boxed: at_least_a_tag(boxed)?,
            ephemeral: json::array(members.ephemeral_public_key, "ephemeralPublicKey")?,
        })
    }

    /// The content; `None` if the box is not for `key`, or was altered.
    fn open(&self, key: &SecretKey, kept: &Known) -> Result<Option<Content>> {
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
struct Content {
    bytes: Zeroizing<Vec<u8>>,
    parties: BoxParties,
    shared: Arc<SharedKey>,
}

/// A box that holds a message key, raw (as both peers write it) or as base64 text (as the Python client reads it).
struct WrappedKey(PublicBox);

impl WrappedKey {
    fn read(entry: &RawValue) -> Result<Self> {
        let members: BoxMembers<'_> = json::object(entry.get())?;
        let (boxed, name) = match members.encrypted_key {
            Some(_) => (members.encrypted_key, "encryptedKey"),
            None => (members.ciphertext, "ciphertext"),
        };
        let boxed = json::bytes(boxed, name)?;
        // Told by the length, so that a wrong one costs no agreement.
        if ![KEY, KEY_TEXT].map(|content| TAG + content).contains(&boxed.len()) {
            return Err(malformed(format!(
                "{name} holds {} bytes; the box of a message key has {}, or {} if it holds base64 text",
                boxed.len(),
                TAG + KEY,
                TAG + KEY_TEXT
            )));
        }
        PublicBox::read(&members, boxed).map(Self)
    }

    fn open(&self, key: &SecretKey, kept: &Known) -> Result<Option<MessageKey>> {
        let Some(Content { bytes, parties, shared }) = self.0.open(key, kept)? else { return Ok(None) };
        let bytes = match bytes.len() {
            KEY => bytes,
            _ => std::str::from_utf8(&bytes)
                .ok()
                .and_then(encoding::decode)
                .map(Zeroizing::new)
                .ok_or_else(|| malformed("the box of the message key holds 44 bytes that are not base64"))?,
        };
        let mut key = Zeroizing::new([0; KEY]);
        if bytes.len() != KEY {
            return Err(malformed(format!(
                "the box of the message key holds base64 of {} bytes, not {KEY}",
                bytes.len()
            )));
        }
        key.copy_from_slice(&bytes);
        Ok(Some(MessageKey { key, parties, shared }))
    }
}
