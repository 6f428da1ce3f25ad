//! Rights in their words: lists of names, or `"*"`.

use std::collections::BTreeMap;
use std::fmt;

use ensync_core::{Error, ErrorKind, EventName, Given, Result};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::model::Rights;
use crate::{AppInfo, Broker};

const EVERY: &str = "*";
/// More names than this are rights in `"*"`, or a mistake.
const MAX_NAMES: usize = 1_000;

/// What an access key may do: all of it. A list that is left out is empty, for who sends an empty one may leave it out; one of them has
/// to be there. Whoever wrote another name for one would take rights away, so no other member is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Permissions {
    /// The event names that it may publish; `"*"`: every one.
    #[serde(default, deserialize_with = "listed", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>)]
    send: Option<Vec<String>>,
    /// The event names that it may subscribe to and replay; `"*"`: every one.
    #[serde(default, deserialize_with = "listed", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>)]
    receive: Option<Vec<String>>,
    /// What `"*"` does not hold for. To send these permissions back as they were answered changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resources: Option<Except>,
}

/// A list; null is none.
fn listed<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Vec<String>>, D::Error> {
    Vec::deserialize(from).map(Some)
}

/// Names that are withheld from an access key which may otherwise do it with every name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
struct Except {
    /// Names that it may not publish.
    #[schema(value_type = Vec<String>)]
    send_except: Option<Vec<String>>,
    /// Names that it may not subscribe to nor replay.
    #[schema(value_type = Vec<String>)]
    receive_except: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for Except {
    /// Other members are passed over, and so is a list: what their server has there is not known.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Except;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"an object that holds lists of names, like {"send_except": ["order"]}"#)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<Except, A::Error> {
                let mut read = Except::default();
                while let Some(name) = members.next_key::<String>()? {
                    match name.as_str() {
                        "send_except" => read.send_except = members.next_value()?,
                        "receive_except" => read.receive_except = members.next_value()?,
                        _ => _ = members.next_value::<IgnoredAny>()?,
                    }
                }
                Ok(read)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Except, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Except::default())
            }
        }

        deserializer.deserialize_any(Object)
    }
}

impl Permissions {
    /// What an app may do.
    pub(super) fn of(app: &AppInfo) -> Self {
        let names = |every: bool, may: fn(&Rights) -> bool| {
            // No name is their word for every one; what is stored may be.
            let names = app.grants.iter().filter(|(name, rights)| may(rights) != every && name.as_str() != EVERY);
            let names = names.map(|(name, _)| name.to_string());
            match every {
                true => (vec![EVERY.to_owned()], names.collect()),
                false => (names.collect(), Vec::new()),
            }
        };
        let (send, send_except) = names(app.rights.publish, |rights| rights.publish);
        let (receive, receive_except) = names(app.rights.subscribe, |rights| rights.subscribe);
        let is_whole = send_except.is_empty() && receive_except.is_empty();
        let resources = Except { send_except: Some(send_except), receive_except: Some(receive_except) };
        Self { send: Some(send), receive: Some(receive), resources: Some(resources).filter(|_| !is_whole) }
    }

    /// That one of the lists is there: who misspells both, or sends something else, means something else.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`].
    pub(super) fn says_something(&self) -> Result<()> {
        if self.send.is_some() || self.receive.is_some() {
            return Ok(());
        }
        let message =
            "permissions: neither \"send\" nor \"receive\" is there; to take all rights away, send both as empty lists";
        Err(Error::new(ErrorKind::InvalidInput, message))
    }

