//! Which commands are sent again, when, and until when: decided here and nowhere else.
//!
//! | what came | publish | settlement of a delivery | subscribe, unsubscribe, pause, continue, replay | login |
//! |---|---|---|---|---|
//! | `Closed` (the link; it was not sent), `Unauthenticated` (the engine forgot the session) | over the next link | refused as stale: the engine has the delivery back | over the next link; unsubscribe is done with the link's end | a refused key is final |
//! | `Interrupted` (no answer will come) | again if the engine deduplicates, within its window | again over its link, if that lives | again | again |
//! | `Unavailable`, `LimitExceeded`, a word that is a gateway's | again, with the same condition where the error says that it may have happened | again over its link | again | again |
//! | `Timeout` (of the engine, or the deadline), `Protocol`, `Internal` | told | told | told | again |
//! | any other refusal | told: it will not pass | told | told | `Forbidden` is final, others are tried again |
//!
//! **A gateway's word** is what was [said on the way](Error::is_said_on_the_way): an HTTP answer that no engine gives, or a gRPC status
//! without a code of ours, for an engine refuses in its answer. It means the same over both transports:
//!
//! | HTTP | gRPC | kind | |
//! |---|---|---|---|
//! | 401, 407 | 16 unauthenticated | `Unavailable`, `Unauthenticated` | passes at a login; of a command, the next link's login shows whose word it is |
//! | 403 | 7 permission denied | `Unavailable`, `Forbidden` | passes |
//! | 404 | 12 unimplemented | `Unavailable`, `Unsupported` | passes for what every engine serves; others may not have the call |
//! | 408, 5xx, a page | 1 cancelled, 2 unknown, 10 aborted, 14 unavailable | `Unavailable`, `Refused` | passes; it may have been carried out |
//! | 400 | 13 internal, 15 data loss | `Unavailable`, `Protocol` | the same |
//! | 413, 429 | 8 resource exhausted, 11 out of range | `PayloadTooLarge`, `LimitExceeded` | as if the engine had said it |
//! | | 3, 5, 6, 9 | by the status | stays: somebody looked at the command |
//!
//! **A key** that an engine refuses by a code is refused for good. In words of its own it may mean that it does not know any key yet: a
//! client that was logged in with that key asks a few times more.
//!
//! **The wait** doubles from [`RetryPolicy::first_wait`] up to [`RetryPolicy::longest_wait`], and is a random part of that; where the
//! engine said that it cannot now, one in its upper half. A repeat over the next link does not wait: the link did. The first repeat of a
//! publish is free; every other is paid from the session's budget, which grows with the answers that say done: however many wait, repeats
//! at most triple the load, and those that go on for long are what waits. Other commands are bounded by what they are about, and pay nothing.
//!
//! **Until when**: the caller's deadline. A publish is repeated after an attempt that may have happened only while the engine that the
//! repeat goes to remembers the first one: half of its window, at the moment of sending.
//!
//! **What is told** in the end is the error of an attempt that may have happened, if there was one: a later refusal does not unmake it.
//! Where the key or the right is gone (`Unauthenticated`, `Forbidden`) that is told, for somebody has to act upon it, and it says of
//! itself that the command may have been carried out.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use ensync_core::{Command, Error, ErrorKind, Extension, ServerConfig, Settlement};
use tokio::time::Instant;

/// How long an engine remembers a publish, if it deduplicates and does not say.
pub(crate) const WINDOW: Duration = Duration::from_secs(120);

/// How a command that was refused in passing, or whose answer was lost, is sent again. It ends at the command's deadline whatever
/// this says, and no command is repeated that might then be carried out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    first_wait: Duration,
    longest_wait: Duration,
    attempts: Option<NonZeroU32>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { first_wait: Duration::from_millis(100), longest_wait: Duration::from_secs(5), attempts: None }
    }
}

impl RetryPolicy {
    /// Until the deadline, with waits of up to 100 ms that double, up to 5 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// One attempt. It still waits for a connection, and what a connection that ended did not carry goes over the next.
    pub fn never() -> Self {
        Self::default().max_attempts(1)
    }

    /// The longest wait before the second attempt.
    #[must_use]
    pub fn first_wait(mut self, wait: Duration) -> Self {
        self.first_wait = crate::options::bounded(wait);
        self
    }

