//! What an engine keeps of its last hour, so that a curve is there before anybody looks; and the same live, for those who look.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use utoipa::ToSchema;

use crate::Broker;
use crate::broker::Gauge;
use crate::metrics::Commits;

/// How often it is read while somebody looks, and at which of these times it is kept.
const TICK: Duration = Duration::from_secs(1);
const KEPT_EVERY: u32 = 10;
/// An hour, and the point at which it begins: 60 kB.
const KEPT: usize = 361;
/// How many may look at a time.
const LOOKING: usize = 16;

/// What was counted at one moment, over all event names. What happened is counted since the engine started: the difference of two
/// moments is what happened between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Sample {
    /// When: milliseconds since the Unix epoch.
    at: u64,
    published: u64,
    delivered: u64,
    redelivered: u64,
    acked: u64,
    expired: u64,
    /// Events that became dead letters.
    died: u64,
    /// Events that could be delivered now.
    ready: u64,
    /// Events that are with clients.
    in_flight: u64,
    /// Events that wait for a time.
    deferred: u64,
    /// Dead letters.
    dead: u64,
    /// How old the oldest event is that is neither settled nor a dead letter, in milliseconds.
    oldest_ms: Option<u64>,
    queues: usize,
    sessions: usize,
    apps: usize,
    connections: u64,
    /// How many batches the log stored since the sample before.
    commits: u64,
    /// How long it took over one of them, on average and at most, in microseconds.
    commit_mean_us: u64,
    commit_max_us: u64,
    /// What the log takes up, in bytes; null if it is in memory only.
    log_bytes: Option<u64>,
    /// What is free beside it, in bytes.
    free_bytes: Option<u64>,
}

impl Sample {
    fn of(gauge: &Gauge) -> Self {
        let (census, commits) = (&gauge.census, &gauge.commits);
        let mut sample = Self {
            at: census.now.as_millis(),
            queues: census.queues,
            sessions: census.sessions,
            apps: census.apps,
            connections: gauge.connections.open,
            log_bytes: gauge.log.map(|log| log.bytes),
            free_bytes: gauge.log.map(|log| log.free_bytes),
            ..Self::default()
        };
        let mut oldest = None;
        for totals in census.events.values() {
            let counters = &totals.counters;
            sample.published += counters.published;
            sample.delivered += counters.delivered;
            sample.redelivered += counters.redelivered;
            sample.acked += counters.acked;
            sample.expired += counters.expired;
            sample.died += counters.dead;
            sample.ready += totals.ready;
            sample.in_flight += totals.in_flight;
            sample.deferred += totals.deferred;
            sample.dead += totals.dead;
            oldest = [oldest, totals.oldest].into_iter().flatten().min();
        }
        let age = oldest.map(|oldest| census.now.since(oldest).as_millis());
        sample.oldest_ms = age.map(|age| u64::try_from(age).unwrap_or(u64::MAX));
        sample.with(commits)
    }

