//! What nobody waits for: the supervisor says it to the engine, over the link it is about.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ensync_core::{Block, Command, Delivery, EventId, EventName, Extension, Reply, Result, Settle, Settlement};
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Shared;
use super::buffer::Routed;
use super::flow::{Credit, FlowControl};
use super::link::LiveLink;
use super::retry::{every_engine_serves, jittered, passes};

/// How long the goodbye may take: commands that nobody waits for, and the close. Within what `close` has left, and at least a moment.
const GOODBYE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How many commands are said at a time.
const AT_A_TIME: usize = 64;
/// The longest wait before something is said again for the first time; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// What it grows up to for an engine that will not hear of a pause, or that it may go on.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The reason of a pause that makes up for missing flow control.
const FULL: &str = "the reader is slower than the events come";

pub(super) type LinkCommands = mpsc::UnboundedSender<LinkCommand>;

/// Something to tell the engine that nobody waits for. It is about one link: what it would say over a later one is wrong.
#[derive(Debug)]
pub(super) enum LinkCommand {
    /// A delivery that nobody will settle.
    HandBack(HandBack),
    /// What became of a delivery, and its place in what may be unsettled, which it takes until the engine knows.
    Settle { settle: Settle, epoch: u64, place: Option<Credit> },
    /// A subscription that was left; and who wants to know that the engine knows.
    Leave { event: EventName, left: Left, said: Option<oneshot::Sender<Result<()>>> },
    /// A window that is full, or has room again.
    Pace(Arc<FlowControl>),
}

/// What a subscription leaves behind.
#[derive(Debug)]
pub(crate) struct Left {
    /// What it had not read.
    pub(super) unread: Vec<HandBack>,
    /// The link that is to be told.
    pub(super) epoch: u64,
    /// Held while an engine is told of the subscription: the word that it was left comes after that.
    pub(super) turn: Turn,
}

/// Whose turn it is to tell the engine of one subscription.
pub(crate) type Turn = Arc<tokio::sync::Mutex<()>>;

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

impl HandBack {
    /// One that waits, and that nobody has seen.
    pub(super) fn of(Routed { delivery, stream, .. }: &Routed) -> Self {
        let Delivery { event, id, block, .. } = delivery;
        Self { event: event.clone(), id: id.clone(), block: *block, epoch: stream.epoch(), seen: false }
    }
}

impl From<Routed> for HandBack {
    fn from(Routed { delivery, stream, .. }: Routed) -> Self {
        let Delivery { event, id, block, .. } = delivery;
        Self { event, id, block, epoch: stream.epoch(), seen: false }
    }
}

/// Runs commands over one link.
pub(super) struct Runner<'a> {
    shared: &'a Shared,
    live: &'a LiveLink,
    queue: &'a mut mpsc::UnboundedReceiver<LinkCommand>,
    running: FuturesUnordered<BoxFuture<'a, ()>>,
    /// Apart, for an engine may refuse for long to pause or to go on; one for each subscription at most.
    pacing: FuturesUnordered<BoxFuture<'a, ()>>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        live: &'a LiveLink,
        queue: &'a mut mpsc::UnboundedReceiver<LinkCommand>,
    ) -> Self {
        Self { shared, live, queue, running: FuturesUnordered::new(), pacing: FuturesUnordered::new() }
    }

    /// Runs commands as they come. What is under way when this is dropped goes on in [`say_goodbye`](Self::say_goodbye).
    pub(super) async fn run(&mut self) {
        loop {
            tokio::select! {
                biased;
                Some(()) = self.running.next() => {}
                Some(()) = self.pacing.next() => {}
                command = self.queue.recv(), if self.running.len() < AT_A_TIME => match command {
                    Some(command) => self.start(command),
                    None => return,
                },
            }
        }
    }

    /// Does what is left to do, and closes.
    pub(super) async fn say_goodbye(&mut self) {
        // No pace matters any more, and nobody polls those that are under way: they may hold the turn that who leaves waits for.
        self.pacing.clear();
        let (moment, longest) = GOODBYE;
        let left =
            self.shared.close_until.get().map_or(longest, |until| until.saturating_duration_since(Instant::now()));
        let last_words = async {
            loop {
                while self.running.len() < AT_A_TIME
                    && let Ok(command) = self.queue.try_recv()
                {
                    self.start(command);
                }
                if self.running.next().await.is_none() {
                    break;
                }
            }
            self.live.close().await;
        };
        if tokio::time::timeout(left.clamp(moment, longest), last_words).await.is_err() {
            tracing::debug!("the engine did not answer the goodbye in time");
        }
    }

    fn start(&mut self, command: LinkCommand) {
        let paces = matches!(command, LinkCommand::Pace(_));
        if matches!(command, LinkCommand::HandBack(_) | LinkCommand::Settle { .. }) {
            // It waits no longer, whatever becomes of it.
            self.shared.hand_backs.fetch_sub(1, Ordering::AcqRel);
        }
        let run = run(self.shared, self.live, command);
        match paces {
            true => self.pacing.push(run.boxed()),
            false => self.running.push(run.boxed()),
        }
    }
}

