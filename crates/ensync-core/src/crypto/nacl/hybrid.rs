use zeroize::Zeroizing;

use super::open::{Known, MessageKey, PublicBox, at_least_a_tag, does_not_open, require_a_key};
use super::secretbox::{self, KEY, NONCE, TAG};
use crate::crypto::json::{Object, malformed};
use crate::{AppId, Error, ErrorKind, Keyring, Result, SecretKey, encoding};

/// How many times an entry is tried with a key of the ring, in all, whatever the ring holds: an honest envelope needs one. Each try costs
/// an agreement, which is more than everything else that is done with an envelope of 100 KiB, and whoever made the envelope chose how
/// many entries there are, and which names they have.
///
/// Entries of the ring's own ids come first, which are found by their names; one named after another app is not for this reader. What is
/// left is a name that nobody's client writes.
const TRIES: usize = 8;

/// How many entries are tried with the key that they are named after: for each of the two ids that a bare X25519 secret may be of, one
/// in base64 and one in hex.
const OWN_TRIES: usize = 4;

/// How many entries that are named after no app are looked at at all: there may be 100,000, each of which is no more than a name.
const UNNAMED_READ: usize = 64;

/// The base64 text of a message key is this long, in bytes.
const KEY_TEXT: usize = 44;

/// An envelope of type "hybrid", read but not opened.
pub(in crate::crypto) struct Hybrid<'a> {
    entries: Vec<Entry<'a>>,
    nonce: [u8; NONCE],
    boxed: Vec<u8>,
}

struct Entry<'a> {
    /// Whom it is named after, if its name is an app id in one of the spellings.
    to: Option<AppId>,
    /// The JSON of its [`WrappedKey`].
    wrapped: &'a str,
}

impl<'a> Hybrid<'a> {
    /// # Errors
    ///
    /// [`ErrorKind::MalformedEnvelope`].
    pub(in crate::crypto) fn read(members: &Object<'a>) -> Result<Self> {
        let payload = members.required("payload")?;
        let (nonce, boxed) = read_secretbox(payload).map_err(|error| error.context("payload"))?;
        let entries = Object::read(members.required("keys")?).map_err(|error| error.context("keys"))?;
        if entries.0.is_empty() {
            return Err(malformed("keys is empty, so nobody can open it"));
        }
        let entry = |member: crate::json::Member<'a>| Entry { to: named(&member.name), wrapped: member.value };
        Ok(Self { entries: entries.0.into_iter().map(entry).collect(), nonce, boxed })
    }

    /// How many entries it has.
    pub(in crate::crypto) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Whom the entries are named after, each once.
    pub(in crate::crypto) fn recipients(&self) -> Vec<AppId> {
        let mut recipients: Vec<AppId> = self.entries.iter().filter_map(|entry| entry.to).collect();
        recipients.sort_unstable();
        recipients.dedup();
        recipients
    }

    /// The length of the plaintext, in bytes.
    pub(in crate::crypto) fn plaintext_bytes(&self) -> usize {
        self.boxed.len().saturating_sub(TAG)
    }

    /// Opens it, if the reader accepts that it has no sender: `accepted` says so.
    ///
    /// That it is for somebody else comes before what the reader thinks of its sender, as it does in every form. Where it names an id of
    /// the ring, nothing is tried for a reader who does not accept it.
    ///
    /// # Errors
    ///
    /// As [`crate::crypto::open`]; and what `accepted` says, unless it is [`ErrorKind::NotForMe`].
    pub(in crate::crypto) fn open(
        &self,
        keys: &Keyring,
        accepted: Result<()>,
        kept: &Known,
    ) -> Result<Zeroizing<Vec<u8>>> {
        require_a_key(keys)?;
        if keys.iter().any(|key| self.own(key).next().is_some()) {
            accepted.clone()?;
        }
        let MessageKey { key, parties, shared } = self.message_key(keys, kept)?;
        accepted?;
        let plaintext = secretbox::open(&key, &self.nonce, &self.boxed)
            .ok_or_else(|| does_not_open("the message key opens but the payload does not: it was altered".into()))?;
        kept.opened(parties, shared);
        Ok(plaintext)
    }

