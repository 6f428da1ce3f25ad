//! How a client stands with its engine: as a state, and as a stream of what happened.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ensync_core::{Error, EventName};
use futures::Stream;
use tokio::sync::broadcast;

use crate::session::{State, StateCell};

/// How a client stands with its engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionState {
    /// The first connection is being made: see [`Engine::retry_first_connect`](crate::Engine::retry_first_connect).
    Connecting,
    /// Connected, logged in, subscribed.
    Live,
    /// There is no connection. Calls wait for the next one, subscriptions go on after it.
    Reconnecting {
        /// The attempt that is under way or next, counted from 1.
        attempt: u32,
        /// When it is made, or sooner if somebody begins to wait for the connection; in the past once it is under way.
        next_try: Instant,
        /// Why there is no connection.
        cause: Error,
    },
    /// The client is closed, or has given up. It stays so.
    Closed {
        /// Why.
        why: Error,
    },
}

/// What happened to a client's connection: see [`Client::events`](crate::Client::events).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// Connected and logged in, for the first time. Also the first event of whoever begins to listen while the client is live.
    Connected,
    /// The connection was lost.
    Disconnected {
        /// Why.
        cause: Error,
    },
    /// Another attempt to connect will be made; a wait of zero if the engine closed in order, or forgot the session.
    Reconnecting {
        /// Its number, counted from 1 since the last login that held.
        attempt: u32,
        /// How long from now, or less if somebody begins to wait for the connection.
        wait: Duration,
    },
    /// An attempt to connect failed.
    Failed {
        /// Its number; 0 is the first connection's.
        attempt: u32,
        /// Why.
        cause: Error,
    },
    /// Connected and logged in again; subscriptions and pauses are restored.
    Reconnected {
        /// The number of the attempt that succeeded.
        attempt: u32,
    },
    /// The engine refused to subscribe again after a reconnect, or a subscription ended by itself. The others go on.
    SubscriptionRefused {
        /// The event name.
        event: EventName,
        /// Why.
        cause: Error,
    },
    /// The client is closed, or has given up. Nothing comes after it.
    Closed {
        /// Why.
        why: Error,
    },
    /// The listener was slower than what happened, and missed some of it.
    Missed {
        /// How many events.
        events: u64,
    },
}

impl From<&State> for ConnectionState {
    fn from(state: &State) -> Self {
        match state {
            State::Connecting => Self::Connecting,
            State::Live(_) => Self::Live,
            State::Lost { attempt, next_try, cause } => {
                Self::Reconnecting { attempt: *attempt, next_try: next_try.into_std(), cause: cause.clone() }
            }
            State::Closed(why) => Self::Closed { why: why.clone() },
        }
    }
}

/// The state now, and each later one, up to the last. States that follow each other faster than they are read are left out.
pub(crate) fn states(state: Arc<StateCell<State>>) -> impl Stream<Item = ConnectionState> + Send + Unpin + 'static {
    Box::pin(futures::stream::unfold((None, Some(state)), |(seen, state)| async move {
        let state = state?;
        let (version, now) = state.wait_beyond(seen, |state| Some(ConnectionState::from(state))).await;
        let more = (!matches!(now, ConnectionState::Closed { .. })).then_some(state);
        Some((now, (Some(version), more)))
    }))
}

/// `first`, if there is one, and what happens from then on. Ends after [`ConnectionEvent::Closed`].
pub(crate) fn events(
    first: Option<ConnectionEvent>,
    later: broadcast::Receiver<ConnectionEvent>,
) -> impl Stream<Item = ConnectionEvent> + Send + Unpin + 'static {
    Box::pin(futures::stream::unfold((first, Some(later)), |(first, later)| async move {
        let mut later = later?;
        let event = match first {
            Some(event) => event,
            None => match later.recv().await {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(events)) => ConnectionEvent::Missed { events },
                Err(broadcast::error::RecvError::Closed) => return None,
            },
        };
        let later = (!matches!(event, ConnectionEvent::Closed { .. })).then_some(later);
        Some((event, (None, later)))
    }))
}

#[cfg(test)]
mod tests {
    use ensync_core::ErrorKind;
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_slow_listener_is_told_how_much_it_missed_and_the_end_is_the_end() {
        let sender = broadcast::Sender::new(2);
        let mut heard = events(Some(ConnectionEvent::Connected), sender.subscribe());
        for attempt in 1..=5 {
            sender.send(ConnectionEvent::Reconnected { attempt }).unwrap();
        }
        assert!(matches!(heard.next().await, Some(ConnectionEvent::Connected)));
        assert!(matches!(heard.next().await, Some(ConnectionEvent::Missed { events: 3 })));
        assert!(matches!(heard.next().await, Some(ConnectionEvent::Reconnected { attempt: 4 })));
        assert!(matches!(heard.next().await, Some(ConnectionEvent::Reconnected { attempt: 5 })));
        let why = Error::new(ErrorKind::Closed, "closed");
        sender.send(ConnectionEvent::Closed { why }).unwrap();
        assert!(matches!(heard.next().await, Some(ConnectionEvent::Closed { .. })));
        assert!(heard.next().await.is_none());
    }
}
