use std::sync::Arc;

use super::clock::{Clock, SystemClock, TokioClock};
use crate::state::{Defaults, Limits};

/// How a [`Broker`](super::Broker) behaves.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// What clients may use up.
    pub limits: Limits,
    /// What holds for event names that say nothing else.
    pub defaults: Defaults,
    /// Whether an event name is registered by its first publish or subscribe. Apps are never. Off.
    pub dev: bool,
    /// What tells the time. The system's clock.
    pub clock: Arc<dyn Clock>,
}

impl BrokerOptions {
    /// For development and tests: event names are registered by their first use, and time is tokio's, so that a test which pauses
    /// it can let hours pass at once.
    pub fn dev() -> Self {
        Self { dev: true, clock: Arc::new(TokioClock::new()), ..Self::default() }
    }
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self { limits: Limits::default(), defaults: Defaults::default(), dev: false, clock: Arc::new(SystemClock) }
    }
}
