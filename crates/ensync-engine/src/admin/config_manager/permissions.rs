//! Rights in their words: lists of names, or `"*"`.

use std::collections::BTreeMap;

use ensync_core::{Error, ErrorKind, EventName, Result};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::Rights;
use crate::{AppInfo, Broker};

const EVERY: &str = "*";
/// More names than this are rights in `"*"`, or a mistake.
const MAX_NAMES: usize = 1_000;

/// What an access key may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct Permissions {
    /// The event names that it may publish; `"*"`: every one.
    #[schema(value_type = Vec<String>)]
    send: Option<Vec<String>>,
    /// The event names that it may subscribe to and replay; `"*"`: every one.
    #[schema(value_type = Vec<String>)]
    receive: Option<Vec<String>>,
    /// In answers: what `"*"` does not hold for. Passed over in requests.
    #[serde(skip_serializing_if = "Except::is_empty", skip_deserializing)]
    resources: Except,
}

/// Names that are withheld from an access key which may otherwise do it with every name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
struct Except {
    send_except: Vec<String>,
    receive_except: Vec<String>,
}

impl Except {
    fn is_empty(&self) -> bool {
        self.send_except.is_empty() && self.receive_except.is_empty()
    }
}

impl Permissions {
    /// What an app may do.
    pub(super) fn of(app: &AppInfo) -> Self {
        let names = |every: bool, may: fn(&Rights) -> bool| {
            let names = app.grants.iter().filter(|(_, rights)| may(rights) != every).map(|(name, _)| name.to_string());
            match every {
                true => (vec![EVERY.to_owned()], names.collect()),
                false => (names.collect(), Vec::new()),
            }
        };
        let (send, send_except) = names(app.rights.publish, |rights| rights.publish);
        let (receive, receive_except) = names(app.rights.subscribe, |rights| rights.subscribe);
        let resources = Except { send_except, receive_except };
        Self { send: Some(send), receive: Some(receive), resources }
    }

    /// What they mean.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidEventName`], or [`ErrorKind::InvalidInput`] if there are too many.
    pub(super) fn read(&self) -> Result<Meant> {
        let named = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
        let (send, receive) = (named(&self.send), named(&self.receive));
        if send.len() + receive.len() > MAX_NAMES {
            let message = format!("permissions name more than {MAX_NAMES} events; \"{EVERY}\" means every one");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let every = |names: &[String]| names.iter().any(|name| name == EVERY);
        let default = Rights { publish: every(&send), subscribe: every(&receive) };
        let mut grants: BTreeMap<EventName, Rights> = BTreeMap::new();
        for (names, publish) in [(&send, true), (&receive, false)] {
            for name in names.iter().filter(|name| *name != EVERY) {
                let place = if publish { "send" } else { "receive" };
                let name =
                    EventName::parse(name).map_err(|error| error.context(format_args!("permissions: {place}")))?;
                let rights = grants.entry(name).or_insert(default);
                rights.publish |= publish;
                rights.subscribe |= !publish;
            }
        }
        grants.retain(|_, rights| *rights != default);
        Ok(Meant { default, grants })
    }
}

/// Rights: with names of their own, and with all others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meant {
    pub(super) default: Rights,
    grants: BTreeMap<EventName, Rights>,
}

impl Meant {
    /// Refuses names that are not registered, before anything is changed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownEvent`].
    pub(super) async fn check(&self, broker: &Broker) -> Result<()> {
        let names: Vec<EventName> = self.grants.keys().cloned().collect();
        let missing = broker.inspect(move |state| names.into_iter().find(|name| state.event(name).is_none())).await?;
        match missing {
            None => Ok(()),
            Some(name) => Err(Error::new(
                ErrorKind::UnknownEvent,
                format!(
                    "permissions: the event name {name} is not registered; create the event first, or allow \"{EVERY}\""
                ),
            )),
        }
    }

    /// Gives an app these rights and no others. At each step in between it may do no more than before or after.
    ///
    /// # Errors
    ///
    /// As [`Broker::grant`].
    pub(super) async fn give(self, broker: &Broker, app: &AppInfo) -> Result<()> {
        let none_of_these: Vec<EventName> =
            app.grants.iter().map(|(name, _)| name).filter(|name| !self.grants.contains_key(*name)).cloned().collect();
        for (name, rights) in self.grants {
            broker.grant(app.id, Some(name), rights).await?;
        }
        if app.rights != self.default {
            broker.grant(app.id, None, self.default).await?;
        }
        for name in none_of_these {
            broker.revoke(app.id, name).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Meant> {
        serde_json::from_str::<Permissions>(json).unwrap().read()
    }

    fn rights(publish: bool, subscribe: bool) -> Rights {
        Rights { publish, subscribe }
    }

    #[test]
    fn lists_and_stars_are_rights() {
        let meant = read(r#"{"send":["a","b"],"receive":["b"],"resources":{"x":1}}"#).unwrap();
        assert_eq!(meant.default, Rights::NONE);
        let grants: Vec<_> = meant.grants.iter().map(|(name, rights)| (name.as_str(), *rights)).collect();
        assert_eq!(grants, [("a", rights(true, false)), ("b", rights(true, true))]);

        let meant = read(r#"{"send":["*","a"],"receive":["a"]}"#).unwrap();
        assert_eq!(meant.default, rights(true, false));
        assert_eq!(meant.grants.len(), 1, "a may be received, too");

        for nothing in ["{}", r#"{"send":null,"receive":[]}"#] {
            assert_eq!(read(nothing).unwrap(), Meant { default: Rights::NONE, grants: BTreeMap::new() });
        }
        assert!(read(r#"{"send":["a b"]}"#).unwrap_err().to_string().contains("permissions: send"));
        let many: Vec<String> = (0..=MAX_NAMES).map(|n| format!("n{n}")).collect();
        assert!(Permissions { send: Some(many), ..Permissions::default() }.read().is_err());
    }
}
