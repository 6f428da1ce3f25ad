//! Deliveries of a history, and what becomes of them.

use ensync_core::{ClientId, Reply, Settle, Settlement};

use super::bench::*;
use super::model::{Seen, World, lease, names};
use super::op::How;
use crate::state::{Applied, Step};

impl World {
    pub(super) fn settle(&mut self, which: Vec<(usize, How, bool)>, refused: bool) {
        let (mut changes, mut answers) = (Vec::new(), Vec::new());
        for (index, how, with_block) in which {
            let Some(index) = index.checked_rem(self.deliveries.len()) else { return };
            let (peer, delivery) = self.deliveries[self.deliveries.len() - 1 - index].clone();
            let block = with_block.then_some(delivery.block);
            let settle = Settle { id: delivery.id.clone(), event: None, block, how: settlement(how) };
            let now = self.bench.now;
            let seen = self.seen.get_mut(&delivery.id).unwrap();
            let held = seen
                .lease
                .as_ref()
                .filter(|(client, held, _)| *client == peer.client_id && block.is_none_or(|block| block == *held));
            let held = held.map(|(_, block, _)| *block);
            let live = held.is_some();
            match self.bench.state.decide(&peer, Command::Settle(settle)) {
                Ok(Step::Commit(found)) => {
                    assert!(live, "settled what it does not have");
                    changes.extend(found);
                    answers.push((changes.len(), delivery.id, held, how));
                }
                Ok(Step::Answer(_)) if !live => {
                    let by = seen.acked.map(|(block, _)| block);
                    assert_eq!((how, by), (How::Ack, block), "only a repeated ack is answered again");
                }
                Ok(Step::Answer(Reply::Extended { lease: lasts })) => {
                    assert_eq!((how, lasts), (How::Extend, Some(lease(seen.queue.1))));
                    seen.lease.as_mut().unwrap().2 = now.after(lease(seen.queue.1));
                }
                Ok(Step::Answer(_)) => {
                    assert!(matches!(how, How::Rollback | How::Again | How::Release), "{how:?}");
                    seen.lease = None;
                    let queue = seen.queue;
                    self.tally(queue).deferred += u64::from(how == How::Again);
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => {
                    assert!(!live, "refused to settle what it has");
                    let lasts = self.bench.settings.limits.dedup_window;
                    let by = seen.acked.filter(|(_, at)| now.since(*at) <= lasts).map(|(block, _)| block);
                    let again = how == How::Ack && block.is_some() && by == block;
                    assert!(!again, "a repeated ack was refused: {seen:?} {how:?} {block:?}");
                }
            }
        }
        if refused {
            return;
        }
        let before = self.bench.log.len();
        let applied = self.bench.commit(&changes);
        for (end, id, block, how) in answers {
            // How long the log was with this record and without those behind it.
            let length = before + changes[..end].iter().filter(|change| change.durable).count();
            let seen = self.seen.get_mut(&id).unwrap();
            let done = applied[end - 1].clone().answer().is_ok();
            assert!(done || applied[end - 1] == Applied::Stale);
            seen.lease = None;
            let queue = seen.queue;
            if done && how == How::Ack && seen.over.is_none() {
                (seen.over, seen.acked) = (Some(length), block.map(|block| (block, self.bench.now)));
                self.tally(queue).acked += 1;
            } else if done && how == How::Discard {
                self.tally(queue).dead += 1;
            } else if done && how == How::Later {
                self.tally(queue).deferred += 1;
            }
        }
        self.bench.verdicts();
    }

    pub(super) fn deliver(&mut self, budget: usize) {
        let deliveries = self.bench.deliver_some(budget);
        for (client, delivery) in deliveries {
            let name = names().iter().position(|name| *name == delivery.event).unwrap();
            let (held, bytes) = self.held(&client, name);
            let peer = self.peers.iter().find(|peer| peer.client_id == client).unwrap().clone();
            let window = self.windows[&(client.clone(), name)];
            let seen = self.seen.get_mut(&delivery.id).expect("an event that was accepted");
            assert!(held < window.events && !self.paused.contains(&(client.clone(), name)));
            assert!(held == 0 || bytes + seen.size <= window.bytes, "{} bytes more than fit", seen.size);
            assert_eq!((app(seen.queue.0), seen.queue.1), (peer.app_id, name));
            assert!(seen.lease.is_none(), "two leases");
            assert!(seen.over.is_none(), "came back");
            assert!(delivery.block.as_u64() > seen.last_block, "a block twice");
            assert_eq!(delivery.lease, Some(lease(name)));
            assert_eq!(delivery.recipient, Some(app(seen.key)));
            seen.last_block = delivery.block.as_u64();
            let (queue, order) = (seen.queue, seen.order);
            if !std::mem::replace(&mut seen.delivered, true)
                && let Some(before) = self.first.insert(queue, order)
            {
                assert!(before < order, "out of order");
            }
            seen.lease = Some((client, delivery.block, self.bench.now.after(lease(name))));
            self.tally(queue).delivered += 1;
            self.tally(queue).redelivered += u64::from(delivery.attempt > Some(1));
            self.deliveries.push((peer, delivery));
            self.any = true;
        }
    }

    /// Events and bytes that a client has.
    fn held(&self, client: &ClientId, name: usize) -> (usize, u64) {
        let theirs = |seen: &&Seen| seen.queue.1 == name && seen.lease.as_ref().is_some_and(|(by, ..)| by == client);
        self.seen.values().filter(theirs).fold((0, 0), |(events, bytes), seen| (events + 1, bytes + seen.size))
    }
}

fn settlement(how: How) -> Settlement {
    match how {
        How::Ack => Settlement::Ack,
        How::Rollback => Settlement::Rollback,
        How::Later => defer(1_000),
        How::Again => defer(0),
        How::Discard => discard("no"),
        How::Extend => Settlement::Extend,
        How::Release => Settlement::Release,
    }
}
