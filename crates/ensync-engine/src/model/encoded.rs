//! A record as a log takes it.

use bytes::{Bytes, BytesMut};

/// What a record is to a log that is nearly full: each is refused sooner than the next, so that what makes space finds some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// It makes space, or is stored once more so that more than it can be dropped.
    Frees,
    /// It ends something, whose space can be had once all around it has ended too.
    Ends,
    /// It changes something that stays.
    Keeps,
    /// It asks for space without giving any back later by itself.
    Grows,
}

/// A record as bytes: what a [`Log`](crate::Log) stores, and knows nothing of but what is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    head: Bytes,
    payload: Bytes,
    need: Need,
}

impl Encoded {
    /// From two parts that are stored as one, so that a payload need not be copied to stand behind what is said of it. `grows`: see
    /// [`grows`](Self::grows); else it ends something.
    pub fn new(head: impl Into<Bytes>, payload: impl Into<Bytes>, grows: bool) -> Self {
        let need = if grows { Need::Grows } else { Need::Ends };
        Self { head: head.into(), payload: payload.into(), need }
    }

    /// The same, as something else to a log that is nearly full.
    #[must_use]
    pub fn with_need(self, need: Need) -> Self {
        Self { need, ..self }
    }

    /// What it is to a log that is nearly full.
    pub fn need(&self) -> Need {
        self.need
    }

    /// The parts, in the order in which they are stored.
    pub fn parts(&self) -> [&Bytes; 2] {
        [&self.head, &self.payload]
    }

    /// Whether it asks for space without giving any back later by itself. A log that is nearly full refuses it, and leaves what space
    /// there is to acknowledgements and the like, which are what makes some again.
    pub fn grows(&self) -> bool {
        self.need == Need::Grows
    }

    /// The length of both parts.
    pub fn len(&self) -> usize {
        self.head.len().saturating_add(self.payload.len())
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Both parts in one. Copies only if both hold something.
    pub fn to_bytes(&self) -> Bytes {
        if self.payload.is_empty() {
            return self.head.clone();
        }
        let mut bytes = BytesMut::with_capacity(self.len());
        bytes.extend_from_slice(&self.head);
        bytes.extend_from_slice(&self.payload);
        bytes.freeze()
    }
}
