//! The clock by which queued events age: that of the machine, less the steps by which that was set. A device without a battery for its
//! clock starts in 1970 and is set right once it has a network; nothing is older by that.

use std::time::Duration;

use ensync_core::Timestamp;

/// By how much the machine's clock may run differently between two looks. More was not time that passed.
const TOLERANCE: i64 = 60_000;
/// No clock that was ever set says an earlier time: 2026.
const SET: Timestamp = Timestamp::from_millis(1_767_225_600_000);
/// If a file was closed for longer than this, by the machine's clock, and than events may wait, that is believed only later.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// For how long nothing expires then, at most. What can be sent is sent meanwhile.
const GRACE: Duration = Duration::from_secs(60 * 60);

/// By how many milliseconds the machine's clock was set forward since the file was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Steps(i64);

impl Steps {
    /// What the machine's clock would have said then, had it been as it is now.
    pub(super) fn to_machine(self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis().saturating_add_signed(self.0))
    }

    fn of_machine(self, machine: Timestamp) -> Timestamp {
        Timestamp::from_millis(machine.as_millis().saturating_add_signed(self.0.saturating_neg()))
    }

    fn and(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// As it lies in the file.
    pub(super) fn stored(self) -> u64 {
        self.0.cast_unsigned()
    }

    pub(super) fn of_stored(stored: u64) -> Self {
        Self(stored.cast_signed())
    }
}

/// What a look at the clock says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Time {
    /// The time by which events age.
    pub(super) now: Timestamp,
    pub(super) steps: Steps,
    /// Whether what is too old by it may be given up.
    pub(super) expires: bool,
}

/// Looks at the machine's clock, and at how much time has passed since some moment.
pub(super) type Source = Box<dyn Fn() -> (Timestamp, Duration) + Send>;

/// The machine's.
pub(super) fn machine() -> Source {
    let passed = passed();
    Box::new(move || (Timestamp::now(), passed()))
}

/// That of a machine that slept has passed as well.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn passed() -> impl Fn() -> Duration + Send {
    || {
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::try_from(since_boot).unwrap_or_default()
    }
}

/// That of a machine that slept may be left out: events are kept longer by that.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn passed() -> impl Fn() -> Duration + Send {
    let begun = std::time::Instant::now();
    move || begun.elapsed()
}

pub(super) struct Clock {
    source: Source,
    /// What it said last.
    last: (Timestamp, Duration),
    steps: Steps,
    /// Before so much has passed nothing expires.
    expires_from: Duration,
}

impl Clock {
    /// Goes on from what an earlier one said last of the same file, if there was one.
    pub(super) fn new(source: Source, earlier: Option<(Timestamp, Steps)>, max_age: Duration) -> Self {
        let last = source();
        let mut clock = Self { source, last, steps: Steps::default(), expires_from: Duration::ZERO };
        let Some((before, steps)) = earlier else { return clock };
        clock.steps = steps;
        let now = clock.time().now;
        let was_set = steps.to_machine(before) >= SET;
        if now < before || !was_set && last.0 >= SET {
            // It was set back meanwhile, or for the first time. How long that took nobody knows.
            clock.steps = Steps(difference(last.0, before));
        } else if now.since(before) > max_age.max(DAY) {
            // It was set right meanwhile, or so much time has passed.
            clock.expires_from = last.1.saturating_add(GRACE.min(max_age));
        }
        clock
    }

    /// Looks at the clock of the machine. If that was set since the last look, time has not passed by it.
    pub(super) fn look(&mut self) -> Time {
        let (machine, passed) = (self.source)();
        let (before, passed_before) = self.last;
        let took = i64::try_from(passed.saturating_sub(passed_before).as_millis()).unwrap_or(i64::MAX);
        let step = difference(machine, before).saturating_sub(took);
        if step.saturating_abs() > TOLERANCE {
            tracing::warn!(from = %before, to = %machine, "the machine's clock was set; queued events are as old as before");
            self.steps = self.steps.and(step);
        }
        self.last = (machine, passed);
        self.time()
    }

