//! The one error type of every EnSync crate.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::convert::{from_text, serialize_display};
use crate::text::Given;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do.
///
/// `Display` names the operation and the place; the cause is only in [`source`](StdError::source), so a report that walks the
/// chain says everything once. Match on [`kind`](Error::kind) to react.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    /// It may have been carried out, although its kind does not say so.
    perhaps_done: bool,
    /// The kind is what an engine's own words seem to mean.
    by_words: bool,
    /// It may be the word of somebody between this side and the engine.
    on_the_way: bool,
    source: Option<Arc<dyn StdError + Send + Sync + 'static>>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// Written out, for a derived one would give the `Arc` as the source, which nobody can downcast.
impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl Error {
    /// An error of `kind`, described by `message`.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), perhaps_done: false, by_words: false, on_the_way: false, source: None }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The same error, its message preceded by `context` and a colon.
    #[must_use]
    pub fn context(mut self, context: impl std::fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message).into();
        self
    }

    /// The same error, saying that what was asked for may have been carried out all the same: for who knows more of how it failed
    /// than its kind says. See [`may_have_happened`](Self::may_have_happened).
    #[must_use]
    pub fn perhaps_done(mut self) -> Self {
        self.perhaps_done = true;
        self
    }

    /// The same error without a text that only this side and the engine may know, such as a client id: an engine may repeat what it was
    /// sent. Of less than 8 bytes nothing is left out, for as much stands in many words.
    #[must_use]
    pub fn without(mut self, secret: &str) -> Self {
        if secret.len() < 8 {
            return self;
        }
        if self.message.contains(secret) {
            self.message = self.message.replace(secret, crate::redact::HIDDEN).into();
        }
        // What a cause says cannot be changed.
        if self.source.as_deref().is_some_and(|source| report(source).contains(secret)) {
            self.source = None;
        }
        self
    }

    /// The same error, its kind being what an engine's own words seem to mean.
    pub(crate) fn by_words(mut self) -> Self {
        self.by_words = true;
        self
    }

    /// The same error, saying that it need not be the engine's word: a gateway in between may have said it, in the terms of the protocol
    /// below.
    #[must_use]
    pub fn said_on_the_way(mut self) -> Self {
        self.on_the_way = true;
        self
    }

    /// Whether a gateway in between may have said it, and not the engine. What that does not let through now it may let through later.
    /// What is sent in the meantime is sent again until its deadline; then its kind says who may have to act.
    pub fn is_said_on_the_way(&self) -> bool {
        self.on_the_way
    }

    /// Whether its kind is only what an engine's own words seem to mean, for it gave no code: see
    /// [`from_refusal`](Self::from_refusal). Who would act on it for ever does so for a while.
    pub fn is_read_from_words(&self) -> bool {
        self.by_words
    }

    /// Which sort of failure this is, and so who can act.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether what was asked for may have been carried out all the same, or in part: the answer did not come, or was not understood.
    /// `false` says that it was not.
    ///
    /// To repeat a publish after such an error may publish twice, unless it carries an idempotency key of the caller's and the engine
    /// deduplicates.
    ///
    /// ```
    /// use ensync_core::{Error, ErrorKind};
    ///
    /// assert!(Error::new(ErrorKind::Interrupted, "the link ended while the answer was awaited").may_have_happened());
    /// assert!(!Error::new(ErrorKind::Connect, "no connection in time; it was not sent").may_have_happened());
    /// ```
    pub fn may_have_happened(&self) -> bool {
        self.perhaps_done || self.kind.may_have_happened()
    }

    /// Whether the same call may succeed later without anybody changing anything. See also
    /// [`may_have_happened`](Self::may_have_happened).
    pub fn is_retryable(&self) -> bool {
        let access = matches!(self.kind, ErrorKind::Unauthenticated | ErrorKind::Forbidden);
        self.kind.is_retryable() || (access && self.on_the_way)
    }
}

