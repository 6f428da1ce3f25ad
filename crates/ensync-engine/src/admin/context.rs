//! What every handler has at hand, and how a change is carried out: with a line for the audit.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;

use super::audit::Caller;
use super::error::Refusal;
use super::history::History;
use crate::Broker;

/// The security scheme's name in the document.
pub(super) const TOKEN: &str = "token";

/// What every handler has at hand.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(super) broker: Broker,
    pub(super) about: Arc<About>,
}

impl Admin {
    /// For routes that say nothing of the engine itself.
    pub(super) fn of(broker: Broker) -> Self {
        Self { broker, about: Arc::new(About::new(Vec::new())) }
    }
}

/// What an engine says of itself.
#[derive(Debug)]
pub(super) struct About {
    pub(super) history: Arc<History>,
    /// Those settings that are not as they are by default.
    pub(super) settings: Vec<SettingInForce>,
    pub(super) started: std::time::Instant,
}

impl About {
    pub(super) fn new(settings: Vec<SettingInForce>) -> Self {
        Self { history: Arc::new(History::new()), settings, started: std::time::Instant::now() }
    }
}

/// A setting that is not as it is by default, as whoever started the engine calls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[non_exhaustive]
pub struct SettingInForce {
    /// Its name, such as `limits.max_sessions`.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What it is by default; null if it is not set then.
    pub default: Option<String>,
    /// What it is for.
    pub about: String,
}

impl SettingInForce {
    /// A setting. Nothing in it may be secret: whoever may look at the engine may look at it.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), default: None, about: String::new() }
    }
}

/// What whoever asks may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Access {
    /// Everything.
    Full,
    /// Look.
    Read,
}

/// Whose token was shown, and what that is good for; the check of the token adds that to the request.
#[derive(Clone, Debug)]
pub(super) struct Shown(pub(super) Arc<str>, pub(super) Access);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        // Its listener adds where a request comes from.
        let (who, from) = (parts.extensions.get::<Shown>(), parts.extensions.get::<SocketAddr>());
        Ok(Self { who: who.map(|Shown(who, _)| who.clone()), from: from.copied() })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Access {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        // The program that holds the broker may do everything.
        Ok(parts.extensions.get::<Shown>().map_or(Self::Full, |Shown(_, access)| *access))
    }
}
