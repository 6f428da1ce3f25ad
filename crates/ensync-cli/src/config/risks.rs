//! What single values cannot show: settings that contradict each other, and ones that are allowed but risky.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::Loaded;
use super::value::Size;

/// What each partition needs of its disk at least, in bytes: below it, segments are as short as they get.
#[cfg(unix)]
const LEAST: u64 = 4 << 20;

impl Loaded {
    /// Looks at the settings together.
    pub(super) fn check(&mut self) {
        self.check_listeners();
        self.check_tls();
        self.check_storage();
        self.check_times();
        self.check_limits();
    }

    /// Limits of nothing, under which nobody could do anything.
    fn check_limits(&mut self) {
        let config = &self.config;
        let nothing = [
            ("limits.max_sessions", config.max_sessions == 0),
            ("limits.max_sessions_per_app", config.max_sessions_per_app == 0),
            ("limits.max_subscriptions", config.max_subscriptions == 0),
            ("limits.max_payload", config.max_payload == Size(0)),
            ("limits.max_metadata", config.max_metadata == Size(0)),
        ];
        for (name, _) in nothing.into_iter().filter(|(_, nothing)| *nothing) {
            self.refuse_setting(name, format!("{name} is 0, so that nobody could do anything; raise it"));
        }
    }

    fn check_listeners(&mut self) {
        let config = &self.config;
        let mut addresses: Vec<SocketAddr> = config.listen.iter().chain(&config.listen_plaintext).copied().collect();
        addresses.extend(config.admin_listen.0);
        addresses.extend(config.config_manager_listen.0);
        if config.listen.is_empty() && config.listen_plaintext.is_empty() {
            self.refuse_setting("listen", "there is no address to listen on; set listen or listen_plaintext".into());
        }
        for (index, address) in addresses.iter().enumerate() {
            // Port 0 is another free one each time.
            if address.port() != 0 && addresses.iter().take(index).any(|other| other == address) {
                self.refuse_setting("listen", format!("{address} is listened on twice; leave one out"));
            }
        }
        if self.config.insecure {
            let why = "insecure is on: app keys and events' metadata can be read on the way; leave it to networks that nobody \
                       else is on, or to a proxy that ends TLS on this machine";
            self.warnings.push(why.into());
        }
        if let Some(address) = self.config.admin_listen.0.filter(|address| !address.ip().is_loopback()) {
            let why = format!(
                "admin.listen is {address}: metrics are open to whoever reaches it unless admin.metrics_need_token is on"
            );
            if !self.config.admin_metrics_need_token {
                self.warnings.push(why);
            }
        }
    }

    fn check_tls(&mut self) {
        let config = &self.config;
        let (certificate, key, ca) = (&config.tls_certificate, &config.tls_key, &config.tls_client_ca);
        let files = [("tls.certificate", certificate), ("tls.key", key), ("tls.client_ca", ca)];
        let files: Vec<_> = files.into_iter().filter_map(|(name, path)| Some((name, path.clone()?))).collect();
        if config.admin_tls && certificate.is_none() {
            self.refuse_setting("admin.tls", "tls.certificate and tls.key have to be set as well".into());
        }
        if self.config.config_manager_tls && self.config.tls_certificate.is_none() {
            self.refuse_setting("config_manager.tls", "tls.certificate and tls.key have to be set as well".into());
        }
        let config = &self.config;
        let (certificate, key, ca) = (&config.tls_certificate, &config.tls_key, &config.tls_client_ca);
        match (certificate, key) {
            (Some(_), None) => self.refuse_setting("tls.certificate", "tls.key has to be set as well".into()),
            (None, Some(_)) => self.refuse_setting("tls.key", "tls.certificate has to be set as well".into()),
            (None, None) if ca.is_some() => {
                self.refuse_setting("tls.client_ca", "tls.certificate and tls.key have to be set as well".into());
            }
            _ => {}
        }
        for (name, path) in files {
            let text = path.to_string_lossy();
            if text.contains("-----BEGIN") || text.contains('\n') {
                // It may be a key.
                self.refuse_setting(
                    name,
                    format!("{name} is the path of a file; it holds what belongs into that file"),
                );
            } else if let Err(cause) = std::fs::File::open(&path) {
                self.refuse_setting(name, format!("cannot read {}: {cause}", path.display()));
            } else if name == "tls.key" && others_may_read(&path) {
                let path = path.display();
                self.warnings.push(format!("tls.key: other users of this machine may read {path}; chmod 600 {path}"));
            }
        }
    }

