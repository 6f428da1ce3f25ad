//! What an engine says about itself when a login succeeds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{AppId, ClientId, ErrorKind};

/// What an engine says when a login succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The session's name. The transport stamps it on every command.
    pub client_id: ClientId,
    /// The app's own id ("client hash"), if the engine said and it is a key.
    pub app_id: Option<AppId>,
    /// What else it said (`server_config`): the engine's capabilities and limits.
    pub config: ServerConfig,
}

/// An engine's announcements: everything beyond the official protocol is found here, and nothing here is required.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerConfig(BTreeMap<String, String>);

impl ServerConfig {
    /// Key of the comma-separated list of extensions that the engine has.
    pub const EXTENSIONS: &'static str = "ensync.extensions";
    /// Key of the largest payload the engine takes, in bytes of its text on the wire.
    pub const MAX_PAYLOAD_BYTES: &'static str = "ensync.max_payload_bytes";
    /// Key of how long the engine remembers an idempotency key, in milliseconds.
    pub const DEDUP_WINDOW_MS: &'static str = "ensync.dedup_window_ms";

    /// Key of the ids that the app had before its key pair was rotated and that the engine still knows as its own, the earliest
    /// first, with spaces between them. See [`Extension::EarlierIds`].
    pub const EARLIER_IDS: &'static str = "ensync.earlier_ids";

    /// One announcement.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All announcements.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether the engine has an extension.
    pub fn has(&self, extension: Extension) -> bool {
        self.value(Self::EXTENSIONS)
            .is_some_and(|list| list.split(['+', ',']).any(|name| name.trim() == extension.name()))
    }

    /// The largest payload the engine takes, in bytes of its text on the wire, if it said.
    pub fn max_payload_bytes(&self) -> Option<usize> {
        self.value(Self::MAX_PAYLOAD_BYTES)?.parse().ok()
    }

    /// The app's earlier ids, if the engine told some. What is none is left out.
    pub fn earlier_ids(&self) -> impl Iterator<Item = AppId> {
        self.value(Self::EARLIER_IDS).unwrap_or_default().split(' ').filter_map(|id| AppId::parse(id).ok())
    }

    /// The same announcements and the app's earlier ids.
    #[must_use]
    pub fn with_earlier_ids(mut self, ids: &[AppId]) -> Self {
        if !ids.is_empty() {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            self.0.insert(Self::EARLIER_IDS.to_owned(), ids.join(" "));
        }
        self
    }

    /// How long the engine remembers an idempotency key, if it said.
    pub fn dedup_window(&self) -> Option<Duration> {
        self.value(Self::DEDUP_WINDOW_MS)?.parse().ok().map(Duration::from_millis)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for ServerConfig {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

/// What our engine can do beyond the official protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extension {
    /// [`Publish::idempotency_key`](crate::Publish::idempotency_key) is honoured.
    Deduplication,
    /// [`Subscribe::max_in_flight`](crate::Subscribe::max_in_flight) and [`Subscribe::max_bytes_in_flight`](crate::Subscribe::max_bytes_in_flight) are honoured.
    FlowControl,
    /// [`Settle::block`](crate::Settle::block) is honoured for every settlement, as a fencing token.
    Fencing,
    /// [`Settlement::Extend`](crate::Settlement::Extend) and [`Settlement::Release`](crate::Settlement::Release) are known, and [`Delivery::lease`](crate::Delivery::lease) is told.
    Leases,
    /// [`ServerConfig::earlier_ids`] are told, if there are some. An event that was sealed with the secret key of one of them has that
    /// one as its sender.
    EarlierIds,
}

impl Extension {
    /// Every extension.
    pub const ALL: &'static [Extension] =
        &[Self::Deduplication, Self::FlowControl, Self::Fencing, Self::Leases, Self::EarlierIds];

    /// Its name in [`ServerConfig::EXTENSIONS`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Deduplication => "deduplication",
            Self::FlowControl => "flow-control",
            Self::Fencing => "fencing",
            Self::Leases => "leases",
            Self::EarlierIds => "earlier-ids",
        }
    }

    /// The error of a command that needs this extension, for an engine that did not announce it.
    pub fn missing(self) -> crate::Error {
        let message = format!("the engine did not announce {:?} at login, which this needs", self.name());
        crate::Error::new(ErrorKind::Unsupported, message)
    }

    /// The list that announces every extension. Joined by `+`, for the WebSocket's login answer splits at commas.
    pub fn announcement() -> String {
        Self::ALL.iter().map(|extension| extension.name()).collect::<Vec<_>>().join("+")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_found_in_the_announcement() {
        let config: ServerConfig = [(ServerConfig::EXTENSIONS, Extension::announcement())].into_iter().collect();
        assert!(Extension::ALL.iter().all(|&e| config.has(e)));
        assert!(!ServerConfig::default().has(Extension::FlowControl));
    }

    #[test]
    fn earlier_ids_are_told_and_read() {
        let ids = [AppId::from_bytes([7; 32]), AppId::from_bytes([0xfb; 32])];
        let config = ServerConfig::default().with_earlier_ids(&ids);
        assert_eq!(config.earlier_ids().collect::<Vec<_>>(), ids);
        let none = ServerConfig::default().with_earlier_ids(&[]);
        assert_eq!((none.earlier_ids().count(), none), (0, ServerConfig::default()));
        let odd: ServerConfig = [(ServerConfig::EARLIER_IDS, "  x A==")].into_iter().collect();
        assert_eq!(odd.earlier_ids().count(), 0);
    }
}
