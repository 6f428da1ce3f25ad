//! What is inside an event's id.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ensync_core::EventId;

use crate::model::{EventRef, Position};

/// The content of an [`EventId`]. Clients see it as opaque text: unpadded URL-safe base64 (RFC 4648 §5) of
///
/// ```text
/// kind (1 byte: 1 in the log, 2 in memory only) ‖ tag (4 bytes, big-endian) ‖ queue ‖ seq ‖ position
/// ```
///
/// the last three as LEB128. It names the event in the state and in the log, so neither needs an index. Nothing in it is
/// secret, and nothing is believed: whoever uses one checks that the queue is the caller's and that the rest fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EventKey {
    /// Kept in memory only (`persist: false`).
    pub(crate) transient: bool,
    pub(crate) tag: u32,
    pub(crate) event: EventRef,
    /// Where the log had it first.
    pub(crate) position: Position,
}

impl EventKey {
    /// Behind all events of a queue: no event's.
    pub(crate) fn end_of_queue(queue: u32) -> Self {
        Self { transient: false, tag: 0, event: EventRef { queue, seq: u64::MAX }, position: Position::START }
    }

    pub(crate) fn to_id(self) -> EventId {
        let mut bytes = Vec::with_capacity(24);
        bytes.push(if self.transient { 2 } else { 1 });
        bytes.extend_from_slice(&self.tag.to_be_bytes());
        for mut number in [u64::from(self.event.queue), self.event.seq, self.position.as_u64()] {
            while number > 0x7f {
                bytes.push(number as u8 | 0x80);
                number >>= 7;
            }
            bytes.push(number as u8);
        }
        let text = URL_SAFE_NO_PAD.encode(bytes);
        #[expect(clippy::expect_used, reason = "at most 30 bytes in base64 are at most 40 visible ASCII characters")]
        EventId::parse(&text).expect("base64 is an event id")
    }

    /// `None` for whatever [`to_id`](Self::to_id) does not write.
    pub(crate) fn of(id: &EventId) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(id.as_str()).ok()?;
        let (&kind, rest) = bytes.split_first()?;
        let (tag, mut rest) = rest.split_first_chunk::<4>()?;
        let mut number = || {
            let mut value = 0_u64;
            for shift in (0..64).step_by(7) {
                let (&byte, tail) = rest.split_first()?;
                rest = tail;
                value |= u64::from(byte & 0x7f).checked_shl(shift)?;
                if byte & 0x80 == 0 {
                    return Some(value);
                }
            }
            None
        };
        let key = Self {
            transient: kind == 2,
            tag: u32::from_be_bytes(*tag),
            event: EventRef { queue: u32::try_from(number()?).ok()?, seq: number()? },
            position: Position::new(number()?),
        };
        // One event, one text: other spellings of the same numbers are not ids.
        (key.to_id() == *id).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(queue: u32, seq: u64, position: u64) -> EventKey {
        EventKey {
            transient: false,
            tag: 0xdead_beef,
            event: EventRef { queue, seq },
            position: Position::new(position),
        }
    }

    #[test]
    fn ids_hold_what_was_put_in() {
        for key in [key(0, 0, 0), key(127, 128, 16_384), key(u32::MAX, u64::MAX, u64::MAX)] {
            for key in [key, EventKey { transient: true, ..key }] {
                let id = key.to_id();
                assert_eq!(EventKey::of(&id), Some(key));
                assert!(id.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{id}");
            }
        }
    }

    #[test]
    fn other_spellings_are_no_ids() {
        let id = key(1, 2, 3).to_id();
        let raw = URL_SAFE_NO_PAD.decode(id.as_str()).unwrap();
        let mut forged: Vec<Vec<u8>> = (0..raw.len()).map(|n| raw[..n].to_vec()).collect();
        forged.push([&raw[..], &[0]].concat());
        forged.push([&raw[..5], &[0x81, 0x00], &raw[6..]].concat());
        forged.push([&[3], &raw[1..]].concat());
        forged.push([&raw[..5], &[0xff; 40]].concat());
        for bytes in forged.iter().filter(|bytes| !bytes.is_empty()) {
            let id = EventId::parse(&URL_SAFE_NO_PAD.encode(bytes)).unwrap();
            assert_eq!(EventKey::of(&id), None, "{bytes:?}");
        }
        for text in ["x", "not/base64", "AQ==", "01J00000000000000000000000"] {
            assert_eq!(EventKey::of(&EventId::parse(text).unwrap()), None, "{text}");
        }
    }
}
