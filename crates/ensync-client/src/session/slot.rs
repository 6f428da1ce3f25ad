//! What is known of one event name.

use std::sync::{Arc, OnceLock};

use ensync_core::{Error, Subscribe};
use tokio_util::sync::CancellationToken;

use super::buffer::{DeliveryBuffer, Routed};
use super::flow::FlowControl;
use super::link_command::{Left, Turn};
use super::restore::Restore;

#[derive(Debug)]
pub(super) enum Slot {
    Open(Open),
    /// Its reader is gone, the engine is being told. Nobody may subscribe to the name until it is, or the late word would end
    /// the new subscription. The word is for the link of this number, and dies with it.
    Leaving {
        left: CancellationToken,
        epoch: u64,
    },
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) buffer: Arc<DeliveryBuffer>,
    pub(super) subscribe: Subscribe,
    /// What of it is unsettled, of the stream that last brought something.
    pub(super) window: Option<Arc<FlowControl>>,
    /// The link over which its stream ended and was not asked for again; 0 if there is none.
    pub(super) ended: u64,
    /// Held while the engine is told anything of it: asked for the stream again, told to pause or to go on, or that it was left. So what
    /// is said last is what is meant. Nobody waits for a link while he holds it, for the next one's restoring needs it.
    pub(super) turn: Turn,
    /// The link over which the engine was last told of the subscription; 0 before the first time.
    pub(super) subscribed: u64,
    /// The reason of a pause that the user has not ended.
    pub(super) paused: Option<String>,
    /// How often in a row an engine was asked for it again and did not answer in time.
    pub(super) unanswered: u32,
    /// Why the stream ends, for its reader. Also tells one subscription to the name from a later one.
    pub(super) end: Arc<OnceLock<Error>>,
}

impl Slot {
    pub(super) fn is(&self, end: &Arc<OnceLock<Error>>) -> bool {
        matches!(self, Self::Open(open) if Arc::ptr_eq(&open.end, end))
    }

    /// `None` if it is not open.
    pub(super) fn leave(&mut self, epoch: u64) -> Option<Left> {
        match std::mem::replace(self, Self::Leaving { left: CancellationToken::new(), epoch }) {
            Self::Open(open) => {
                let turn = open.turn.clone();
                Some(Left { unread: open.close(None).into_iter().map(Into::into).collect(), epoch, turn })
            }
            leaving => {
                *self = leaving;
                None
            }
        }
    }

    /// Of an open one.
    pub(super) fn buffer(&self) -> Option<&Arc<DeliveryBuffer>> {
        match self {
            Self::Open(open) => Some(&open.buffer),
            Self::Leaving { .. } => None,
        }
    }
}

impl Open {
    pub(super) fn to_restore(&self) -> Restore {
        let Self { subscribe, unanswered, end, .. } = self;
        Restore { subscribe: subscribe.clone(), unanswered: *unanswered, in_words: 0, end: end.clone() }
    }

    /// Ends the reader's stream, and gives what was not read.
    pub(super) fn close(self, error: Option<Error>) -> Vec<Routed> {
        if let Some(error) = error {
            // Set before the buffer closes, so that the reader, woken by that, finds it.
            let _ = self.end.set(error);
        }
        self.buffer.close()
    }
}
