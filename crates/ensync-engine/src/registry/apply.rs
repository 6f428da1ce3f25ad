//! What administrators asked for, done.

use ensync_core::{AppId, Timestamp};

use super::{App, Registry};
use crate::model::{AdminCommand, Applied, EventOptions, old_key_until};

impl Registry {
    /// Does what an administrator asked for at a time. Total: any sequence of commands leaves a sound registry.
    pub(crate) fn apply(&mut self, at: Timestamp, command: &AdminCommand) -> Applied {
        self.logged_at = self.logged_at.max(at);
        match command {
            AdminCommand::CreateApp { id, name, key_hash, rights, same_name: _ } => {
                self.tick(at);
                let app = App::new(*id, name.clone(), *key_hash, *rights, at);
                if self.add_app(*id, app) { Applied::Done } else { Applied::Taken }
            }
            AdminCommand::RotateKey { app, key_hash, grace } => {
                self.tick(at);
                let rotated = self.rotate_key(app, *key_hash, old_key_until(at, *grace));
                self.did(app, rotated)
            }
            AdminCommand::RotateKeyPair { app, public_key } => {
                let rotated = self.rotate_key_pair(app, *public_key);
                self.did(app, rotated)
            }
            AdminCommand::RetireKey { app, public_key } => done(self.retire_key(app, public_key)),
            AdminCommand::Enable { app, enabled } => {
                let found = self.enable(app, *enabled);
                self.did(app, found)
            }
            AdminCommand::DeleteApp { app } => {
                let found = self.remove_app(app);
                self.did(app, found)
            }
            AdminCommand::CreateEvent { name, .. } if self.event(name).is_some() => Applied::Taken,
            AdminCommand::CreateEvent { name, options } | AdminCommand::RegisterEvent { name, options } => {
                self.add_event(name.clone(), options.clone(), false);
                Applied::Done
            }
            AdminCommand::UseEvent { name } => {
                self.add_event(name.clone(), EventOptions::default(), true);
                Applied::Done
            }
            AdminCommand::ChangeEvent { name, change } => {
                let Some(options) = self.event(name).map(|options| change.made(options)) else {
                    return Applied::Ignored;
                };
                self.add_event(name.clone(), options, false);
                Applied::Done
            }
            AdminCommand::DeleteEvent { name } => done(self.remove_event(name)),
            AdminCommand::Grant { app, event, rights } => {
                let found = self.grant(app, event.as_ref(), *rights);
                self.did(app, found)
            }
            AdminCommand::Revoke { app, event } => {
                let found = self.revoke(app, event);
                self.did(app, found)
            }
        }
    }

    fn did(&mut self, app: &AppId, found: bool) -> Applied {
        if found {
            self.changed.insert(*app);
        }
        done(found)
    }
}

fn done(done: bool) -> Applied {
    if done { Applied::Done } else { Applied::Ignored }
}
