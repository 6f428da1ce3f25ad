//! What a client tells of itself, by the names in `observability.md`, which are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, Once};

use ensync_client::{Client, Event, Unopenable};
use ensync_core::{Error, ErrorKind, SecretKey};
use futures::StreamExt;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing::Instrument;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::over_both;
use crate::world::{Transport, World, eventually, next, soon};

const ORDERS: &str = "orders/placed";
const PAGE: &str = include_str!("../../crates/ensync-client/src/observability.md");

/// Everything that is said while it listens: spans with all their fields, and log events with theirs and their span's name.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    spans: Vec<(String, BTreeMap<String, String>)>,
    /// Which of them an id means: ids are used again.
    open: BTreeMap<u64, usize>,
    events: Vec<(Option<String>, BTreeMap<String, String>)>,
}

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Heard {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        if attributes.metadata().target() == "ensync_client" {
            let mut fields = BTreeMap::new();
            attributes.record(&mut Fields(&mut fields));
            let name = attributes.metadata().name().to_owned();
            let mut said = self.0.lock().unwrap();
            let place = said.spans.len();
            said.open.insert(id.into_u64(), place);
            said.spans.push((name, fields));
        }
    }
    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut said = self.0.lock().unwrap();
        if let Some(place) = said.open.get(&id.into_u64()).copied() {
            values.record(&mut Fields(&mut said.spans[place].1));
        }
    }
    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.0.lock().unwrap().open.remove(&id.into_u64());
    }
    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        let span = context.event_span(event).map(|span| span.name().to_owned());
        let ours = event.metadata().target().starts_with("ensync");
        if ours {
            self.0.lock().unwrap().events.push((span, fields));
        }
    }
}

impl Heard {
    fn spans(&self, name: &str) -> Vec<BTreeMap<String, String>> {
        let said = self.0.lock().unwrap();
        said.spans.iter().filter(|(known, _)| known == name).map(|(_, fields)| fields.clone()).collect()
    }

    /// The fields of each log event with this message, and the span it was said in.
    fn events(&self, message: &str) -> Vec<(Option<String>, BTreeMap<String, String>)> {
        let said = self.0.lock().unwrap();
        said.events
            .iter()
            .filter(|(_, fields)| fields.get("message").is_some_and(|text| text == message))
            .cloned()
            .collect()
    }

    fn everything(&self) -> String {
        let said = self.0.lock().unwrap();
        format!("{:?} {:?}", said.spans, said.events)
    }
}

/// Listens in this thread, until the guard is dropped.
fn listen(layer: impl Layer<Registry> + Send + Sync) -> DefaultGuard {
    // Whether a span or event is of interest to anybody is remembered for all threads, and tests in others come and go. For this
    // one, everything always is.
    static EVERYTHING: Once = Once::new();
    EVERYTHING.call_once(|| tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap());
    tracing::subscriber::set_default(tracing_subscriber::registry().with(layer))
}

/// The names in the first column of the page's tables under a heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let section = PAGE.split("\n# ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        let cell = row.split('|').nth(1).unwrap();
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    })
    .collect()
}

fn keys(fields: &BTreeMap<String, String>) -> Vec<&str> {
    fields.keys().map(String::as_str).collect()
}

/// An event goes out, is handled, and is settled; another publish fails; a third event is read from the stream.
async fn a_day(world: &World) -> (Client, Client) {
    let (till, stock) = world.clients().await;
    let handler = stock.subscribe(ORDERS).await.unwrap().on(|event: Event| async move {
        assert_eq!(event.json().unwrap()["card"], "4111-1111");
        Ok::<_, Error>(())
    });
    let order = serde_json::json!({"card": "4111-1111"});
    till.publish(ORDERS, &order).to(world.warehouse.app_id).await.unwrap();
    let acked = async || world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap().counters.acked == 1;
    eventually(acked).await;
    soon(handler.stop()).await.unwrap();
    till.publish("bad name", &order).to(world.warehouse.app_id).await.unwrap_err();
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    till.publish(ORDERS, &order).to(world.warehouse.app_id).await.unwrap();
    let event = next(&mut orders).await;
    event.discard("the reason").instrument(event.span()).await.unwrap();
    assert_eq!(event.ack().await.unwrap_err().kind(), ErrorKind::StaleDelivery);
    (till, stock)
}