/// An error and its causes on one line, each said once: for logs and for people.
///
/// ```
/// use ensync_core::{Error, ErrorKind, report};
///
/// let error = Error::new(ErrorKind::Connect, "cannot reach h:1").with_source(std::io::Error::other("refused"));
/// assert_eq!(report(&error), "cannot reach h:1: refused");
/// ```
pub fn report(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $retryable:literal;)*) => {
        /// The sorts of failure. Each says who can act, and how.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[$doc])* $name,)* }

        impl ErrorKind {
            /// Every kind.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$name,)*];

            /// The kind's name on the wire: stable, lower case, without spaces.
            pub const fn code(self) -> &'static str {
                match self { $(ErrorKind::$name => $code,)* }
            }

            /// See [`Error::is_retryable`].
            pub const fn is_retryable(self) -> bool {
                match self { $(ErrorKind::$name => $retryable,)* }
            }
        }
    };
}

kinds! {
    /// The engine's URL cannot be used. The caller corrects it; the message says how.
    InvalidUrl = "invalid_url", false;
    /// The URL's scheme needs a transport that this build left out. The caller enables the feature that the message names.
    FeatureDisabled = "feature_disabled", false;
    /// An event name breaks the rules of [`EventName`](crate::EventName). The caller corrects it.
    InvalidEventName = "invalid_event_name", false;
    /// An app key, app id or secret key is not what it should be (length, encoding, a point that is not on the curve). The
    /// caller corrects it.
    InvalidKey = "invalid_key", false;
    /// Another argument is out of its range. The caller corrects it.
    InvalidInput = "invalid_input", false;
    /// The payload cannot be written as JSON. The caller changes its type.
    InvalidPayload = "invalid_payload", false;
    /// The engine does not know the app key, or the session has expired. The caller checks the key.
    Unauthenticated = "unauthenticated", false;
    /// The app may not do this. Whoever administers the engine grants the right.
    Forbidden = "forbidden", false;
    /// The event name is not registered with the engine. Whoever administers the engine registers it.
    UnknownEvent = "unknown_event", false;
    /// No app has this recipient's key. The caller checks the recipient.
    UnknownRecipient = "unknown_recipient", false;
    /// The payload is larger than the engine takes. The caller sends less, or a reference to it.
    PayloadTooLarge = "payload_too_large", false;
    /// The payload breaks the schema registered for the event name. The caller corrects the payload.
    SchemaMismatch = "schema_mismatch", false;
    /// The engine has no such event: never had, dropped by retention, or not this app's.
    NotFound = "not_found", false;
    /// What is asked for contradicts what is: it exists already, or is in use. The message says what is in the way.
    Conflict = "conflict", false;
    /// The delivery is no longer this client's to settle: its lease ran out, or it was settled already in another way. The
    /// event is, or will be, with somebody else; there is nothing to do.
    StaleDelivery = "stale_delivery", false;
    /// A limit is reached: the engine's (rate, connections), or this client's own (publishes under way). The caller tries later, or
    /// the limit is raised.
    LimitExceeded = "limit_exceeded", true;
    /// The engine cannot do it now (starting, stopping, disk full). The caller tries later.
    Unavailable = "unavailable", true;
    /// The engine does not have an extension that this needs. Whoever operates it upgrades it, or the caller goes without.
    Unsupported = "unsupported", false;
    /// The engine refused, in its own words.
    Refused = "refused", false;
    /// No connection: the name does not resolve, nobody listens, or what answers is not an EnSync engine.
    Connect = "connect", true;
    /// TLS failed: certificate not trusted or expired, wrong name, or a port without TLS. The message says which.
    Tls = "tls", false;
    /// No answer in time. The command may or may not have been carried out.
    Timeout = "timeout", true;
    /// The connection was lost while the answer was awaited, or the engine's disk failed while it stored the command. The command
    /// may or may not have been carried out.
    Interrupted = "interrupted", true;
    /// The link or the client has ended; the command was not sent.
    Closed = "closed", false;
    /// The other side sent something that is not the protocol. Its maintainers can act.
    Protocol = "protocol", false;
    /// Some recipients of a publish were served and others not; the source says which.
    PartiallyPublished = "partially_published", false;
    /// The envelope is not one: not base64, not JSON, a field missing or of the wrong size.
    MalformedEnvelope = "malformed_envelope", false;
    /// The envelope is of a version or type that this build cannot read. The reader upgrades.
    UnsupportedEnvelope = "unsupported_envelope", false;
    /// The envelope is for none of the keys given. The reader adds the key it was sealed for.
    NotForMe = "not_for_me", false;
    /// The envelope does not open: sealed for another key, altered, or forged. These cannot be told apart.
    DoesNotOpen = "does_not_open", false;
    /// The envelope was sealed under another event name than the one it was delivered under, or by another sender than the engine
    /// says. Nothing was decrypted. The engine, or whoever operates it, has mixed events up or moved one on purpose.
    Misdirected = "misdirected", false;
    /// The reader takes verified senders only, and the envelope names none, or none that is allowed. No payload was decrypted. The
    /// sender uses the suite "aes-256-gcm" with its own secret key, or the reader allows it.
    SenderNotVerified = "sender_not_verified", false;
    /// The envelope's signature is not the sender's. It was altered or forged by somebody who has a recipient's key.
    BadSignature = "bad_signature", false;
    /// The decrypted payload is not what the caller asked for (not JSON, or of another shape).
    Decode = "decode", false;
    /// A defect on this side. Please report it.
    Internal = "internal", false;
}

