//! The model's administrators: which apps there are, and what they are known by.

use std::collections::BTreeMap;
use std::time::Duration;

use ensync_core::{ErrorKind, Peer, Timestamp};

use super::bench::*;
use super::model::{World, names, options};
use crate::model::{AdminCommand, Rights};

/// The keys that apps are given, access keys and public keys alike: few, so that one app's becomes another's.
const KEYS: [u8; 6] = [SHOP, WAREHOUSE, 10, 11, 12, 13];

/// What an administrator asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Admin {
    RotateKey { app: u8, key: u8, grace: u64 },
    RotateKeyPair { app: u8, key: u8 },
    RetireKey { app: u8, key: u8 },
    Enable { app: u8, enabled: bool },
    Delete { app: u8 },
    Create { app: u8, key: u8 },
    DeleteEvent(usize),
    CreateEvent(usize),
}

pub(super) fn nth_key(n: u8) -> u8 {
    KEYS[usize::from(n) % KEYS.len()]
}

/// An app that exists.
#[derive(Clone, Debug)]
struct Known {
    key: u8,
    old: Option<(u8, Timestamp)>,
    public: u8,
    earlier: Vec<u8>,
    enabled: bool,
}

/// Apps by id, and names by whether they are registered.
#[derive(Clone, Debug)]
pub(super) struct Apps {
    apps: BTreeMap<u8, Known>,
    pub(super) registered: [bool; 2],
}

impl Apps {
    pub(super) fn new() -> Self {
        let known = |n| (n, Known { key: n, old: None, public: n, earlier: Vec::new(), enabled: true });
        Self { apps: [SHOP, WAREHOUSE, STRANGER].map(known).into(), registered: [true; 2] }
    }

    /// Whose access key it is.
    fn owner(&self, key: u8, now: Timestamp) -> Option<u8> {
        let has = |app: &Known| app.key == key || app.old.is_some_and(|(old, until)| old == key && until > now);
        self.apps.iter().find(|(_, app)| has(app)).map(|(&n, _)| n)
    }

    /// Whom what is published to a key reaches.
    pub(super) fn recipient(&self, key: u8) -> Option<u8> {
        let has = |app: &Known| app.public == key || app.earlier.contains(&key);
        self.apps.iter().find(|(_, app)| has(app)).map(|(&n, _)| n)
    }

    /// Whether there is an app of that id.
    pub(super) fn has(&self, n: u8) -> bool {
        self.apps.contains_key(&n)
    }

    fn is_free(&self, key: u8) -> bool {
        !self.apps.contains_key(&key) && self.recipient(key).is_none()
    }

    /// Whom a key logs in, or why not.
    pub(super) fn login(&self, key: u8, now: Timestamp) -> Result<u8, ErrorKind> {
        let n = self.owner(key, now).ok_or(ErrorKind::Unauthenticated)?;
        if self.apps[&n].enabled { Ok(n) } else { Err(ErrorKind::Forbidden) }
    }

    /// The access key of an app, or the one before; if it has none, some key.
    pub(super) fn key(&self, n: u8, old: bool) -> u8 {
        let key = |app: &Known| if old { app.old.map_or(app.key, |(key, _)| key) } else { app.key };
        self.apps.get(&n).map_or(n, key)
    }

    /// The public key of an app; if there is none, its id.
    pub(super) fn public_key(&self, n: u8) -> u8 {
        self.apps.get(&n).map_or(n, |app| app.public)
    }

    /// An administrator may name an app by any of its public keys that is not another's id.
    fn resolved(&self, mut what: Admin) -> Admin {
        use Admin::{Create, CreateEvent, Delete, DeleteEvent, Enable, RetireKey, RotateKey, RotateKeyPair};
        match &mut what {
            RotateKey { app, .. }
            | RotateKeyPair { app, .. }
            | RetireKey { app, .. }
            | Enable { app, .. }
            | Delete { app } => {
                if !self.apps.contains_key(app) {
                    *app = self.recipient(*app).unwrap_or(*app);
                }
            }
            Create { .. } | CreateEvent(_) | DeleteEvent(_) => {}
        }
        what
    }

