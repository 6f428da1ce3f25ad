use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::agreements::{Clock, Reading};
use super::hpke::Context;
use super::sealed::SealedId;
use super::{Expected, Kind, SenderProof, nacl, read_wire, say_malformed, sealed};
use crate::{Keyring, Result, Timestamp, WirePayload};

/// An opened payload.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// The payload's JSON text, wiped when dropped.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// Who sealed it.
    pub sender: SenderProof,
    /// The name that the sender gave it; `None` in the suite "nacl".
    pub id: Option<SealedId>,
    /// When it was sealed, by the sender's clock; `None` in the suite "nacl".
    pub created: Option<Timestamp>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("plaintext", &format_args!("{} bytes", self.plaintext.len()))
            .field("sender", &self.sender)
            .field("id", &self.id)
            .field("created", &self.created)
            .finish()
    }
}

/// Opens payloads of every suite with the keys of a ring, and keeps what it has agreed on with their senders: at most 1,024
/// agreements for each suite, the least recently used out first, each for 10 minutes after it opened something last.
///
/// Cheap to clone; clones, and what [`with_keys`](Self::with_keys) gives, share what is kept.
#[derive(Clone)]
pub struct Opener {
    keys: Keyring,
    agreements: Arc<Agreements>,
}

struct Agreements {
    nacl: Reading<nacl::BoxParties, nacl::SharedKey>,
    sealed: Reading<sealed::HpkeParties, Context>,
}

impl Opener {
    /// An opener with these keys.
    pub fn new(keys: Keyring) -> Self {
        Self { keys, agreements: Agreements::new(Clock::default()) }
    }

    /// An opener with other keys that shares what is kept: for a subscription with keys of its own.
    #[must_use]
    pub fn with_keys(&self, keys: Keyring) -> Self {
        Self { keys, agreements: Arc::clone(&self.agreements) }
    }

    /// The same with another clock for what it keeps.
    #[cfg(test)]
    pub(super) fn clock(self, clock: &Clock) -> Self {
        Self { keys: self.keys, agreements: Agreements::new(clock.clone()) }
    }

    /// The keys.
    pub fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// Opens a payload, whatever its suite, if it is what is expected.
    ///
    /// What can be checked before anything is decrypted is checked before: form, recipient, event name, sender. "nacl" carries
    /// neither an event name nor a sender: of what is expected, only the senders count, and any but [`Senders::Any`] refuses it.
    ///
    /// # Errors
    ///
    /// In the order in which they are found:
    ///
    /// - [`ErrorKind::MalformedEnvelope`]: it is not an envelope; the message names the member and what is wrong with it.
    /// - [`ErrorKind::UnsupportedEnvelope`]: it is of a version that this build cannot read.
    /// - [`ErrorKind::NotForMe`]: the ring is empty, or none of its keys is one that the envelope says it is for. (A "nacl" envelope
    ///   for one recipient does not say; one for several is tried under the ring's ids and 32 others.)
    /// - [`ErrorKind::Misdirected`]: it was sealed for another event name, or by another sender than the engine says.
    /// - [`ErrorKind::SenderNotVerified`]: it does not prove its sender, or that sender is not allowed.
    /// - [`ErrorKind::DoesNotOpen`]: sealed for another key, altered or forged, which cannot be told apart.
    /// - [`ErrorKind::BadSignature`]: it opens, and its signature is not the sender's.
    pub fn open(&self, payload: &WirePayload, expected: &Expected<'_>) -> Result<Opened> {
        let open = || {
            let (kind, envelope) = read_wire(payload)?;
            if kind == Kind::Sealed {
                return sealed::open(&envelope, &self.keys, expected, &self.agreements.sealed);
            }
            expected.senders.check(None)?;
            let plaintext = match kind {
                Kind::Hybrid => nacl::open_hybrid(&envelope, &self.keys, &self.agreements.nacl)?,
                _ => nacl::open_single(&envelope, &self.keys, &self.agreements.nacl)?,
            };
            Ok(Opened { plaintext, sender: SenderProof::Unverified, id: None, created: None })
        };
        open().map_err(say_malformed)
    }

    /// Wipes the kept agreements that have idled too long. They serve nothing more in any case; call it now and then, for nothing else
    /// wipes them while nothing is opened.
    pub fn tidy(&self) {
        self.agreements.nacl.tidy();
        self.agreements.sealed.tidy();
    }

    /// Wipes all kept agreements, also of those that share them.
    pub fn forget(&self) {
        self.agreements.nacl.forget();
        self.agreements.sealed.forget();
    }
}

impl Agreements {
    fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { nacl: Reading::new(clock.clone()), sealed: Reading::new(clock) })
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("keys", &self.keys)
            .field("nacl", &self.agreements.nacl)
            .field("sealed", &self.agreements.sealed)
            .finish()
    }
}
