use crate::crypto::sealed::{Envelope, SealedId};
use crate::crypto::{Form, envelope, nacl, say_malformed};
use crate::{AppId, EventName, Result, Timestamp, WirePayload};

/// What an envelope says in clear. Nothing of it is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inspected {
    /// Suite "nacl", for one recipient, whom it does not name.
    Single {
        /// The length of the plaintext, in bytes.
        plaintext_bytes: usize,
    },
    /// Suite "nacl", for several recipients.
    Hybrid {
        /// Those that it names in one of the two usual ways, each once.
        recipients: Vec<AppId>,
        /// How many entries it has. Some writers make two for one recipient.
        entries: usize,
        /// The length of the plaintext, in bytes.
        plaintext_bytes: usize,
    },
    /// Suite "aes-256-gcm".
    Sealed {
        /// The event name that it was sealed under.
        event: EventName,
        /// Its recipient.
        to: AppId,
        /// The sender that it will prove when it opens; `None` in mode base.
        from: Option<AppId>,
        /// The name that its sender gave it.
        id: SealedId,
        /// When it was sealed, by the sender's clock.
        created: Timestamp,
        /// Whether it carries a signature.
        signed: bool,
        /// The length of the plaintext, in bytes.
        plaintext_bytes: usize,
    },
}

/// Reads what an envelope says in clear, without any key.
///
/// # Errors
///
/// - [`ErrorKind::MalformedEnvelope`](crate::ErrorKind::MalformedEnvelope): it is not an envelope.
/// - [`ErrorKind::UnsupportedEnvelope`](crate::ErrorKind::UnsupportedEnvelope): it is of a version that this build cannot read.
pub fn inspect(payload: &WirePayload) -> Result<Inspected> {
    let read = || {
        let envelope = envelope(payload)?;
        match Form::read(&envelope)? {
            Form::Single(members) => {
                Ok(Inspected::Single { plaintext_bytes: nacl::Single::read(&members)?.plaintext_bytes() })
            }
            Form::Hybrid(members) => {
                let hybrid = nacl::Hybrid::read(&members)?;
                let (entries, plaintext_bytes) = (hybrid.entries(), hybrid.plaintext_bytes());
                Ok(Inspected::Hybrid { recipients: hybrid.recipients(), entries, plaintext_bytes })
            }
            Form::Sealed(members) => {
                let envelope = Envelope::of(members)?;
                let plaintext_bytes = envelope.plaintext_bytes();
                let header = envelope.header;
                Ok(Inspected::Sealed {
                    event: header.event,
                    to: header.to,
                    from: header.from,
                    id: header.id,
                    created: header.created,
                    signed: header.signed,
                    plaintext_bytes,
                })
            }
        }
    };
    read().map_err(say_malformed)
}
