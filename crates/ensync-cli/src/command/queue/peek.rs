//! Looking into a queue, and emptying it.

use std::time::Duration;

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::Value;

use crate::admin::{Admin, Api, Failure, Output, Table, confirmed, encoded, shown, text, time};
use crate::command::Outcome;
use crate::output::note;
use crate::signals;

/// How often a tail looks for more.
const EVERY: Duration = Duration::from_secs(1);

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
            note(format_args!("there are more: go on with --after {}, or raise --limit", text(last, "id")));
        }
        out.table(|| Value::Array(events.clone()), || table(&events))
    }

    pub(super) async fn tail(self, out: Output, lines: usize) -> Outcome {
        let mut signals = signals::Signals::listen()?;
        let (mut after, mut first): (Option<String>, bool) = (None, true);
        loop {
            let looked = async |api: &Api| {
                let path = format!("{}/events", self.path(api).await?);
                api.list_after(&path, "events", None, after.as_deref()).await
            };
            let mut events = self.admin.run(looked).await?;
            if std::mem::take(&mut first) {
                let few = events.len().saturating_sub(lines);
                events.drain(..few);
            }
            for event in &events {
                out.either(|| event.clone(), || line(event))?;
            }
            after = events.last().map(|last| text(last, "id").to_owned()).or(after);
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = signals.stop() => return Ok(()),
            }
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
