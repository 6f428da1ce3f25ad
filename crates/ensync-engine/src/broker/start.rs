//! The start of a broker.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use ensync_core::{Error, ErrorKind, Extension, Result, ServerConfig};
use tokio::sync::{Semaphore, mpsc, watch};

use super::clock::Time;
use super::maintenance::Kept;
use super::reclaim::DiskShares;
use super::records::Records;
use super::recover;
use super::registrar::{self, Registrar};
use super::registry_log;
use super::running::Running;
use super::session_layer::SessionLayer;
use super::task::Task;
use super::together;
use super::waiting::Waiting;
use super::{Broker, BrokerOptions, Handle, LEAVING, Retention, Shared, WAITING};
use crate::counters::ConnectionCounters;
use crate::log::{Log, Logs};
use crate::metrics::Metrics;
use crate::model::{MemoryUsed, Record, Settings, Share};
use crate::partition::Partition;
use crate::random::random;
use crate::seldom::Seldom;
use crate::state::{Access, Change};

/// The least bytes after which a partition of several saves a checkpoint.
const CHECKPOINT: u64 = 1 << 20;

impl Broker {
    /// Reads logs back and starts on them. Must be called in a tokio runtime with time enabled.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if a log cannot be read, [`ErrorKind::InvalidInput`] if one is damaged, or there is no partition,
    /// [`ErrorKind::Internal`] if the system has no randomness.
    pub async fn start(options: BrokerOptions, logs: impl Into<Logs>) -> Result<Self> {
        let Logs { registry, partitions } = logs.into();
        let (begun, tag) = (std::time::Instant::now(), u32::from_be_bytes(random()?));
        let count = count_of(partitions.len())?;
        let memory_used = MemoryUsed::default();
        let settings = |share, log: &Arc<dyn Log>| Settings {
            share,
            epoch: log.epoch(),
            tag,
            dev: options.dev,
            limits: options.limits.clone(),
            defaults: options.defaults.clone(),
            memory_used: memory_used.clone(),
        };
        let recent_bytes = options.recent_bytes / count.get() as usize;
        let first = Share::all(count).next().unwrap_or_default();
        let registry = Arc::new(Records::new(registry, 0));
        let (access, registry_log) = registry_log::recover(&registry, settings(first, &registry.log)).await?;
        let disk = Arc::new(DiskShares::default());
        let recovered = Share::all(count).zip(partitions).map(|(share, log)| {
            let (settings, kept) = (settings(share, &log), kept(&options, share, &disk));
            let records = Arc::new(Records::new(log, recent_bytes));
            async move {
                let (partition, maintenance) = recover::recover(&records, settings, kept).await?;
                Ok::<_, Error>((partition, maintenance, records))
            }
        });
        let mut recovered = futures::future::try_join_all(recovered).await?;
        together::check(&registry_log, &registry, &recovered)?;
        let logged_at = recovered.iter().map(|(partition, ..)| partition.logged_at()).chain([access.logged_at()]).max();
        let time = Time::anchored(options.clock.clone(), logged_at.unwrap_or_default());
        let access = ticked(access, &time);
        let mut expired = 0;
        for (partition, ..) in &mut recovered {
            access.configure(partition);
            expired += partition.recovered(time.now());
        }
        // What has expired by now is nobody's loss. Nothing was stored until here.
        together::check_apps(&access, &recovered)?;
        together::check_beginnings(&recovered)?;
        if expired > 0 {
            // Where the clock was behind when they came, it is more than it should be: the log tells of that.
            tracing::warn!(expired, "events expired while no engine ran, and are gone");
        }
        tell(&access, recovered.iter().map(|(partition, ..)| partition), begun);

        let (held, running) = Running::new();
        let (failed, failure) = watch::channel(None);
        let (failed, layer) = (Arc::new(failed), Arc::new(SessionLayer::new(access)));
        let metrics = Arc::new(Metrics::new(options.max_metric_events));
        let counters = Arc::<ConnectionCounters>::default();
        let space_wanted = Arc::new(watch::Sender::new(()));
        let (serves, served) = watch::channel(());
        let (mut tasks, mut handles, mut owed) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (partition, maintenance, records)) in recovered.into_iter().enumerate() {
            let (sender, requests) = mpsc::channel(WAITING);
            handles.push(Handle { requests: sender, lines: Arc::default(), records: records.clone() });
            let mut task = Task {
                index,
                partition,
                layer: layer.clone(),
                records,
                time: time.clone(),
                requests,
                log_pause: None,
                complained: None,
                standstill: Seldom::new(),
                failed: failed.clone(),
                counters: counters.clone(),
                metrics: metrics.clone(),
                maintenance,
                space_wanted: (space_wanted.clone(), space_wanted.subscribe()),
                wanted_last: None,
                serves: Some(serves.clone()),
                served: served.clone(),
                running: held.clone(),
            };
            // What went with an app or a name, if the engine ended before that was stored.
            let left = layer.read().access.leftovers(&task.partition);
            let changes =
                left.iter().map(|queues| Change::new(Record::Remove { queues: queues.clone() }, true)).collect();
            if options.retention.only_looks {
                owed.extend(left.into_iter().map(|queues| (index, queues)));
            } else if let Err(error) = task.store(changes).await {
                // A disk without space is no reason not to start.
                left.into_iter().for_each(|queues| registrar::owe(&mut owed, (index, queues), &error));
            }
            tasks.push(task);
        }
        // The tasks have theirs.
        drop(serves);
        let (registrar, asked) = mpsc::channel(WAITING);
        let stopping = Arc::new(AtomicBool::new(false));
        let task = Registrar {
            layer: layer.clone(),
            log: registry_log,
            time: time.clone(),
            asked,
            partitions: handles.iter().map(|partition| partition.requests.clone()).collect(),
            owed,
            only_looks: options.retention.only_looks,
            metrics: metrics.clone(),
            failed,
            running: held,
        };
        tokio::spawn(task.run());
        tasks.into_iter().for_each(|task| _ = tokio::spawn(task.run()));
        let limits = options.limits;
        let config = [
            (ServerConfig::EXTENSIONS, Extension::announcement()),
            (ServerConfig::MAX_PAYLOAD_BYTES, limits.max_payload_bytes.to_string()),
            (ServerConfig::DEDUP_WINDOW_MS, limits.dedup_window.as_millis().to_string()),
        ];
        let (config, waiting) = (config.into_iter().collect(), Arc::new(Waiting::new(&limits.quotas, handles.len())));
        let (counted, looking) = (Mutex::default(), Arc::default());
        let shared = Shared {
            layer,
            registrar,
            registry,
            partitions: handles,
            time,
            limits,
            config,
            counters,
            metrics,
            waiting,
            stopping,
            counted,
            leaving: Arc::new(Semaphore::new(LEAVING)),
            looking,
            running,
            failure,
        };
        Ok(Self(Arc::new(shared)))
    }
}

