use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{ArgGroup, Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::Outcome;
use super::lookup::look_up;
use crate::admin::{Admin, Api, Failure, Output, Table, confirmed, encoded, shown, text, time};
use crate::exit::{Exit, Problem};
use crate::output::note;
use crate::shell::word;
use crate::values;

/// Look at dead letters, have them delivered again, or give them up.
#[derive(Args)]
pub(crate) struct DeadLetter {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List dead letters, the oldest event first per queue.
    #[command(
        after_help = "Examples:\n  ensync dead-letter list --event orders/new --reason 'max deliveries'\n  ensync dead-letter list --older-than 7d\n  ensync dead-letter list --limit 10 --after ID"
    )]
    List {
        #[command(flatten)]
        those: Those,
        /// How many at most. If there are more, the last line on standard error says how to go on.
        #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = values::number::<usize>)]
        limit: usize,
        /// Only those after this one: an event's id, of the page before.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        #[command(flatten)]
        admin: Admin,
    },
    /// Show a dead letter: who sent it, why it is one, and what travels in clear.
    #[command(after_help = "Examples:\n  ensync dead-letter show ID")]
    Show {
        /// The event's id.
        id: String,
        #[command(flatten)]
        admin: Admin,
    },
    /// Have dead letters delivered again: their deliveries and their time to live count anew.
    #[command(
        after_help = "Examples:\n  ensync dead-letter requeue ID OTHER_ID\n  ensync dead-letter requeue --app shop --event orders/new --newer-than 1h"
    )]
    Requeue {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        admin: Admin,
    },
    /// Give dead letters up.
    #[command(
        after_help = "Examples:\n  ensync dead-letter drop ID --yes\n  ensync dead-letter drop --older-than 30d        # says how many\n  ensync dead-letter drop --all --yes"
    )]
    Drop {
        #[command(flatten)]
        which: Which,
        /// Do it.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        admin: Admin,
    },
}

/// Dead letters of which all of this holds.
#[derive(Args)]
struct Those {
    /// Those of this event name.
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Those of this app.
    #[arg(long)]
    app: Option<String>,
    /// Those with a reason that holds this, in either case of ASCII letters.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Those that have been dead letters for at least this time, such as 7d.
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    older_than: Option<Duration>,
    /// Those that have been dead letters for less than this time.
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    newer_than: Option<Duration>,
}

#[derive(Args)]
#[command(group = ArgGroup::new("which").args(["id", "event", "app", "reason", "older_than", "newer_than", "all"]).required(true).multiple(true))]
struct Which {
    /// The events' ids.
    #[arg(value_name = "ID", conflicts_with_all = ["event", "app", "reason", "older_than", "newer_than", "all"])]
    id: Vec<String>,
    #[command(flatten)]
    those: Those,
    /// All of them.
    #[arg(long, conflicts_with_all = ["event", "app", "reason", "older_than", "newer_than"])]
    all: bool,
}

impl DeadLetter {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        match self.command {
            Command::List { those, limit, after, admin } => list(&admin, out, &those, limit, after).await,
            Command::Show { id, admin } => look_up(&admin, &id, false, out).await,
            Command::Requeue { which, admin } => which.post("requeue", true, &admin, out).await,
            Command::Drop { which, yes, admin } => which.post("drop", yes, &admin, out).await,
        }
    }
}

/// The most ids that the engine takes at once.
const AT_ONCE: usize = 1_000;

impl Those {
    /// What of it was said, in the admin API's words.
    async fn fields(&self, api: &Api) -> Result<Map<String, Value>, Failure> {
        let mut fields = Map::new();
        let mut add = |name: &str, value: Option<Value>| fields.extend(value.map(|value| (name.to_owned(), value)));
        if let Some(event) = &self.event {
            // A name that is misspelt is told, rather than that nothing is there.
            api.get(&format!("/v1/events/{}", encoded(event))).await?;
            add("event", Some(event.clone().into()));
        }
        if let Some(app) = &self.app {
            add("app", Some(text(&api.app(app).await?, "id").into()));
        }
        add("reason", self.reason.clone().map(Value::from));
        let ago = |time: Duration| {
            let at = SystemTime::now().checked_sub(time).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            Value::from(at.map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX)))
        };
        add("since", self.newer_than.map(ago));
        add("before", self.older_than.map(ago));
        Ok(fields)
    }

    /// The path that lists them.
    async fn path(&self, api: &Api) -> Result<String, Failure> {
        let fields = self.fields(api).await?;
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let query: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(&plain(value)))).collect();
        let joint = if query.is_empty() { "" } else { "?" };
        Ok(format!("/v1/dead-letters{joint}{}", query.join("&")))
    }
}

