//! What an engine shows to whoever watches it: numbers in the text format of OpenMetrics, which Prometheus reads.
//!
//! What happens in the broker's tasks is counted where it happens; everything else is read when somebody asks, by one look at the
//! state. Event names are the only label that clients have a say in, so how many are told apart is bounded.

mod census;
mod process;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ensync_core::{Error, ErrorKind, EventName, Result};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::counters::ConnectionCounts;
use crate::log::LogUsage;
use crate::model::Record;
use crate::state::Census;
use census::Snapshot;
pub(crate) use text::Format;

/// The event name that stands for all that are too many. No event can have it, for it holds a space.
pub(crate) const OTHER: &str = "(all other)";

/// How long after the log refused something the engine counts as not ready, unless the log took something meanwhile.
const REFUSED: Duration = Duration::from_secs(30);

/// Seconds: from a commit in memory to a disk that is in trouble.
const COMMIT_SECONDS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Records: a batch has at most a few thousand.
const COMMIT_RECORDS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0];

/// What is counted while it happens.
pub(crate) struct Metrics {
    commit_seconds: Histogram,
    commit_records: Histogram,
    commits_refused: Counter,
    refusals: Family<[(&'static str, &'static str); 2], Counter>,
    owed: Gauge,
    ours: Registry,
    process: Registry,
    /// The event names that are told apart: the first that were seen, so that none changes its place.
    names: Mutex<BTreeSet<EventName>>,
    max_names: usize,
    /// When each partition's log refused something last, and why; the registry's is `None`.
    refused: Mutex<BTreeMap<Option<usize>, (tokio::time::Instant, String)>>,
    /// Of the commits since somebody asked last.
    commits: Mutex<Commits>,
}

/// How long the log took to store batches, since this was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Commits {
    pub(crate) count: u64,
    pub(crate) sum: Duration,
    pub(crate) longest: Duration,
}

impl Commits {
    /// Both together.
    pub(crate) fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.longest = self.longest.max(other.longest);
    }
}

/// What is read when somebody asks.
#[derive(Debug)]
pub(crate) struct Reading {
    /// `None` before it is counted.
    pub(crate) census: Option<Census>,
    pub(crate) connections: ConnectionCounts,
    pub(crate) log: Option<LogUsage>,
    /// Whether commands are carried out.
    pub(crate) ready: bool,
}

impl Metrics {
    /// `max_names`: how many event names are told apart.
    pub(crate) fn new(max_names: usize) -> Self {
        let mut ours = Registry::with_prefix("ensync");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        ours.register("build", "The engine's version", build);
        let commit_seconds = Histogram::new(COMMIT_SECONDS);
        ours.register_with_unit(
            "commit",
            "How long the log took to store a batch",
            Unit::Seconds,
            commit_seconds.clone(),
        );
        let commit_records = Histogram::new(COMMIT_RECORDS);
        ours.register("commit_records", "How many records a batch had", commit_records.clone());
        let commits_refused = Counter::default();
        ours.register("commits_refused", "Batches that the log did not store", commits_refused.clone());
        let refusals = Family::default();
        ours.register("refusals", "Commands that were refused, by command and kind of error", refusals.clone());
        let owed = Gauge::default();
        let help =
            "Deletions of apps and names whose queues are still stored, as a partition cannot store that they are gone";
        ours.register("removals_owed", help, owed.clone());
        let mut process = Registry::with_prefix("process");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
        start.set(since.as_secs_f64());
        process.register_with_unit("start_time", "When the engine started, since the Unix epoch", Unit::Seconds, start);
        process.register_collector(Box::new(process::Process));
        Self {
            commit_seconds,
            commit_records,
            commits_refused,
            refusals,
            owed,
            ours,
            process,
            names: Mutex::default(),
            max_names,
            refused: Mutex::default(),
            commits: Mutex::default(),
        }
    }

    /// So many deletions are still to be stored.
    pub(crate) fn set_owed(&self, count: usize) {
        self.owed.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many are.
    pub(crate) fn owed(&self) -> u64 {
        u64::try_from(self.owed.get()).unwrap_or_default()
    }

    /// The log of a partition took a batch, or refused it; or the registry's, which is `None`.
    pub(crate) fn committed(&self, log: Option<usize>, batch: &[Arc<Record>], begun: Instant, refusal: Option<&Error>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match refusal {
            None => {
                let took = begun.elapsed();
                self.commit_seconds.observe(took.as_secs_f64());
                let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
                (commits.count, commits.sum) = (commits.count + 1, commits.sum.saturating_add(took));
                commits.longest = commits.longest.max(took);
                drop(commits);
                self.commit_records.observe(batch.len() as f64);
                // A disk that is nearly full takes acknowledgements still.
                let grew = batch.iter().any(|record| matches!(**record, Record::Publish(_)));
                if grew || log.is_none() {
                    refused.remove(&log);
                }
            }
            Some(error) => {
                self.commits_refused.inc();
                refused.insert(log, (tokio::time::Instant::now(), ensync_core::report(error)));
            }
        }
    }

    /// The commits since this was asked last: for one that asks again and again, and nobody beside it.
    pub(crate) fn take_commits(&self) -> Commits {
        std::mem::take(&mut self.commits.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A command was refused.
    pub(crate) fn refused(&self, command: &'static str, error: &Error) {
        self.refusals.get_or_create(&[("command", command), ("kind", error.kind().code())]).inc();
    }

    /// Why the logs of all of so many partitions refused something just now, and have taken nothing since, if that is so. What the
    /// registry's refuses is no client's.
    pub(crate) fn trouble(&self, partitions: usize) -> Option<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let now = refused.iter().filter(|(log, (at, _))| log.is_some() && at.elapsed() < REFUSED);
        let why: Vec<_> = now.map(|(_, (_, why))| why).collect();
        why.first().filter(|_| why.len() >= partitions).map(|why| String::clone(why))
    }

    /// Whether the log of a partition refused something just now, and has taken nothing since.
    pub(crate) fn refuses(&self, partition: usize) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(&Some(partition)).is_some_and(|(at, _)| at.elapsed() < REFUSED)
    }

    /// Everything, as text of OpenMetrics.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] if it cannot be written down, which would be a defect.
    pub(crate) fn encode(&self, reading: Reading) -> Result<String> {
        let snapshot = {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            Snapshot::new(reading, &mut names, self.max_names)
        };
        let mut read = Registry::with_prefix("ensync");
        read.register_collector(Box::new(snapshot));
        let mut text = String::new();
        let written =
            [&self.ours, &read, &self.process].into_iter().try_for_each(|part| encode_registry(&mut text, part));
        let written = written.and_then(|()| encode_eof(&mut text));
        written.map_err(|cause| Error::new(ErrorKind::Internal, "the metrics cannot be written").with_source(cause))?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}