/// How many partitions there are.
fn count_of(partitions: usize) -> Result<NonZeroU32> {
    let count = u32::try_from(partitions).ok().and_then(NonZeroU32::new);
    count.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "an engine needs the log of at least one partition"))
}

/// A partition's part of what is to be kept of the logs.
fn kept(options: &BrokerOptions, share: Share, disk: &Arc<DiskShares>) -> Kept {
    let retention = Retention { max_bytes: share.part(options.retention.max_bytes), ..options.retention.clone() };
    let due = share.part(options.checkpoint_bytes).max(CHECKPOINT.min(options.checkpoint_bytes));
    Kept { retention, due, disk: disk.clone() }
}

/// Access as it is now.
fn ticked(mut access: Access, time: &Time) -> Access {
    access.tick(time.now());
    access.take_ended();
    access
}

/// Says what was read back.
fn tell<'a>(access: &Access, partitions: impl Iterator<Item = &'a Partition> + Clone, begun: std::time::Instant) {
    let stats = || partitions.clone().flat_map(Partition::queues);
    tracing::info!(
        epoch = access.settings().epoch,
        apps = access.apps().len(),
        partitions = partitions.clone().count(),
        queues = stats().count(),
        waiting = stats().map(|queue| queue.ready + queue.in_flight + queue.deferred).sum::<usize>(),
        dead = stats().map(|queue| queue.dead).sum::<usize>(),
        took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        "log read back"
    );
}
