use std::fmt;
use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// How long a deferred event waits: not at all, or 1 second to 24 hours, in whole milliseconds.
///
/// ```
/// use std::time::Duration;
/// use ensync_core::Delay;
///
/// assert_eq!(Delay::new(Duration::from_secs(60))?.get(), Duration::from_secs(60));
/// assert!(Delay::new(Duration::from_millis(5)).is_err());
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Delay(Duration);

impl Delay {
    /// No wait: the event is delivered again at once.
    pub const NONE: Self = Self(Duration::ZERO);
    /// The shortest wait.
    pub const MIN: Self = Self(Duration::from_secs(1));
    /// The longest wait.
    pub const MAX: Self = Self(Duration::from_secs(24 * 60 * 60));

    /// A wait. A part of a millisecond counts as a whole one, so that the event does not come early.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is neither zero nor within [`MIN`](Self::MIN) and [`MAX`](Self::MAX).
    pub fn new(delay: Duration) -> Result<Self> {
        if !delay.is_zero() && !(Self::MIN.0..=Self::MAX.0).contains(&delay) {
            let message = format!("defer by {delay:?}: the delay must be 0 (at once), or 1 second to 24 hours");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let millis = delay.as_nanos().div_ceil(1_000_000);
        Ok(Self(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))))
    }

    /// A wait in milliseconds, as the wire carries it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn from_millis(millis: u64) -> Result<Self> {
        Self::new(Duration::from_millis(millis))
    }

    /// As a duration.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// As the wire carries it.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether there is no wait.
    pub const fn is_none(self) -> bool {
        self.0.is_zero()
    }
}

impl TryFrom<Duration> for Delay {
    type Error = Error;
    fn try_from(delay: Duration) -> Result<Self> {
        Self::new(delay)
    }
}

impl From<Delay> for Duration {
    fn from(delay: Delay) -> Self {
        delay.0
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_zero_or_a_second_to_a_day() {
        for ms in [0, 1_000, 5_000, 86_400_000] {
            assert_eq!(Delay::from_millis(ms).unwrap().as_millis(), ms);
        }
        for (delay, shown) in [
            (Duration::from_micros(500), "500µs"),
            (Duration::from_millis(1), "1ms"),
            (Duration::from_millis(999), "999ms"),
            (Duration::from_millis(86_400_001), "86400.001s"),
            (Duration::from_nanos(86_400_000_000_001), "86400.000000001s"),
            (Duration::MAX, "18446744073709551615.999999999s"),
        ] {
            let error = Delay::new(delay).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with(&format!("defer by {shown}: ")), "{error}");
        }
        assert_eq!(Delay::new(Duration::from_micros(1_000_001)).unwrap().as_millis(), 1_001);
        assert!(Delay::NONE.is_none() && !Delay::MIN.is_none());
    }
}
