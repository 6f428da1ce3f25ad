//! `ensync queue`.

mod peek;

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::peek::{One, State};
use super::Outcome;
use crate::admin::{Admin, Api, Failure, Output, Table, narrowed, shown, text, time};
use crate::exit::Problem;
use crate::{signals, values};

/// Look at queues: the events of one app under one event name.
#[derive(Args)]
pub(crate) struct Queue {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List queues that were ever used.
    #[command(after_help = "Examples:\n  ensync queue list\n  ensync queue list --app shop --json")]
    List(Which),
    /// Show one queue: what waits, since when, who reads, and how often things happened.
    #[command(after_help = "Examples:\n  ensync queue show orders/new --app shop")]
    Show(One),
    /// Look at the events of a queue that are not settled, in their order. Nothing is delivered by that.
    #[command(
        after_help = "Examples:\n  ensync queue peek orders/new --app shop\n  ensync queue peek orders/new --app shop --state deferred --limit 10"
    )]
    Peek {
        /// Only those that stand so.
        #[arg(long, value_enum)]
        state: Option<State>,
        /// How many at most. If there are more, the last line on standard error says how to go on.
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = values::number::<usize>)]
        limit: usize,
        /// Only those after this one: an event's id, of the page before.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        #[command(flatten)]
        one: One,
    },
    /// Show the last events of a queue that are not settled, and each that comes, until Ctrl-C. What is settled within a second is not seen.
    #[command(after_help = "Examples:\n  ensync queue tail orders/new --app shop --lines 0")]
    Tail {
        /// How many of those that are there, up to 1,000.
        #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = values::number::<usize>)]
        lines: usize,
        #[command(flatten)]
        one: One,
    },
    /// Give up all events of a queue that wait, without a trace. What is with clients stays theirs, and dead letters stay.
    #[command(
        after_help = "Examples:\n  ensync queue purge orders/new --app shop        # says how many\n  ensync queue purge orders/new --app shop --yes"
    )]
    Purge {
        /// Do it.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        one: One,
    },
    /// List queues again and again, with what happened in between per second, until Ctrl-C.
    #[command(
        after_help = "Examples:\n  ensync queue watch\n  ensync queue watch --event orders/new --every 10s --json"
    )]
    Watch {
        /// How often.
        #[arg(long, value_name = "TIME", value_parser = values::time, default_value = "2s")]
        every: Duration,
        /// End after this many times.
        #[arg(long, value_name = "COUNT", value_parser = values::number::<u64>)]
        count: Option<u64>,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Args)]
struct Which {
    /// Only those of this event name.
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Only those of this app.
    #[arg(long)]
    app: Option<String>,
    #[command(flatten)]
    admin: Admin,
}

impl Which {
    async fn look(&self) -> Result<Vec<Value>, Failure> {
        let listed = async |api: &Api| {
            let path = narrowed(api, "/v1/queues", self.event.as_deref(), self.app.as_deref()).await?;
            api.list(&path, "queues", None).await
        };
        self.admin.run(listed).await
    }
}

impl Queue {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        match self.command {
            Command::List(which) => {
                let queues = which.look().await?;
                out.table(|| Value::Array(queues.clone()), || table(&queues))
            }
            Command::Show(one) => one.show(out).await,
            Command::Peek { state, limit, after, one } => one.peek(out, state, limit, after).await,
            Command::Tail { lines, one } => one.tail(out, lines).await,
            Command::Purge { yes, one } => one.purge(out, yes).await,
            Command::Watch { every, count, which } => watch(out, every, count, &which).await,
        }
    }
}

fn table(queues: &[Value]) -> Table {
    let heading = ["APP", "EVENT", "READY", "IN FLIGHT", "DEFERRED", "DEAD", "CONSUMERS", "OLDEST"];
    let mut table = Table::new(heading);
    for queue in queues {
        let [ready, in_flight, deferred, dead, consumers] =
            ["ready", "in_flight", "deferred", "dead", "consumers"].map(|name| shown(queue, name));
        let (app, event) = (text(queue, "app_name").to_owned(), text(queue, "event").to_owned());
        table.row([app, event, ready, in_flight, deferred, dead, consumers, time(queue.get("oldest"))]);
    }
    table
}

