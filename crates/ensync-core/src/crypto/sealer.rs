use std::fmt;

use super::agreements::Writing;
use super::recipient::Recipient;
use super::{Keep, Suite, nacl, sealed};
use crate::{AppId, Error, ErrorKind, EventName, Result, SecretKey, WirePayload};

/// How to seal one payload: the suite, and whether to sign.
///
/// ```
/// use ensync_core::crypto::{SealOptions, Suite};
///
/// let quick: SealOptions = Suite::Nacl.into();
/// let provable = SealOptions::from(Suite::Aes256Gcm).signed();
/// assert_eq!((quick.suite(), provable.is_signed()), (Suite::Nacl, true));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealOptions {
    suite: Suite,
    signed: bool,
    single: bool,
}

impl SealOptions {
    /// Adds a signature, which also convinces others than the recipient, and resists even somebody who has stolen the recipient's
    /// key. Without it the sender can deny a payload: its recipient could have made it.
    #[must_use]
    pub const fn signed(mut self) -> Self {
        self.signed = true;
        self
    }

    /// In the suite "nacl", encrypts a large payload for several recipients once for each, instead of once for all (a hybrid): for
    /// npm's `ensync-client-sdk` 0.0.18, which does not know the hybrid form. Elsewhere without meaning.
    #[must_use]
    pub const fn single_boxes(mut self) -> Self {
        self.single = true;
        self
    }

    /// The suite.
    pub const fn suite(self) -> Suite {
        self.suite
    }

    /// Whether a signature is added.
    pub const fn is_signed(self) -> bool {
        self.signed
    }
}

impl From<Suite> for SealOptions {
    fn from(suite: Suite) -> Self {
        Self { suite, signed: false, single: false }
    }
}

/// Seals payloads for app ids, and keeps what it has agreed on with them for a while (see [`Keep`]).
///
/// One is meant to live as long as its owner's key and to be shared by reference between threads.
///
/// ```
/// use ensync_core::crypto::{Expected, Opener, Recipient, Sealer, SenderProof, Suite};
/// use ensync_core::{EventName, Keyring, SecretKey};
///
/// let (shop, warehouse) = (SecretKey::generate()?, SecretKey::generate()?);
/// let shop_id = shop.app_id().expect("a generated key has one");
/// let to = Recipient::new(warehouse.app_id().expect("a generated key has one"))?;
/// let event = EventName::parse("orders/status/updated")?;
///
/// let sealer = Sealer::new().own_key(shop);
/// let copies = sealer.seal(br#"{"order":7}"#, &[to], &event, Suite::Aes256Gcm)?;
///
/// let opened = Opener::new(Keyring::new(warehouse)).open(&copies[0], &Expected::event(&event))?;
/// assert_eq!(opened.plaintext.as_slice(), br#"{"order":7}"#);
/// assert_eq!(opened.sender, SenderProof::Verified { key: shop_id, signed: false });
/// # Ok::<(), ensync_core::Error>(())
/// ```
pub struct Sealer {
    own: Option<SecretKey>,
    nacl: Writing<AppId, nacl::BoxAgreement>,
    sealed: Writing<AppId, sealed::HpkeAgreement>,
}

impl Sealer {
    /// A sealer without a key of its own: what it seals does not say who sealed it.
    pub fn new() -> Self {
        Self { own: None, nacl: Writing::new(Keep::default()), sealed: Writing::new(Keep::default()) }
    }

    /// The same with its owner's key. With it, suite "aes-256-gcm" proves the sender; a bare X25519 secret has no id that it could
    /// prove, and changes nothing.
    ///
    /// An engine that names the sender of an event must name [`own_id`](Self::own_id), or readers refuse the event as misdirected.
    #[must_use]
    pub fn own_key(self, own: SecretKey) -> Self {
        // What was agreed on with another key, or without, is dropped.
        Self { own: Some(own), ..Self::new() }.keep(self.nacl.keep)
    }

    /// The same with other bounds for what it keeps. What it has kept so far is dropped.
    #[must_use]
    pub fn keep(mut self, keep: Keep) -> Self {
        // What was agreed on before was so under other bounds.
        self.forget();
        (self.nacl.keep, self.sealed.keep) = (keep, keep);
        self
    }

    /// The same with another clock for what it keeps.
    #[cfg(test)]
    pub(super) fn clock(mut self, clock: &super::agreements::Clock) -> Self {
        (self.nacl.clock, self.sealed.clock) = (clock.clone(), clock.clone());
        self
    }

    /// The app id that it proves; `None` without an own key, or with a bare X25519 secret.
    pub fn own_id(&self) -> Option<AppId> {
        self.own.as_ref().and_then(SecretKey::app_id)
    }

