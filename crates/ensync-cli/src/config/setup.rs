//! Settings, made into an engine about to start.

use std::path::{Path, PathBuf};

use ensync_engine::{BrokerOptions, Defaults, DiskOptions, Limits, Retention, Server, ServerBuilder, ServerTls};

use super::Config;

/// Where the data is if nobody says.
const DATA: &str = "ensync-data";

impl Config {
    /// The data directory; `None` for memory.
    pub(crate) fn data_dir(&self, dev: bool) -> Option<PathBuf> {
        self.data.clone().or_else(|| (!dev).then(|| DATA.into()))
    }

    /// An engine with these settings.
    pub(crate) fn builder(&self, dev: bool) -> Result<ServerBuilder, String> {
        let mut builder = if dev { Server::dev() } else { Server::builder() };
        builder = builder.options(self.broker_options(dev)).shutdown_timeout(self.shutdown_timeout);
        if let Some(path) = self.data_dir(dev) {
            let mut disk = DiskOptions::default();
            disk.segment_bytes = self.segment_size.0;
            builder = builder.data_dir(path).disk_options(disk);
        }
        let tls = self.tls()?;
        for address in &self.listen {
            builder = match &tls {
                Some(tls) => builder.listen_tls(*address, tls.clone()),
                None => builder.listen(*address),
            };
        }
        Ok(self.listen_plaintext.iter().fold(builder, |builder, address| builder.listen(*address)))
    }

    fn broker_options(&self, dev: bool) -> BrokerOptions {
        let mut limits = Limits::default();
        limits.max_payload_bytes = usize::try_from(self.max_payload.0).unwrap_or(usize::MAX);
        limits.max_metadata_bytes = usize::try_from(self.max_metadata.0).unwrap_or(usize::MAX);
        limits.max_in_flight = self.max_in_flight;
        limits.max_bytes_in_flight = self.max_bytes_in_flight.0;
        limits.max_subscriptions = self.max_subscriptions;
        limits.max_sessions = self.max_sessions;
        limits.max_auto_events = self.max_auto_events;
        limits.dedup_window = self.dedup_window;
        limits.dedup_entries = self.dedup_entries;
        let mut defaults = Defaults::default();
        defaults.ttl = self.ttl.0;
        defaults.ack_timeout = self.ack_timeout;
        defaults.max_deliveries = self.max_deliveries;
        let mut retention = Retention::default();
        retention.max_age = self.retention_age;
        retention.max_bytes = self.retention_size.0;
        let options = if dev { BrokerOptions::dev() } else { BrokerOptions::default() };
        BrokerOptions { limits, defaults, retention, checkpoint_bytes: self.checkpoint_size.0, ..options }
    }

    fn tls(&self) -> Result<Option<ServerTls>, String> {
        let (Some(chain), Some(key)) = (&self.tls_certificate, &self.tls_key) else { return Ok(None) };
        let (chain, key) = (read(chain)?, read(key)?);
        let tls = match &self.tls_client_ca {
            None => ServerTls::from_pem(&chain, &key),
            Some(ca) => ServerTls::from_pem_with_client_ca(&chain, &key, &read(ca)?),
        };
        tls.map(Some).map_err(|error| ensync_sdk::core::report(&error))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|cause| format!("cannot read {}: {cause}", path.display()))
}