impl ErrorKind {
    /// See [`Error::may_have_happened`].
    pub const fn may_have_happened(self) -> bool {
        use ErrorKind::{Internal, Interrupted, PartiallyPublished, Protocol, Timeout};
        matches!(self, Timeout | Interrupted | PartiallyPublished | Protocol | Internal)
    }

    /// Whether only this side can know it: no engine can tell what became of this side's connection, URL or keys, so a refusal is
    /// never of such a kind.
    pub const fn is_of_this_side(self) -> bool {
        use ErrorKind::{
            BadSignature, Closed, Connect, Decode, DoesNotOpen, FeatureDisabled, Interrupted, InvalidUrl, Misdirected,
            NotForMe, PartiallyPublished, SenderNotVerified, Tls,
        };
        matches!(
            self,
            InvalidUrl
                | FeatureDisabled
                | Connect
                | Tls
                | Interrupted
                | Closed
                | PartiallyPublished
                | NotForMe
                | DoesNotOpen
                | Misdirected
                | SenderNotVerified
                | BadSignature
                | Decode
        )
    }

    /// The kind whose [`code`](ErrorKind::code) this is.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }
}

/// The kind's [code](ErrorKind::code).
impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl ErrorKind {
    fn parse(code: &str) -> Result<Self> {
        let unknown =
            || Error::new(ErrorKind::InvalidInput, format!("{} is not the code of a kind of error", Given(code)));
        Self::from_code(code).ok_or_else(unknown)
    }
}

from_text!(ErrorKind, "the code of a kind of error");
serialize_display!(ErrorKind);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_more_than_the_kind_says_so() {
        let error = Error::new(ErrorKind::Unavailable, "a proxy answered 502");
        assert!(!error.may_have_happened());
        assert!(error.perhaps_done().context("publish").with_source(std::io::Error::other("x")).may_have_happened());
    }

    #[test]
    fn what_a_gateway_does_not_let_through_it_may_let_through_later() {
        for kind in [ErrorKind::Unauthenticated, ErrorKind::Forbidden] {
            assert!(!Error::new(kind, "no").is_retryable(), "{kind:?}: the engine's word");
            assert!(Error::new(kind, "no").said_on_the_way().context("log in").is_retryable(), "{kind:?}");
        }
        assert!(!Error::new(ErrorKind::PayloadTooLarge, "no").said_on_the_way().is_retryable());
    }

    #[test]
    fn the_cause_is_only_in_the_source() {
        let error =
            Error::new(ErrorKind::Connect, "cannot reach h:1").with_source(std::io::Error::other("refused by host"));
        assert_eq!(error.to_string(), "cannot reach h:1");
        let source = error.source().unwrap();
        assert_eq!(source.to_string(), "refused by host");
        assert!(source.downcast_ref::<std::io::Error>().is_some());
    }
}
