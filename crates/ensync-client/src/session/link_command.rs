//! What nobody waits for: the supervisor says it to the engine, over the link it is about.

use std::sync::Arc;
use std::time::Duration;

use ensync_core::{Block, Command, Delivery, EventId, EventName, Extension, Reply, Result, Settle, Settlement};
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::buffer::Routed;
use super::flow::FlowControl;
use super::{Live, Shared};

/// How long the goodbye may take: commands that nobody waits for, and the close.
const GOODBYE: Duration = Duration::from_secs(5);
/// The reason of a pause that makes up for missing flow control.
const FULL: &str = "the reader is slower than the events come";

pub(super) type LinkCommands = mpsc::UnboundedSender<LinkCommand>;

/// Something to tell the engine that nobody waits for. It is about one link: what it would say over a later one is wrong.
#[derive(Debug)]
pub(super) enum LinkCommand {
    /// A delivery that nobody will settle.
    HandBack(HandBack),
    /// What became of a delivery.
    Settle { settle: Settle, epoch: u64 },
    /// A subscription that was left, and what it had not read.
    Leave { event: EventName, unread: Vec<HandBack>, epoch: u64 },
    /// A window that is full, or has room again.
    Pace(Arc<FlowControl>),
}

/// A delivery to hand back.
#[derive(Clone, Debug)]
pub(crate) struct HandBack {
    pub(crate) event: EventName,
    pub(crate) id: EventId,
    pub(crate) block: Block,
    pub(crate) epoch: u64,
    /// Whether somebody had it in hand: then it counts as a delivery, or one that fells every reader would go round for ever.
    pub(crate) seen: bool,
}

impl From<Routed> for HandBack {
    fn from(Routed { delivery, epoch, .. }: Routed) -> Self {
        let Delivery { event, id, block, .. } = delivery;
        Self { event, id, block, epoch, seen: false }
    }
}

/// Runs commands over one link.
pub(super) struct Runner<'a> {
    shared: &'a Shared,
    live: &'a Live,
    queue: &'a mut mpsc::UnboundedReceiver<LinkCommand>,
    running: FuturesUnordered<BoxFuture<'a, ()>>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(shared: &'a Shared, live: &'a Live, queue: &'a mut mpsc::UnboundedReceiver<LinkCommand>) -> Self {
        Self { shared, live, queue, running: FuturesUnordered::new() }
    }

    /// Runs commands as they come. What is under way when this is dropped goes on in [`say_goodbye`](Self::say_goodbye).
    pub(super) async fn run(&mut self) {
        loop {
            tokio::select! {
                biased;
                Some(()) = self.running.next() => {}
                command = self.queue.recv() => match command {
                    Some(command) => self.start(command),
                    None => return,
                },
            }
        }
    }

    /// Does what is left to do, and closes.
    pub(super) async fn say_goodbye(&mut self) {
        let last_words = async {
            while let Ok(command) = self.queue.try_recv() {
                self.start(command);
            }
            while self.running.next().await.is_some() {}
            self.live.transport.close().await;
        };
        if tokio::time::timeout(GOODBYE, last_words).await.is_err() {
            tracing::debug!("the engine did not answer the goodbye in time");
        }
    }

    fn start(&mut self, command: LinkCommand) {
        self.running.push(run(self.shared, self.live, command).boxed());
    }
}

async fn run(shared: &Shared, live: &Live, command: LinkCommand) {
    match command {
        LinkCommand::HandBack(which) => hand_back(live, which).await,
        LinkCommand::Settle { settle, epoch } => {
            if epoch == live.epoch {
                told(live.transport.call(Command::Settle(settle)).await);
            }
        }
        LinkCommand::Leave { event, unread, epoch } => {
            // Of an earlier link: the name was given free when that ended.
            if epoch == live.epoch {
                told(live.transport.call(Command::Unsubscribe { event: event.clone() }).await);
                shared.registry.left(&event);
                join_all(unread.into_iter().map(|which| hand_back(live, which))).await;
            }
        }
        LinkCommand::Pace(window) => pace(shared, live, &window).await,
    }
}

/// Hands a delivery back, where the engine understands it as that. One that knows neither word might send it straight back; there
/// its ack timeout does the same in its own time.
async fn hand_back(live: &Live, HandBack { event, id, block, epoch, seen }: HandBack) {
    let config = &live.welcome.config;
    let how = match seen {
        false if config.has(Extension::Leases) => Settlement::Release,
        _ if config.has(Extension::Fencing) => Settlement::Rollback,
        _ => return,
    };
    if epoch == live.epoch {
        let settle = Settle { id, event: Some(event), block: Some(block), how };
        told(live.transport.call(Command::Settle(settle)).await);
    }
}

/// Tells an engine without flow control to pause a subscription, or to go on with it. A pause of the user's own stays.
async fn pace(shared: &Shared, live: &Live, window: &Arc<FlowControl>) {
    while window.epoch == live.epoch
        && let Some(gate) = shared.registry.gate(&window.event)
    {
        let _held = gate.lock().await;
        let Some(pause) = window.next_word() else { return };
        if shared.registry.is_paused(&window.event) {
            continue;
        }
        tracing::debug!(event = %window.event, pause, "the engine has no flow control; told to pause or to go on");
        let event = window.event.clone();
        let command = if pause { Command::Pause { event, reason: FULL.into() } } else { Command::Continue { event } };
        told(live.transport.call(command).await);
    }
}

fn told(answer: Result<Reply>) {
    if let Err(error) = answer {
        tracing::debug!(%error, "refused, and nobody waits for it");
    }
}
