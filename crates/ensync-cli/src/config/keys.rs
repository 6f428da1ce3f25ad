//! Every setting: its name, its type, its default, and what it is for.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ensync_engine::{ConnectionLimits, Defaults, DiskOptions, Limits, Retention};

use super::value::{LogFormat, LogLevel, MaybeAddress, PublishRate, Raw, Setting, Size, Ttl};

/// A setting. What every other part of this module needs to know of it.
pub(crate) struct Key {
    /// In a file: `limits.max_sessions` is `max_sessions` in the section `[limits]`.
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) allowed: &'static str,
    /// Reads and sets it; `None` if the value is not allowed.
    pub(crate) set: fn(&mut Config, &Raw) -> Option<()>,
    /// Its value, as a file would have it.
    pub(crate) show: fn(&Config) -> Option<String>,
}

impl Key {
    /// The setting of a name.
    pub(crate) fn find(name: &str) -> Option<(usize, &'static Self)> {
        KEYS.iter().enumerate().find(|(_, key)| key.name == name)
    }

    /// The environment variable of it: `ENSYNC_LIMITS_MAX_SESSIONS`.
    pub(crate) fn variable(&self) -> String {
        format!("ENSYNC_{}", self.name.replace('.', "_").to_uppercase())
    }
}

macro_rules! settings {
    ($($name:literal $field:ident: $type:ty = $default:expr, $about:literal;)*) => {
        /// What an engine is told when it starts.
        #[derive(Clone, Debug)]
        pub(crate) struct Config { $(pub(crate) $field: $type,)* }

        impl Default for Config {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        /// Every setting, in the order in which they are shown.
        pub(crate) const KEYS: &[Key] = &[$(Key {
            name: $name,
            about: $about,
            allowed: <$type as Setting>::ALLOWED,
            set: |config, raw| <$type as Setting>::read(raw).map(|value| config.$field = value),
            show: |config| Setting::show(&config.$field),
        },)*];
    };
}

settings! {
    "data" data: Option<PathBuf> = None,
        "The data directory; it is made if it is not there. Unset: ./ensync-data, or memory in development mode.";
    "listen" listen: Vec<SocketAddr> = vec![loopback(50_051), loopback(8_080)],
        "Where to listen; each address serves gRPC and WebSocket, with TLS if tls.certificate is set.";
    "listen_plaintext" listen_plaintext: Vec<SocketAddr> = Vec::new(),
        "Where to listen without TLS, whatever else is set.";
    "insecure" insecure: bool = false,
        "Allows plaintext on addresses that other machines can reach.";
    "shutdown_timeout" shutdown_timeout: Duration = Duration::from_secs(10),
        "How long a stop waits for connections to finish what they are at.";

    "tls.certificate" tls_certificate: Option<PathBuf> = None,
        "A PEM file with the certificate chain to show, leaf first. Turns TLS on.";
    "tls.key" tls_key: Option<PathBuf> = None,
        "A PEM file with the certificate's private key.";
    "tls.client_ca" tls_client_ca: Option<PathBuf> = None,
        "A PEM file of CAs. If set, clients must show a certificate that one of them issued.";
    "tls.client_certificates_optional" tls_client_optional: bool = false,
        "Whether a client may also come without a certificate.";
    "tls.check_every" tls_check_every: Duration = Duration::from_secs(30),
        "How often these files are looked at: new ones are used without a restart.";

    "admin.listen" admin_listen: MaybeAddress = MaybeAddress(Some(loopback(50_052))),
        "Where administration, metrics and health are served. In development mode at another port if that one is taken.";
    "admin.tls" admin_tls: bool = false,
        "Whether that is with TLS, by the same files.";
    "admin.hosts" admin_hosts: Vec<String> = Vec::new(),
        "Names by which that is called without TLS, beside addresses and localhost. Requests for other names are refused.";
    "admin.console" admin_console: Option<bool> = None,
        "Whether the console, a web page, is served there at /console. Unset: where only this machine can reach it.";
    "admin.token_overlap" admin_token_overlap: Duration = Duration::from_secs(10 * 60),
        "How long the admin token before the present one is taken too, after another was written to its file.";
    "admin.metrics_need_token" admin_metrics_need_token: bool = false,
        "Whether /metrics wants the administrator's token as well.";
    "admin.metrics_max_events" metrics_max_events: usize = ensync_engine::BrokerOptions::default().max_metric_events,
        "How many event names /metrics tells apart, 15 time series each; further ones are summed up.";

    "config_manager.listen" config_manager_listen: MaybeAddress = MaybeAddress(None),
        "Where the makers' Config Manager API is served, for their command line. In development mode: at a free port of loopback.";
    "config_manager.tls" config_manager_tls: bool = false,
        "Whether that is with TLS, by the same files.";

    "storage.partitions" partitions: Option<NonZeroU32> = None,
        "How many partitions a new store has, 1 to 64: each has a log and a task, and all queues of its apps. Fixed from then on. Unset: 1.";
    "storage.segment_size" segment_size: Size = Size(DiskOptions::default().segment_bytes),
        "The length of a file of the log, taken from the disk ahead: 64KiB to 1GiB.";
    "storage.checkpoint_size" checkpoint_size: Size = Size(ensync_engine::BrokerOptions::default().checkpoint_bytes),
        "After how many bytes of log the state is saved, which bounds what a start has to read.";
    "storage.retention_age" retention_age: Duration = Retention::default().max_age,
        "How long what is settled can be replayed.";
    "storage.retention_check" retention_check: Duration = Retention::default().sweep_every,
        "How often retention is looked at, beside whenever half a segment was written.";
    "storage.retention_size" retention_size: Size = Size(Retention::default().max_bytes),
        "How large the log may get before what is settled goes; sooner, if its disk has too little space left. What waits is kept.";

    "dead_letters.max_age" dead_letter_age: Duration = Retention::default().dead_letter_age,
        "How long a dead letter is kept.";
    "dead_letters.max_per_queue" dead_letters_per_queue: usize = Retention::default().dead_letters_per_queue,
        "How many dead letters a queue keeps; then its oldest go.";

    "limits.max_payload" max_payload: Size = Size(Limits::default().max_payload_bytes as u64),
        "The largest payload, counted as base64 on the wire.";
    "limits.max_message" max_message: Size = Size(ConnectionLimits::default().max_message_bytes as u64),
        "The longest gRPC message or WebSocket frame that is read; it has to hold the largest payload and metadata.";
    "limits.max_metadata" max_metadata: Size = Size(Limits::default().max_metadata_bytes as u64),
        "The largest metadata, counted as JSON text.";
    "limits.max_in_flight" max_in_flight: NonZeroU32 = Limits::default().max_in_flight,
        "How many deliveries a subscription may have unsettled, whatever it asks for.";
    "limits.max_bytes_in_flight" max_bytes_in_flight: Size = Size(Limits::default().max_bytes_in_flight),
        "How many bytes a subscription may have unsettled; a single delivery may be larger.";
    "limits.max_subscriptions" max_subscriptions: usize = Limits::default().max_subscriptions,
        "How many event names a session may be subscribed to.";
    "limits.max_sessions" max_sessions: usize = Limits::default().max_sessions,
        "How many sessions may be open.";
    "limits.max_sessions_per_app" max_sessions_per_app: usize = Limits::default().max_sessions_per_app,
        "How many sessions of one app may be open.";
    "limits.publish_rate" publish_rate: PublishRate = PublishRate(None),
        "How many events per second an app may publish on the long run; twice as many at once.";
    "limits.max_connections" max_connections: usize = ConnectionLimits::default().max_connections,
        "How many connections may be open.";
    "limits.max_connections_per_address" max_connections_per_address: usize =
        ConnectionLimits::default().max_connections_per_address,
        "How many of them from one address (of IPv6: one /64 network). A proxy in front is one address.";
    "limits.tls_timeout" tls_timeout: Duration = ConnectionLimits::default().tls_timeout,
        "How long a TLS handshake may take.";
    "limits.login_timeout" login_timeout: Duration = ConnectionLimits::default().login_timeout,
        "How long a connection may be open until somebody logs in on it.";
    "limits.idle_timeout" idle_timeout: Duration = ConnectionLimits::default().idle_timeout,
        "How long a gRPC connection may be open on which no session is used.";
    "limits.login_failures" login_failures: NonZeroU32 = at_least_one(Limits::default().login_failures),
        "How many logins from one address may fail in a row before it has to wait.";
    "limits.login_delay" login_delay: Duration = Limits::default().login_delay,
        "How long it has to wait then at first; twice as long after each further failure.";
    "limits.max_login_delay" max_login_delay: Duration = Limits::default().max_login_delay,
        "How long it may have to wait at most.";
    "limits.max_auto_events" max_auto_events: usize = Limits::default().max_auto_events,
        "How many event names first use may register in development mode.";

    "quotas.queue_events" quota_queue_events: usize = usize::try_from(Limits::default().quotas.queue_events).unwrap_or(usize::MAX),
        "How many events may wait in one queue, dead letters included; then publishes to it are refused.";
    "quotas.queue_bytes" quota_queue_bytes: Size = Size(Limits::default().quotas.queue_bytes),
        "How many bytes of payload and metadata these may have.";
    "quotas.app_events" quota_app_events: usize = usize::try_from(Limits::default().quotas.app_events).unwrap_or(usize::MAX),
        "How many events may wait in all queues of one recipient.";
    "quotas.app_bytes" quota_app_bytes: Size = Size(Limits::default().quotas.app_bytes),
        "How many bytes of payload and metadata these may have.";
    "quotas.app_memory" quota_app_memory: Size = Size(Limits::default().quotas.app_memory),
        "How many bytes events of one recipient may take that are in memory only (persist: false).";
    "quotas.memory" quota_memory: Size = Size(Limits::default().quotas.memory),
        "How many bytes events of all recipients may take that are in memory only.";
    "quotas.app_waiting" quota_app_waiting: Size = Size(Limits::default().quotas.app_waiting),
        "How many bytes of one app's publishes may wait to be stored.";
    "quotas.waiting" quota_waiting: Size = Size(Limits::default().quotas.waiting),
        "How many bytes of all apps' publishes may wait to be stored.";

    "deduplication.window" dedup_window: Duration = Limits::default().dedup_window,
        "How long a publish under an idempotency key is remembered.";
    "deduplication.entries_per_app" dedup_entries_per_app: usize = Limits::default().dedup_entries_per_app,
        "How many of them at most, of one sending app; its oldest are forgotten first.";
    "deduplication.entries" dedup_entries: usize = Limits::default().dedup_entries,
        "How many of them at most, of all apps; the app that has the most forgets its oldest first.";

    "defaults.ttl" ttl: Ttl = Ttl(Defaults::default().ttl),
        "How long an event is of use, for names that say nothing else.";
    "defaults.ack_timeout" ack_timeout: Duration = Defaults::default().ack_timeout,
        "How long a client may take to settle a delivery, for names that say nothing else.";
    "defaults.max_deliveries" max_deliveries: NonZeroU32 = Defaults::default().max_deliveries,
        "After how many deliveries an event goes to the dead letters, for names that say nothing else.";

    "log.format" log_format: LogFormat = LogFormat::Text,
        "How a line of the log on standard error looks.";
    "log.level" log_level: LogLevel = LogLevel("info".into()),
        "What is logged.";
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port))
}
