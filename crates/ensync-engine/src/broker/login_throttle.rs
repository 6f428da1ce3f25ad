//! Logins that failed, by where they came from.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use ensync_core::{Error, ErrorKind, Result, Timestamp};

use crate::state::Limits;

/// How many addresses are remembered, in each of two generations: about 4 MB in all. An attacker with more of them has the rest
/// of the world's addresses too.
const GENERATION: usize = 1 << 15;
/// After how long without a failure the count begins anew.
const FORGET: Duration = Duration::from_secs(15 * 60);

/// Makes who guesses app keys wait: after some failures in a row, an address is told of one more failure per delay, which doubles with
/// each. A login that is right is let in at any time, so that one client with an old key does not lock out those beside it.
#[derive(Debug)]
pub(crate) struct LoginThrottle {
    free: u32,
    delay: Duration,
    max_delay: Duration,
    /// What was touched lately, and what was touched before that: when the first is full it becomes the second.
    young: HashMap<IpAddr, Failures>,
    old: HashMap<IpAddr, Failures>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Timestamp,
    /// Until when further failures from there are not told apart.
    until: Timestamp,
}

impl LoginThrottle {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            free: limits.login_failures,
            delay: limits.login_delay,
            max_delay: limits.max_login_delay,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// For how many seconds further failures from an address are not told apart, if they are not.
    pub(crate) fn wait(&self, from: IpAddr, now: Timestamp) -> Option<u128> {
        let failures = self.find(from).filter(|failures| failures.until > now)?;
        Some(failures.until.since(now).as_millis().div_ceil(1_000))
    }

    /// Takes note of a login that failed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LimitExceeded`] if it came before the delay for those before it was over; it is not counted then.
    pub(crate) fn failed(&mut self, from: IpAddr, now: Timestamp) -> Result<()> {
        let found = self.find(from);
        if let Some(seconds) = self.wait(from, now) {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "this login failed, and too many from this address before it (login_failures is {}); check the app key, and try \
                     again in {seconds} s",
                    self.free
                ),
            ));
        }
        let before = found.filter(|failures| now.since(failures.last) < FORGET).map_or(0, |found| found.count);
        let count = before.saturating_add(1);
        let delay = match count.checked_sub(self.free) {
            None => Duration::ZERO,
            Some(over) => self.delay.saturating_mul(1_u32.checked_shl(over).unwrap_or(u32::MAX)).min(self.max_delay),
        };
        self.old.remove(&from);
        self.young.insert(from, Failures { count, last: now, until: now.after(delay) });
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        Ok(())
    }

    fn find(&self, from: IpAddr) -> Option<Failures> {
        self.young.get(&from).or_else(|| self.old.get(&from)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000_000;

    fn throttle() -> LoginThrottle {
        let mut limits = Limits::default();
        (limits.login_failures, limits.login_delay) = (3, Duration::from_secs(1));
        limits.max_login_delay = Duration::from_secs(5);
        LoginThrottle::new(&limits)
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(START + ms)
    }

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    #[test]
    fn the_delay_grows_and_ends() {
        let mut throttle = throttle();
        let mut now = 0;
        let mut delays = Vec::new();
        for _ in 0..7 {
            let begin = now;
            while throttle.failed(address(1), at(now)).is_err() {
                now += 500;
            }
            delays.push(now - begin);
        }
        assert_eq!(delays, [0, 0, 0, 1_000, 2_000, 4_000, 5_000]);
    }

    #[test]
    fn the_refusal_says_how_long_and_which_limit() {
        let mut throttle = throttle();
        for _ in 0..4 {
            _ = throttle.failed(address(1), at(0));
        }
        let error = throttle.failed(address(1), at(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.is_retryable());
        assert!(error.to_string().contains("login_failures is 3") && error.to_string().contains("in 1 s"), "{error}");
    }

    #[test]
    fn a_pause_and_other_addresses_are_not_held_up() {
        let mut throttle = throttle();
        for _ in 0..3 {
            throttle.failed(address(1), at(0)).unwrap();
        }
        throttle.failed(address(1), at(0)).unwrap_err();
        throttle.failed(address(2), at(0)).unwrap();
        let later = FORGET.as_millis() as u64;
        for _ in 0..3 {
            throttle.failed(address(1), at(later)).unwrap();
        }
        throttle.failed(address(1), at(later)).unwrap_err();
    }

    #[test]
    fn memory_is_bounded_and_the_latest_stay() {
        let mut throttle = throttle();
        for n in 0..200_000 {
            for _ in 0..3 {
                throttle.failed(address(n), at(0)).unwrap();
            }
            assert!(throttle.young.len() <= GENERATION && throttle.old.len() <= GENERATION);
        }
        assert!(throttle.failed(address(199_999), at(1)).is_err());
        assert!(throttle.failed(address(200_000 - GENERATION as u32), at(1)).is_err());
        throttle.failed(address(0), at(1)).unwrap();
    }
}