    /// Does what is asked for, or says why it is refused.
    fn administer(&mut self, what: Admin, now: Timestamp) -> Result<(), ErrorKind> {
        let refuse_if = |cond: bool, kind| if cond { Err(kind) } else { Ok(()) };
        let found = |app: Option<()>| app.ok_or(ErrorKind::NotFound);
        match what {
            Admin::RotateKey { app, key, grace } => {
                found(self.apps.get(&app).map(drop))?;
                refuse_if(self.owner(key, now).is_some(), ErrorKind::Conflict)?;
                let known = self.apps.get_mut(&app).unwrap();
                let old = std::mem::replace(&mut known.key, key);
                known.old = (grace > 0).then(|| (old, now.after(Duration::from_millis(grace))));
            }
            Admin::RotateKeyPair { app, key } => {
                found(self.apps.get(&app).map(drop))?;
                refuse_if(!self.is_free(key), ErrorKind::Conflict)?;
                let known = self.apps.get_mut(&app).unwrap();
                known.earlier.push(std::mem::replace(&mut known.public, key));
            }
            Admin::RetireKey { app, key } => {
                let known = self.apps.get_mut(&app).ok_or(ErrorKind::NotFound)?;
                refuse_if(known.public == key, ErrorKind::Conflict)?;
                refuse_if(!known.earlier.contains(&key), ErrorKind::NotFound)?;
                known.earlier.retain(|&earlier| earlier != key);
            }
            Admin::Enable { app, enabled } => found(self.apps.get_mut(&app).map(|app| app.enabled = enabled))?,
            Admin::Delete { app } => found(self.apps.remove(&app).map(drop))?,
            Admin::Create { app, key } => {
                refuse_if(!self.is_free(app) || self.owner(key, now).is_some(), ErrorKind::Conflict)?;
                let known = Known { key, old: None, public: app, earlier: Vec::new(), enabled: true };
                self.apps.insert(app, known);
            }
            Admin::DeleteEvent(name) => {
                refuse_if(!self.registered[name], ErrorKind::UnknownEvent)?;
                self.registered[name] = false;
            }
            Admin::CreateEvent(name) => {
                refuse_if(self.registered[name], ErrorKind::Conflict)?;
                self.registered[name] = true;
            }
        }
        Ok(())
    }
}

impl World {
    pub(super) fn administer(&mut self, what: Admin) {
        let provision = provision(what);
        let what = self.apps.resolved(what);
        let mut apps = self.apps.clone();
        let mut expected = apps.administer(what, self.bench.now);
        if let Admin::DeleteEvent(name) = what
            && self.in_use(name)
        {
            expected = expected.and(Err(ErrorKind::Conflict));
        }
        self.before_queues_go(what, expected.is_ok());
        // What goes with an app or a name is stored behind it.
        let length = self.bench.log.len() + 1;
        let done = self.bench.administer(provision);
        assert_eq!(done.as_ref().map(drop).map_err(|error| error.kind()), expected, "{what:?} {done:?}");
        if expected.is_err() {
            return;
        }
        self.apps = apps;
        self.past.insert(length, self.apps.clone());
        self.bench.verdicts();
        match what {
            Admin::RotateKeyPair { app: n, .. }
            | Admin::Enable { app: n, enabled: false }
            | Admin::Delete { app: n } => {
                self.end(|peer, _| peer.app_id == app(n));
            }
            _ => self.end_old_keys(),
        }
        if let Admin::Delete { app: n } = what {
            // Of what was sent to it there is nothing left.
            for seen in self.seen.values_mut().filter(|seen| seen.queue.0 == n && seen.over.is_none()) {
                seen.over = Some(length);
            }
        }
        if let Admin::DeleteEvent(name) = what {
            self.windows.retain(|(_, other), _| *other != name);
            self.paused.retain(|(_, other)| *other != name);
        }
    }

