use clap::{Args, Subcommand};
use serde_json::Value;

use super::Outcome;
use crate::admin::{Admin, Api, Table, narrowed, shown, text, time};
use crate::foreign;

/// Look at queues: the events of one app under one event name.
#[derive(Args)]
pub(crate) struct Queue {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List queues that were ever used.
    List {
        /// Only those of this event name.
        #[arg(long, value_name = "NAME")]
        event: Option<String>,
        /// Only those of this app.
        #[arg(long)]
        app: Option<String>,
        #[command(flatten)]
        admin: Admin,
    },
}

impl Queue {
    pub(crate) async fn run(self) -> Outcome {
        let Command::List { event, app, admin } = self.command;
        let listed = async |api: &Api| {
            let path = narrowed(api, "/v1/queues", event.as_deref(), app.as_deref()).await?;
            api.list(&path, "queues", None).await
        };
        let queues = admin.run(listed).await?;
        if admin.json {
            println!("{}", foreign::json(&Value::Array(queues).to_string()));
            return Ok(());
        }
        let heading = ["APP", "EVENT", "READY", "IN FLIGHT", "DEFERRED", "DEAD", "CONSUMERS", "OLDEST"];
        let mut table = Table::new(heading);
        for queue in &queues {
            let [ready, in_flight, deferred, dead, consumers] =
                ["ready", "in_flight", "deferred", "dead", "consumers"].map(|name| shown(queue, name));
            let (app, event) = (text(queue, "app_name").to_owned(), text(queue, "event").to_owned());
            table.row([app, event, ready, in_flight, deferred, dead, consumers, time(queue.get("oldest"))]);
        }
        table.print();
        Ok(())
    }
}