    /// What the waits grow up to.
    #[must_use]
    pub fn longest_wait(mut self, wait: Duration) -> Self {
        self.longest_wait = crate::options::bounded(wait);
        self
    }

    /// At most this many attempts, the first included. 0 counts as 1.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(NonZeroU32::new(attempts).unwrap_or(NonZeroU32::MIN));
        self
    }

    fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first_wait.saturating_mul(factor).min(self.longest_wait)
    }
}

/// What to do after a failed attempt.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Tell it.
    Tell,
    /// Over another link, at once: this one is gone.
    OtherLink,
    /// After a wait.
    After(Duration),
}

/// The attempts of one command.
#[derive(Debug)]
pub(super) struct Attempts {
    policy: RetryPolicy,
    made: u32,
    /// When one was sent that may have happened, and its error.
    unsure: Option<(Sent, Error)>,
}

/// When an attempt was sent, by two clocks: the one that waits are made of stands still while a machine sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    at: Instant,
    by_wall: SystemTime,
}

/// By how much a wall clock is set back without anybody having done so.
const SLEWED: Duration = Duration::from_secs(1);

impl Sent {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), by_wall: SystemTime::now() }
    }

    pub(super) fn at(self) -> Instant {
        self.at
    }

    /// How long ago that was; `None` if nobody knows, for the machine's clock was set back.
    fn elapsed(self) -> Option<Duration> {
        let by_wall = match self.by_wall.elapsed() {
            Ok(elapsed) => elapsed,
            Err(back) if back.duration() <= SLEWED => Duration::ZERO,
            Err(_) => return None,
        };
        Some(by_wall.max(self.at.elapsed()))
    }
}

impl Attempts {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, made: 0, unsure: None }
    }

    /// Whether the command may go out now to this engine.
    pub(super) fn may_send(&self, command: &Command, engine: &ServerConfig) -> bool {
        match (&self.unsure, command) {
            (Some((since, _)), Command::Publish(publish)) => {
                publish.idempotency_key.is_some() && remembers(engine, *since)
            }
            _ => true,
        }
    }

    /// An attempt that was sent at `sent` to `engine` failed. `random`, from 0 to 1, is what the wait is made of.
    pub(super) fn failed(
        &mut self,
        command: &Command,
        engine: &ServerConfig,
        sent: Sent,
        error: &Error,
        random: f64,
    ) -> Next {
        self.made = self.made.saturating_add(1);
        if error.may_have_happened() && self.unsure.is_none() {
            self.unsure = Some((sent, error.clone()));
        }
        let next = match error.kind() {
            // It was not carried out, and is no attempt of the caller's.
            ErrorKind::Closed | ErrorKind::Unauthenticated => {
                self.made -= 1;
                return if self.may_send(command, engine) { Next::OtherLink } else { Next::Tell };
            }
            kind if is_outlasted(error, every_engine_serves(command)) => {
                jittered(self.policy.ceiling(self.made), kind, random)
            }
            _ => return Next::Tell,
        };
        let spent = self.policy.attempts.is_some_and(|most| self.made >= most.get());
        if spent || !self.may_send(command, engine) { Next::Tell } else { Next::After(next) }
    }

    /// Whether the repeat that comes next is the first.
    pub(super) fn is_first_repeat(&self) -> bool {
        self.made <= 1
    }

    /// What the caller is told when this was the last. That the key or the right is gone, for which the client is `closed`, is what
    /// somebody has to act upon, so that goes before a link that was lost; nobody else's word does.
    pub(super) fn told(self, error: Error, closed: bool) -> Error {
        match self.unsure {
            Some((_, unsure)) if !error.may_have_happened() => match error.kind() {
                ErrorKind::Unauthenticated | ErrorKind::Forbidden if closed => error.perhaps_done().context(
                    "it was sent before and may or may not have been carried out, and it could not be repeated",
                ),
                _ => {
                    tracing::debug!(%error, "what may have happened could not be repeated");
                    unsure
                }
            },
            _ => error,
        }
    }
}

/// A random part of a wait; its upper half where the engine said that it cannot now.
pub(super) fn jittered(ceiling: Duration, kind: ErrorKind, random: f64) -> Duration {
    let random = random.clamp(0.0, 1.0);
    match kind {
        ErrorKind::LimitExceeded | ErrorKind::Unavailable => ceiling.mul_f64(0.5 + random / 2.0),
        _ => ceiling.mul_f64(random),
    }
}

