//! What the engine does with a command: what a good one does, or what this seed has it do instead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensync_core::{Command, Error, ErrorKind, Peer, Reply, Result, Service, Settlement};
use ensync_engine::Broker;

use crate::ledger::Ledger;

/// What comes back for a command.
pub enum Outcome {
    Answer(Result<Reply>),
    /// Nothing, ever, to this one; others are answered.
    Silence,
    /// Word that this one will not be answered; others are.
    Reset,
}

/// What an engine does that no good one does, for some commands or for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Odd {
    Silent,
    /// The same to a publish.
    Skips,
    Late(Duration),
    Resets,
    Refuses(ErrorKind),
}

impl Odd {
    fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Skips => "publish skipped",
            Self::Late(_) => "late",
            Self::Resets => "reset",
            Self::Refuses(_) => "refused in passing",
        }
    }
}

/// What this seed's engine is like.
pub struct Engine {
    /// Extensions that it does not have.
    lacks: &'static [&'static str],
    ignores_pause: bool,
    /// Whether something stands before it that answers in its place, as there may be where a call is a request of its own.
    behind_another: bool,
    /// What it does now, to how many commands more, and to how many in a hundred.
    odd: Mutex<Option<(Odd, u32, u8)>>,
    /// Links break when an unsubscribe comes over them, every other time.
    parts: AtomicBool,
    /// How many commands in a hundred are late or refused in passing besides, whatever else goes on.
    restless: Mutex<u8>,
    random: Mutex<fastrand::Rng>,
    ledger: Arc<Ledger>,
}

impl Engine {
    pub fn new(behind_another: bool, random: &mut fastrand::Rng, ledger: Arc<Ledger>) -> Self {
        // The makers' engine has none of them.
        let lacks: &[&str] = match random.u8(0..10) {
            0 | 1 => &["deduplication", "flow-control", "fencing", "leases"],
            2 => &["deduplication"],
            3 => &["flow-control"],
            4 => &["leases"],
            _ => &[],
        };
        let ignores_pause = random.u8(0..8) == 0;
        ledger.note(format_args!("the engine lacks {lacks:?}, ignores pauses: {ignores_pause}"));
        ledger.deduplicates(!lacks.contains(&"deduplication"));
        if lacks.len() == 4 {
            ledger.met("no extension");
        }
        let random = Mutex::new(random.fork());
        let (odd, restless, parts) = <_>::default();
        Self { lacks, ignores_pause, behind_another, odd, parts, restless, random, ledger }
    }

    pub fn lacks(&self, extension: &str) -> bool {
        self.lacks.contains(&extension)
    }

    /// From now on it does this to the next `count` commands of which `percent` in a hundred are met, or nothing odd.
    pub fn set(&self, odd: Option<(Odd, u32, u8)>) {
        *self.odd.lock().unwrap() = odd;
    }

    /// From now on links break when a subscription is left, or no longer.
    pub fn parts(&self, parts: bool) {
        self.parts.store(parts, Ordering::Relaxed);
    }

    /// Whether the link breaks over which this command comes.
    pub fn breaks_at(&self, command: &Command) -> bool {
        let leaves = matches!(command, Command::Unsubscribe { .. });
        let breaks = leaves && self.parts.load(Ordering::Relaxed) && self.chance(50);
        if breaks {
            self.ledger.met("parted");
        }
        breaks
    }

    /// From now on so many commands in a hundred are late, or refused in passing.
    pub fn restless(&self, percent: u8) {
        *self.restless.lock().unwrap() = percent;
    }

    fn chance(&self, percent: u8) -> bool {
        self.random.lock().unwrap().u8(0..100) < percent
    }

    fn odd(&self, command: &Command) -> Option<Odd> {
        if let Some(odd) = self.set_odd(command) {
            return Some(odd);
        }
        let percent = *self.restless.lock().unwrap();
        if !self.chance(percent) {
            return None;
        }
        Some(match self.chance(70) {
            true => Odd::Late(Duration::from_millis(self.random.lock().unwrap().u64(0..3_000))),
            false if self.chance(50) => Odd::Refuses(ErrorKind::LimitExceeded),
            false => Odd::Refuses(ErrorKind::Unavailable),
        })
    }

    fn set_odd(&self, command: &Command) -> Option<Odd> {
        let mut now = self.odd.lock().unwrap();
        let (odd, count, percent) = now.as_mut()?;
        if *odd == Odd::Skips && !matches!(command, Command::Publish(_)) {
            return None;
        }
        if *count == 0 || !self.chance(*percent) {
            return None;
        }
        *count -= 1;
        Some(*odd)
    }

    pub async fn carry_out(&self, broker: &Broker, peer: &Peer, mut command: Command) -> Outcome {
        self.as_it_reads(&mut command);
        let name = command.name();
        let odd = self.odd(&command);
        if let Some(odd) = odd {
            self.ledger.met(odd.name());
            self.ledger.note(format_args!("odd: {name}: {odd:?}"));
        }
        let silent = matches!(odd, Some(Odd::Silent | Odd::Skips | Odd::Resets));
        if let Some(Odd::Refuses(kind)) = odd {
            let refusal = Error::new(kind, "not now, try again");
            // What stands before an engine may say so of what the engine has carried out.
            if self.behind_another && kind == ErrorKind::Unavailable && self.chance(30) {
                if self.chance(50) {
                    let _unseen = broker.handle(peer, command).await;
                }
                return Outcome::Answer(Err(refusal.perhaps_done()));
            }
            return Outcome::Answer(Err(refusal));
        }
        if silent && self.chance(50) {
            // It never came to be carried out.
            return if odd == Some(Odd::Resets) { Outcome::Reset } else { Outcome::Silence };
        }
        let mut late = match odd {
            Some(Odd::Late(by)) => Some(by),
            _ => None,
        };
        // On its way there, or on its way back.
        if let Some(by) = late.take_if(|_| self.chance(50)) {
            tokio::time::sleep(by).await;
        }
        let paused = matches!(command, Command::Pause { .. });
        if paused {
            self.ledger.met(if self.ignores_pause { "pause ignored" } else { "pause" });
        }
        let answer = if paused && self.ignores_pause { Ok(Reply::Done) } else { broker.handle(peer, command).await };
        match odd {
            Some(Odd::Silent | Odd::Skips) => return Outcome::Silence,
            Some(Odd::Resets) => return Outcome::Reset,
            _ => tokio::time::sleep(late.unwrap_or_default()).await,
        }
        Outcome::Answer(answer)
    }

    /// Without the words of the extensions that it does not have.
    fn as_it_reads(&self, command: &mut Command) {
        match command {
            Command::Publish(publish) if self.lacks("deduplication") => publish.idempotency_key = None,
            Command::Subscribe(subscribe) if self.lacks("flow-control") => {
                (subscribe.max_in_flight, subscribe.max_bytes_in_flight) = (None, None);
            }
            Command::Settle(settle) => {
                let knows = !matches!(settle.how, Settlement::Extend | Settlement::Release) || !self.lacks("leases");
                self.ledger.check(knows, format_args!("{} to an engine that has no leases", settle.how.name()));
                if self.lacks("fencing") {
                    settle.block = None;
                }
            }
            _ => {}
        }
    }
}
