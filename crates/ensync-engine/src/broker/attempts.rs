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

/// Makes who guesses app keys wait: after some failures in a row, an address may try once per delay, which doubles with each further
/// failure. Other addresses do not notice. A login that succeeds ends it.
#[derive(Debug)]
pub(crate) struct Attempts {
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
    /// Until when nothing from there is looked at.
    until: Timestamp,
}

impl Attempts {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            free: limits.login_failures,
            delay: limits.login_delay,
            max_delay: limits.max_login_delay,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// Whether a login may be looked at now.
    pub(crate) fn check(&self, from: IpAddr, now: Timestamp) -> Result<()> {
        match self.find(from) {
            Some(failures) if failures.until > now => {
                let wait = failures.until.since(now);
                Err(Error::new(
                    ErrorKind::LimitExceeded,
                    format!(
                        "too many logins from this address failed (login_failures is {}); check the app key, and try again in {} s",
                        self.free,
                        wait.as_millis().div_ceil(1_000)
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn failed(&mut self, from: IpAddr, now: Timestamp) {
        let before =
            self.find(from).filter(|failures| now.since(failures.last) < FORGET).map_or(0, |found| found.count);
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
    }

    pub(crate) fn succeeded(&mut self, from: IpAddr) {
        self.young.remove(&from);
        self.old.remove(&from);
    }

    fn find(&self, from: IpAddr) -> Option<Failures> {
        self.young.get(&from).or_else(|| self.old.get(&from)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000_000;

    fn attempts() -> Attempts {
        let mut limits = Limits::default();
        (limits.login_failures, limits.login_delay) = (3, Duration::from_secs(1));
        limits.max_login_delay = Duration::from_secs(5);
        Attempts::new(&limits)
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(START + ms)
    }

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    #[test]
    fn the_delay_grows_and_ends() {
        let mut attempts = attempts();
        let mut now = 0;
        let mut delays = Vec::new();
        for _ in 0..7 {
            attempts.check(address(1), at(now)).unwrap();
            attempts.failed(address(1), at(now));
            let begin = now;
            while attempts.check(address(1), at(now)).is_err() {
                now += 500;
            }
            delays.push(now - begin);
        }
        assert_eq!(delays, [0, 0, 1_000, 2_000, 4_000, 5_000, 5_000]);
    }

    #[test]
    fn the_refusal_says_how_long_and_which_limit() {
        let mut attempts = attempts();
        for _ in 0..4 {
            attempts.failed(address(1), at(0));
        }
        let error = attempts.check(address(1), at(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.is_retryable());
        assert!(error.to_string().contains("login_failures is 3") && error.to_string().contains("in 2 s"), "{error}");
    }

    #[test]
    fn a_success_a_pause_and_other_addresses_are_not_held_up() {
        let mut attempts = attempts();
        for _ in 0..4 {
            attempts.failed(address(1), at(0));
        }
        attempts.check(address(2), at(0)).unwrap();
        attempts.succeeded(address(1));
        attempts.check(address(1), at(0)).unwrap();
        for _ in 0..2 {
            attempts.failed(address(1), at(0));
            attempts.check(address(1), at(0)).unwrap();
        }
        attempts.failed(address(1), at(FORGET.as_millis() as u64));
        attempts.check(address(1), at(FORGET.as_millis() as u64)).unwrap();
    }

    #[test]
    fn memory_is_bounded_and_the_latest_stay() {
        let mut attempts = attempts();
        for n in 0..200_000 {
            for _ in 0..3 {
                attempts.failed(address(n), at(0));
            }
            assert!(attempts.young.len() <= GENERATION && attempts.old.len() <= GENERATION);
        }
        assert!(attempts.check(address(199_999), at(1)).is_err());
        assert!(attempts.check(address(200_000 - GENERATION as u32), at(1)).is_err());
        attempts.check(address(0), at(1)).unwrap();
    }
}
