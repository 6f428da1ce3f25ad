use std::fmt;
use std::sync::Arc;

use super::agreements::{Clock, Reading};
use super::hpke::Context;
use super::{Expected, Form, Opened, SenderProof, envelope, nacl, say_malformed, sealed};
use crate::{Keyring, Result, WirePayload};

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
    /// What can be checked before anything is decrypted is checked before: form, recipient, event name, sender. What is for somebody
    /// else is told as that, whoever sent it and whatever is expected. "nacl" carries
    /// neither an event name nor a sender: of what is expected, only the senders count, and any but [`Senders::Any`](super::Senders::Any) refuses it.
    ///
    /// # Errors
    ///
    /// In the order in which they are found:
    ///
    /// - [`ErrorKind::MalformedEnvelope`](crate::ErrorKind::MalformedEnvelope): it is not an envelope; the message names the member and what is wrong with it.
    /// - [`ErrorKind::UnsupportedEnvelope`](crate::ErrorKind::UnsupportedEnvelope): it is of a version that this build cannot read.
    /// - [`ErrorKind::NotForMe`](crate::ErrorKind::NotForMe): the ring is empty, or none of its keys is one that the envelope says it is for. (A "nacl" envelope
    ///   for one recipient does not say; one for several is tried under the ring's ids, and under names that are no app's: 8 times in
    ///   all, however many keys the ring has.)
    /// - [`ErrorKind::Misdirected`](crate::ErrorKind::Misdirected): it was sealed for another event name, or by another sender than the engine says.
    /// - [`ErrorKind::SenderNotVerified`](crate::ErrorKind::SenderNotVerified): it does not prove its sender, or that sender is not allowed.
    /// - [`ErrorKind::DoesNotOpen`](crate::ErrorKind::DoesNotOpen): sealed for another key, altered or forged, which cannot be told apart.
    /// - [`ErrorKind::BadSignature`](crate::ErrorKind::BadSignature): it opens, and its signature is not the sender's.
    pub fn open(&self, payload: &WirePayload, expected: &Expected<'_>) -> Result<Opened> {
        let open = || {
            let envelope = envelope(payload)?;
            let kept = &self.agreements.nacl;
            let plaintext = match Form::read(&envelope)? {
                Form::Sealed(members) => return sealed::open(members, &self.keys, expected, &self.agreements.sealed),
                Form::Single(members) => {
                    let single = nacl::Single::read(&members)?;
                    nacl::require_a_key(&self.keys)?;
                    expected.senders.check(None)?;
                    single.open(&self.keys, kept)?
                }
                Form::Hybrid(members) => {
                    nacl::Hybrid::read(&members)?.open(&self.keys, expected.senders.check(None), kept)?
                }
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
