use clap::{ArgGroup, Args, Subcommand};
use http::Method;
use serde_json::{Map, Value};

use super::Outcome;
use crate::admin::{Admin, Api, Output, Table, confirmed, narrowed, shown, text, time};
use crate::foreign;
use crate::output::note;

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
        after_help = "Examples:\n  ensync dead-letter list --event orders/new\n  ensync dead-letter list --limit 10 --after ID"
    )]
    List {
        /// Only those of this event name.
        #[arg(long, value_name = "NAME")]
        event: Option<String>,
        /// Only those of this app.
        #[arg(long)]
        app: Option<String>,
        /// How many at most. If there are more, the last line on standard error says how to go on.
        #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
        limit: usize,
        /// Only those after this one: an event's id, of the page before.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        #[command(flatten)]
        admin: Admin,
    },
    /// Have dead letters delivered again: their deliveries and their time to live count anew.
    #[command(
        after_help = "Examples:\n  ensync dead-letter requeue ID\n  ensync dead-letter requeue --app shop --event orders/new"
    )]
    Requeue {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        admin: Admin,
    },
    /// Give dead letters up.
    #[command(after_help = "Examples:\n  ensync dead-letter drop ID --yes\n  ensync dead-letter drop --all --yes")]
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

#[derive(Args)]
#[command(group = ArgGroup::new("which").args(["id", "event", "app", "all"]).required(true).multiple(true))]
struct Which {
    /// The event's id.
    #[arg(conflicts_with_all = ["event", "app", "all"])]
    id: Option<String>,
    /// Those of this event name.
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    event: Option<String>,
    /// Those of this app.
    #[arg(long, conflicts_with = "all")]
    app: Option<String>,
    /// All of them.
    #[arg(long)]
    all: bool,
}

impl DeadLetter {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        match self.command {
            Command::List { event, app, limit, after, admin } => list(&admin, out, event, app, limit, after).await,
            Command::Requeue { which, admin } => which.post("requeue", &admin, out).await,
            Command::Drop { which, yes, admin } => {
                confirmed(yes, "this drops events that somebody sent")?;
                which.post("drop", &admin, out).await
            }
        }
    }
}

impl Which {
    async fn post(self, what: &str, admin: &Admin, out: Output) -> Outcome {
        let done = async |api: &Api| {
            let mut which = Map::new();
            which.extend(self.id.map(|id| ("id".to_owned(), id.into())));
            which.extend(self.event.map(|event| ("event".to_owned(), event.into())));
            if let Some(app) = &self.app {
                which.insert("app".to_owned(), text(&api.app(app).await?, "id").into());
            }
            which.extend(self.all.then(|| ("all".to_owned(), true.into())));
            api.call(Method::POST, &format!("/v1/dead-letters/{what}"), Some(which.into())).await
        };
        let done = admin.run(done).await?;
        out.either(|| done.clone(), || shown(&done, "count"))
    }
}

async fn list(
    admin: &Admin,
    out: Output,
    event: Option<String>,
    app: Option<String>,
    limit: usize,
    after: Option<String>,
) -> Outcome {
    let listed = async |api: &Api| {
        let path = narrowed(api, "/v1/dead-letters", event.as_deref(), app.as_deref()).await?;
        // One more than is shown tells whether there are more.
        api.list_after(&path, "dead_letters", Some(limit.saturating_add(1)), after.as_deref()).await
    };
    let mut letters = admin.run(listed).await?;
    let more = letters.len() > limit;
    letters.truncate(limit);
    if more && let Some(last) = letters.last() {
        let last = foreign::printable(text(last, "id"));
        note(format_args!("there are more: go on with --after {last}, or raise --limit"));
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
