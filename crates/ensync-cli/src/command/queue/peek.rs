//! Looking into a queue, and emptying it.

use std::time::Duration;

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::Value;

use crate::admin::{Admin, Api, Failure, Output, Table, confirmed, encoded, shown, text, time};
use crate::command::Outcome;
use crate::output::note;
use crate::shell::word;
use crate::signals;

/// How often a tail looks for more.
const EVERY: Duration = Duration::from_secs(1);
/// The most of the last events that the engine tells at once.
const MAX_LAST: usize = 1_000;

/// One queue.
#[derive(Args)]
pub(super) struct One {
    /// The event's name.
    event: String,
    /// The app that the events are for.
    #[arg(long)]
    app: String,
    #[command(flatten)]
    admin: Admin,
}

/// How an event may stand.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum State {
    Ready,
    InFlight,
    Deferred,
    Dead,
}

impl State {
    fn query(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::InFlight => "in_flight",
            Self::Deferred => "deferred",
            Self::Dead => "dead",
        }
    }
}

impl One {
    async fn path(&self, api: &Api) -> Result<String, Failure> {
        let app = api.app(&self.app).await?;
        Ok(format!("/v1/queues/{}/{}", encoded(text(&app, "id")), encoded(&self.event)))
    }

    pub(super) async fn show(self, out: Output) -> Outcome {
        let queue = self.admin.run(async |api| api.get(&self.path(api).await?).await).await?;
        out.table(|| queue.clone(), || super::one(&queue))
    }

    pub(super) async fn peek(self, out: Output, state: Option<State>, limit: usize, after: Option<String>) -> Outcome {
        let looked = async |api: &Api| {
            let path = format!("{}/events", self.path(api).await?);
            let path = state.map_or(path.clone(), |state| format!("{path}?state={}", state.query()));
            // One more than is shown tells whether there are more.
            api.list_after(&path, "events", Some(limit.saturating_add(1)), after.as_deref()).await
        };
        let mut events = self.admin.run(looked).await?;
        let more = events.len() > limit;
        events.truncate(limit);
        if more && let Some(last) = events.last() {
            note(format_args!("there are more: go on with --after {}, or raise --limit", word(text(last, "id"))));
        }
        out.table(|| Value::Array(events.clone()), || table(&events))
    }

    pub(super) async fn tail(self, out: Output, lines: usize) -> Outcome {
        self.admin.must_run("ensync queue tail")?;
        let mut signals = signals::Signals::of_command()?;
        let mut after: Option<String> = None;
        let mut first = Some(lines);
        loop {
            let looked = async |api: &Api| {
                let path = format!("{}/events", self.path(api).await?);
                match (first, &after) {
                    // One more than is shown, so that there is one to go on from.
                    (Some(lines), None) => {
                        let few = lines.clamp(1, MAX_LAST);
                        let page = api.get(&format!("{path}?last={few}")).await?;
                        page.get("events").and_then(Value::as_array).cloned().ok_or_else(no_list)
                    }
                    _ => api.list_after(&path, "events", None, after.as_deref()).await,
                }
            };
            let Ok(looked) = signals.unless(self.admin.run(looked)).await else { return Ok(()) };
            let events = looked?;
            let shown = first.take().unwrap_or(usize::MAX);
            let printed: String = events
                .iter()
                .skip(events.len().saturating_sub(shown))
                .map(|event| if out.json { out.value_text(event) } else { format!("{}\n", line(event)) })
                .collect();
            let Ok(printed) = signals.unless(out.print(printed)).await else { return Ok(()) };
            printed?;
            after = events.last().map(|last| text(last, "id").to_owned()).or(after);
            let Err(_) = signals.unless(tokio::time::sleep(EVERY)).await else { continue };
            return Ok(());
        }
    }

    pub(super) async fn purge(self, out: Output, yes: bool) -> Outcome {
        let purged = async |api: &Api| {
            let path = self.path(api).await?;
            let queue = api.get(&path).await?;
            let count = |name: &str| queue.get(name).and_then(Value::as_u64).unwrap_or_default();
            let waiting = count("ready") + count("deferred");
            confirmed(
                yes,
                &format!("this gives up {waiting} events that wait under {} for {:?}", self.event, self.app),
            )?;
            api.call(Method::POST, &format!("{path}/purge"), None).await
        };
        let done = self.admin.run(purged).await?;
        out.either(|| done.clone(), || shown(&done, "count"))
    }
}

fn no_list() -> Failure {
    "the admin API answered something else than a list: is this an EnSync engine?".into()
}

fn table(events: &[Value]) -> Table {
    let mut table = Table::new(["ID", "STATE", "ACCEPTED", "DELIVERIES", "BYTES", "UNTIL", "REASON"]);
    for event in events {
        let [id, state, reason] = ["id", "state", "reason"].map(|name| text(event, name).to_owned());
        let (accepted, until) = (time(event.get("accepted_at")), time(event.get("until")));
        table.row([
            id,
            state.replace('_', " "),
            accepted,
            shown(event, "deliveries"),
            shown(event, "bytes"),
            until,
            reason,
        ]);
    }
    table
}

fn line(event: &Value) -> String {
    let [id, state] = ["id", "state"].map(|name| crate::foreign::printable(text(event, name)).into_owned());
    format!("{}  {id}  {}  {} bytes", time(event.get("accepted_at")), state.replace('_', " "), shown(event, "bytes"))
}
