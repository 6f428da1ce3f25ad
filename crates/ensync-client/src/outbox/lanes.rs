//! Which events wait in which lane. It is kept in memory, so that nobody reads through a lane that is held up to find another.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ensync_core::{AppId, EventName};

/// An event name and a recipient: what has both in common is sent one after the other.
pub(super) type Lane = (EventName, AppId);

/// The events that wait, by their lanes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Lanes {
    lanes: HashMap<Lane, Waiting>,
    /// In which order they are taken: that which was taken longest ago first, and of those as long ago that with the oldest event. Were it
    /// the oldest event alone, some lanes that are taken again and again in vain would keep the others from ever being taken.
    order: BTreeMap<(u64, u64), Lane>,
    /// The oldest event of each lane.
    firsts: BTreeMap<u64, Lane>,
    /// What cannot be read, and so has no lane.
    unreadable: BTreeSet<u64>,
    /// How often one was taken.
    turns: u64,
}

/// The events of one lane.
#[derive(Debug, Default, PartialEq)]
struct Waiting {
    ids: BTreeSet<u64>,
    /// Its place in the order: which turn was the last before it entered, or which was its own last one.
    turn: u64,
}

/// What a transaction did to them.
#[derive(Debug)]
pub(super) enum Move {
    Entered(Lane, u64),
    Left(Option<Lane>, u64),
    Unreadable(u64),
    /// It was taken, to be sent.
    Taken(Lane),
}

impl Lanes {
    pub(super) fn apply(&mut self, moves: Vec<Move>) {
        for step in moves {
            match step {
                Move::Entered(lane, id) => {
                    let turn = self.turns;
                    self.change(lane, |waiting| {
                        if waiting.ids.is_empty() {
                            waiting.turn = turn;
                        }
                        waiting.ids.insert(id);
                    });
                }
                Move::Left(lane, id) => {
                    self.unreadable.remove(&id);
                    // Of one that cannot be read any more it is known if it was the oldest of its lane.
                    let Some(lane) = lane.or_else(|| self.firsts.get(&id).cloned()) else { continue };
                    self.change(lane, |waiting| {
                        waiting.ids.remove(&id);
                    });
                }
                Move::Unreadable(id) => {
                    self.unreadable.insert(id);
                }
                Move::Taken(lane) => {
                    self.turns = self.turns.saturating_add(1);
                    let turn = self.turns;
                    self.change(lane, |waiting| waiting.turn = turn);
                }
            }
        }
    }

    /// Changes a lane, and its place in the order. Without events there is none.
    fn change(&mut self, lane: Lane, change: impl FnOnce(&mut Waiting)) {
        let waiting = self.lanes.entry(lane.clone()).or_default();
        let before = waiting.ids.first().map(|first| (waiting.turn, *first));
        change(waiting);
        let after = waiting.ids.first().map(|first| (waiting.turn, *first));
        if after.is_none() {
            self.lanes.remove(&lane);
        }
        if before == after {
            return;
        }
        if let Some((turn, first)) = before {
            self.order.remove(&(turn, first));
            self.firsts.remove(&first);
        }
        if let Some((turn, first)) = after {
            self.order.insert((turn, first), lane.clone());
            self.firsts.insert(first, lane);
        }
    }

    /// The lanes and their events, in the order in which they are taken.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Lane, &BTreeSet<u64>)> {
        self.order
            .values()
            .filter_map(|lane| self.lanes.get_key_value(lane))
            .map(|(lane, waiting)| (lane, &waiting.ids))
    }

    pub(super) fn unreadable(&self) -> impl Iterator<Item = u64> {
        self.unreadable.iter().copied()
    }

    /// The oldest event of all.
    pub(super) fn first(&self) -> Option<u64> {
        let readable = self.firsts.keys().next().copied();
        readable.into_iter().chain(self.unreadable.first().copied()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(n: u8) -> Lane {
        (EventName::parse("a").unwrap(), AppId::from_bytes([n; 32]))
    }

    #[test]
    fn lanes_come_in_the_order_of_their_oldest_events() {
        let mut lanes = Lanes::default();
        lanes.apply([(1, 2), (2, 3), (1, 4), (3, 5)].map(|(n, id)| Move::Entered(lane(n), id)).into());
        lanes.apply(vec![Move::Unreadable(1)]);
        let order =
            |lanes: &Lanes| lanes.iter().map(|(lane, ids)| (lane.1.as_bytes()[0], ids.len())).collect::<Vec<_>>();
        assert_eq!(order(&lanes), [(1, 2), (2, 1), (3, 1)]);
        assert_eq!(lanes.first(), Some(1));
        lanes.apply(vec![Move::Left(None, 1), Move::Left(Some(lane(1)), 2), Move::Left(Some(lane(9)), 2)]);
        assert_eq!((order(&lanes), lanes.first()), (vec![(2, 1), (1, 1), (3, 1)], Some(3)));
        // One comes back to its old place.
        lanes.apply(vec![Move::Entered(lane(1), 2), Move::Left(Some(lane(2)), 3)]);
        assert_eq!(order(&lanes), [(1, 2), (3, 1)]);
        lanes.apply(vec![Move::Left(Some(lane(1)), 4), Move::Left(Some(lane(1)), 2), Move::Left(Some(lane(3)), 5)]);
        assert_eq!(lanes, Lanes::default());
        // One that was readable when it was put, and is not any more.
        lanes.apply(vec![Move::Entered(lane(1), 7), Move::Entered(lane(1), 8), Move::Left(None, 7)]);
        assert_eq!((order(&lanes), lanes.first()), (vec![(1, 1)], Some(8)));
    }

    #[test]
    fn who_was_taken_longest_ago_is_next() {
        let order = |lanes: &Lanes| lanes.iter().map(|(lane, _)| lane.1.as_bytes()[0]).collect::<Vec<_>>();
        let entered = |n, id| Move::Entered(lane(n), id);
        let mut lanes = Lanes::default();
        lanes.apply(vec![entered(1, 1), entered(2, 2), entered(3, 3)]);
        lanes.apply(vec![Move::Taken(lane(1))]);
        assert_eq!(order(&lanes), [2, 3, 1]);
        // One that comes now waits no longer than any that was taken before it came.
        lanes.apply(vec![entered(4, 4), Move::Taken(lane(2))]);
        assert_eq!(order(&lanes), [3, 1, 4, 2]);
        lanes.apply(vec![Move::Taken(lane(1)), Move::Taken(lane(3))]);
        assert_eq!(order(&lanes), [4, 2, 1, 3]);
        // What it has besides does not change that, nor that one goes; without any it is forgotten.
        lanes.apply(vec![entered(1, 5), Move::Left(Some(lane(1)), 1)]);
        assert_eq!((order(&lanes), lanes.first()), (vec![4, 2, 1, 3], Some(2)));
        lanes.apply(vec![Move::Left(Some(lane(4)), 4), Move::Taken(lane(4)), entered(4, 6)]);
        assert_eq!((order(&lanes), lanes.lanes.len(), lanes.firsts.len()), (vec![2, 1, 3, 4], 4, 4));
    }
}
