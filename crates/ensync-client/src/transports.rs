use std::fmt;
use std::sync::Arc;

use ensync_core::{Connector, Endpoint, Result};

use crate::Dialer;

/// Which transports an [`Engine`](crate::Engine) can use: the choice by the URL's scheme, as a type.
///
/// The gRPC and WebSocket crates each implement it for their own scheme, the SDK for both.
pub trait Transports: fmt::Debug + Send + Sync + 'static {
    /// The connector for an endpoint. Does no I/O.
    ///
    /// # Errors
    ///
    /// [`FeatureDisabled`](ensync_core::ErrorKind::FeatureDisabled) or [`InvalidUrl`](ensync_core::ErrorKind::InvalidUrl) if
    /// the endpoint's scheme is not among them; the message names the feature or crate that serves it.
    fn connector(to: &Endpoint, dialer: Dialer) -> Result<Arc<dyn Connector>>;
}
