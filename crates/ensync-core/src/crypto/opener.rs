use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use zeroize::Zeroizing;

use super::hpke::Context;
use super::kept::{Clock, Reading};
use super::sealed::{Header, SealedId};
use super::{Kind, nacl, read_wire, say_malformed, sealed};
use crate::{AppId, Error, ErrorKind, EventName, Keyring, Result, Timestamp, WirePayload};

/// What a reader expects of a payload before it opens it.
///
/// ```
/// use ensync_core::EventName;
/// use ensync_core::crypto::{Expected, Senders};
///
/// let (event, senders) = (EventName::parse("orders/created")?, Senders::Verified);
/// let expected = Expected::event(&event).engine_sender(None).senders(&senders);
/// # let _ = expected;
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    event: Option<&'a EventName>,
    engine_sender: Option<AppId>,
    pub(super) senders: &'a Senders,
}

impl<'a> Expected<'a> {
    /// A payload under this event name: the one that was subscribed to, or that a replay asked for. Never the one that came with the
    /// delivery, which is the engine's word.
    pub const fn event(event: &'a EventName) -> Self {
        Self { event: Some(event), engine_sender: None, senders: &Senders::Any }
    }

    /// A payload under whatever name. For tools that look at an envelope by itself; a subscriber that accepted any would let the
    /// engine pass one event off as another.
    pub const fn any_event() -> Self {
        Self { event: None, engine_sender: None, senders: &Senders::Any }
    }

    /// Who the engine says sent it, if it gave a key: an envelope that names another sender is refused.
    #[must_use]
    pub const fn engine_sender(mut self, sender: Option<AppId>) -> Self {
        self.engine_sender = sender;
        self
    }

    /// Whose payloads are taken.
    #[must_use]
    pub const fn senders(mut self, senders: &'a Senders) -> Self {
        self.senders = senders;
        self
    }

    /// Step 3 of reading a sealed envelope.
    pub(super) fn check_place(&self, header: &Header) -> Result<()> {
        let misdirected = |why| Err(Error::new(ErrorKind::Misdirected, why));
        if let Some(event) = self.event
            && *event != header.event
        {
            return misdirected(format!("the envelope was sealed for event {}, not for {event}", header.event));
        }
        if let Some((engine, from)) = self.engine_sender.zip(header.from)
            && engine != from
        {
            return misdirected(format!(
                "the envelope says app {from} sealed it, the engine says app {engine} sent it"
            ));
        }
        Ok(())
    }
}

/// Whose payloads a reader takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Senders {
    /// Anybody's, proven or not.
    #[default]
    Any,
    /// Those of any proven sender. Anybody can prove to be himself: compare [`SenderProof::Verified`]'s key, or say whose.
    Verified,
    /// Those that one of these proves to have sealed.
    VerifiedFrom(Arc<BTreeSet<AppId>>),
}

impl Senders {
    /// Only payloads that one of these proves to have sealed.
    pub fn verified_from(keys: impl IntoIterator<Item = AppId>) -> Self {
        Self::VerifiedFrom(Arc::new(keys.into_iter().collect()))
    }

    /// Step 4 of reading: nothing is decrypted for somebody who is not allowed. `from` is the sender that the envelope names and
    /// step 5 will prove.
    pub(super) fn check(&self, from: Option<&AppId>) -> Result<()> {
        let refuse = |why| Err(Error::new(ErrorKind::SenderNotVerified, why));
        match (self, from) {
            (Self::Any, _) | (Self::Verified, Some(_)) => Ok(()),
            (Self::VerifiedFrom(allowed), Some(from)) if allowed.contains(from) => Ok(()),
            (Self::VerifiedFrom(_), Some(from)) => refuse(format!("the sender, app {from}, is not one of those allowed")),
            (Self::Verified | Self::VerifiedFrom(_), None) => refuse(
                "the envelope does not prove its sender, and only verified senders are taken; the sender must use the suite \
                 aes-256-gcm with its own secret key"
                    .to_owned(),
            ),
        }
    }
}

/// Who sealed a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SenderProof {
    /// The holder of this key sealed the payload, for this recipient, under this event name, id and time; or a holder of the
    /// recipient's own key made it look so, which a signature excludes.
    Verified {
        /// The sender's app id.
        key: AppId,
        /// Whether a signature proves it.
        signed: bool,
    },
    /// Nothing proves it. What the engine says about the sender is all there is.
    Unverified,
}

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
    kept: Arc<Kept>,
}

struct Kept {
    nacl: Reading<nacl::Agreed, nacl::SharedKey>,
    sealed: Reading<sealed::Agreed, Context>,
}

impl Opener {
    /// An opener with these keys.
    pub fn new(keys: Keyring) -> Self {
        Self { keys, kept: Kept::new(Clock::default()) }
    }

    /// An opener with other keys that shares what is kept: for a subscription with keys of its own.
    #[must_use]
    pub fn with_keys(&self, keys: Keyring) -> Self {
        Self { keys, kept: Arc::clone(&self.kept) }
    }

    /// The same with another clock for what it keeps, so that tests need not wait. It shares nothing any more.
    #[must_use]
    pub fn clock(self, now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self { keys: self.keys, kept: Kept::new(Clock::new(now)) }
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
                return sealed::open(&envelope, &self.keys, expected, &self.kept.sealed);
            }
            expected.senders.check(None)?;
            let plaintext = match kind {
                Kind::Hybrid => nacl::open_hybrid(&envelope, &self.keys, &self.kept.nacl)?,
                _ => nacl::open_single(&envelope, &self.keys, &self.kept.nacl)?,
            };
            Ok(Opened { plaintext, sender: SenderProof::Unverified, id: None, created: None })
        };
        open().map_err(say_malformed)
    }

    /// Wipes the kept agreements that have idled too long. They serve nothing more in any case; call it now and then, for nothing else
    /// wipes them while nothing is opened.
    pub fn tidy(&self) {
        self.kept.nacl.tidy();
        self.kept.sealed.tidy();
    }

    /// Wipes all kept agreements, also of those that share them.
    pub fn forget(&self) {
        self.kept.nacl.forget();
        self.kept.sealed.forget();
    }
}

impl Kept {
    fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { nacl: Reading::new(clock.clone()), sealed: Reading::new(clock) })
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("keys", &self.keys)
            .field("nacl", &self.kept.nacl)
            .field("sealed", &self.kept.sealed)
            .finish()
    }
}
