//! Metrics, by the facade of the crate `metrics`. Without the feature `metrics` there are none, and nothing here does anything.

/// What a metric is, for who records it.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "read by the facade alone"))]
pub(crate) struct Metric {
    name: &'static str,
    about: &'static str,
}

macro_rules! metrics {
    ($($(#[$attribute:meta])* $constant:ident = $kind:ident $name:literal, $about:literal;)*) => {
        $($(#[$attribute])* pub(crate) const $constant: Metric = Metric { name: $name, about: $about };)*

        /// Tells the recorder the kind, unit and meaning of every metric of a client. Call it once the recorder is installed.
        #[cfg(feature = "metrics")]
        pub fn describe_metrics() {
            $(describe(Kind::$kind, $constant);)*
        }
    };
}

metrics! {
    PUBLISHED = Counter "ensync_client_published_total", "Events that the engine accepted, each recipient counted";
    PUBLISH_FAILURES = Counter "ensync_client_publish_failures_total", "Publishes that failed, by kind of error; each recipient counted, unless nothing was sent";
    PUBLISH_SECONDS = Seconds "ensync_client_publish_seconds", "From awaiting a publish to its last answer";
    DELIVERED = Counter "ensync_client_delivered_total", "Events that a subscription handed out";
    IN_FLIGHT = Gauge "ensync_client_in_flight", "Events handed out that are neither settled nor dropped";
    UNOPENABLE = Counter "ensync_client_unopenable_total", "Events that could not be opened and did not come out, by kind of error and by policy";
    UNREAD = Counter "ensync_client_unread_total", "Events that nobody read in their lease; they went back and come again";
    SETTLED = Counter "ensync_client_settled_total", "Settlements that the engine confirmed, by settlement";
    SETTLE_FAILURES = Counter "ensync_client_settle_failures_total", "Settlements that failed, by kind of error";
    CONNECTS = Counter "ensync_client_connects_total", "Connections that came about, login included, by scheme";
    CONNECT_FAILURES = Counter "ensync_client_connect_failures_total", "Connections that did not, by kind of error; each URL tried counted";
    RECONNECTS = Counter "ensync_client_reconnects_total", "Connections that came about after a client's first";
    CONNECTIONS = Gauge "ensync_client_connections", "Connections that are up";
    #[cfg_attr(not(feature = "outbox"), allow(dead_code, reason = "nothing is queued"))]
    OUTBOX = Counter "ensync_client_outbox_outcomes_total", "What became of queued events, by outcome";
}

type Label = Option<(&'static str, &'static str)>;

/// Adds to a counter.
#[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "there are no metrics"))]
pub(crate) fn count(metric: Metric, by: u64, label: Label) {
    #[cfg(feature = "metrics")]
    match label {
        Some((key, value)) => ::metrics::counter!(metric.name, key => value).increment(by),
        None => ::metrics::counter!(metric.name).increment(by),
    }
}

/// Adds one to a counter with two labels.
#[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "there are no metrics"))]
pub(crate) fn count_by(metric: Metric, labels: [(&'static str, &'static str); 2]) {
    #[cfg(feature = "metrics")]
    {
        let [(first, one), (second, two)] = labels;
        ::metrics::counter!(metric.name, first => one, second => two).increment(1);
    }
}

/// Notes a duration.
#[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "there are no metrics"))]
pub(crate) fn seconds(metric: Metric, took: std::time::Duration) {
    #[cfg(feature = "metrics")]
    ::metrics::histogram!(metric.name).record(took.as_secs_f64());
}

/// One more in a gauge, until it is dropped.
pub(crate) struct Counted(Metric);

impl Counted {
    pub(crate) fn new(metric: Metric) -> Self {
        #[cfg(feature = "metrics")]
        ::metrics::gauge!(metric.name).increment(1.0);
        Self(metric)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self(_metric) = self;
        #[cfg(feature = "metrics")]
        ::metrics::gauge!(_metric.name).decrement(1.0);
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counted")
    }
}

#[cfg(feature = "metrics")]
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Seconds,
}

#[cfg(feature = "metrics")]
fn describe(kind: Kind, Metric { name, about }: Metric) {
    match kind {
        Kind::Counter => ::metrics::describe_counter!(name, ::metrics::Unit::Count, about),
        Kind::Gauge => ::metrics::describe_gauge!(name, ::metrics::Unit::Count, about),
        Kind::Seconds => ::metrics::describe_histogram!(name, ::metrics::Unit::Seconds, about),
    }
}
