//! The numbers of one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ensync_core::{EventName, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::{OTHER, Reading};
use crate::partition::Totals;

/// A reading, its event names bounded.
#[derive(Debug)]
pub(super) struct Snapshot {
    reading: Reading,
    events: BTreeMap<String, Totals>,
}

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

impl Snapshot {
    /// `names` are those told apart so far; new ones are added while there are fewer than `max`.
    pub(super) fn new(mut reading: Reading, names: &mut BTreeSet<EventName>, max: usize) -> Self {
        let mut events: BTreeMap<String, Totals> = BTreeMap::new();
        let read = reading.census.as_mut().map(|census| std::mem::take(&mut census.events));
        for (name, totals) in read.into_iter().flatten() {
            let shown = names.contains(&name) || names.len() < max && names.insert(name.clone());
            let name = if shown { name.as_str() } else { OTHER };
            events.entry(name.to_owned()).or_default().merge(&totals);
        }
        Self { reading, events }
    }

    /// A counter per event name.
    fn count(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: fn(&Totals) -> u64,
    ) -> fmt::Result {
        let values = self.events.iter().map(|(event, totals)| ([("event", event.as_str())], of(totals)));
        counters(encoder, name, help, values)
    }

    fn age(&self, since: Timestamp) -> f64 {
        let now = self.reading.census.as_ref().map_or_else(Timestamp::now, |census| census.now);
        now.since(since).as_secs_f64()
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        self.count(to, "events_published", "Events accepted", |t| t.counters.published)?;
        self.count(to, "events_delivered", "Deliveries made, first and later ones", |t| t.counters.delivered)?;
        self.count(to, "events_redelivered", "Deliveries that were not the first", |t| t.counters.redelivered)?;
        self.count(to, "events_acked", "Events acknowledged", |t| t.counters.acked)?;
        self.count(to, "events_deferred", "Deliveries that clients deferred", |t| t.counters.deferred)?;
        self.count(to, "events_dead", "Events that became dead letters", |t| t.counters.dead)?;
        self.count(to, "events_expired", "Events that expired", |t| t.counters.expired)?;
        self.count(to, "events_requeued", "Dead letters that were put back", |t| t.counters.requeued)?;
        self.count(
            to,
            "events_dropped",
            "Events that administrators gave up: dead letters, and what a purge took",
            |t| t.counters.dropped,
        )?;

        let states = self.events.iter().flat_map(|(event, totals)| {
            let places = [
                ("ready", totals.ready),
                ("in_flight", totals.in_flight),
                ("deferred", totals.deferred),
                ("dead", totals.dead),
            ];
            places.map(|(state, count)| ([("event", event.as_str()), ("state", state)], count as f64))
        });
        gauges(to, "queue_events", "Events that are not settled, by where they are", None, states)?;
        let oldest = self
            .events
            .iter()
            .filter_map(|(event, totals)| totals.oldest.map(|oldest| ([("event", event.as_str())], self.age(oldest))));
        let help = "How old the oldest event is that is neither settled nor a dead letter";
        gauges(to, "queue_oldest_age", help, Some(&Unit::Seconds), oldest)?;
        let consumers =
            self.events.iter().map(|(event, totals)| ([("event", event.as_str())], totals.consumers as f64));
        gauges(to, "queue_consumers", "Subscriptions, paused ones included", None, consumers)?;

        if let Some(census) = &self.reading.census {
            gauge(to, "queues", "Queues: pairs of a recipient and an event name", None, census.queues as f64)?;
            gauge(to, "sessions", "Sessions that are logged in", None, census.sessions as f64)?;
            gauge(to, "apps", "Apps that are registered", None, census.apps as f64)?;
            let numbers: Vec<_> = (0..census.answers.len()).map(|index| index.to_string()).collect();
            let answers = numbers.iter().zip(&census.answers);
            let answers = answers.map(|(index, yes)| ([("partition", index.as_str())], f64::from(u8::from(*yes))));
            let help = "1 if the partition answers; of one that does not, all other numbers are those of before";
            gauges(to, "partition_answers", help, None, answers)?;
        }
        gauge(to, "ready", "1 if the engine carries out commands", None, f64::from(u8::from(self.reading.ready)))?;
        self.connections(to)?;
        self.log(to)
    }
}

impl Snapshot {
    fn connections(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counts = &self.reading.connections;
        let silent = counts.open.saturating_sub(counts.open_grpc).saturating_sub(counts.open_websocket);
        let open = [("grpc", counts.open_grpc), ("websocket", counts.open_websocket), ("none", silent)]
            .map(|(transport, count)| ([("transport", transport)], count as f64));
        gauges(to, "connections", "Connections that are open, by what they speak so far", None, open)?;
        let help = "Connections that were accepted";
        counters(to, "connections_accepted", help, [([], counts.accepted)])?;
        let refused = [
            ("full", counts.refused_full),
            ("address", counts.refused_address),
            ("tls", counts.tls_failed),
            ("timeout", counts.timed_out),
        ]
        .map(|(reason, count)| ([("reason", reason)], count));
        counters(to, "connections_refused", "Connections that were refused or ended by a limit", refused)?;
        counters(to, "logins", "Logins that succeeded", [([], counts.logins)])?;
        let refused = [
            ("unknown_key", counts.logins_refused.saturating_sub(counts.logins_delayed)),
            ("delayed", counts.logins_delayed),
            ("disabled", counts.logins_forbidden),
            ("sessions", counts.sessions_refused),
        ]
        .map(|(reason, count)| ([("reason", reason)], count));
        counters(to, "login_refusals", "Logins that were refused", refused)
    }

    /// Nothing without a log on a disk.
    fn log(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(log) = self.reading.log else { return Ok(()) };
        gauge(to, "log_bytes", "The log's files, without checkpoints", None, log.bytes as f64)?;
        gauge(to, "log_free_bytes", "What is free on the file system of the log", None, log.free_bytes as f64)?;
        let help =
            "What is kept of it for acknowledgements and checkpoints; events are refused while that is too little";
        gauge(to, "log_reserved_bytes", help, None, log.reserved_bytes as f64)?;
        gauge(to, "log_segments", "How many files the log has", None, log.segments as f64)?;
        let help = "The newest checkpoint";
        gauge(to, "log_checkpoint_bytes", help, None, log.checkpoint_bytes as f64)?;
        let Some(at) = log.checkpoint_at else { return Ok(()) };
        gauge(to, "log_checkpoint_age", "How old it is", Some(&Unit::Seconds), self.age(at))
    }
}

fn counters<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        // An empty set of labels would be written as one.
        match N {
            0 => metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
            _ => metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
        }
    }
    Ok(())
}

fn gauges<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl IntoIterator<Item = (Labels<'a, N>, f64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (labels, value) in values {
        match N {
            0 => metric.encode_gauge(&value)?,
            _ => metric.encode_family(&labels)?.encode_gauge(&value)?,
        }
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
    gauges(encoder, name, help, unit, [([], value)])
}
