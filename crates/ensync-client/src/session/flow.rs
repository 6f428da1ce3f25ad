//! What of a subscription's events is with this client.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ensync_core::{Delivery, EventName, Subscribe};

use super::LinkCommand;
use super::link_command::LinkCommands;
use super::pacing::Pacing;
use super::stream::StreamLife;

/// The bytes that may be unsettled if nobody says, where this side counts: as many as our engine allows.
const BYTES: u64 = 8 << 20;

/// The unsettled events that one stream brought.
///
/// An engine with flow control sends no more than was asked for. Another is asked to pause when that much is here, and to go on
/// when half of it is settled. What is on its way meanwhile still fits; what comes over four times that much is not kept.
pub(crate) struct FlowControl {
    pub(super) event: EventName,
    stream: Arc<StreamLife>,
    events: u64,
    bytes: u64,
    /// Whether the engine has to be asked.
    asks: bool,
    commands: LinkCommands,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: u64,
    bytes: u64,
    pacing: Pacing,
}

/// One event's place in a window. Dropping it makes room.
#[derive(Debug)]
pub(crate) struct Credit {
    window: Arc<FlowControl>,
    bytes: u64,
}

impl FlowControl {
    pub(super) fn new(subscribe: &Subscribe, stream: Arc<StreamLife>, asks: bool, commands: LinkCommands) -> Arc<Self> {
        Arc::new(Self {
            event: subscribe.event.clone(),
            stream,
            events: subscribe.max_in_flight.map_or(u64::MAX, |events| events.get().into()),
            bytes: subscribe.max_bytes_in_flight.map_or(BYTES, Into::into),
            asks,
            commands,
            inner: Mutex::default(),
        })
    }

    /// The stream whose events it counts.
    pub(super) fn stream(&self) -> &Arc<StreamLife> {
        &self.stream
    }

    /// Takes a place. Never refused: it is here already.
    pub(super) fn enter(self: &Arc<Self>, delivery: &Delivery) -> Credit {
        let bytes = (delivery.payload.len() + delivery.metadata.as_str().len()) as u64;
        let mut inner = self.lock();
        inner.events += 1;
        inner.bytes = inner.bytes.saturating_add(bytes);
        if inner.events >= self.events || inner.bytes >= self.bytes {
            inner.pacing.wish(self.asks);
        }
        self.tell(inner);
        Credit { window: self.clone(), bytes }
    }

    /// Whether the engine is paused because of this.
    pub(super) fn pauses(&self) -> bool {
        self.lock().pacing.pauses()
    }

    /// What to tell the engine next: pause, or go on. `None` if there is nothing more to tell.
    pub(super) fn next_word(&self) -> Option<bool> {
        self.lock().pacing.next_word()
    }

    /// The engine did not take the last word.
    pub(super) fn was_not_told(&self, pause: bool, perhaps: bool) {
        self.lock().pacing.was_not_told(pause, perhaps);
    }

    /// Whether there is far more here than was asked for: the engine takes no notice.
    pub(super) fn overflows(&self) -> bool {
        let inner = self.lock();
        inner.events > self.events.saturating_mul(4).saturating_add(1_024)
            || inner.bytes > self.bytes.saturating_mul(4).saturating_add(2 * BYTES)
    }

    fn leave(self: &Arc<Self>, bytes: u64) {
        let mut inner = self.lock();
        inner.events = inner.events.saturating_sub(1);
        inner.bytes = inner.bytes.saturating_sub(bytes);
        if inner.events <= self.events / 2 && inner.bytes <= self.bytes / 2 {
            inner.pacing.wish(false);
        }
        self.tell(inner);
    }

    /// One command at a time tells the engine, so that its words keep their order.
    fn tell(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>) {
        if inner.pacing.begin_telling() {
            drop(inner);
            // If nobody takes it, the link is gone, and the pause with it.
            let _ = self.commands.send(LinkCommand::Pace(self.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.window.leave(self.bytes);
    }
}

impl fmt::Debug for FlowControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowControl").field("event", &self.event).field("inner", &*self.lock()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ensync_core::{Block, Metadata, WirePayload};
    use tokio::sync::mpsc;

    use super::super::link::LinkLife;
    use super::*;

    fn window(asks: bool) -> (Arc<FlowControl>, mpsc::UnboundedReceiver<LinkCommand>) {
        let (commands, asked) = mpsc::unbounded_channel();
        let subscribe = Subscribe {
            event: EventName::parse("a/b").unwrap(),
            max_in_flight: std::num::NonZeroU32::new(4),
            max_bytes_in_flight: std::num::NonZeroU64::new(1_000),
        };
        (FlowControl::new(&subscribe, StreamLife::over(&LinkLife::new(1, false)), asks, commands), asked)
    }

    fn delivery(bytes: usize) -> Delivery {
        Delivery {
            event: EventName::parse("a/b").unwrap(),
            id: "e".parse().unwrap(),
            block: Block::new(1).unwrap(),
            payload: WirePayload::from_wire("A".repeat(bytes)),
            metadata: Metadata::default(),
            sender: None,
            recipient: None,
            timestamp: None,
            attempt: None,
            lease: None,
        }
    }

    #[test]
    fn it_asks_for_a_pause_when_full_and_to_go_on_when_half_empty() {
        let (window, mut asked) = window(true);
        let mut held: Vec<_> = (0..3).map(|_| window.enter(&delivery(1))).collect();
        assert!(asked.try_recv().is_err());
        held.extend((0..3).map(|_| window.enter(&delivery(1))));
        assert!(matches!(asked.try_recv(), Ok(LinkCommand::Pace(_))));
        assert!(asked.try_recv().is_err(), "one command at a time");
        assert_eq!((window.next_word(), window.pauses()), (Some(true), true));
        assert_eq!(window.next_word(), None);
        held.truncate(3);
        assert!(asked.try_recv().is_err(), "not yet half empty");
        held.pop();
        assert!(matches!(asked.try_recv(), Ok(LinkCommand::Pace(_))));
        // It fills again before the engine was told: nothing to tell.
        held.extend((0..3).map(|_| window.enter(&delivery(1))));
        assert_eq!((window.next_word(), window.pauses()), (None, true));
    }

    #[test]
    fn bytes_count_too() {
        let (window, mut asked) = window(true);
        let large = window.enter(&delivery(2_000));
        assert!(matches!(asked.try_recv(), Ok(LinkCommand::Pace(_))));
        assert_eq!(window.next_word(), Some(true));
        drop(large);
        assert!(asked.try_recv().is_err(), "the command that is under way goes on with it");
        assert_eq!((window.next_word(), window.next_word()), (Some(false), None));
    }

    #[test]
    fn an_engine_with_flow_control_is_not_asked_and_one_that_floods_is_noticed() {
        let (window, mut asked) = window(false);
        let mut held: Vec<_> = (0..=(4 * 4 + 1_024)).map(|_| window.enter(&delivery(1))).collect();
        assert!(asked.try_recv().is_err());
        assert!(window.overflows());
        held.pop();
        assert!(!window.overflows());
    }
}
