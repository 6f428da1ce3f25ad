//! Messages that were stored or read lately, up to a bound in bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::message::Records;

#[derive(Debug)]
pub(super) struct Cache {
    most: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    messages: HashMap<u64, Arc<Records>>,
    /// In the order in which they came.
    order: VecDeque<u64>,
    bytes: usize,
}

impl Cache {
    pub(super) fn new(most: usize) -> Self {
        Self { most, held: Mutex::default() }
    }

    pub(super) fn get(&self, sequence: u64) -> Option<Arc<Records>> {
        self.lock().messages.get(&sequence).cloned()
    }

    pub(super) fn put(&self, sequence: u64, message: Arc<Records>) {
        let mut held = self.lock();
        let size = message.size();
        if size > self.most || held.messages.contains_key(&sequence) {
            return;
        }
        held.messages.insert(sequence, message);
        held.order.push_back(sequence);
        held.bytes += size;
        while held.bytes > self.most
            && let Some(oldest) = held.order.pop_front()
        {
            let gone = held.messages.remove(&oldest).map_or(0, |message| message.size());
            held.bytes -= gone;
        }
    }

    /// Forgets a part of the log.
    pub(super) fn forget(&self, from: u64, to: u64) {
        let mut held = self.lock();
        let Held { messages, order, bytes } = &mut *held;
        order.retain(|sequence| {
            let gone = (from..to).contains(sequence);
            if gone {
                *bytes -= messages.remove(sequence).map_or(0, |message| message.size());
            }
            !gone
        });
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing panics while it is held.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Message, pieces};
    use super::*;
    use crate::model::Encoded;

    #[test]
    fn the_oldest_go_when_there_are_too_many_bytes() {
        let (pieces, _) = pieces(&[Encoded::new("head", vec![0; 1_000], true)], (2_000, 2_000));
        let bytes = pieces[0].message(&[0; 16], (1, 1, 0), (0, 1));
        let Ok(Message::Records(records)) = Message::decode(&bytes, &[0; 16]) else { panic!() };
        let (size, records) = (records.size(), Arc::new(records));
        let cache = Cache::new(3 * size);
        (1..=5).for_each(|sequence| cache.put(sequence, records.clone()));
        cache.put(5, records.clone());
        let held = |cache: &Cache| (1..=5).filter(|sequence| cache.get(*sequence).is_some()).collect::<Vec<_>>();
        assert_eq!(held(&cache), [3, 4, 5]);
        assert_eq!(cache.lock().bytes, 3 * size);
        cache.forget(3, 5);
        assert_eq!((held(&cache), cache.lock().bytes), (vec![5], size));
        let small = Cache::new(size - 1);
        small.put(1, records);
        assert!(small.get(1).is_none());
    }
}
