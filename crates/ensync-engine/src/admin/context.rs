//! What every handler has at hand, and how a change is carried out: with a line for the audit.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::audit::Caller;
use super::error::Refusal;
use crate::Broker;

/// The security scheme's name in the document.
pub(super) const TOKEN: &str = "token";

/// What every handler has at hand.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(super) broker: Broker,
}

/// Whose token was shown; the check of the token adds that to the request.
#[derive(Clone, Debug)]
pub(super) struct Shown(pub(super) Arc<str>);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        // Its listener adds where a request comes from.
        let (who, from) = (parts.extensions.get::<Shown>(), parts.extensions.get::<SocketAddr>());
        Ok(Self { who: who.map(|Shown(who)| who.clone()), from: from.copied() })
    }
}
