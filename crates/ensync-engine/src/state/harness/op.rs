//! What can happen, read from bytes: any bytes are some history.

use super::apps::{Admin, nth_key};
use super::bench::{SHOP, WAREHOUSE};

/// What can happen. Sessions, names, deliveries and records are numbers modulo how many there are.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Publish {
        recipient: u8,
        /// To this public key, whosever it is, instead of the recipient's.
        to: Option<u8>,
        name: usize,
        transient: bool,
        key: Option<u8>,
        /// How long the payload is, in groups of four characters.
        size: usize,
        refused: bool,
    },
    /// By the access key of an app, or by the one before.
    Login(u8, bool),
    Admin(Admin),
    Logout(usize),
    Subscribe {
        session: usize,
        name: usize,
        max: Option<u32>,
        bytes: Option<u64>,
    },
    Unsubscribe {
        session: usize,
        name: usize,
    },
    Pause {
        session: usize,
        name: usize,
    },
    Continue {
        session: usize,
        name: usize,
    },
    Release {
        session: usize,
        name: usize,
    },
    /// Several settlements in one batch.
    Settle {
        which: Vec<(usize, How, bool)>,
        refused: bool,
    },
    Deliver(usize),
    /// Everything that can be.
    DeliverAll,
    Advance(u64),
    Requeue(usize),
    DropDead(usize),
    /// A checkpoint of what an earlier record and all before it made; later starts read only what comes after it.
    Checkpoint(usize),
    /// The start of the log is dropped, up to a record that a checkpoint covers.
    Retain(usize),
    Restart,
    /// A restart from logs that end earlier, each by itself.
    Cut(usize),
    /// How much is done at a time from now on.
    Turn(usize),
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Ack,
    Rollback,
    Later,
    Again,
    Discard,
    Extend,
    Release,
}

/// Operations, as bytes spell them.
pub(super) struct Ops<'a>(pub(super) &'a [u8]);

impl Ops<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    fn below(&mut self, end: u8) -> Option<usize> {
        self.byte().map(|byte| usize::from(byte % end))
    }

    fn rarely(&mut self) -> Option<bool> {
        self.byte().map(|byte| byte < 25)
    }

    fn recipient(&mut self) -> Option<u8> {
        self.byte().map(|byte| if byte % 3 == 0 { SHOP } else { WAREHOUSE })
    }

    /// A recipient, and sometimes a key of the administrators'.
    fn address(&mut self) -> Option<(u8, Option<u8>)> {
        let byte = self.byte()?;
        let key = (byte >= 224).then(|| nth_key(byte));
        Some((if byte % 3 == 0 { SHOP } else { WAREHOUSE }, key))
    }

    fn admin(&mut self, what: u8) -> Option<Admin> {
        let (app, byte) = (self.recipient()?, self.byte()?);
        let (key, name) = (nth_key(byte & 7), usize::from(byte & 1));
        Some(match what {
            0 => Admin::RotateKey { app, key, grace: [0, 0, 500, 30_000][usize::from(byte >> 6)] },
            1 => Admin::RotateKeyPair { app, key },
            2 => Admin::RetireKey { app, key },
            3 | 4 => Admin::Enable { app, enabled: byte & 3 != 0 },
            5 => Admin::Delete { app },
            6..=8 => Admin::Create { app, key },
            9 => Admin::DeleteEvent(name),
            _ => Admin::CreateEvent(name),
        })
    }

    fn target(&mut self) -> Option<(usize, usize)> {
        let byte = self.byte()?;
        Some((usize::from(byte >> 1) % 6, usize::from(byte & 1)))
    }

    fn settlement(&mut self) -> Option<(usize, How, bool)> {
        use How::{Ack, Again, Discard, Extend, Later, Release, Rollback};
        let how = [Ack, Ack, Rollback, Later, Again, Discard, Extend, Release];
        let (which, byte) = (self.below(64)?, self.byte()?);
        Some((which, how[usize::from(byte & 7)], byte & 8 == 0))
    }

    fn time(&mut self) -> Option<u64> {
        let (around, byte) = ([25, 1_000, 3_000, 60_000], self.byte()?);
        Some(around[usize::from(byte & 3)] + u64::from(byte >> 2) - 24)
    }
}

impl Iterator for Ops<'_> {
    type Item = Op;

    fn next(&mut self) -> Option<Op> {
        Some(match self.byte()? % 77 {
            0..=13 => {
                let ((recipient, to), bits) = (self.address()?, self.byte()?);
                let key = (bits & 16 != 0).then_some(bits >> 5);
                let size = [1, 1, 2, 9][usize::from(bits >> 2 & 3)];
                let (name, transient) = (usize::from(bits & 1), bits & 2 != 0 && bits & 16 != 0);
                Op::Publish { recipient, to, name, transient, key, size, refused: self.rarely()? }
            }
            14..=16 => self.byte().map(|byte| Op::Login(if byte % 3 == 0 { SHOP } else { WAREHOUSE }, byte >= 192))?,
            17 => Op::Logout(self.below(6)?),
            18..=22 => {
                let ((session, name), bits) = (self.target()?, self.byte()?);
                let max = (bits & 1 == 0).then_some(u32::from(bits >> 1 & 3) + 1);
                let bytes = (bits & 8 == 0).then_some(u64::from(bits >> 4) * 4 + 1);
                Op::Subscribe { session, name, max, bytes }
            }
            23 => self.target().map(|(session, name)| Op::Unsubscribe { session, name })?,
            24 => self.target().map(|(session, name)| Op::Pause { session, name })?,
            25 => self.target().map(|(session, name)| Op::Continue { session, name })?,
            26 => self.target().map(|(session, name)| Op::Release { session, name })?,
            27..=40 => {
                let (count, refused) = (self.below(3)? + 1, self.rarely()?);
                Op::Settle { which: (0..count).map_while(|_| self.settlement()).collect(), refused }
            }
            41..=46 => Op::Deliver(self.below(7)? + 1),
            47..=50 => Op::DeliverAll,
            51..=55 => Op::Advance(self.time()?),
            56 => Op::Requeue(self.below(8)?),
            57 => Op::DropDead(self.below(8)?),
            58..=59 => Op::Checkpoint(self.byte()?.into()),
            60 => Op::Retain(self.byte()?.into()),
            61 => Op::Restart,
            62..=63 => Op::Cut(self.byte()?.into()),
            76 => Op::Turn(self.below(9)? + 1),
            what => Op::Admin(self.admin(what - 64)?),
        })
    }
}