/// Whether an engine still knows a publish that was first sent at `since`. Half of its window is left for the way there.
fn remembers(engine: &ServerConfig, since: Sent) -> bool {
    let window = engine.dedup_window().unwrap_or(WINDOW);
    engine.has(Extension::Deduplication) && since.elapsed().is_some_and(|elapsed| elapsed < window / 2)
}

/// How often an engine may refuse in its own words a key that it knew before.
const REFUSED_IN_WORDS: u32 = 5;

/// Whether an attempt to log in is the last: who the app is, and what it may do, does not change by trying again. That must be the
/// engine's word: what a gateway refuses today it may let through in a moment. `was_known` if a login with this key succeeded before, and
/// how often the key was refused in words since.
pub(super) fn is_final_for_login(error: &Error, was_known: bool, refused: u32) -> bool {
    let of_the_key = matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Forbidden);
    let may_pass = was_known && error.is_read_from_words() && refused < REFUSED_IN_WORDS;
    of_the_key && !error.is_said_on_the_way() && !may_pass
}

/// Whether a refusal passes by itself, so that what is said to an engine may be said again. `served` as in [`may_relent`].
pub(super) fn passes(error: &Error, served: bool) -> bool {
    error.kind() == ErrorKind::Timeout || is_outlasted(error, served)
}

/// Whether a command is repeated after it, while there is time.
fn is_outlasted(error: &Error, served: bool) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::Unavailable | ErrorKind::LimitExceeded)
        || may_relent(error, served)
}

/// Whether it may be the word of a gateway that will soon say something else, though of its kind it would stay. `served` if
/// [every engine serves](every_engine_serves) what was asked for.
pub(crate) fn may_relent(error: &Error, served: bool) -> bool {
    error.is_said_on_the_way()
        && match error.kind() {
            ErrorKind::Forbidden => true,
            ErrorKind::Unsupported => served,
            // One that was looked at and refused is not of those.
            ErrorKind::Refused | ErrorKind::Protocol => error.may_have_happened(),
            _ => false,
        }
}

