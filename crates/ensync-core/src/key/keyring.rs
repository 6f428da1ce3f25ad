use std::fmt;
use std::sync::Arc;

use super::SecretKey;

/// The secret keys that a reader tries: a current one, and previous ones for what was sealed before a change of key.
///
/// Cheap to clone. An empty ring opens nothing; it is for a client that only publishes. A key that leaked does not belong here
/// even as a previous one: whoever holds it can seal what it opens.
#[derive(Clone, Default)]
pub struct Keyring(Arc<Ring>);

#[derive(Clone, Default)]
struct Ring {
    current: Option<SecretKey>,
    previous: Vec<SecretKey>,
}

impl Keyring {
    /// A ring of one key, the current one.
    pub fn new(current: SecretKey) -> Self {
        Self(Arc::new(Ring { current: Some(current), previous: Vec::new() }))
    }

    /// The same ring with one more previous key. Keys are tried in the order they were added.
    #[must_use]
    pub fn with_previous(mut self, previous: SecretKey) -> Self {
        Arc::make_mut(&mut self.0).previous.push(previous);
        self
    }

    /// The current key; `None` in a ring that was made without one.
    pub fn current(&self) -> Option<&SecretKey> {
        self.0.current.as_ref()
    }

    /// Every key, the current one first.
    pub fn iter(&self) -> impl Iterator<Item = &SecretKey> {
        self.0.current.iter().chain(&self.0.previous)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<SecretKey> for Keyring {
    fn from(current: SecretKey) -> Self {
        Self::new(current)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")?;
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_its_order_and_its_copies_apart() {
        let [a, b, c] = [1, 2, 3].map(|n| SecretKey::from_seed([n; 32]));
        let one = Keyring::from(a.clone());
        let three = one.clone().with_previous(b.clone()).with_previous(c.clone());
        assert_eq!(three.current(), Some(&a));
        assert!(three.iter().eq([&a, &b, &c]));
        assert_eq!((one.len(), three.len()), (1, 3));

        assert!(Keyring::default().is_empty());
        assert_eq!(Keyring::default().current(), None);
        let only_previous = Keyring::default().with_previous(b.clone());
        assert!(!only_previous.is_empty() && only_previous.current().is_none());
    }
}
