//! Which queues belong to which partition.

use std::num::NonZeroU32;

use ensync_core::AppId;
use sha2::{Digest, Sha256};

/// One of the partitions of a store: which, and of how many.
///
/// A recipient's queues are all in one partition: the one whose index is the first eight bytes of the SHA-256 of the recipient's id, as a
/// big-endian number, modulo the number of partitions. That partition gives queues only numbers that are its index modulo the number of
/// partitions, so that a queue's number, and with it an event's id, says where the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    index: u32,
    count: NonZeroU32,
}

impl Share {
    /// The only one.
    pub const WHOLE: Self = Self { index: 0, count: NonZeroU32::MIN };

    /// All partitions of a store, in their order.
    pub fn all(count: NonZeroU32) -> impl Iterator<Item = Self> {
        (0..count.get()).map(move |index| Self { index, count })
    }

    /// Which one it is, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many there are.
    pub fn count(self) -> NonZeroU32 {
        self.count
    }

    /// Whether the queues of a recipient are in it, by its id.
    pub(crate) fn has(self, recipient: &AppId) -> bool {
        u32::try_from(partition_of(recipient, self.count)).is_ok_and(|index| index == self.index)
    }

    /// Whether a queue of this number is in it.
    pub(crate) fn has_queue(self, number: u32) -> bool {
        number % self.count == self.index
    }

    /// The first number that it may give to a queue, from a number on; `None` if there is none left.
    pub(crate) fn queue_from(self, number: u32) -> Option<u32> {
        let past = number % self.count;
        let ahead = if past <= self.index { self.index - past } else { self.count.get() - past + self.index };
        number.checked_add(ahead).filter(|number| *number < u32::MAX)
    }

    /// Its part of what there is for all of them together; at least 1, unless that is 0.
    pub(crate) fn part(self, of_all: u64) -> u64 {
        of_all.div_ceil(u64::from(self.count.get()))
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::WHOLE
    }
}

/// The index of the partition that has the queues of a recipient, by its id.
pub(crate) fn partition_of(recipient: &AppId, count: NonZeroU32) -> usize {
    if count == NonZeroU32::MIN {
        return 0;
    }
    let hash: [u8; 32] = Sha256::digest(recipient.as_bytes()).into();
    let [first, ..] = hash.as_chunks::<8>().0 else { return 0 };
    usize::try_from(u64::from_be_bytes(*first) % u64::from(count.get())).unwrap_or_default()
}

/// The index of the partition that has the queue of a number.
pub(crate) fn partition_of_queue(number: u32, count: NonZeroU32) -> usize {
    usize::try_from(number % count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_gives_numbers_of_its_own() {
        let four = NonZeroU32::new(4).unwrap();
        for share in Share::all(four) {
            let mut number = 0;
            for n in 0..100 {
                let given = share.queue_from(number).unwrap();
                assert_eq!(given, n * 4 + share.index());
                assert!(share.has_queue(given) && partition_of_queue(given, four) == share.index() as usize);
                number = given + 1;
            }
            let last: Vec<_> = (u32::MAX - 8..u32::MAX).filter_map(|from| share.queue_from(from)).collect();
            assert!(last.iter().all(|number| share.has_queue(*number) && *number < u32::MAX), "{last:?}");
            assert_eq!(share.queue_from(u32::MAX), None);
        }
        assert_eq!((Share::WHOLE.queue_from(7), Share::WHOLE.queue_from(u32::MAX)), (Some(7), None));
    }

    /// Stores hang on it: it never changes.
    #[test]
    fn a_recipient_stays_where_it_is() {
        let count = |n| NonZeroU32::new(n).unwrap();
        // printf '\x01%.0s' {1..32} | sha256sum: 72cd6e8422c407fb…
        let recipient = AppId::from_bytes([1; 32]);
        let first = 0x72cd_6e84_22c4_07fb_u64;
        for n in [1, 2, 3, 4, 7, 64, u32::MAX] {
            assert_eq!(partition_of(&recipient, count(n)) as u64, first % u64::from(n));
        }
        let mut used = [0_u32; 16];
        for n in 0..1_600_u16 {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&n.to_le_bytes());
            used[partition_of(&AppId::from_bytes(bytes), count(16))] += 1;
        }
        assert!(used.iter().all(|used| (60..140).contains(used)), "{used:?}");
    }

    #[test]
    fn a_part_of_something_is_something() {
        let four = Share::all(NonZeroU32::new(4).unwrap()).next().unwrap();
        assert_eq!([0, 1, 4, 10].map(|all| four.part(all)), [0, 1, 1, 3]);
        assert_eq!(Share::WHOLE.part(7), 7);
    }
}