    fn check_storage(&mut self) {
        let config = &self.config;
        let (segment, retention) = (config.segment_size, config.retention_size);
        if !(64 << 10..=1 << 30).contains(&segment.0) {
            self.refuse_setting(
                "storage.segment_size",
                "storage.segment_size has to be from \"64KiB\" to \"1GiB\"".into(),
            );
        } else if retention.0 / self.partitions() < 4 * segment.0 {
            let each = if self.partitions() > 1 { " for each partition" } else { "" };
            self.warnings.push(format!(
                "storage.retention_size is less than four segments{each}: little can be replayed, and what waits is copied often"
            ));
        }
        if self.config.partitions.is_some_and(|partitions| partitions.get() > 64) {
            self.refuse_setting("storage.partitions", "storage.partitions has to be from 1 to 64".into());
        }
        if let Some(warning) = self.compare_with_disk() {
            self.warnings.push(warning);
        }
        if self.config.checkpoint_size < Size(1 << 20) {
            self.warnings
                .push("storage.checkpoint_size is below 1 MiB: most of what is written will be checkpoints".into());
        }
        if let Some(data) =
            self.config.data.as_ref().filter(|data| data.starts_with("/tmp") || data.starts_with("/dev/shm"))
        {
            self.warnings.push(format!("data is {}, which does not outlive the machine's next start", data.display()));
        }
    }

    /// How many partitions a new store would have; one that is there has as many as it had, whatever is not said here.
    fn partitions(&self) -> u64 {
        self.config.partitions.map_or(1, |partitions| partitions.get().into())
    }

    /// What the settings allow that the disk of the data does not.
    #[cfg(unix)]
    fn compare_with_disk(&self) -> Option<String> {
        let data = self.config.data_dir(false)?;
        // Where the directory will be made, if it is not there yet.
        let place = std::path::absolute(&data).ok()?;
        let place = place.ancestors().find(|path| path.exists())?;
        let disk = rustix::fs::statvfs(place).ok()?;
        let total = disk.f_blocks.saturating_mul(disk.f_frsize);
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let (retention, segment) = (self.config.retention_size.0, self.config.segment_size.0);
        let shown = |bytes: u64| bytesize::ByteSize(bytes).to_string();
        let least = LEAST * self.partitions();
        if total < least {
            return Some(format!(
                "the disk of {} has {} in all, and an engine with {} partition(s) needs at least {}: of a smaller one most is kept for what \
                 makes space",
                data.display(),
                shown(total),
                self.partitions(),
                shown(least)
            ));
        }
        // Each partition has one that it writes, and the next. On a small disk they are shorter: one of each takes a sixteenth of it at most.
        if free < 2 * segment.saturating_mul(self.partitions()).min(total / 16) {
            let each = if self.partitions() > 1 { " for each partition" } else { "" };
            return Some(format!(
                "the disk of {} has {} free, which is less than two segments{each} (storage.segment_size); make space before the engine runs",
                data.display(),
                shown(free)
            ));
        }
        // The default is for disks of any size.
        (self.is_set("storage.retention_size") && retention > total / 20 * 19).then(|| {
            format!(
                "storage.retention_size is {}, and the disk of {} has {} in all: what is settled goes when that is nearly full",
                shown(retention),
                data.display(),
                shown(total)
            )
        })
    }

    #[cfg(not(unix))]
    fn compare_with_disk(&self) -> Option<String> {
        None
    }

    fn check_times(&mut self) {
        let config = &self.config;
        let short = Duration::from_secs(1);
        let (ack, stop, window) = (config.ack_timeout, config.shutdown_timeout, config.dedup_window);
        if ack.is_zero() {
            self.refuse_setting("defaults.ack_timeout", "defaults.ack_timeout has to be longer than nothing".into());
        } else if ack < short {
            self.warnings.push("defaults.ack_timeout is below 1 s: slow clients will get events twice".into());
        }
        if self.config.ttl.0.is_some_and(|ttl| ttl < short) {
            self.warnings.push("defaults.ttl is below 1 s: events may expire before any client gets them".into());
        }
        if stop < short {
            self.warnings
                .push("shutdown_timeout is below 1 s: clients may be cut off in the middle of an answer".into());
        }
        if window < Duration::from_secs(30) {
            self.warnings.push(
                "deduplication.window is below 30 s: a publish that is tried again after an outage may be stored twice"
                    .into(),
            );
        }
        let level = &self.config.log_level.0;
        if level.contains("trace") || (level.contains("debug") && self.is_set("log.level")) {
            self.warnings
                .push(format!("log.level is {level:?}: every command is logged, which costs throughput and space"));
        }
    }
}

#[cfg(unix)]
fn others_may_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

#[cfg(not(unix))]
fn others_may_read(_: &Path) -> bool {
    false
}
