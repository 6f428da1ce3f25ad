//! Which events wait in which lane. It is kept in memory, so that nobody reads through a lane that is held up to find another.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ensync_core::{AppId, EventName};

/// An event name and a recipient: what has both in common is sent one after the other.
pub(super) type Lane = (EventName, AppId);

/// The events that wait, by their lanes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Lanes {
    lanes: HashMap<Lane, BTreeSet<u64>>,
    /// The oldest event of each lane.
    firsts: BTreeMap<u64, Lane>,
    /// What cannot be read, and so has no lane.
    unreadable: BTreeSet<u64>,
}

/// What a transaction did to them.
#[derive(Debug)]
pub(super) enum Move {
    Entered(Lane, u64),
    Left(Option<Lane>, u64),
    Unreadable(u64),
}

impl Lanes {
    pub(super) fn apply(&mut self, moves: Vec<Move>) {
        for step in moves {
            match step {
                Move::Entered(lane, id) => {
                    let ids = self.lanes.entry(lane.clone()).or_default();
                    if let Some(first) = ids.first().copied().filter(|first| *first > id) {
                        self.firsts.remove(&first);
                    }
                    ids.insert(id);
                    if ids.first() == Some(&id) {
                        self.firsts.insert(id, lane);
                    }
                }
                Move::Left(lane, id) => {
                    self.unreadable.remove(&id);
                    // Of one that cannot be read any more it is known if it was the oldest of its lane.
                    let Some(lane) = lane.or_else(|| self.firsts.get(&id).cloned()) else { continue };
                    let Some(ids) = self.lanes.get_mut(&lane) else { continue };
                    ids.remove(&id);
                    let next = ids.first().copied();
                    if self.firsts.remove(&id).is_some()
                        && let Some(next) = next
                    {
                        self.firsts.insert(next, lane);
                    } else if next.is_none() {
                        self.lanes.remove(&lane);
                    }
                }
                Move::Unreadable(id) => {
                    self.unreadable.insert(id);
                }
            }
        }
    }

    /// The lanes and their events, that with the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Lane, &BTreeSet<u64>)> {
        self.firsts.values().filter_map(|lane| self.lanes.get_key_value(lane))
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
}