async fn spans_and_log_events_bear_the_documented_names(transport: Transport) {
    let heard = Heard::default();
    let _listening = listen(heard.clone());
    let world = World::start(transport).await;
    let (till, stock) = a_day(&world).await;

    let connects = heard.spans("ensync.connect");
    assert_eq!(keys(&connects[0]), ["endpoint"]);
    assert_eq!(connects[0]["endpoint"], world.endpoint().to_string());
    let publishes = heard.spans("ensync.publish");
    let ok = ["bytes", "endpoint", "event", "id", "otel.kind", "queued", "recipients"];
    assert_eq!(keys(&publishes[0]), ok);
    assert_eq!((publishes[0]["event"].as_str(), publishes[0]["recipients"].as_str()), (ORDERS, "1"));
    assert_eq!(publishes[0]["bytes"], r#"{"card":"4111-1111"}"#.len().to_string());
    assert_eq!(publishes[1]["error_kind"], "invalid_event_name");
    let handles = heard.spans("ensync.handle");
    assert_eq!(keys(&handles[0]), ["attempt", "event", "id", "otel.kind"]);
    assert_eq!((&handles[0]["id"], handles[0]["otel.kind"].as_str()), (&publishes[0]["id"], "consumer"));
    let settles = heard.spans("ensync.settle");
    assert_eq!(keys(&settles[0]), ["event", "id", "settlement"]);
    let settlements: Vec<_> = settles.iter().map(|fields| fields["settlement"].as_str()).collect();
    assert_eq!(settlements, ["ack", "discard", "ack"]);
    assert_eq!(settles[2]["error_kind"], "stale_delivery");

    for (message, span, fields, count) in [
        ("connected", "ensync.connect", &["endpoint"][..], 2),
        ("published", "ensync.publish", &["id"], 2),
        ("not published", "ensync.publish", &["error", "error_kind"], 1),
        ("settled", "ensync.settle", &["settlement"], 2),
        ("not settled", "ensync.settle", &["error", "error_kind", "settlement"], 1),
    ] {
        let said = heard.events(message);
        assert_eq!(said.len(), count, "{message}");
        let (within, said) = &said[0];
        assert_eq!(within.as_deref(), Some(span), "{message}");
        assert_eq!(
            keys(said),
            fields.iter().copied().chain(["message"]).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        );
    }
    let delivered = heard.events("delivered");
    assert_eq!((delivered.len(), keys(&delivered[0].1)), (2, vec!["attempt", "event", "id", "message"]));

    // All that was seen is on the page.
    let names: BTreeSet<_> = heard.0.lock().unwrap().spans.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, documented("Spans"));
    let fields = documented("Fields");
    for (name, known) in &heard.0.lock().unwrap().spans {
        let unknown: Vec<_> = known.keys().filter(|field| !fields.contains(*field) && *field != "otel.kind").collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
    }
    // And nothing is said that must not be.
    let everything = heard.everything();
    let session = till.client_id().unwrap().expose().to_owned();
    for secret in ["4111", world.shop.app_key.expose(), &session, stock.client_id().unwrap().expose()] {
        assert!(!everything.contains(secret), "{secret} in {everything}");
    }
}

/// What was recorded so far: a snapshot holds what is new since the one before.
struct Recorded {
    snapshotter: Snapshotter,
    totals: BTreeMap<String, f64>,
}

impl Recorded {
    fn so_far(&mut self) -> &BTreeMap<String, f64> {
        for (key, unit, about, value) in self.snapshotter.snapshot().into_vec() {
            let name = key.key().name().to_owned();
            assert!(
                !name.starts_with("ensync_client") || (unit.is_some() && about.is_some()),
                "{name} is not described"
            );
            let labels = key.key().labels().map(|label| format!(" {}={}", label.key(), label.value()));
            let value = match value {
                DebugValue::Counter(value) => value as f64,
                DebugValue::Gauge(value) => value.into_inner(),
                DebugValue::Histogram(values) => values.len() as f64,
            };
            *self.totals.entry(labels.fold(name, |name, label| name + &label)).or_default() += value;
        }
        &self.totals
    }