    /// Seals `plaintext` (the payload's JSON text) for each recipient, under an event name. The copies are in the order of `to`;
    /// each opens with its own recipient's key only and names no other recipient.
    ///
    /// "aes-256-gcm" encrypts the payload once, whatever the number of recipients, and gives all copies the same id. "nacl" does not
    /// carry the event name.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`]: a signature is asked for, and the suite is "nacl" or there is no own key with an app id.
    /// - [`ErrorKind::InvalidPayload`]: more than 64 GiB.
    /// - [`ErrorKind::Internal`]: the operating system gives no randomness.
    pub fn seal(
        &self,
        plaintext: &[u8],
        to: &[Recipient],
        event: &EventName,
        options: impl Into<SealOptions>,
    ) -> Result<Vec<WirePayload>> {
        let SealOptions { suite, signed, single } = options.into();
        if signed {
            self.check_can_sign(suite)?;
        }
        match suite {
            Suite::Nacl => nacl::seal(plaintext, to, &self.nacl, single),
            Suite::Aes256Gcm => sealed::seal(plaintext, to, event, self.own.as_ref(), signed, &self.sealed),
        }
    }

    /// Begins to seal for so many recipients that all copies at once may take too much room or time: [`seal_part`](Self::seal_part)
    /// goes on, for some of them at a time.
    ///
    /// # Errors
    ///
    /// As [`seal`](Self::seal).
    pub fn begin(
        &self,
        plaintext: &[u8],
        recipients: usize,
        event: &EventName,
        options: impl Into<SealOptions>,
    ) -> Result<SealingInParts> {
        let options = options.into();
        if options.signed {
            self.check_can_sign(options.suite)?;
        }
        let encrypted = match options.suite {
            Suite::Nacl => None,
            Suite::Aes256Gcm => Some(sealed::Payload::encrypt(plaintext, event, self.own.as_ref(), recipients > 1)?),
        };
        Ok(SealingInParts { options, encrypted })
    }

    /// Seals the same `plaintext` that this was [begun](Self::begin) with, by the same sealer, for more recipients. The copies are as
    /// those of [`seal`](Self::seal), whose id, if they have one, is that of the other parts.
    ///
    /// # Errors
    ///
    /// As [`seal`](Self::seal).
    pub fn seal_part(
        &self,
        begun: &mut SealingInParts,
        plaintext: &[u8],
        to: &[Recipient],
    ) -> Result<Vec<WirePayload>> {
        let SealOptions { signed, single, .. } = begun.options;
        match &mut begun.encrypted {
            None => nacl::seal(plaintext, to, &self.nacl, single),
            Some(payload) => payload.copies(to, self.own.as_ref(), signed, &self.sealed),
        }
    }

    fn check_can_sign(&self, suite: Suite) -> Result<()> {
        let refuse = |why| Err(Error::new(ErrorKind::InvalidInput, why));
        match suite {
            Suite::Nacl => refuse("the suite nacl has no signatures; choose aes-256-gcm, or do not sign"),
            _ if self.own.is_none() => refuse("a signature needs the app's own secret key, and none was given"),
            _ if self.own_id().is_none() => refuse(
                "a signature needs an Ed25519 secret key; the one given is a bare X25519 secret, which cannot sign",
            ),
            _ => Ok(()),
        }
    }

    /// Wipes the kept agreements whose time is over. They serve nothing more in any case; call it now and then, for nothing else
    /// wipes them while nothing is sealed.
    pub fn tidy(&self) {
        self.nacl.tidy();
        self.sealed.tidy();
    }

    /// Wipes all kept agreements, as dropping the sealer does.
    pub fn forget(&self) {
        self.nacl.forget();
        self.sealed.forget();
    }
}

/// A payload that is sealed for some recipients at a time: see [`Sealer::begin`].
pub struct SealingInParts {
    options: SealOptions,
    /// Once for all, where the suite does so.
    encrypted: Option<sealed::Payload>,
}

impl fmt::Debug for SealingInParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingInParts").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Default for Sealer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("own", &self.own)
            .field("keep", &self.nacl.keep)
            .field("nacl", &self.nacl)
            .field("sealed", &self.sealed)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Inspected, inspect};

    #[test]
    fn single_boxes_are_single_whatever_the_size() {
        let to: Vec<_> =
            (1..4).map(|n| Recipient::new(SecretKey::from_seed([n; 32]).app_id().unwrap()).unwrap()).collect();
        let (event, large) = (EventName::parse("a/b").unwrap(), vec![b' '; 40_000]);
        for (options, single) in [(SealOptions::default(), false), (SealOptions::default().single_boxes(), true)] {
            for copy in Sealer::new().seal(&large, &to, &event, options).unwrap() {
                assert_eq!(matches!(inspect(&copy).unwrap(), Inspected::Single { .. }), single);
            }
        }
    }
}
