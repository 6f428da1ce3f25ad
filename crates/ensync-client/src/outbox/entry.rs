//! An event as it lies on disk: a checksum, and JSON.

use ensync_core::{
    AppId, Error, ErrorKind, EventName, IdempotencyKey, Metadata, PayloadMetadata, Publish, Result, Timestamp,
    WirePayload,
};
use serde::{Deserialize, Serialize};

use super::clock::Steps;
use super::lanes::Lane;
use super::outcome::{QueuedEvent, QueuedId};

/// One event for one recipient, sealed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) publish: Publish,
    pub(super) key: IdempotencyKey,
    /// When it was put into the file, by the outbox's clock.
    pub(super) at: Timestamp,
    /// Whose secret key sealed it, if one did: no other app may publish it.
    pub(super) own: Option<AppId>,
    /// Whether its envelope names that app: readers compare it with what the engine says.
    pub(super) named: bool,
    /// Why it is parked, if it is.
    pub(super) parked: Option<Reason>,
}

/// Why an event was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reason {
    kind: String,
    message: String,
    /// Whether it may have been carried out all the same: whoever sends it again must know.
    perhaps_done: bool,
}

impl Reason {
    /// The error's kind, and the beginning of what it says: that is the engine's, and takes up the outbox's room.
    pub(super) fn of(error: &Error) -> Self {
        const MOST: usize = 1_024;
        let mut message = error.to_string();
        if message.len() > MOST {
            message.truncate(message.floor_char_boundary(MOST));
            message.push('…');
        }
        Self { kind: error.kind().code().to_owned(), message, perhaps_done: error.may_have_happened() }
    }

    pub(super) fn error(&self) -> Error {
        let kind = ErrorKind::from_code(&self.kind).unwrap_or(ErrorKind::Refused);
        let error = Error::new(kind, self.message.clone());
        if self.perhaps_done { error.perhaps_done() } else { error }
    }
}

/// The members of the JSON. Unknown ones are refused: who writes them means something by them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    event: String,
    to: String,
    payload: String,
    metadata: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    about: Option<String>,
    key: String,
    at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    own: Option<String>,
    named: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parked: Option<Reason>,
}

impl Entry {
    pub(super) fn new(publish: Publish, own: Option<AppId>) -> Result<Self> {
        let key = match &publish.idempotency_key {
            Some(key) => key.clone(),
            None => IdempotencyKey::random()?,
        };
        Ok(Self { publish, key, at: Timestamp::default(), own, named: false, parked: None })
    }

    pub(super) fn lane(&self) -> Lane {
        (self.publish.event.clone(), self.publish.recipient)
    }

    pub(super) fn about(&self, queued: QueuedId, steps: Steps) -> QueuedEvent {
        let (event, recipient) = (self.publish.event.clone(), self.publish.recipient);
        QueuedEvent { queued, event, recipient, at: steps.to_machine(self.at) }
    }

