//! What goes before its time: sessions of apps that lost their key, and queues of apps and names that are gone.

use ensync_core::{AppId, EventName, Timestamp};

use super::queue::Queue;
use super::sessions::{Session, SessionNumber};
use super::timers::Timer;
use super::{Applied, State};
use crate::model::EventRef;

impl State {
    /// The sessions that the engine ended by itself since this was asked last: nothing is to be pushed to them any more.
    pub fn take_ended(&mut self) -> Vec<SessionNumber> {
        std::mem::take(&mut self.ended)
    }

    /// Ends the access keys that end by a time, and their sessions. Records bring their own time, so that a key that ended before
    /// is free when the log is read back as well.
    pub(super) fn end_old_keys(&mut self, now: Timestamp) {
        while let Some(app) = self.registry.end_old_key(now) {
            self.end_old_sessions(&app);
        }
    }

    /// Ends the sessions of an app whose access key does not log in any more.
    pub(super) fn end_old_sessions(&mut self, app: &AppId) {
        let Some(known) = self.registry.app(app) else { return };
        let keys = [Some(known.key_hash), known.old_key.map(|(hash, _)| hash)];
        self.end_sessions(app, |session| !keys.contains(&Some(session.key)));
    }

    /// Ends the sessions of an app that some are.
    pub(super) fn end_sessions(&mut self, app: &AppId, which: impl Fn(&Session) -> bool) {
        let sessions = self.sessions.iter().filter(|(_, session)| session.app == *app && which(session));
        for client_id in sessions.map(|(_, session)| session.client_id.clone()).collect::<Vec<_>>() {
            let number = self.logout(&client_id);
            self.ended.extend(number);
        }
    }

    /// Ends the sessions of an app that subscribe to what it may not subscribe to any more. A client that comes back is told so when
    /// it subscribes again, and goes on with the rest.
    pub(super) fn end_forbidden_sessions(&mut self, app: &AppId) {
        let forbidden = |queue: &Queue| !self.registry.rights(app, &queue.event).subscribe;
        let sessions = self.sessions.iter().filter(|(_, session)| {
            session.app == *app && session.consumers.keys().any(|queue| self.queues.get(queue).is_some_and(forbidden))
        });
        for client_id in sessions.map(|(_, session)| session.client_id.clone()).collect::<Vec<_>>() {
            let number = self.logout(&client_id);
            self.ended.extend(number);
        }
    }

    pub(super) fn delete_app(&mut self, app: &AppId) -> Applied {
        if !self.registry.remove_app(app) {
            return Applied::Ignored;
        }
        self.end_sessions(app, |_| true);
        self.drop_queues(|recipient, _| recipient == app);
        Applied::Done
    }

    pub(super) fn delete_event(&mut self, name: &EventName) -> Applied {
        if !self.registry.remove_event(name) {
            return Applied::Ignored;
        }
        self.drop_queues(|_, event| event == name);
        Applied::Done
    }

    /// Forgets queues and all that is in them. Takes time in proportion to that, and to what is remembered for deduplication.
    fn drop_queues(&mut self, which: impl Fn(&AppId, &EventName) -> bool) {
        let queues = self.queues.iter().filter(|(_, queue)| which(&queue.recipient, &queue.event));
        let numbers: Vec<u32> = queues.map(|(number, _)| *number).collect();
        for &number in &numbers {
            self.empty(number);
            // Nobody but these knows the queue now. Its number is not given out again.
            if let Some(queue) = self.queues.remove(&number) {
                self.retire(&queue.event, &queue.counters);
                self.numbers.remove(&(queue.recipient, queue.event));
            }
            self.sessions.forget_queue(number);
        }
        if !numbers.is_empty() {
            // Else a publish under the same key, to an app of the same name, would be taken for a repetition and be lost.
            for dedup in [&mut self.dedup, &mut self.dedup_in_memory] {
                dedup.forget(|event| numbers.binary_search(&event.queue).is_ok());
            }
            self.hot.retain(|number| numbers.binary_search(number).is_err());
        }
    }

    /// Takes every event out of a queue, without a trace.
    fn empty(&mut self, number: u32) {
        let Some(queue) = self.queues.get(&number) else { return };
        let all: Vec<u64> = queue.entries.from(0).map(|(seq, _)| seq).collect();
        for seq in all {
            let event = EventRef { queue: number, seq };
            self.lift(event);
            self.forget(event);
        }
    }

    /// Forgets an event that was lifted: what the state knows of it beside its fate. Whether it was in the log.
    pub(super) fn forget(&mut self, event: EventRef) -> bool {
        let Some(queue) = self.queues.get_mut(&event.queue) else { return false };
        let Some((entry, orphan)) = queue.entries.remove(event.seq) else { return false };
        if let Some(orphan) = orphan {
            let chunk = super::entries::chunk_of(event.seq);
            self.timers.cancel(orphan, Timer::Expiry { queue: event.queue, chunk });
        }
        self.memory.remove(&event);
        !entry.transient
    }
}