async fn run(shared: &Shared, live: &LiveLink, command: LinkCommand) {
    match command {
        LinkCommand::HandBack(which) => hand_back(shared, live, which).await,
        LinkCommand::Settle { settle, epoch, place: _place } => {
            if epoch == live.epoch() {
                let _told = say(shared, live, Command::Settle(settle)).await;
            }
        }
        LinkCommand::Leave { event, left: Left { unread, epoch, turn }, said } => {
            // Of an earlier link: the name was given free when that ended, and the engine forgot it.
            if epoch != live.epoch() {
                return;
            }
            let _turn = turn.lock().await;
            let answer = say(shared, live, Command::Unsubscribe { event: event.clone() }).await;
            // If the link is dead the name is free with its end, not before.
            if live.is_usable() {
                shared.registry.left(&event, epoch);
            }
            if let Some(said) = said {
                let _gone = said.send(answer.map(drop));
            }
            join_all(unread.into_iter().map(|which| hand_back(shared, live, which))).await;
        }
        LinkCommand::Pace(flow) => pace(shared, live, &flow).await,
    }
}

/// Hands a delivery back, where the engine understands it as that. One that knows neither word might send it straight back; there
/// its ack timeout does the same in its own time.
async fn hand_back(shared: &Shared, live: &LiveLink, HandBack { event, id, block, epoch, seen }: HandBack) {
    let config = &live.welcome.config;
    let how = match seen {
        false if config.has(Extension::Leases) => Settlement::Release,
        _ if config.has(Extension::Fencing) => Settlement::Rollback,
        _ => return,
    };
    if epoch == live.epoch() {
        let settle = Settle { id, event: Some(event), block: Some(block), how };
        let _told = say(shared, live, Command::Settle(settle)).await;
    }
}

/// Tells an engine without flow control to pause a subscription, or to go on with it. A pause of the user's own stays.
async fn pace(shared: &Shared, live: &LiveLink, flow: &Arc<FlowControl>) {
    let mut ceiling = FIRST_WAIT;
    while let Some(turn) = shared.registry.turn_of(flow).filter(|_| flow.stream().epoch() == live.epoch()) {
        let held = turn.lock().await;
        let Some(pause) = flow.next_word() else { return };
        // It may have ended meanwhile, and the name be another's.
        let Some(paused) = shared.registry.is_paused(flow) else { return };
        if paused {
            continue;
        }
        tracing::debug!(event = %flow.event, pause, "the engine has no flow control; told to pause or to go on");
        let event = flow.event.clone();
        let command = if pause { Command::Pause { event, reason: FULL.into() } } else { Command::Continue { event } };
        let told = live.call(command, shared.options.request_timeout).await;
        // Between two attempts others may say something of it.
        drop(held);
        match told {
            Err(error) if passes(&error, false) && !live.is_dead() => {
                // Else an engine that paused would never hear that it may go on.
                flow.was_not_told(pause, error.may_have_happened());
                tokio::time::sleep(jittered(ceiling, error.kind(), shared.random())).await;
                ceiling = (ceiling * 2).min(LONGEST_WAIT);
            }
            _ => ceiling = FIRST_WAIT,
        }
    }
}

/// Says something over this link, again if it is refused in passing; no longer than a call may take.
async fn say(shared: &Shared, live: &LiveLink, command: Command) -> Result<Reply> {
    let limit = shared.options.request_timeout;
    let deadline = Instant::now() + limit;
    let (mut ceiling, served) = (FIRST_WAIT, every_engine_serves(&command));
    loop {
        // Not cut off at the deadline: an answer that is too old ends the link, and until then it may still be carried out.
        let error = match live.call(command.clone(), limit).await {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        let again = Instant::now() + jittered(ceiling, error.kind(), shared.random());
        if live.is_dead() || !passes(&error, served) || again >= deadline {
            tracing::debug!(%error, command = command.name(), "refused, and nobody waits for it");
            return Err(error);
        }
        tokio::time::sleep_until(again).await;
        ceiling *= 2;
    }
}
