use std::fmt;
use std::sync::Arc;

use super::SecretKey;
use crate::convert::from_text;
use crate::text::trimmed;
use crate::{Error, ErrorKind, Result};

/// The secret keys that a reader tries: a current one, and previous ones for what was sealed before a change of key.
///
/// ```
/// use ensync_core::{Keyring, SecretKey};
///
/// let [current, previous] = [SecretKey::generate()?, SecretKey::generate()?];
/// let text = format!("{}, {}", &*current.to_base64().unwrap(), &*previous.to_base64().unwrap());
/// assert_eq!(Keyring::parse(&text)?.current(), Some(&current));
/// assert_eq!([current, previous].into_iter().collect::<Keyring>().len(), 2);
/// # Ok::<(), ensync_core::Error>(())
/// ```
///
/// Keep it short: an envelope of one box does not say for whom it is, so each key is tried, and one that opens for none of them costs that
/// many agreements. Cheap to clone. An empty ring opens nothing; it is for a client that only publishes. A key that leaked does not belong here
/// even as a previous one: whoever holds it can seal what it opens.
#[derive(Clone, Default)]
pub struct Keyring(Arc<Ring>);

#[derive(Clone, Default)]
struct Ring {
    current: Option<SecretKey>,
    previous: Vec<SecretKey>,
}

impl Keyring {
    /// Reads secret keys, as [`SecretKey::parse`] does, with commas between them: the current one first, then previous ones. A
    /// variable of the environment can hold a whole ring so. Nothing but white space is the empty ring.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] says which of the keys is none; the message repeats none of them.
    pub fn parse(text: &str) -> Result<Self> {
        if trimmed(text).is_empty() {
            return Ok(Self::default());
        }
        let several = text.contains(',');
        let read = |(at, key): (usize, &str)| {
            if several && trimmed(key).is_empty() {
                let message = format!("key {} of the list is empty; is there a comma too many?", at + 1);
                return Err(Error::new(ErrorKind::InvalidKey, message));
            }
            let read = SecretKey::parse(key);
            if several { read.map_err(|error| error.context(format_args!("key {} of the list", at + 1))) } else { read }
        };
        text.split(',').enumerate().map(read).collect()
    }

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

from_text!(secret Keyring, "secret keys with commas between them");

/// The first key is the current one, the others are previous ones.
impl FromIterator<SecretKey> for Keyring {
    fn from_iter<I: IntoIterator<Item = SecretKey>>(keys: I) -> Self {
        let mut keys = keys.into_iter();
        Self(Arc::new(Ring { current: keys.next(), previous: keys.collect() }))
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

    #[test]
    fn a_ring_is_read_from_text() {
        let [a, b] = [1, 2].map(|n| SecretKey::from_seed([n; 32]));
        let [first, second] = [&a, &b].map(|key| key.to_base64().unwrap());
        let ring = Keyring::parse(&first).unwrap();
        assert!(ring.iter().eq([&a]));
        let ring: Keyring = format!("\u{feff} {},\n{} \n", *first, *second).parse().unwrap();
        assert!(ring.iter().eq([&a, &b]));
        assert!(Keyring::parse(" \n").unwrap().is_empty());
        for (text, part) in [
            (format!("{},", *first), "key 2 of the list is empty"),
            (format!("{},x{}", *first, *second), "key 2 of the list: the app secret key is not base64"),
        ] {
            let error = Keyring::parse(&text).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains(&second[..8]), "{error}");
        }
    }
}