    /// What the last look said.
    pub(super) fn time(&self) -> Time {
        let (machine, passed) = self.last;
        Time { now: self.steps.of_machine(machine), steps: self.steps, expires: passed >= self.expires_from }
    }
}

/// From one to the other, in milliseconds.
fn difference(to: Timestamp, from: Timestamp) -> i64 {
    let millis = |time: Timestamp| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    millis(to).saturating_sub(millis(from))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

    /// A machine whose clock a test sets.
    #[derive(Clone, Debug)]
    pub(in crate::outbox) struct Machine(Arc<Mutex<(Timestamp, Duration)>>);

    impl Machine {
        pub(in crate::outbox) fn at(time: &str) -> Self {
            Self(Arc::new(Mutex::new((time.parse().unwrap(), Duration::ZERO))))
        }

        pub(in crate::outbox) fn set(&self, time: &str) {
            self.0.lock().unwrap().0 = time.parse().unwrap();
        }

        /// Time passes.
        pub(in crate::outbox) fn run(&self, time: Duration) {
            let mut clock = self.0.lock().unwrap();
            *clock = (clock.0 + time, clock.1 + time);
        }

        pub(in crate::outbox) fn source(&self) -> Source {
            let clock = self.0.clone();
            Box::new(move || *clock.lock().unwrap())
        }
    }

    #[test]
    fn a_clock_that_is_set_ages_nothing() {
        let machine = Machine::at("1970-01-01T00:00:00Z");
        let mut clock = Clock::new(machine.source(), None, WEEK);
        let begun = clock.look().now;
        machine.run(HOUR);
        assert_eq!(clock.look().now.since(begun), HOUR);
        for set in ["2026-11-28T10:00:00Z", "2036-02-07T00:00:00Z", "1970-01-01T00:00:00Z", "2026-11-28T11:00:00Z"] {
            machine.set(set);
            let time = clock.look();
            assert_eq!((time.now.since(begun), time.expires), (HOUR, true), "{set}");
            assert_eq!(time.steps.to_machine(time.now).to_string(), set.replace('Z', ".000Z"));
            assert_eq!(Steps::of_stored(time.steps.stored()), time.steps);
        }
        // What a clock is corrected by all the time is followed.
        machine.set("2026-11-28T11:00:59Z");
        assert_eq!(clock.look().now.since(begun), HOUR + Duration::from_secs(59));
        machine.run(WEEK);
        assert_eq!(clock.look().now.since(begun), HOUR + WEEK + Duration::from_secs(59));
    }

    #[test]
    fn while_a_file_is_closed_the_machines_clock_counts_as_far_as_it_can_be_believed() {
        let machine = Machine::at("2026-11-28T10:00:00Z");
        let mut clock = Clock::new(machine.source(), None, WEEK);
        let before = clock.look();
        let again = |set: &str, max_age| {
            machine.set(set);
            let mut clock = Clock::new(machine.source(), Some((before.now, before.steps)), max_age);
            let first = clock.look();
            machine.run(HOUR - Duration::from_secs(1));
            let late = clock.look().expires;
            machine.run(Duration::from_secs(1));
            assert!(clock.look().expires);
            (first.now.since(before.now), first.expires, late)
        };
        assert_eq!(again("2026-12-05T10:00:00Z", WEEK), (WEEK, true, true));
        assert_eq!(again("2026-12-05T10:00:01Z", WEEK), (WEEK + Duration::from_secs(1), false, false));
        assert_eq!(again("1970-01-01T00:00:00Z", WEEK), (Duration::ZERO, true, true), "it starts without a battery");
        // Who wants nothing that is old gets little of it.
        assert!(again("2026-11-29T10:00:00Z", Duration::from_secs(10)).1);
        assert_eq!(again("2026-12-05T10:00:00Z", Duration::from_secs(10)), (WEEK, false, true));
    }
}
