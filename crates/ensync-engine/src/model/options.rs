//! What holds for an event name.

use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::{Error, ErrorKind, Result, Schema};

use super::Defaults;

/// What holds for an event name. `None` leaves it to the engine's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventOptions {
    /// What payloads must look like. One that says more of its fields than an engine reads, 256 KiB, is refused.
    pub schema: Option<Schema>,
    /// How long an event is of use, from its acceptance. Changes hold for later events.
    pub ttl: Option<Duration>,
    /// After how many deliveries an event that nobody settles goes to the dead letters.
    ///
    /// A delivery counts when its lease runs out, and when the client rolls it back or defers it; a defer to a later time makes
    /// no dead letter by itself. What was never given to a client is no delivery: it waited for a reader that took nothing, or its payload
    /// could not be read from the disk. The first 100 that come back because the client's session or connection ended do not count,
    /// for the client may never have looked at them; they do raise the attempt that the next reader sees. The count starts anew
    /// when a dead letter is queued again. A restart keeps it; what was with a client when the engine was killed is not in it, as if
    /// the connection had ended.
    pub max_deliveries: Option<NonZeroU32>,
    /// How long a client may take to settle a delivery.
    pub ack_timeout: Option<Duration>,
}

impl EventOptions {
    /// The shortest `ttl` and `ack_timeout`.
    pub const MIN_DURATION: Duration = Duration::from_millis(100);
    /// The longest `ack_timeout`: what a client holds longer it should defer.
    pub const MAX_ACK_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if a duration is too short or too long.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: &str, given: Duration, rule: &str| {
            Err(Error::new(ErrorKind::InvalidInput, format!("{what} of {} ms: {rule}", given.as_millis())))
        };
        match (self.ttl, self.ack_timeout) {
            (Some(ttl), _) if ttl < Self::MIN_DURATION => refuse("ttl", ttl, "it must be at least 100 ms"),
            (_, Some(timeout)) if !(Self::MIN_DURATION..=Self::MAX_ACK_TIMEOUT).contains(&timeout) => {
                refuse("ack timeout", timeout, "it must be 100 ms to 24 hours")
            }
            _ => Ok(()),
        }
    }
}

/// What holds for the events of a name, with the engine's defaults where its options say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// See [`EventOptions::ttl`].
    pub ttl: Option<Duration>,
    /// See [`EventOptions::max_deliveries`].
    pub max_deliveries: NonZeroU32,
    /// See [`EventOptions::ack_timeout`].
    pub ack_timeout: Duration,
}

impl Rules {
    /// Those of a name, if it has options.
    pub fn new(options: Option<&EventOptions>, defaults: &Defaults) -> Self {
        Self {
            ttl: options.and_then(|options| options.ttl).or(defaults.ttl),
            max_deliveries: options.and_then(|options| options.max_deliveries).unwrap_or(defaults.max_deliveries),
            ack_timeout: options.and_then(|options| options.ack_timeout).unwrap_or(defaults.ack_timeout),
        }
    }
}

/// New options for an event name: `None` leaves one as it is, `Some(None)` leaves it to the engine's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventChange {
    /// See [`EventOptions::schema`].
    pub schema: Option<Option<Schema>>,
    /// See [`EventOptions::ttl`].
    pub ttl: Option<Option<Duration>>,
    /// See [`EventOptions::max_deliveries`].
    pub max_deliveries: Option<Option<NonZeroU32>>,
    /// See [`EventOptions::ack_timeout`].
    pub ack_timeout: Option<Option<Duration>>,
}

impl EventChange {
    /// The options with what is new in them.
    #[must_use]
    pub fn made(&self, options: &EventOptions) -> EventOptions {
        let Self { schema, ttl, max_deliveries, ack_timeout } = self;
        EventOptions {
            schema: schema.as_ref().unwrap_or(&options.schema).clone(),
            ttl: ttl.unwrap_or(options.ttl),
            max_deliveries: max_deliveries.unwrap_or(options.max_deliveries),
            ack_timeout: ack_timeout.unwrap_or(options.ack_timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_say_which() {
        EventOptions::default().check().unwrap();
        let ms = |ms| Some(Duration::from_millis(ms));
        for (options, part) in [
            (EventOptions { ttl: ms(99), ..Default::default() }, "ttl of 99 ms"),
            (EventOptions { ack_timeout: ms(0), ..Default::default() }, "ack timeout of 0 ms"),
            (EventOptions { ack_timeout: ms(86_400_001), ..Default::default() }, "ack timeout of 86400001 ms"),
        ] {
            let error = options.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