    /// Whether anything waits under a name, or anybody for it. The state knows best what has expired.
    fn in_use(&self, name: usize) -> bool {
        let partitions = self.bench.state.partitions.iter();
        let queues = partitions.flat_map(|partition| partition.queues.values());
        queues.filter(|queue| queue.event == names()[name]).any(|q| q.subscribed > 0 || q.entries.from(0).count() > 0)
    }

    /// What queues counted goes with them.
    fn before_queues_go(&mut self, what: Admin, will: bool) {
        let goes = |n: u8, name: usize| match what {
            Admin::Delete { app } => will && n == app,
            Admin::DeleteEvent(deleted) => will && name == deleted,
            _ => false,
        };
        for queue in self.bench.state.queues() {
            let place = self.place(&queue);
            if goes(place.0, place.1) {
                let asked = self.tally.get(&place).map_or(0, |tally| tally.dead);
                self.bench.doomed -= queue.counters.dead - asked;
            }
        }
        self.tally.retain(|&(n, name), _| !goes(n, name));
    }

    /// The sessions whose access keys do not log in any more are over.
    pub(super) fn end_old_keys(&mut self) {
        let (apps, now) = (self.apps.clone(), self.bench.now);
        self.end(|peer, key| apps.owner(key, now).is_none_or(|n| app(n) != peer.app_id));
    }

    /// The engine ended these sessions, and no others.
    fn end(&mut self, which: impl Fn(&Peer, u8) -> bool) {
        let (gone, stay) =
            std::mem::take(&mut self.peers).into_iter().partition(|peer| which(peer, self.keys[&peer.client_id]));
        self.peers = stay;
        let gone: Vec<Peer> = gone;
        assert_eq!(self.bench.state.take_ended().len(), gone.len());
        for peer in gone {
            refused(self.bench.run(&peer, Command::Heartbeat), ErrorKind::Unauthenticated);
            self.forget(&peer);
        }
    }

    /// Both apps can log in and both names are registered, if that can be.
    pub(super) fn enable_all(&mut self) {
        for n in [SHOP, WAREHOUSE] {
            if self.apps.is_free(n) {
                let key = KEYS.into_iter().find(|&key| self.apps.owner(key, self.bench.now).is_none()).unwrap();
                self.administer(Admin::Create { app: n, key });
            }
            if self.apps.apps.contains_key(&n) {
                self.administer(Admin::Enable { app: n, enabled: true });
            }
        }
        for name in 0..2 {
            if !self.apps.registered[name] {
                self.administer(Admin::CreateEvent(name));
            }
        }
    }
}

fn provision(what: Admin) -> AdminCommand {
    match what {
        Admin::RotateKey { app: n, key, grace } => {
            AdminCommand::RotateKey { app: app(n), key_hash: key_hash(key), grace: Duration::from_millis(grace) }
        }
        Admin::RotateKeyPair { app: n, key } => AdminCommand::RotateKeyPair { app: app(n), public_key: app(key) },
        Admin::RetireKey { app: n, key } => AdminCommand::RetireKey { app: app(n), public_key: app(key) },
        Admin::Enable { app: n, enabled } => AdminCommand::Enable { app: app(n), enabled },
        Admin::Delete { app: n } => AdminCommand::DeleteApp { app: app(n) },
        Admin::Create { app: n, key } => {
            let (name, rights) = (app_name(n).into(), Rights::ALL);
            AdminCommand::CreateApp { id: app(n), name, key_hash: key_hash(key), rights, same_name: false }
        }
        Admin::DeleteEvent(name) => AdminCommand::DeleteEvent { name: names()[name].clone() },
        Admin::CreateEvent(name) => AdminCommand::CreateEvent { name: names()[name].clone(), options: options(name) },
    }
}
