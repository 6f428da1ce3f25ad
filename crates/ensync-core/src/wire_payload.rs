use bytes::Bytes;

/// A payload as the wire carries it: the base64 text of an envelope's JSON. Not validated, for a broken one must still be
/// settled. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct WirePayload(Bytes);

impl WirePayload {
    /// From the wire's text.
    pub fn from_wire(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }

    /// The wire's text; empty if it is not UTF-8, and so no base64.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The wire's text as it came. Costs no copy.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The length of the wire's text, in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every character is one of base64's, in either alphabet, and there is at least one. It says nothing of what is
    /// inside.
    pub fn looks_like_base64(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|b| b.is_ascii_alphanumeric() || b"+/-_=".contains(b))
    }
}

impl std::fmt::Debug for WirePayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WirePayload({} bytes)", self.0.len())
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
    }
}
