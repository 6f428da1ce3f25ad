use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::Outcome;
use crate::admin::{Admin, Api, Output, Table, encoded, shown, text, time};
use crate::values;

/// Look at the clients that are logged in, or end their sessions.
#[derive(Args)]
pub(crate) struct Session {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List sessions, in the order in which they came.
    #[command(after_help = "Examples:\n  ensync session list\n  ensync session list --app shop --json")]
    List {
        /// Only those of this app.
        #[arg(long)]
        app: Option<String>,
        #[command(flatten)]
        admin: Admin,
    },
    /// Show a session, and what it is subscribed to.
    #[command(after_help = "Examples:\n  ensync session show 17")]
    Show {
        /// Its number.
        #[arg(value_parser = values::number::<u64>)]
        session: u64,
        #[command(flatten)]
        admin: Admin,
    },
    /// End a session: what it holds goes back to its queues. Its client may log in again; `ensync app disable` keeps it out.
    #[command(after_help = "Examples:\n  ensync session end 17")]
    End {
        /// Its number.
        #[arg(value_parser = values::number::<u64>)]
        session: u64,
        #[command(flatten)]
        admin: Admin,
    },
}

impl Session {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        match self.command {
            Command::List { app, admin } => {
                admin.must_run("ensync session list")?;
                let listed = async |api: &Api| {
                    let path = match &app {
                        Some(app) => format!("/v1/sessions?app={}", encoded(text(&api.app(app).await?, "id"))),
                        None => "/v1/sessions".to_owned(),
                    };
                    api.list(&path, "sessions", None).await
                };
                let sessions = admin.run(listed).await?;
                out.table(|| Value::Array(sessions.clone()), || table(&sessions))
            }
            Command::Show { session, admin } => {
                let path = format!("/v1/sessions/{session}");
                let session = admin.run(async |api| api.get(&path).await).await?;
                out.table(|| session.clone(), || one(&session))
            }
            Command::End { session, admin } => {
                let path = format!("/v1/sessions/{session}");
                admin.run(async |api| api.call(Method::DELETE, &path, None).await).await?;
                out.done()
            }
        }
    }
}

fn table(sessions: &[Value]) -> Table {
    let mut table = Table::new(["SESSION", "APP", "TRANSPORT", "FROM", "SINCE", "NAMES", "HOLDS"]);
    for session in sessions {
        let [app, transport, remote] = ["app_name", "transport", "remote"].map(|name| text(session, name).to_owned());
        let [number, names, holds] = ["session", "subscriptions", "held"].map(|name| shown(session, name));
        table.row([number, app, transport, remote, time(session.get("since")), names, holds]);
    }
    table
}

fn one(details: &Value) -> Table {
    let session = details.get("session").unwrap_or(&Value::Null);
    let mut table = Table::new(["SESSION", &shown(session, "session")]);
    table.row(["APP".into(), format!("{} ({})", text(session, "app_name"), text(session, "app"))]);
    table.row(["TRANSPORT".into(), text(session, "transport").into()]);
    table.row(["FROM".into(), text(session, "remote").into()]);
    table.row(["SINCE".into(), time(session.get("since"))]);
    table.row(["HOLDS".into(), format!("{} events, {} bytes", shown(session, "held"), shown(session, "held_bytes"))]);
    for name in details.get("subscriptions").and_then(Value::as_array).into_iter().flatten() {
        let paused = if name.get("paused") == Some(&Value::Bool(true)) { ", paused" } else { "" };
        table.row(["SUBSCRIBED TO".into(), format!("{}: holds {}{paused}", text(name, "event"), shown(name, "held"))]);
    }
    table
}
