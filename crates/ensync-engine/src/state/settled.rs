//! What became of the last events that are gone.

use std::collections::{HashMap, VecDeque};

use ensync_core::Block;

use crate::model::EventRef;

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

/// The fates of the last [`Settled::CAPACITY`] events, for repeated acknowledgements and for what a replay says; and apart from
/// those, of as many that the log does not speak of, so that the former are the same after a restart.
#[derive(Debug, Default)]
pub(super) struct Settled {
    fates: HashMap<EventRef, Fate>,
    logged: VecDeque<EventRef>,
    unlogged: VecDeque<EventRef>,
}

impl Settled {
    pub(super) const CAPACITY: usize = 1 << 16;

    pub(super) fn find(&self, event: EventRef) -> Option<Fate> {
        self.fates.get(&event).copied()
    }

    /// `logged` says whether a record of the log says so.
    pub(super) fn insert(&mut self, event: EventRef, fate: Fate, logged: bool) {
        let order = if logged { &mut self.logged } else { &mut self.unlogged };
        if self.fates.insert(event, fate).is_none() {
            order.push_back(event);
        }
        if order.len() > Self::CAPACITY
            && let Some(oldest) = order.pop_front()
        {
            self.fates.remove(&oldest);
        }
    }

    /// What the log knows of, oldest first.
    pub(super) fn logged(&self) -> impl Iterator<Item = (EventRef, Fate)> {
        self.logged.iter().filter_map(|event| Some((*event, self.find(*event)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut settled = Settled::default();
        let event = |queue, seq| EventRef { queue, seq };
        for seq in 0..=Settled::CAPACITY as u64 {
            settled.insert(event(0, seq), Fate::Expired, true);
            settled.insert(event(0, seq), Fate::Dropped, true);
        }
        settled.insert(event(1, 0), Fate::Expired, false);
        assert_eq!(settled.find(event(0, 0)), None);
        assert_eq!(settled.find(event(0, 1)), Some(Fate::Dropped));
        assert_eq!((settled.fates.len(), settled.logged.len()), (Settled::CAPACITY + 1, Settled::CAPACITY));
        assert_eq!(settled.logged().next(), Some((event(0, 1), Fate::Dropped)));
    }
}