/// Whether there is no engine that does not have this: who answers that he does not is none.
pub(super) fn every_engine_serves(command: &Command) -> bool {
    match command {
        Command::Publish(_) | Command::Subscribe(_) | Command::Unsubscribe { .. } | Command::Heartbeat => true,
        Command::Settle(settle) => settle.how == Settlement::Ack,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle() -> Command {
        Command::Pause { event: "a/b".parse().unwrap(), reason: String::new() }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let policy = RetryPolicy::new();
        let ceilings: Vec<_> = (1..=8).map(|attempt| policy.ceiling(attempt).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(policy.ceiling(u32::MAX), Duration::from_secs(5));
        assert_eq!(jittered(Duration::from_secs(4), ErrorKind::Unavailable, 0.0), Duration::from_secs(2));
        assert_eq!(jittered(Duration::from_secs(4), ErrorKind::Interrupted, 0.0), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_repeated_and_what_does_not_is_told() {
        let (engine, now) = (ServerConfig::default(), Sent::now());
        for &kind in ErrorKind::ALL {
            let error = Error::new(kind, "no");
            let next = Attempts::new(RetryPolicy::new()).failed(&settle(), &engine, now, &error, 0.5);
            match kind {
                ErrorKind::Closed | ErrorKind::Unauthenticated => assert_eq!(next, Next::OtherLink),
                ErrorKind::Interrupted | ErrorKind::Unavailable | ErrorKind::LimitExceeded => {
                    assert!(matches!(next, Next::After(_)), "{kind:?}");
                }
                _ => assert_eq!(next, Next::Tell, "{kind:?}"),
            }
        }
        let mut once = Attempts::new(RetryPolicy::never());
        assert_eq!(once.failed(&settle(), &engine, now, &Error::new(ErrorKind::Unavailable, "no"), 0.5), Next::Tell);
    }

    #[test]
    fn what_a_gateway_says_passes_and_what_the_engine_says_of_the_key_stays() {
        use ErrorKind::{
            Forbidden, InvalidInput, NotFound, PayloadTooLarge, Protocol, Refused, Unauthenticated, Unsupported,
        };
        let event = "a/b".parse::<ensync_core::EventName>().unwrap();
        let (served, not) = (Command::Unsubscribe { event }, settle());
        assert!(every_engine_serves(&served) && !every_engine_serves(&not));
        for (kind, perhaps_done, of_what_is_served, of_others) in [
            (Forbidden, false, true, true),
            (Unsupported, false, true, false),
            (Protocol, true, true, true),
            (Refused, true, true, true),
            (Refused, false, false, false),
            (PayloadTooLarge, false, false, false),
            (InvalidInput, false, false, false),
            (NotFound, false, false, false),
        ] {
            let error = Error::new(kind, "no");
            let error = if perhaps_done { error.perhaps_done() } else { error };
            assert!(!passes(&error, true), "{kind:?} of the engine");
            let error = error.said_on_the_way();
            assert_eq!((passes(&error, true), passes(&error, false)), (of_what_is_served, of_others), "{kind:?}");
        }
        for kind in [Forbidden, Unauthenticated] {
            assert!(is_final_for_login(&Error::new(kind, "no"), true, 0));
            assert!(!is_final_for_login(&Error::new(kind, "no").said_on_the_way(), false, 1_000));
        }
        let in_words = Error::from_login_refusal("Invalid access key");
        assert!(is_final_for_login(&in_words, false, 0), "a key that never was known");
        assert!(!is_final_for_login(&in_words, true, 0) && is_final_for_login(&in_words, true, REFUSED_IN_WORDS));
        assert!(is_final_for_login(&Error::from_login_refusal("unauthenticated: no such key"), true, 0));
        assert!(!is_final_for_login(&Error::new(Protocol, "what is that"), false, 0));
    }

    /// While a machine sleeps its engine forgets.
    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_the_machine_slept_is_not_remembered() {
        let engine = [(ServerConfig::EXTENSIONS, Extension::Deduplication.name())].into_iter();
        let engine: ServerConfig = engine.map(|(key, value)| (key, value.to_owned())).collect();
        let ago = |by_wall: Duration| Sent { by_wall: SystemTime::now() - by_wall, ..Sent::now() };
        for (seconds, remembered) in [(0, true), (50, true), (61, false), (600, false)] {
            assert_eq!(remembers(&engine, ago(Duration::from_secs(seconds))), remembered, "{seconds} s");
        }
        // Set back: a little is what clocks do, and of more nobody knows how long it was.
        for (ahead, remembered) in [(Duration::from_millis(500), true), (Duration::from_secs(10), false)] {
            let sent = Sent { by_wall: SystemTime::now() + ahead, ..Sent::now() };
            assert_eq!(remembers(&engine, sent), remembered, "{ahead:?} back");
        }
        let sent = Sent::now();
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(remembers(&engine, sent));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!remembers(&engine, sent));
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_happened_is_what_is_told() {
        use ErrorKind::{Closed, Connect, Forbidden, Interrupted, Refused, Unauthenticated};
        let lost = Error::new(Interrupted, "lost");
        for (last, told) in [
            (Forbidden, Forbidden),
            (Unauthenticated, Unauthenticated),
            (Closed, Interrupted),
            (Connect, Interrupted),
            (Refused, Interrupted),
        ] {
            let mut attempts = Attempts::new(RetryPolicy::new());
            attempts.failed(&settle(), &ServerConfig::default(), Sent::now(), &lost, 0.5);
            let error = attempts.told(Error::new(last, "the last word"), true);
            assert!(error.kind() == told && error.may_have_happened(), "{last:?}: {error:?}");
            assert_eq!(error.to_string().contains("the last word"), last == told, "{error}");
            let mut attempts = Attempts::new(RetryPolicy::new());
            attempts.failed(&settle(), &ServerConfig::default(), Sent::now(), &lost, 0.5);
            let error = attempts.told(Error::new(last, "of a session, or of a command"), false);
            assert!(error.kind() == Interrupted, "{last:?}: {error:?}");
            let error = Attempts::new(RetryPolicy::new()).told(Error::new(last, "the last word"), true);
            assert!(error.kind() == last && !error.may_have_happened(), "{last:?}: {error:?}");
        }
    }
}
