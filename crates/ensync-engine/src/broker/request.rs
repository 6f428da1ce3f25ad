//! What is sent to the broker's task.

use std::net::{IpAddr, SocketAddr};
use std::{fmt, io};

use ensync_core::{
    AppId, ClientId, Command, Error, ErrorKind, EventId, Peer, Reply, Result, Settle, Settlement, Timestamp,
};
use tokio::sync::oneshot;

use super::inbox::Inbox;
use super::unclaimed::Claim;
use super::waiting::Charge;
use crate::model::{AdminCommand, KeyHash};
use crate::partition::shortened;
use crate::state::{Admitted, LetterAction, Purge, Replay, SessionNumber, State};

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

/// A look at the state.
pub(super) type Look = Box<dyn FnOnce(&State) + Send>;

pub(super) enum Request {
    Login {
        key: KeyHash,
        from: Option<IpAddr>,
        origin: Origin,
        client_id: ClientId,
        answer: Answer<Opened>,
    },
    Logout {
        client_id: ClientId,
        answer: oneshot::Sender<()>,
    },
    Publish {
        peer: Peer,
        publish: Box<Admitted>,
        caller: Caller,
    },
    Command {
        peer: Peer,
        command: Box<Command>,
        answer: Answer<Outcome>,
    },
    Admin {
        command: Box<AdminCommand>,
        /// What is looked at right before it is carried out, and right after.
        looks: (Look, Look),
        answer: Answer<Outcome>,
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
    /// A look at the state, and at where sessions came from.
    Connected(ConnectedLook),
    /// An administrator ends a session; whether there was one.
    End {
        number: SessionNumber,
        answer: Answer<bool>,
    },
    Inspect(Look),
    Shutdown,
    /// One checkpoint after the other, from now on.
    #[cfg(test)]
    Checkpoints,
}

/// A look at the state, and at where sessions came from.
pub(super) type ConnectedLook = Box<dyn FnOnce(&State, &dyn Fn(SessionNumber) -> Option<Origin>) + Send>;

/// Where a session came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) transport: &'static str,
    pub(crate) remote: Option<SocketAddr>,
    /// Since when it is logged in.
    pub(crate) since: Timestamp,
}

/// A session that was opened.
pub(super) struct Opened {
    /// The app's id, and its public key.
    pub(super) app: AppId,
    /// For logs: unlike the client id it gives nobody any rights.
    pub(super) number: SessionNumber,
    pub(super) public_key: AppId,
    /// The public keys that it had before, and still is known by.
    pub(super) earlier_keys: Vec<AppId>,
    pub(super) inbox: Inbox,
    pub(super) unclaimed: Claim,
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
    let refusal = refusal.with_source(cause.clone());
    for caller in callers {
        caller.tell(Err(refusal.clone()));
    }
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