fn one(queue: &Value) -> Table {
    let mut table = Table::new(["EVENT", text(queue, "event")]);
    table.row(["APP".into(), text(queue, "app_name").into()]);
    table.row(["APP ID".into(), text(queue, "app").into()]);
    for (name, field) in [
        ("READY", "ready"),
        ("IN FLIGHT", "in_flight"),
        ("DEFERRED", "deferred"),
        ("DEAD", "dead"),
        ("CONSUMERS", "consumers"),
    ] {
        table.row([name.into(), shown(queue, field)]);
    }
    table.row(["OLDEST".into(), time(queue.get("oldest"))]);
    for (name, count) in queue.get("counters").and_then(Value::as_object).into_iter().flatten() {
        table.row([format!("{} SINCE THE START", name.to_uppercase()), count.to_string()]);
    }
    table
}

async fn watch(out: Output, every: Duration, count: Option<u64>, which: &Which) -> Outcome {
    if every < Duration::from_millis(100) {
        return Err(Problem::usage("--every: at least 100ms").into());
    }
    which.admin.must_run("ensync queue watch")?;
    let mut signals = signals::Signals::of_command()?;
    let mut before: Option<(Instant, Vec<Value>)> = None;
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        let Ok(queues) = signals.unless(which.look()).await else { return Ok(()) };
        let (queues, at) = (queues?, Instant::now());
        let (earlier, seconds) = match &before {
            // The engine may take its time to answer.
            Some((then, queues)) => (queues.as_slice(), (at - *then).as_secs_f64()),
            None => (&[][..], 1.0),
        };
        let rows: Vec<_> = queues.iter().map(|queue| Rates::new(queue, earlier, seconds)).collect();
        let text = match out.json {
            true => out.value_text(&json!({"queues": rows.iter().map(Rates::json).collect::<Vec<_>>()})),
            false => {
                let heading = ["APP", "EVENT", "READY", "IN FLIGHT", "DEAD", "CONSUMERS", "IN/S", "ACKED/S"];
                let mut table = Table::new(heading);
                for Rates { queue, published, acked } in rows {
                    let [ready, in_flight, dead, consumers] =
                        ["ready", "in_flight", "dead", "consumers"].map(|name| shown(queue, name));
                    let (app, event) = (text(queue, "app_name").to_owned(), text(queue, "event").to_owned());
                    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
                    table.row([app, event, ready, in_flight, dead, consumers, rate(published), rate(acked)]);
                }
                format!("{}\n", out.table_text(table)?)
            }
        };
        let Ok(printed) = signals.unless(out.print(text)).await else { return Ok(()) };
        printed?;
        before = Some((at, queues));
        left -= 1;
        if left > 0 {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = signals.stop() => return Ok(()),
            }
        }
    }
    Ok(())
}

/// A queue, and what happened to it per second since it was looked at last.
struct Rates<'a> {
    queue: &'a Value,
    published: Option<f64>,
    acked: Option<f64>,
}

impl<'a> Rates<'a> {
    fn new(queue: &'a Value, before: &[Value], seconds: f64) -> Self {
        let same = |other: &&Value| ["app", "event"].iter().all(|name| text(other, name) == text(queue, name));
        let before = before.iter().find(same);
        let rate = |name: &str| {
            let count = |of: &Value| of.pointer(&format!("/counters/{name}")).and_then(Value::as_u64);
            // An engine that was started again counts anew.
            Some(count(queue)?.checked_sub(count(before?)?)? as f64 / seconds)
        };
        Self { queue, published: rate("published"), acked: rate("acked") }
    }

    fn json(&self) -> Value {
        let mut value = self.queue.clone();
        if let Some(members) = value.as_object_mut() {
            let rates = json!({"published": self.published, "acked": self.acked});
            members.insert("per_second".to_owned(), rates);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_same_queue_and_of_the_same_engine() {
        let queue = |app: &str, published: u64| json!({"app": app, "event": "e", "counters": {"published": published, "acked": 0}});
        let before = [queue("a", 10), queue("b", 100)];
        assert_eq!(Rates::new(&queue("a", 30), &before, 2.0).published, Some(10.0));
        assert_eq!(Rates::new(&queue("b", 5), &before, 2.0).published, None, "started again");
        assert_eq!(Rates::new(&queue("c", 5), &before, 2.0).published, None);
        assert_eq!(Rates::new(&queue("a", 30), &before, 2.0).json()["per_second"]["acked"], 0.0);
    }
}
