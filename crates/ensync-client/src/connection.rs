use ensync_core::Error;
use futures::Stream;
use tokio::sync::watch;

use crate::session::State;

/// How a client stands with its engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Connected, logged in, subscribed.
    Live,
    /// The connection is lost. Calls wait for the next one, subscriptions go on after it.
    Reconnecting {
        /// The attempt that is under way or next, counted from 1.
        attempt: u32,
        /// Why there is no connection.
        cause: Error,
    },
    /// The client is closed, or has given up. It stays so.
    Closed {
        /// Why.
        why: Error,
    },
}

impl From<&State> for ConnectionState {
    fn from(state: &State) -> Self {
        match state {
            State::Live(_) => Self::Live,
            State::Connecting(attempt, cause) => Self::Reconnecting { attempt: *attempt, cause: cause.clone() },
            State::Closed(why) => Self::Closed { why: why.clone() },
        }
    }
}

/// The state now, and each later one. States that follow each other faster than they are read are left out.
pub(crate) fn states(state: watch::Receiver<State>) -> impl Stream<Item = ConnectionState> + Send + Unpin + 'static {
    Box::pin(futures::stream::unfold((state, true), |(mut state, first)| async move {
        if !first && state.changed().await.is_err() {
            return None;
        }
        let now = ConnectionState::from(&*state.borrow_and_update());
        Some((now, (state, false)))
    }))
}