    fn of(&mut self, name: &str) -> f64 {
        self.so_far().get(name).copied().unwrap_or_default()
    }
}

async fn metrics_bear_the_documented_names(transport: Transport) {
    let recorder = DebuggingRecorder::new();
    let mut recorded = Recorded { snapshotter: recorder.snapshotter(), totals: BTreeMap::new() };
    let _recording = metrics::set_default_local_recorder(&recorder);
    ensync_client::describe_metrics();
    let world = World::start(transport).await;
    let (till, stock) = a_day(&world).await;
    let scheme = if transport == Transport::Grpc { "grpc" } else { "ws" };
    let connects = format!("ensync_client_connects_total scheme={scheme}");
    for (name, expected) in [
        ("ensync_client_published_total", 2.0),
        ("ensync_client_publish_failures_total kind=invalid_event_name", 1.0),
        ("ensync_client_publish_seconds", 3.0),
        ("ensync_client_delivered_total", 2.0),
        ("ensync_client_in_flight", 0.0),
        ("ensync_client_settled_total settlement=ack", 1.0),
        ("ensync_client_settled_total settlement=discard", 1.0),
        ("ensync_client_settle_failures_total kind=stale_delivery", 1.0),
        (connects.as_str(), 2.0),
        ("ensync_client_connections", 2.0),
    ] {
        assert_eq!(recorded.of(name), expected, "{name} in {:#?}", recorded.totals);
    }
    // Unsettled until it is dropped; connected until it is closed; not connected.
    let mut orders = stock.subscribe("other/name").await.unwrap();
    till.publish("other/name", &1).to(world.warehouse.app_id).await.unwrap();
    let event = next(&mut orders).await;
    assert_eq!(recorded.of("ensync_client_in_flight"), 1.0);
    drop(event);
    assert_eq!(recorded.of("ensync_client_in_flight"), 0.0);
    soon(till.close()).await.unwrap();
    soon(stock.close()).await.unwrap();
    assert_eq!(recorded.of("ensync_client_connections"), 0.0);
    world.engine().create_client("no-such-key").await.unwrap_err();
    assert_eq!(recorded.of("ensync_client_connect_failures_total kind=unauthenticated"), 1.0);
    let documented: BTreeSet<_> =
        documented("Metrics").into_iter().filter(|name| name.starts_with("ensync_")).collect();
    let seen = recorded.totals.keys().map(|name| name.split(' ').next().unwrap().to_owned());
    let seen: BTreeSet<_> = seen.filter(|name| name.starts_with("ensync_client")).collect();
    // The others: a client that was cut off and a reader of what does not open, which are counted in the client's own tests; an outbox;
    // and events that nobody reads.
    let unseen: Vec<_> = documented.difference(&seen).map(String::as_str).collect();
    let others = [
        "ensync_client_outbox_outcomes_total",
        "ensync_client_reconnects_total",
        "ensync_client_unopenable_total",
        "ensync_client_unread_total",
    ];
    assert_eq!(unseen, others);
    assert!(seen.is_subset(&documented), "{seen:?}");
}

over_both!(
    spans_and_log_events_bear_the_documented_names,
    metrics_bear_the_documented_names,
    a_trace_goes_with_the_event,
    without_the_option_no_trace_goes_anywhere,
    what_does_not_open_is_logged_once_in_a_while,
);

/// Whoever sends such events decides how many there are.
async fn what_does_not_open_is_logged_once_in_a_while(transport: Transport) {
    let heard = Heard::default();
    let _listening = listen(heard.clone());
    let world = World::start(transport).await;
    let (till, stock) = world.clients().await;
    let other = stock.subscribe(ORDERS).app_secret_key(SecretKey::generate().unwrap());
    let mut orders = other.unopenable(Unopenable::Discard).await.unwrap();
    for n in 0..20 {
        till.publish(ORDERS, &n).to(world.warehouse.app_id).await.unwrap();
    }
    let dead = async || world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap().dead;
    tokio::select! {
        event = orders.next() => panic!("{event:?} came out"),
        () = eventually(async || dead().await == 20) => {}
    }
    assert_eq!(heard.events("an event cannot be opened; others may follow unlogged for a minute").len(), 1);
}

