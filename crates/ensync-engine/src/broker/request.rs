//! What is sent to partitions' tasks.

use std::net::SocketAddr;
use std::{fmt, io};

use ensync_core::{
    AppId, Command, Error, ErrorKind, EventId, EventName, Peer, Reply, Result, Settle, Settlement, Timestamp,
};
use tokio::sync::oneshot;

use super::lines::Turn;
use super::waiting::Charge;
use crate::model::Removed;
use crate::partition::{Partition, shortened};
use crate::state::{Admitted, InUse, LetterAction, Pass, Purge, Replay, SessionNumber};

/// Where an answer goes. Nobody may be waiting any more.
pub(super) type Answer<T> = oneshot::Sender<Result<T>>;

/// Who waits for what a command comes to. Nobody may be waiting any more; what the command holds is given back only now.
pub(super) struct Caller {
    answer: Answer<Outcome>,
    charge: Option<Charge>,
}

impl Caller {
    pub(super) fn new(answer: Answer<Outcome>, charge: Charge) -> Self {
        Self { answer, charge: Some(charge) }
    }

    pub(super) fn tell(self, outcome: Result<Outcome>) {
        // First: who has the answer may send the next.
        drop(self.charge);
        _ = self.answer.send(outcome);
    }
}

impl From<Answer<Outcome>> for Caller {
    fn from(answer: Answer<Outcome>) -> Self {
        Self { answer, charge: None }
    }
}

/// A look at a partition.
pub(super) type Look = Box<dyn FnOnce(&Partition) + Send>;

/// What is sent to a partition's task.
pub(super) enum Request {
    /// A session is over: what it took goes back, once what it sent before is carried out.
    Leave {
        session: SessionNumber,
        answer: Answer<()>,
    },
    Publish {
        peer: Peer,
        pass: Pass,
        publish: Box<Admitted>,
        caller: Caller,
        turn: Turn,
    },
    Command {
        peer: Peer,
        pass: Pass,
        command: Box<Command>,
        answer: Answer<Outcome>,
        turn: Turn,
    },
    Changed(Changed),
    /// What is under an event name, once all that was decided before is stored.
    InUse {
        name: EventName,
        answer: Answer<InUse>,
    },
    Letter {
        what: LetterAction,
        id: EventId,
        answer: Answer<Outcome>,
    },
    /// Those of them that are dead letters.
    Letters {
        what: LetterAction,
        ids: Vec<EventId>,
        answer: Answer<usize>,
    },
    /// A part of a purge: how many events went, and what is left to do.
    Purge {
        purge: Purge,
        answer: Answer<(usize, Option<Purge>)>,
    },
    /// The registry's log finds no space, on a disk that is so large: whether there is more now. One that is on another has nothing to give.
    MakeSpace {
        disk: Option<u64>,
        answer: Answer<bool>,
    },
    Inspect(Look),
    Shutdown,
    /// One checkpoint after the other, from now on.
    #[cfg(test)]
    Checkpoints,
}

/// What an administrator asked for was done, and is known to all that is decided from now on. The answer comes when all that was decided
/// before is stored, or refused: the sessions that take what they may not take any more.
pub(super) struct Changed {
    /// The event name whose options have changed.
    pub(super) name: Option<EventName>,
    /// The apps of which something has changed, by their ids.
    pub(super) apps: Vec<AppId>,
    /// Sessions of this partition's apps that are over.
    pub(super) ended: Vec<SessionNumber>,
    /// Queues that are to go.
    pub(super) removed: Option<Removed>,
    pub(super) answer: Answer<Vec<SessionNumber>>,
}

/// Where a session came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) transport: &'static str,
    pub(crate) remote: Option<SocketAddr>,
    /// Since when it is logged in.
    pub(crate) since: Timestamp,
}

/// What a command came to.
pub(super) enum Outcome {
    Reply(Reply),
    /// The caller reads the record, and makes the answer of it.
    Replay(Box<Replay>),
}

impl Request {
    /// What it weighs in a batch, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Publish { publish, .. } => publish.size(),
            _ => 0,
        }
    }
}

/// Without what the engine would not keep of a command: any number of them may wait for a slow disk.
pub(super) fn brief(mut command: Command) -> Command {
    match &mut command {
        Command::Settle(Settle { how: Settlement::Discard { reason } | Settlement::Defer { reason, .. }, .. })
        | Command::Pause { reason, .. } => *reason = shortened(reason),
        _ => {}
    }
    command
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request(..)")
    }
}

/// Answers those whose changes the log did not take.
pub(super) fn refuse(callers: impl IntoIterator<Item = Caller>, cause: &Error) {
    let refusal = refusal(cause);
    for caller in callers {
        caller.tell(Err(refusal.clone()));
    }
}

/// What is said of something that the log did not take.
pub(super) fn refusal(cause: &Error) -> Error {
    let refusal = match cause.kind() {
        ErrorKind::Interrupted => Error::new(
            ErrorKind::Interrupted,
            "the engine's log failed while this was stored; whether it is stored shows when the engine is started again",
        ),
        _ if is_full(cause) => Error::new(
            ErrorKind::Unavailable,
            "the engine's disk has no space for this; try later, it goes on by itself once there is some",
        ),
        _ => Error::new(ErrorKind::Unavailable, "the engine cannot store this now; try later"),
    };
    refusal.with_source(cause.clone())
}

/// Whether the log found no space.
pub(super) fn is_full(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

#[cfg(test)]
mod tests {
    use ensync_core::{Delay, EventName};

    use super::*;

    #[test]
    fn a_command_that_waits_holds_no_long_text() {
        let long = || "w".repeat(4 << 20);
        let settle =
            |how| Command::Settle(Settle { id: EventId::parse("any").unwrap(), event: None, block: None, how });
        let delay = Delay::try_from(std::time::Duration::from_secs(1)).unwrap();
        let commands = [
            settle(Settlement::Discard { reason: long() }),
            settle(Settlement::Defer { delay, priority: 0, reason: long() }),
            Command::Pause { event: EventName::parse("orders/paid").unwrap(), reason: long() },
        ];
        for command in commands {
            let text = format!("{:?}", brief(command));
            assert!((1_024..2_048).contains(&text.len()), "{}", text.len());
        }
        let short = settle(Settlement::Discard { reason: "why".into() });
        assert_eq!(brief(short.clone()), short);
    }
}