    fn with(self, commits: &Commits) -> Self {
        Self {
            commits: commits.count,
            commit_mean_us: micros(commits.sum) / commits.count.max(1),
            commit_max_us: micros(commits.longest),
            ..self
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The last hour, and now.
#[derive(Debug)]
pub(super) struct History {
    kept: Mutex<VecDeque<Sample>>,
    /// What the log stored since the last sample that was kept.
    commits: Mutex<Commits>,
    now: watch::Sender<Option<Sample>>,
    looking: Arc<Semaphore>,
}

/// Somebody who looks.
#[derive(Debug)]
pub(super) struct Looking {
    now: watch::Receiver<Option<Sample>>,
    _place: OwnedSemaphorePermit,
}

impl History {
    pub(super) const EVERY: Duration = Duration::from_secs(TICK.as_secs() * KEPT_EVERY as u64);

    pub(super) fn new() -> Self {
        Self {
            kept: Mutex::default(),
            commits: Mutex::default(),
            now: watch::Sender::new(None),
            looking: Arc::new(Semaphore::new(LOOKING)),
        }
    }

    /// What was kept, the oldest first.
    pub(super) fn kept(&self) -> Vec<Sample> {
        self.lock().iter().copied().collect()
    }

    /// A place to look from, if one is left.
    pub(super) fn look(&self) -> Option<Looking> {
        let place = self.looking.clone().try_acquire_owned().ok()?;
        Some(Looking { now: self.now.subscribe(), _place: place })
    }

    /// Reads a broker again and again, until it has stopped. Nobody who looks costs it anything more than the first who does.
    pub(super) async fn keep(self: Arc<Self>, broker: Broker) {
        for tick in (0..KEPT_EVERY).cycle() {
            if tick == 0 || self.now.receiver_count() > 0 {
                match broker.gauge().await {
                    Ok(Some(gauge)) => self.take(Sample::of(&gauge), &gauge.commits, tick == 0),
                    // It did not answer in time: the curve has a gap there.
                    Ok(None) => {}
                    Err(_) => return,
                }
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = broker.stopped() => return,
            }
        }
    }

    /// Takes a sample, and what the log stored since the one before, whether that was kept or only shown.
    fn take(&self, sample: Sample, commits: &Commits, keep: bool) {
        let since = {
            let mut since = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
            since.add(commits);
            if keep { Some(std::mem::take(&mut *since)) } else { None }
        };
        if let Some(since) = since {
            let mut kept = self.lock();
            if kept.len() >= KEPT {
                kept.pop_front();
            }
            kept.push_back(sample.with(&since));
        }
        self.now.send_replace(Some(sample));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        // Nothing panics while it is held.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Looking {
    /// The next sample; `None` when there are no more.
    pub(super) async fn next(&mut self) -> Option<Sample> {
        loop {
            self.now.changed().await.ok()?;
            let sample = *self.now.borrow_and_update();
            if sample.is_some() {
                return sample;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BrokerOptions, MemoryLog};

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let history = History::new();
        for at in 0..1_000 {
            history.take(Sample { at, ..Sample::default() }, &Commits::default(), at % 2 == 0);
        }
        let kept = history.kept();
        assert_eq!((kept.len(), kept[0].at, kept[KEPT - 1].at), (KEPT, 278, 998));
    }

    /// Nine of ten samples are only shown.
    #[test]
    fn what_the_log_did_is_kept_whoever_looks() {
        let history = History::new();
        for (ms, keep) in [(1, true), (1, false), (5_000, false), (2, false), (1, true)] {
            let took = Duration::from_millis(ms);
            let commits = Commits { count: 2, sum: took * 2, longest: took };
            history.take(Sample::default().with(&commits), &commits, keep);
            assert_eq!(history.now.borrow().map(|now| now.commit_max_us), Some(ms * 1_000));
        }
        let kept = history.kept();
        assert_eq!((kept[0].commits, kept[0].commit_max_us), (2, 1_000));
        assert_eq!((kept[1].commits, kept[1].commit_max_us, kept[1].commit_mean_us), (8, 5_000_000, 1_251_000));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_read_each_second_only_while_somebody_looks_and_kept_every_ten() {
        let broker = Broker::start(BrokerOptions::default(), MemoryLog::new()).await.unwrap();
        let history = Arc::new(History::new());
        let keeping = tokio::spawn(history.clone().keep(broker.clone()));
        tokio::time::sleep(Duration::from_secs(95)).await;
        assert_eq!(history.kept().len(), 10);
        let mut looking = history.look().unwrap();
        let (mut seen, begun) = (0, tokio::time::Instant::now());
        while begun.elapsed() < Duration::from_secs(30) {
            looking.next().await.unwrap();
            seen += 1;
        }
        assert!((29..=31).contains(&seen), "{seen}");
        let others: Vec<_> = std::iter::from_fn(|| history.look()).collect();
        assert_eq!(others.len(), LOOKING - 1);
        drop(others);
        assert!(history.look().is_some());
        broker.shutdown().await;
        tokio::time::timeout(Duration::from_secs(5), keeping).await.unwrap().unwrap();
    }
}
