//! Points in time.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::convert::parsed;
use crate::text::Given;
use crate::{Error, ErrorKind, Result};

/// The first millisecond of the year 10000, which RFC 3339 cannot write.
const YEAR_10000: u64 = 253_402_300_800_000;

/// A point in time: whole milliseconds since the Unix epoch, UTC.
///
/// `Display` writes it as RFC 3339 does, and [`parse`](Self::parse) reads that; serde sees the number of milliseconds, as the wire does.
///
/// ```
/// use std::time::Duration;
/// use ensync_core::Timestamp;
///
/// let at = Timestamp::from_millis(1_700_000_000_123);
/// assert_eq!(at.to_string(), "2023-11-14T22:13:20.123Z");
/// assert_eq!("2023-11-14T22:13:20.123Z".parse::<Timestamp>()?, at);
/// assert_eq!((at + Duration::from_secs(1)) - at, Duration::from_secs(1));
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Reads RFC 3339 in UTC, such as `2023-11-14T22:13:20.123Z`. What is finer than a millisecond is left out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = || {
            let message = format!("{} is not a time in UTC like 2023-11-14T22:13:20Z (RFC 3339)", Given(text));
            Error::new(ErrorKind::InvalidInput, message)
        };
        humantime::parse_rfc3339(text).map(Self::from).map_err(|_| refuse())
    }

    /// What the system clock says.
    pub fn now() -> Self {
        // Not `std`'s: that panics in a browser.
        let now = web_time::SystemTime::now().duration_since(web_time::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The same as a `SystemTime`; `None` if it is later than the operating system can tell.
    pub fn to_system_time(self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_millis(self.0))
    }

    /// This much later; stops at the end of time.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// As [`after`](Timestamp::after).
impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, delay: Duration) -> Self {
        self.after(delay)
    }
}

/// This much earlier; stops at the Unix epoch.
impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// As [`since`](Timestamp::since).
impl Sub for Timestamp {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

parsed!(Timestamp);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_system_time() {
            Some(time) if self.0 < YEAR_10000 => humantime::format_rfc3339_millis(time).fmt(f),
            _ => write!(f, "{} ms after 1970-01-01T00:00:00Z", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_as_rfc_3339_says() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (YEAR_10000 - 1, "9999-12-31T23:59:59.999Z"),
        ] {
            let at = Timestamp::from_millis(millis);
            assert_eq!(at.to_string(), text);
            assert_eq!(text.parse::<Timestamp>().unwrap(), at);
        }
        assert_eq!("1970-01-01T00:00:00Z".parse::<Timestamp>().unwrap(), Timestamp::default());
        for far in [YEAR_10000, u64::MAX] {
            assert_eq!(Timestamp::from_millis(far).to_string(), format!("{far} ms after 1970-01-01T00:00:00Z"));
        }
        for bad in ["", "1700000000123", "2023-11-14", "2023-11-14T22:13:20+01:00", "2023-13-14T22:13:20Z"] {
            assert_eq!(bad.parse::<Timestamp>().unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }

    #[test]
    fn arithmetic_stops_at_both_ends() {
        let (first, last) = (Timestamp::default(), Timestamp::from_millis(u64::MAX));
        let second = Duration::from_secs(1);
        assert_eq!((first - second, last + second), (first, last));
        assert_eq!((last + Duration::MAX, last - Duration::MAX), (last, first));
        assert_eq!(first - last, Duration::ZERO);
        assert_eq!(first + second - first, second);
        let now = SystemTime::now();
        let kept = Timestamp::from(now).to_system_time().unwrap();
        assert!(now.duration_since(kept).unwrap() < Duration::from_millis(1));
        assert_eq!(serde_json::to_string(&Timestamp::from_millis(7)).unwrap(), "7");
    }
}
