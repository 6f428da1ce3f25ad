//! What became of the last events that are gone.

use std::collections::{HashMap, VecDeque};

use ensync_core::Block;

use crate::log::EventRef;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The delivery of this block acknowledged it.
    Acked(Block),
    /// Nobody did in time.
    Expired,
    /// It was a dead letter that was given up.
    Dropped,
}

/// The fates of the last [`Settled::CAPACITY`] events: for repeated acknowledgements and for what a replay says.
#[derive(Debug, Default)]
pub(super) struct Settled {
    fates: HashMap<EventRef, Fate>,
    order: VecDeque<EventRef>,
}

impl Settled {
    pub(super) const CAPACITY: usize = 1 << 16;

    pub(super) fn find(&self, event: EventRef) -> Option<Fate> {
        self.fates.get(&event).copied()
    }

    pub(super) fn insert(&mut self, event: EventRef, fate: Fate) {
        if self.fates.insert(event, fate).is_none() {
            self.order.push_back(event);
        }
        if self.order.len() > Self::CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.fates.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut settled = Settled::default();
        let event = |seq| EventRef { queue: 0, seq };
        for seq in 0..=Settled::CAPACITY as u64 {
            settled.insert(event(seq), Fate::Expired);
            settled.insert(event(seq), Fate::Dropped);
        }
        assert_eq!(settled.find(event(0)), None);
        assert_eq!(settled.find(event(1)), Some(Fate::Dropped));
        assert_eq!((settled.fates.len(), settled.order.len()), (Settled::CAPACITY, Settled::CAPACITY));
    }
}