    /// What is sent: always under the key of the first time.
    pub(super) fn command(&self) -> Publish {
        Publish { idempotency_key: Some(self.key.clone()), ..self.publish.clone() }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let payload = self.publish.payload.as_str();
        let payload = payload
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "outbox: the sealed payload is not base64 text"))?;
        let stored = Stored {
            event: self.publish.event.to_string(),
            to: self.publish.recipient.to_string(),
            payload: payload.to_owned(),
            metadata: self.publish.metadata.as_str().to_owned(),
            about: self.publish.payload_metadata.as_ref().map(PayloadMetadata::to_json),
            key: self.key.as_str().to_owned(),
            at: self.at.as_millis(),
            own: self.own.map(|own| own.to_string()),
            named: self.named,
            parked: self.parked.clone(),
        };
        let json = serde_json::to_vec(&stored).map_err(|cause| {
            Error::new(ErrorKind::Internal, "outbox: an event cannot be written").with_source(cause)
        })?;
        let mut bytes = crc32c::crc32c(&json).to_le_bytes().to_vec();
        bytes.extend(json);
        Ok(bytes)
    }

    /// Reads what [`encode`](Self::encode) wrote; the file may have been altered since.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |what: &'static str| Error::new(ErrorKind::InvalidInput, what);
        let Some((sum, json)) = bytes.split_first_chunk::<4>() else { return Err(damaged("it is cut short")) };
        if crc32c::crc32c(json) != u32::from_le_bytes(*sum) {
            return Err(damaged("its checksum does not fit"));
        }
        let stored: Stored = serde_json::from_slice(json)
            .map_err(|cause| damaged("it is not what this version writes").with_source(cause))?;
        let key = IdempotencyKey::parse_stored(&stored.key)?;
        Ok(Self {
            publish: Publish {
                event: EventName::parse_stored(&stored.event)?,
                recipient: AppId::parse(&stored.to)?,
                payload: WirePayload::from_wire(stored.payload),
                metadata: Metadata::parse(&stored.metadata)?,
                payload_metadata: stored.about.as_deref().map(PayloadMetadata::parse).transpose()?,
                idempotency_key: Some(key.clone()),
            },
            key,
            at: Timestamp::from_millis(stored.at),
            own: stored.own.as_deref().map(AppId::parse).transpose()?,
            named: stored.named,
            parked: stored.parked,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::outbox) fn entry(n: u8) -> Entry {
        let publish = Publish {
            event: EventName::parse("orders/placed").unwrap(),
            recipient: AppId::from_bytes([n; 32]),
            payload: WirePayload::from_wire(format!("c2VhbGVk{n}")),
            metadata: Metadata::parse(r#"{"headers":{"a":1e40},"persist":true}"#).unwrap(),
            payload_metadata: Some(PayloadMetadata::of_json(r#"{"n":1}"#).unwrap()),
            idempotency_key: Some(IdempotencyKey::parse(&format!("key-{n}")).unwrap()),
        };
        let entry = Entry::new(publish, Some(AppId::from_bytes([7; 32]))).unwrap();
        Entry { at: Timestamp::from_millis(1_000), ..entry }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let mut kept = entry(1);
        assert_eq!(Entry::decode(&kept.encode().unwrap()).unwrap(), kept);
        kept.parked = Some(Reason::of(&Error::new(ErrorKind::Forbidden, "no right")));
        let bytes = kept.encode().unwrap();
        let read = Entry::decode(&bytes).unwrap();
        assert_eq!(read.parked.unwrap().error().kind(), ErrorKind::Forbidden);
        for cut in 0..bytes.len() {
            assert!(Entry::decode(&bytes[..cut]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Entry::decode(&flipped).is_err(), "bit {bit}");
        }
        let mut odd = crc32c::crc32c(b"{}").to_le_bytes().to_vec();
        odd.extend(b"{}");
        assert_eq!(Entry::decode(&odd).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    /// A later version may take for a key what an earlier one did not.
    #[test]
    fn what_was_queued_once_is_read_whatever_its_names_look_like() {
        let looks = "orders/ensync_key_0123456789abcdefABCDEF";
        assert!(EventName::parse(looks).is_err() && IdempotencyKey::parse(looks).is_err());
        let mut kept = entry(1);
        kept.publish.event = EventName::parse_stored(looks).unwrap();
        kept.key = IdempotencyKey::parse_stored(looks).unwrap();
        kept.publish.idempotency_key = Some(kept.key.clone());
        assert_eq!(Entry::decode(&kept.encode().unwrap()).unwrap(), kept);
    }

    /// Whoever sends again what was refused must know whether it may be there already.
    #[test]
    fn that_it_may_have_happened_is_kept() {
        for (error, perhaps) in [
            (Error::new(ErrorKind::Refused, "no"), false),
            (Error::new(ErrorKind::Refused, "cancelled").perhaps_done(), true),
            (Error::new(ErrorKind::Forbidden, "no"), false),
            (Error::new(ErrorKind::Protocol, "what is that"), true),
        ] {
            let kept = Entry { parked: Some(Reason::of(&error)), ..entry(1) };
            let why = Entry::decode(&kept.encode().unwrap()).unwrap().parked.unwrap().error();
            assert_eq!((why.kind(), why.may_have_happened()), (error.kind(), perhaps), "{error}");
        }
    }

    #[test]
    fn what_an_engine_says_takes_little_room() {
        let reason = Reason::of(&Error::new(ErrorKind::Refused, "é".repeat(5 << 20)));
        let said = reason.error().to_string();
        assert!(said.len() <= 1_030 && said.starts_with("éé") && said.ends_with('…'), "{}", said.len());
        let short = Error::new(ErrorKind::Forbidden, "no right");
        assert_eq!(Reason::of(&short).error().to_string(), "no right");
    }
}
