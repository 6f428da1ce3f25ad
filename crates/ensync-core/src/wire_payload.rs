use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

use bytes::Bytes;

/// A payload as the wire carries it: the base64 text of an envelope's JSON. Not validated, for a broken one must still be
/// settled. Cheap to clone.
#[derive(Clone, Default)]
pub struct WirePayload {
    text: Bytes,
    /// Whether it looks like base64, once somebody asked: each edge does, and a payload is long.
    base64: OnceLock<bool>,
}

impl WirePayload {
    /// From the wire's text.
    pub fn from_wire(text: impl Into<Bytes>) -> Self {
        Self { text: text.into(), base64: OnceLock::new() }
    }

    /// From base64 that this crate has just written.
    pub(crate) fn written(text: impl Into<Bytes>) -> Self {
        Self { text: text.into(), base64: true.into() }
    }

    /// The wire's text; `None` if it is not UTF-8, and so no base64.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.text).ok()
    }

    /// The wire's text as it came. Costs no copy.
    pub fn to_bytes(&self) -> Bytes {
        self.text.clone()
    }

    /// The length of the wire's text, in bytes.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether every character is one of base64's, in either alphabet, and there is at least one. It says nothing of what is
    /// inside. Looked at once, and then remembered, by its clones, too.
    pub fn looks_like_base64(&self) -> bool {
        *self.base64.get_or_init(|| !self.text.is_empty() && is_base64(&self.text))
    }
}

/// Without a branch for each byte, so that the compiler makes vector instructions of it.
fn is_base64(text: &[u8]) -> bool {
    let within = |byte: u8, first: u8, last: u8| byte.wrapping_sub(first) <= last - first;
    let fits = |byte: u8| {
        within(byte | 0x20, b'a', b'z')
            | within(byte, b'/', b'9')
            | (byte == b'+')
            | (byte == b'-')
            | (byte == b'_')
            | (byte == b'=')
    };
    text.chunks(64).all(|block| block.iter().fold(true, |fit, byte| fit & fits(*byte)))
}

impl PartialEq for WirePayload {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for WirePayload {}

impl Hash for WirePayload {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl std::fmt::Debug for WirePayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WirePayload({} bytes)", self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_base64_is_seen() {
        assert!(WirePayload::from_wire("e30=").looks_like_base64());
        for bad in ["", "e30=;BLOCK=:1", "e30=\n", "é"] {
            assert!(!WirePayload::from_wire(bad).looks_like_base64(), "{bad:?}");
        }
        for byte in 0..=u8::MAX {
            let known = byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
            for length in [1, 64, 100] {
                let mut text = vec![b'A'; length];
                text[length - 1] = byte;
                assert_eq!(WirePayload::from_wire(text).looks_like_base64(), known, "{byte} {length}");
            }
        }
    }

    #[test]
    fn what_is_no_text_is_not_taken_for_none() {
        assert_eq!(WirePayload::from_wire("é").as_str(), Some("é"));
        assert_eq!(WirePayload::default().as_str(), Some(""));
        let bytes = WirePayload::from_wire(vec![b'A', 0xff]);
        assert_eq!((bytes.as_str(), bytes.len(), bytes.looks_like_base64()), (None, 2, false));
    }

    #[test]
    fn what_is_equal_is_so_whoever_has_looked_at_it() {
        let (one, other) = (WirePayload::from_wire("e30="), WirePayload::written("e30="));
        assert!(one.looks_like_base64() && one.clone().looks_like_base64());
        assert_eq!((one.clone(), one), (other.clone(), other));
    }
}
