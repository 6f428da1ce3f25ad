use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// For how many events to one recipient, and for how long, a writer keeps its agreement with that recipient.
///
/// The default, 256 events and 60 s, leaves less than 1 µs of the agreement's cost on each event. What it costs: whoever reads the
/// writer's memory opens the events of one such window instead of one event, and the events of a window can be told to belong
/// together by their ephemeral key. More than 65,536 events or 10 minutes would gain nothing that can be measured.
///
/// ```
/// use std::time::Duration;
/// use ensync_core::crypto::Keep;
///
/// let keep = Keep::new(1_000, Duration::from_secs(5))?;
/// assert_eq!((keep.events(), keep.time()), (1_000, Duration::from_secs(5)));
/// assert_eq!(Keep::default(), Keep::new(256, Duration::from_secs(60))?);
/// assert_eq!(Keep::NONE.events(), 1);
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    events: u32,
    time: Duration,
}

impl Keep {
    /// The most events that one agreement may serve.
    pub const MAX_EVENTS: u32 = 65_536;
    /// The longest time that an agreement may be kept.
    pub const MAX_TIME: Duration = Duration::from_secs(10 * 60);
    /// Nothing is kept: every event has its own agreement.
    pub const NONE: Self = Self { events: 1, time: Duration::ZERO };

    /// At most `events` events and at most `time`, whichever ends first. One event means that nothing is kept.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `events` is not 1 to [`MAX_EVENTS`](Self::MAX_EVENTS), or `time` is longer than
    /// [`MAX_TIME`](Self::MAX_TIME).
    pub fn new(events: u32, time: Duration) -> Result<Self> {
        if !(1..=Self::MAX_EVENTS).contains(&events) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("an agreement cannot serve {events} events; it serves 1 (nothing is kept) to 65,536"),
            ));
        }
        if time > Self::MAX_TIME {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("an agreement cannot be kept for {} s; it is kept for at most 600 s", time.as_secs()),
            ));
        }
        Ok(Self { events, time })
    }

    /// How many events one agreement serves at most.
    pub const fn events(self) -> u32 {
        self.events
    }

    /// How long it is kept at most.
    pub const fn time(self) -> Duration {
        self.time
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self { events: 256, time: Duration::from_secs(60) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_limits() {
        for (events, time) in [(0, 60), (65_537, 60), (256, 601)] {
            assert_eq!(Keep::new(events, Duration::from_secs(time)).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert!(Keep::new(Keep::MAX_EVENTS, Keep::MAX_TIME).is_ok());
    }
}
