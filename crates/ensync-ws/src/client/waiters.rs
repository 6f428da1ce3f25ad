//! The calls that wait for their answers.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use ensync_core::{Reply, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::activity::Activity;
use crate::frame::Expect;

/// Where a call waits for its answer. Its caller may have given up; its place is kept all the same, for answers carry no id.
pub(super) type Waiter = oneshot::Sender<Result<Reply>>;

/// For how long requests may overlap before a moment is made in which none is under way; half the limit, if that is shorter.
const PAUSE_AFTER: Duration = Duration::from_secs(10);

/// A slow network carries at least so many bytes of requests a second.
const SLOWEST: u64 = 64 * 1024;

/// What an engine may have written before it answers: the windows of several subscriptions. Where more has come, the answer was not behind
/// it.
const BEHIND: u64 = 64 << 20;

/// Calls in the order of their requests, which is the order of the answers.
///
/// A request that the engine never answers would give its place to the answer of the next one, and so on for as long as the link
/// lives: a refused publish would be told that it was stored. So the link fails when answers stand still for too long. While
/// requests overlap they never do, though one is missing; that is why none is sent, now and then, until all are answered. With an
/// engine that answers each this takes one round trip, with one that skipped one it never ends.
pub(super) struct Waiters {
    queue: VecDeque<(Expect, u64, Waiter)>,
    /// The bytes of their requests.
    bytes: u64,
    limit: Duration,
    activity: Activity,
    /// When an answer last came, or the first of these requests went out.
    moved: Instant,
    /// The bytes that had been received then.
    before: u64,
    /// Since when there was always one.
    overlapping: Instant,
    /// None may be added until all are answered.
    paused: bool,
    timer: Pin<Box<Sleep>>,
}

impl Waiters {
    pub(super) fn new(limit: Duration, activity: Activity) -> Self {
        let now = Instant::now();
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            limit,
            before: activity.received(),
            activity,
            moved: now,
            overlapping: now,
            paused: false,
            timer: Box::pin(tokio::time::sleep_until(now)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether another request may be sent.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn push(&mut self, expect: Expect, bytes: usize, waiter: Waiter) {
        if self.queue.is_empty() {
            self.move_on();
            self.overlapping = self.moved;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        self.queue.push_back((expect, bytes, waiter));
    }

    /// What the oldest expects.
    pub(super) fn expects(&self) -> Option<Expect> {
        self.queue.front().map(|(expect, ..)| *expect)
    }

    fn move_on(&mut self) {
        (self.moved, self.before) = (Instant::now(), self.activity.received());
    }

    /// The oldest, which has its answer.
    pub(super) fn pop(&mut self) -> Option<Waiter> {
        let (_, bytes, waiter) = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.move_on();
        self.paused &= !self.queue.is_empty();
        Some(waiter)
    }

    /// Looks at the clock. `Err` with how long no answer has come, if that is too long. `blocked` says that the socket has taken
    /// nothing lately, so that the engine may not know of the requests.
    pub(super) fn poll(&mut self, blocked: bool, cx: &mut Context<'_>) -> Result<(), Duration> {
        while !self.queue.is_empty() {
            // A timer that is set too early costs a look; setting it anew with each answer would cost more.
            if !self.timer.is_elapsed() && self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            let now = Instant::now();
            if blocked {
                self.moved = now;
            }
            // What has come since may all stand before the answer, though nothing of it is whole yet.
            let came = self.activity.received().saturating_sub(self.before);
            let came = Some(came).filter(|came| *came < BEHIND).unwrap_or_default();
            let on_its_way = Duration::from_secs(self.bytes.saturating_add(came) / SLOWEST);
            let limit = self.limit.saturating_add(on_its_way);
            let silent = now.saturating_duration_since(self.moved);
            if silent >= limit {
                return Err(silent);
            }
            let overlapped = now.saturating_duration_since(self.overlapping);
            let pause_after = PAUSE_AFTER.min(self.limit / 2);
            self.paused |= overlapped >= pause_after;
            let mut next = limit - silent;
            if !self.paused {
                next = next.min(pause_after - overlapped);
            }
            // A far future, where the sum is no instant.
            let next = now.checked_add(next).unwrap_or(now + Duration::from_secs(365 * 24 * 60 * 60));
            self.timer.as_mut().reset(next);
        }
        Ok(())
    }

    pub(super) fn into_waiters(self) -> impl Iterator<Item = Waiter> {
        self.queue.into_iter().map(|(.., waiter)| waiter)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;
    use tokio::sync::oneshot::channel;

    use super::*;

    fn push(waiters: &mut Waiters) {
        waiters.push(Expect::Done, 100, channel().0);
    }

    async fn look(waiters: &mut Waiters, blocked: bool) -> Result<(), Duration> {
        poll_fn(|cx| std::task::Poll::Ready(waiters.poll(blocked, cx))).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_missing_is_noticed_however_busy_the_link_is() {
        let mut waiters = Waiters::new(Duration::from_secs(20), Activity::new());
        push(&mut waiters);
        let mut seconds = 0;
        // One request too many waits all the time, for the engine answers one less than it is asked.
        let silent = loop {
            if !waiters.is_paused() {
                push(&mut waiters);
            }
            if waiters.len() > 1 {
                waiters.pop().unwrap();
            }
            tokio::time::advance(Duration::from_secs(1)).await;
            seconds += 1;
            if let Err(silent) = look(&mut waiters, false).await {
                break silent;
            }
            assert!(seconds < 60, "it was not noticed");
        };
        assert_eq!((seconds, silent.as_secs()), (29, 20));
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_answers_all_is_never_too_slow() {
        let mut waiters = Waiters::new(Duration::from_secs(20), Activity::new());
        for _ in 0..100 {
            for _ in 0..10 {
                push(&mut waiters);
            }
            for _ in 0..10 {
                // It takes a while over each; the last waited for far more than the limit.
                tokio::time::advance(Duration::from_secs(19)).await;
                look(&mut waiters, false).await.unwrap();
                waiters.pop().unwrap();
            }
            assert!(!waiters.is_paused(), "all are answered");
        }
    }

    /// A slow network brings events for minutes, and the answer behind them.
    #[tokio::test(start_paused = true)]
    async fn what_comes_before_an_answer_takes_its_time() {
        // As slow as is allowed for, and so slow that it is an excuse; and so much that the answer cannot be behind it.
        for (each_second, noticed_after) in [(SLOWEST, 1_044), (SLOWEST / 4, 27), (BEHIND, 20)] {
            let activity = Activity::new();
            let mut waiters = Waiters::new(Duration::from_secs(20), activity.clone());
            push(&mut waiters);
            let mut seconds = 0;
            while look(&mut waiters, false).await.is_ok() {
                tokio::time::advance(Duration::from_secs(1)).await;
                activity.came(usize::try_from(each_second).unwrap());
                seconds += 1;
                assert!(seconds < 2_000);
            }
            assert!((noticed_after - 22..=noticed_after + 2).contains(&seconds), "{each_second}: {seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_network_has_not_taken_cannot_be_answered() {
        let mut waiters = Waiters::new(Duration::from_secs(20), Activity::new());
        push(&mut waiters);
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(15)).await;
            look(&mut waiters, true).await.unwrap();
        }
        // A frame of 6,400 KiB may be under way for 100 s more.
        waiters.push(Expect::Done, 6_400 * 1024, channel().0);
        tokio::time::advance(Duration::from_secs(100)).await;
        look(&mut waiters, false).await.unwrap();
        tokio::time::advance(Duration::from_secs(21)).await;
        look(&mut waiters, false).await.unwrap_err();
    }
}