impl Which {
    async fn post(self, what: &str, yes: bool, admin: &Admin, out: Output) -> Outcome {
        let path = format!("/v1/dead-letters/{what}");
        let mut ids = self.id.clone();
        ids.sort();
        ids.dedup();
        let done = async |api: &Api| {
            if !yes {
                let count = match ids.len() {
                    0 => count_letters(api, &self.those.path(api).await?).await?,
                    ids => ids,
                };
                confirmed(yes, &format!("this drops {count} events that somebody sent"))?;
            }
            let mut count = 0;
            match ids.as_slice() {
                // One that is none is told.
                [id] => count = count_of(&api.call(Method::POST, &path, Some(json!({"id": id}))).await?),
                [] => {
                    let mut which = self.those.fields(api).await?;
                    which.extend(self.all.then(|| ("all".to_owned(), true.into())));
                    count = count_of(&api.call(Method::POST, &path, Some(which.into())).await?);
                }
                ids => {
                    for some in ids.chunks(AT_ONCE) {
                        let answer = api.call(Method::POST, &path, Some(json!({"ids": some}))).await;
                        count += count_of(&answer.map_err(|error| match count {
                            0 => error,
                            done => Problem::new(Exit::Partly, format!("{done} are done, and then: {error}")).into(),
                        })?);
                    }
                }
            }
            Ok(count)
        };
        let count = admin.run(done).await?;
        out.either(|| json!({"count": count}), || count.to_string())?;
        match (ids.len() as u64).checked_sub(count) {
            Some(none @ 1..) => {
                let text = format!("{none} of the {} ids are those of no dead letter", ids.len());
                Err(Problem::new(if count == 0 { Exit::NotFound } else { Exit::Partly }, text).into())
            }
            _ => Ok(()),
        }
    }
}

/// How many dead letters a list has, without keeping them.
async fn count_letters(api: &Api, path: &str) -> Result<usize, Failure> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = api.list_after(path, "dead_letters", Some(AT_ONCE), after.as_deref()).await?;
        count += page.len();
        match page.last() {
            Some(last) if page.len() == AT_ONCE => after = Some(text(last, "id").to_owned()),
            _ => return Ok(count),
        }
    }
}

fn count_of(answer: &Value) -> u64 {
    answer.get("count").and_then(Value::as_u64).unwrap_or_default()
}

async fn list(admin: &Admin, out: Output, those: &Those, limit: usize, after: Option<String>) -> Outcome {
    let listed = async |api: &Api| {
        let path = those.path(api).await?;
        // One more than is shown tells whether there are more.
        api.list_after(&path, "dead_letters", Some(limit.saturating_add(1)), after.as_deref()).await
    };
    let mut letters = admin.run(listed).await?;
    let more = letters.len() > limit;
    letters.truncate(limit);
    if more && let Some(last) = letters.last() {
        note(format_args!("there are more: go on with --after {}, or raise --limit", word(text(last, "id"))));
    }
    let table = || {
        let mut table = Table::new(["ID", "EVENT", "APP", "SINCE", "DELIVERIES", "REASON"]);
        for letter in &letters {
            let [id, event, app, reason] =
                ["id", "event", "app_name", "reason"].map(|name| text(letter, name).to_owned());
            table.row([id, event, app, time(letter.get("at")), shown(letter, "deliveries"), reason]);
        }
        table
    };
    out.table(|| Value::Array(letters.clone()), table)
}