/// A program that is set up for OpenTelemetry, as far as these tests need.
struct Telemetry {
    exporter: InMemorySpanExporter,
    provider: SdkTracerProvider,
    _listening: DefaultGuard,
}

impl Telemetry {
    fn start() -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let listening = listen(layer);
        Self { exporter, provider, _listening: listening }
    }

    fn spans(&self, name: &str) -> Vec<SpanData> {
        self.provider.force_flush().unwrap();
        self.exporter.get_finished_spans().unwrap().into_iter().filter(|span| span.name == name).collect()
    }
}

fn linked(span: &SpanData) -> Vec<SpanContext> {
    span.links.iter().map(|link| link.span_context.clone()).collect()
}

async fn a_trace_goes_with_the_event(transport: Transport) {
    let telemetry = Telemetry::start();
    let world = World::start(transport).await;
    let engine = world.engine().propagate_trace_context(true);
    let till = engine.create_client(&world.shop.app_key).await.unwrap();
    let stock = engine.create_client(&world.warehouse.app_key).app_secret_key(&world.warehouse.secret_key);
    let stock = stock.await.unwrap();
    let handled = Arc::new(Mutex::new(None));
    let seen = handled.clone();
    let handler = stock.subscribe(ORDERS).await.unwrap().on(move |event: Event| {
        *seen.lock().unwrap() = Some((event.metadata().header("traceparent"), tracing::Span::current().context()));
        async { Ok::<_, Error>(()) }
    });
    let request = tracing::info_span!("request");
    let publish = till.publish(ORDERS, &1).to(world.warehouse.app_id).header("mine", "too");
    publish.into_future().instrument(request.clone()).await.unwrap();
    let acked = async || world.server.queue(ORDERS, world.warehouse.app_id).await.unwrap().unwrap().counters.acked == 1;
    eventually(acked).await;
    soon(handler.stop()).await.unwrap();
    let trace = request.context().span().span_context().trace_id();
    drop(request);

    let producer = &telemetry.spans("ensync.publish")[0];
    assert_eq!((producer.span_kind.clone(), producer.span_context.trace_id()), (SpanKind::Producer, trace));
    let (header, _) = handled.lock().unwrap().take().unwrap();
    let expected = format!("00-{trace}-{}-01", producer.span_context.span_id());
    assert_eq!(header.unwrap(), expected.as_str());
    let consumer = &telemetry.spans("ensync.handle")[0];
    assert_eq!(consumer.span_kind, SpanKind::Consumer);
    assert_ne!(consumer.span_context.trace_id(), trace, "a link, not a parent");
    let links = linked(consumer);
    assert_eq!((links.len(), links[0].trace_id(), links[0].span_id()), (1, trace, producer.span_context.span_id()));
    // What the handler's settlement does is within its span.
    let settle = &telemetry.spans("ensync.settle")[0];
    assert_eq!(settle.parent_span_id, consumer.span_context.span_id());

    // What a caller sets himself stays, and what is not in order is ignored.
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    for parent in ["not one", "00-00000000000000000000000000000000-0000000000000000-00"] {
        till.publish(ORDERS, &1).to(world.warehouse.app_id).header("traceparent", parent).await.unwrap();
        let event = next(&mut orders).await;
        assert_eq!(event.metadata().header("traceparent").unwrap(), parent);
        event.ack().instrument(event.span()).await.unwrap();
    }
    assert!(telemetry.spans("ensync.handle")[1..].iter().all(|span| linked(span).is_empty()));
}

async fn without_the_option_no_trace_goes_anywhere(transport: Transport) {
    let telemetry = Telemetry::start();
    let world = World::start(transport).await;
    let (till, stock) = world.clients().await;
    let mut orders = stock.subscribe(ORDERS).await.unwrap();
    till.publish(ORDERS, &1).to(world.warehouse.app_id).await.unwrap();
    let event = next(&mut orders).await;
    assert!(event.metadata().header("traceparent").is_none());
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    till.publish(ORDERS, &1).to(world.warehouse.app_id).header("traceparent", parent).await.unwrap();
    let event = next(&mut orders).await;
    drop(event.span());
    assert!(linked(&telemetry.spans("ensync.handle")[0]).is_empty());
}