    /// The entries that are named after a key.
    fn own(&self, key: &SecretKey) -> impl Iterator<Item = (&Entry<'a>, AppId)> {
        let ids = key.candidate_ids();
        self.entries
            .iter()
            .filter_map(move |entry| entry.to.filter(|to| ids.contains(&Some(*to))).map(|to| (entry, to)))
    }

    /// Finds and opens the message key: entries under the ring's ids first, then some of those named after nobody.
    ///
    /// An entry that does not open is skipped, as the peers do. If none opens, what went wrong with the ring's own decides.
    fn message_key(&self, keys: &Keyring, kept: &Known) -> Result<MessageKey> {
        let mut failure: Option<Error> = None;
        let mut left = TRIES;
        for key in keys.iter() {
            for (entry, id) in self.own(key).take(OWN_TRIES) {
                let Some(less) = left.checked_sub(1) else { break };
                left = less;
                let error = match WrappedKey::read(entry.wrapped).and_then(|wrapped| wrapped.open(key, kept)) {
                    Ok(Some(message_key)) => return Ok(message_key),
                    Ok(None) => does_not_open(format!("the envelope lists app {id}, but its entry does not open")),
                    Err(error) => error.context(format_args!("keys: the entry of app {id}")),
                };
                if failure.as_ref().is_none_or(|known| known.kind() != ErrorKind::DoesNotOpen) {
                    failure = Some(error);
                }
            }
        }
        let unnamed = self.entries.iter().filter(|entry| entry.to.is_none()).take(UNNAMED_READ);
        let wrapped = unnamed.filter_map(|entry| WrappedKey::read(entry.wrapped).ok());
        let tries = wrapped.flat_map(|wrapped| keys.iter().map(move |key| wrapped.open(key, kept)));
        let found = tries.take(left).find_map(|tried| tried.ok().flatten());
        found.ok_or_else(|| failure.unwrap_or_else(|| self.not_for_me()))
    }

    fn not_for_me(&self) -> Error {
        Error::new(
            ErrorKind::NotForMe,
            format!(
                "the envelope is for other recipients: none of its {} entries is named after an app id of the secret keys, and \
                 of those named after no app none opens",
                self.entries.len()
            ),
        )
    }
}

/// The app that an entry is named after: base64 as the Node client writes it, hex as the Python client does.
fn named(name: &str) -> Option<AppId> {
    let mut bytes = [0; 32];
    if name.len() != 64 {
        // Told by the length first, for there may be 100,000 of them.
        let decoded = if (43..=44).contains(&name.len()) { encoding::decode(name)? } else { return None };
        bytes = decoded.try_into().ok()?;
        return Some(AppId::from_bytes(bytes));
    }
    for (byte, pair) in bytes.iter_mut().zip(name.as_bytes().chunks(2)) {
        let digits =
            std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(AppId::from_bytes(bytes))
}

fn read_secretbox(payload: &str) -> Result<([u8; NONCE], Vec<u8>)> {
    let members = Object::read(payload)?;
    Ok((members.array("nonce")?, at_least_a_tag(members.bytes("ciphertext")?)?))
}

/// A box that holds a message key, raw (as both peers write it) or as base64 text (as the Python client reads it).
struct WrappedKey(PublicBox);

impl WrappedKey {
    fn read(entry: &str) -> Result<Self> {
        let members = Object::read(entry)?;
        let name = if members.optional("encryptedKey").is_some() { "encryptedKey" } else { "ciphertext" };
        let boxed = members.bytes(name)?;
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
        let Some(content) = self.0.open(key, kept)? else { return Ok(None) };
        let bytes = match content.bytes.len() {
            KEY => content.bytes,
            _ => std::str::from_utf8(&content.bytes)
                .ok()
                .and_then(encoding::decode_secret)
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
        Ok(Some(MessageKey { key, parties: content.parties, shared: content.shared }))
    }
}