    /// What they mean.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidEventName`], or [`ErrorKind::InvalidInput`] if there are too many, or one is both given and withheld.
    pub(super) fn read(&self) -> Result<Meant> {
        let named = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
        let (send, receive) = (&named(&self.send), &named(&self.receive));
        let except = self.resources.clone().unwrap_or_default();
        let (send_except, receive_except) = (named(&except.send_except), named(&except.receive_except));
        if [send, receive, &send_except, &receive_except].iter().map(|names| names.len()).sum::<usize>() > MAX_NAMES {
            let message = format!("permissions name more than {MAX_NAMES} events; \"{EVERY}\" means every one");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let every = |names: &[String]| names.iter().any(|name| name == EVERY);
        let default = Rights { publish: every(send), subscribe: every(receive) };
        let mut grants: BTreeMap<EventName, Rights> = BTreeMap::new();
        // A name that was taken once, and would not be now, is there as well: that it must be registered is checked apart.
        let read = |name: &String, place: &str| {
            EventName::parse_stored(name).map_err(|error| error.context(format_args!("permissions: {place}")))
        };
        for (names, place, publish) in [(send, "send", true), (receive, "receive", false)] {
            for name in names.iter().filter(|name| *name != EVERY) {
                let rights = grants.entry(read(name, place)?).or_insert(default);
                rights.publish |= publish;
                rights.subscribe |= !publish;
            }
        }
        for (names, given, place, publish) in [
            (&send_except, send, "resources: send_except", true),
            (&receive_except, receive, "resources: receive_except", false),
        ] {
            for name in names {
                if given.contains(name) {
                    let message = format!("permissions: {place}: {} is both given and withheld", Given(name));
                    return Err(Error::new(ErrorKind::InvalidInput, message));
                }
                let rights = grants.entry(read(name, place)?).or_insert(default);
                rights.publish &= !publish;
                rights.subscribe &= publish;
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
        let none_of_these = app.grants.iter().map(|(name, _)| name).filter(|name| !self.grants.contains_key(*name));
        // What is not shown is not said, either.
        let none_of_these: Vec<EventName> = none_of_these.filter(|name| name.as_str() != EVERY).cloned().collect();
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
    use ensync_core::{AppId, Timestamp};

    use super::*;

    fn app() -> AppInfo {
        let id = AppId::from_bytes([1; 32]);
        AppInfo {
            id,
            name: "a".to_owned(),
            public_key: id,
            earlier_keys: Vec::new(),
            old_key_until: None,
            enabled: true,
            rights: Rights::ALL,
            grants: Vec::new(),
            created_at: Timestamp::from_millis(0),
            sessions: 0,
        }
    }

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

        // What is withheld stays so.
        let meant =
            read(r#"{"send":["*"],"receive":["a"],"resources":{"send_except":["a","b"],"receive_except":["c"]}}"#);
        let meant = meant.unwrap();
        assert_eq!(meant.default, rights(true, false));
        let grants: Vec<_> = meant.grants.iter().map(|(name, rights)| (name.as_str(), *rights)).collect();
        assert_eq!(grants, [("a", rights(false, true)), ("b", rights(false, false))]);
        for contradiction in [
            r#"{"send":["*","a"],"receive":[],"resources":{"send_except":["a"]}}"#,
            r#"{"send":[],"receive":["a"],"resources":{"receive_except":["a"]}}"#,
        ] {
            assert!(read(contradiction).unwrap_err().to_string().contains("both given and withheld"));
        }

        let nothing = Meant { default: Rights::NONE, grants: BTreeMap::new() };
        assert_eq!(read(r#"{"send":[],"receive":[]}"#).unwrap(), nothing);
        assert!(read(r#"{"send":["a b"],"receive":[]}"#).unwrap_err().to_string().contains("permissions: send"));
        let many: Vec<String> = (0..=MAX_NAMES).map(|n| format!("n{n}")).collect();
        assert!(Permissions { send: Some(many), ..Permissions::default() }.read().is_err());
    }

    /// It would be taken for no rights.
    #[test]
    fn what_is_not_whole_is_refused() {
        for (json, why) in [
            (r#"{"send":null,"receive":[]}"#, "null"),
            (r#"{"send":["*"],"receive":null}"#, "null"),
            (r#"{"sent":["*"],"receive":["*"]}"#, "sent"),
            (r#"{"send":[],"receive":[],"Resources":{}}"#, "Resources"),
            (r#"{"id":"x","name":"shop","permissions":{"send":["*"],"receive":["*"]}}"#, "id"),
            (r#"{"permissions":{"send":["*"],"receive":["*"]}}"#, "permissions"),
        ] {
            let error = serde_json::from_str::<Permissions>(json).unwrap_err().to_string();
            assert!(error.contains(why), "{json}: {error}");
        }
        // Their command line leaves empty lists out.
        for (json, whole) in [
            (r#"{"send":["a"]}"#, r#"{"send":["a"],"receive":[]}"#),
            (r#"{"receive":["a"]}"#, r#"{"send":[],"receive":["a"]}"#),
        ] {
            assert_eq!(read(json).unwrap(), read(whole).unwrap(), "{json}");
            serde_json::from_str::<Permissions>(json).unwrap().says_something().unwrap();
        }
        let error = serde_json::from_str::<Permissions>("{}").unwrap().says_something().unwrap_err().to_string();
        assert!(error.contains("send both as empty lists"), "{error}");
    }

    /// What was answered, sent back, means what is so.
    #[test]
    fn an_answer_sent_back_changes_nothing() {
        let all = [rights(true, true), rights(true, false), rights(false, true), rights(false, false)];
        let names = ["a", "b", "c"].map(|name| EventName::parse(name).unwrap());
        let stored = EventName::parse_stored(EVERY).unwrap();
        let mut tried = 0;
        for default in all {
            for pick in 0..5_usize.pow(3) {
                let picked = [pick % 5, pick / 5 % 5, pick / 25];
                let grants = names.iter().zip(picked).filter_map(|(name, at)| Some((name.clone(), *all.get(at)?)));
                let grants: BTreeMap<EventName, Rights> = grants.filter(|(_, rights)| *rights != default).collect();
                // A name that an earlier version took is none of theirs.
                let other = Rights { publish: !default.publish, subscribe: !default.subscribe };
                let all = grants.clone().into_iter().chain([(stored.clone(), other)]).collect();
                let app = AppInfo { rights: default, grants: all, ..app() };
                let told = serde_json::to_string(&Permissions::of(&app)).unwrap();
                assert_eq!(read(&told).unwrap(), Meant { default, grants }, "{told}");
                tried += 1;
            }
        }
        assert_eq!(tried, 500);
    }
}
