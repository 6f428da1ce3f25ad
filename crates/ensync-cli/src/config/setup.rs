//! Settings, made into an engine about to start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ensync_engine::{
    BrokerOptions, ClientCertificates, ConnectionLimits, Defaults, DiskOptions, Limits, Rate, Retention, Server,
    ServerBuilder, ServerTls, SettingInForce, TlsFiles,
};
use ensync_sdk::Result;

use super::Config;
use super::keys::KEYS;

/// A port of this machine that nobody has.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Where the data is if nobody says.
const DATA: &str = "ensync-data";

impl Config {
    /// What holds if nobody says anything else, in development mode or out of it.
    pub(crate) fn of_mode(dev: bool) -> Self {
        let mut config = Self::default();
        if dev {
            // For the makers' command line, which is told where.
            config.config_manager_listen.0 = Some(ANY_PORT);
        }
        config
    }

    /// The data directory; `None` for memory.
    pub(crate) fn data_dir(&self, dev: bool) -> Option<PathBuf> {
        self.data.clone().or_else(|| (!dev).then(|| DATA.into()))
    }

    /// An engine with these settings, and the certificate that it is going to show.
    pub(crate) fn builder(&self, dev: bool) -> Result<(ServerBuilder, Option<ServerTls>)> {
        let mut builder = if dev { Server::dev() } else { Server::builder() };
        builder = builder.options(self.broker_options(dev)).connection_limits(self.connection_limits());
        builder = builder.shutdown_timeout(self.shutdown_timeout);
        if let Some(path) = self.data_dir(dev) {
            let mut disk = DiskOptions::default();
            disk.segment_bytes = self.segment_size.0;
            builder = builder.data_dir(path).disk_options(disk);
        }
        builder = builder.admin_hosts(&self.admin_hosts).admin_token_overlap(self.admin_token_overlap);
        builder = builder.settings_in_force(self.changed(dev));
        if let Some(served) = self.admin_console {
            builder = builder.console(served);
        }
        if self.admin_metrics_need_token {
            builder = builder.guard_metrics();
        }
        if self.insecure {
            builder = builder.allow_plaintext();
        }
        let tls = self.tls()?;
        for address in &self.listen {
            builder = match &tls {
                Some(tls) => builder.listen_tls(*address, tls.clone()),
                None => builder.listen(*address),
            };
        }
        builder = match (self.admin_listen.0, tls.as_ref().filter(|_| self.admin_tls)) {
            (None, _) => builder,
            (Some(address), None) => builder.admin(address),
            (Some(address), Some(tls)) => builder.admin_tls(address, tls.clone()),
        };
        builder = match (self.config_manager_listen.0, tls.as_ref().filter(|_| self.config_manager_tls)) {
            (None, _) => builder,
            (Some(address), None) => builder.config_manager(address),
            (Some(address), Some(tls)) => builder.config_manager_tls(address, tls.clone()),
        };
        let builder = self.listen_plaintext.iter().fold(builder, |builder, address| builder.listen(*address));
        Ok((builder, tls))
    }

    /// The settings that are not as they are by default, as a file would have them. None of them is secret: keys are in files of their own.
    fn changed(&self, dev: bool) -> Vec<SettingInForce> {
        let default = Self::of_mode(dev);
        let changed = KEYS.iter().filter_map(|key| {
            let (value, usual) = ((key.show)(self), (key.show)(&default));
            (value != usual).then(|| {
                let mut setting = SettingInForce::new(key.name, value.unwrap_or_else(|| "not set".to_owned()));
                (setting.default, setting.about) = (usual, key.about.to_owned());
                setting
            })
        });
        changed.collect()
    }

    fn broker_options(&self, dev: bool) -> BrokerOptions {
        let mut limits = Limits::default();
        limits.max_payload_bytes = usize::try_from(self.max_payload.0).unwrap_or(usize::MAX);
        limits.max_metadata_bytes = usize::try_from(self.max_metadata.0).unwrap_or(usize::MAX);
        limits.max_in_flight = self.max_in_flight;
        limits.max_bytes_in_flight = self.max_bytes_in_flight.0;
        limits.max_subscriptions = self.max_subscriptions;
        limits.max_sessions = self.max_sessions;
        limits.max_sessions_per_app = self.max_sessions_per_app;
        limits.publish_rate = self.publish_rate.0.map(Rate::per_second);
        limits.quotas.queue_events = self.quota_queue_events as u64;
        limits.quotas.queue_bytes = self.quota_queue_bytes.0;
        limits.quotas.app_events = self.quota_app_events as u64;
        limits.quotas.app_bytes = self.quota_app_bytes.0;
        limits.quotas.app_memory = self.quota_app_memory.0;
        limits.quotas.memory = self.quota_memory.0;
        limits.quotas.app_waiting = self.quota_app_waiting.0;
        limits.quotas.waiting = self.quota_waiting.0;
        limits.login_failures = self.login_failures.get();
        limits.login_delay = self.login_delay;
        limits.max_login_delay = self.max_login_delay;
        limits.max_auto_events = self.max_auto_events;
        limits.dedup_window = self.dedup_window;
        limits.dedup_entries_per_app = self.dedup_entries_per_app;
        limits.dedup_entries = self.dedup_entries;
        let mut defaults = Defaults::default();
        defaults.ttl = self.ttl.0;
        defaults.ack_timeout = self.ack_timeout;
        defaults.max_deliveries = self.max_deliveries;
        let mut retention = Retention::default();
        retention.max_age = self.retention_age;
        retention.max_bytes = self.retention_size.0;
        retention.sweep_every = self.retention_check;
        retention.dead_letter_age = self.dead_letter_age;
        retention.dead_letters_per_queue = self.dead_letters_per_queue;
        let options = if dev { BrokerOptions::dev() } else { BrokerOptions::default() };
        let (checkpoint_bytes, max_metric_events) = (self.checkpoint_size.0, self.metrics_max_events);
        BrokerOptions { limits, defaults, retention, checkpoint_bytes, max_metric_events, ..options }
    }

    fn connection_limits(&self) -> ConnectionLimits {
        let mut limits = ConnectionLimits::default();
        limits.max_connections = self.max_connections;
        limits.max_connections_per_address = self.max_connections_per_address;
        limits.max_message_bytes = usize::try_from(self.max_message.0).unwrap_or(usize::MAX);
        limits.tls_timeout = self.tls_timeout;
        limits.login_timeout = self.login_timeout;
        limits.idle_timeout = self.idle_timeout;
        limits
    }

    fn tls(&self) -> Result<Option<ServerTls>> {
        let (Some(certificate), Some(key)) = (&self.tls_certificate, &self.tls_key) else { return Ok(None) };
        let mut files = TlsFiles::new(certificate, key).check_every(self.tls_check_every);
        if let Some(ca) = &self.tls_client_ca {
            let wanted =
                if self.tls_client_optional { ClientCertificates::Optional } else { ClientCertificates::Required };
            files = files.client_ca(ca, wanted);
        }
        ServerTls::from_files(files).map(Some)
    }
}
