use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ensync_sdk::Schema;
use ensync_sdk::core::{Given, report};
use http::Method;
use serde_json::{Map, Value, json};

use super::Outcome;
use crate::admin::{Admin, Api, Failure, Output, Rights, Table, confirmed, encoded, text};
use crate::exit::Problem;
use crate::values;

/// Register event names, change them, and say which app may use them.
#[derive(Args)]
pub(crate) struct Event {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Register an event name.
    #[command(
        after_help = "Examples:\n  ensync event create orders/new --ttl 36h\n  ensync event create orders/paid --schema '{\"order\":\"string\",\"cents\":\"integer\"}'"
    )]
    Create(Named),
    /// Change options of an event name. What is not given stays; "default" leaves an option to the engine.
    #[command(after_help = "Examples:\n  ensync event update orders/new --ack-timeout 2m --ttl default")]
    Update(Named),
    /// List event names.
    #[command(after_help = "Examples:\n  ensync event list\n  ensync event list --json")]
    List {
        #[command(flatten)]
        admin: Admin,
    },
    /// Show an event name.
    #[command(after_help = "Examples:\n  ensync event show orders/new")]
    Show {
        /// The event's name.
        name: String,
        #[command(flatten)]
        admin: Admin,
    },
    /// Delete an event name that nothing waits under and nobody subscribes to, with the grants for it.
    #[command(after_help = "Examples:\n  ensync event delete orders/new --yes")]
    Delete {
        /// The event's name.
        name: String,
        /// Do it.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        admin: Admin,
    },
    /// Say what an app may do with an event name, or with all that have no grant of their own.
    #[command(
        after_help = "Examples:\n  ensync event grant shop orders/new --rights publish\n  ensync event grant audit --rights subscribe"
    )]
    Grant {
        /// The app: its name if no other app has it; else its id, or a public key of it.
        app: String,
        /// The event's name. Default: all that have no grant of their own.
        name: Option<String>,
        /// What it may do.
        #[arg(long, value_enum)]
        rights: Rights,
        #[command(flatten)]
        admin: Admin,
    },
    /// Take a grant back: what the app may do with all names holds for this one again.
    #[command(after_help = "Examples:\n  ensync event revoke shop orders/new")]
    Revoke {
        /// The app.
        app: String,
        /// The event's name.
        name: String,
        #[command(flatten)]
        admin: Admin,
    },
}

#[derive(Args)]
struct Named {
    /// The event's name, such as company/service/action.
    name: String,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Args)]
struct Options {
    /// What payloads must look like: a JSON object with the type of each field.
    #[arg(long, value_name = "JSON", conflicts_with = "schema_file")]
    schema: Option<String>,
    /// The same, in a file.
    #[arg(long, value_name = "FILE")]
    schema_file: Option<PathBuf>,
    /// How long an event is of use, such as 36h.
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// After how many deliveries an event that nobody settles goes to the dead letters.
    #[arg(long, value_name = "COUNT")]
    max_deliveries: Option<String>,
    /// How long a client may take to settle a delivery, such as 30s.
    #[arg(long, value_name = "TIME")]
    ack_timeout: Option<String>,
}

/// The word for what the engine says.
const DEFAULT: &str = "default";

impl Event {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        match self.command {
            Command::Create(named) => {
                let mut body = named.options.read()?;
                body.insert("name".into(), named.name.into());
                let created = one(&named.admin, out, Method::POST, "/v1/events".into(), Some(body.into())).await;
                created.map_err(|error| named.options.as_typed(error))
            }
            Command::Update(named) => {
                let body = named.options.read()?;
                if body.is_empty() {
                    let nothing = "nothing to change: give --schema, --ttl, --max-deliveries or --ack-timeout";
                    return Err(Problem::usage(nothing).into());
                }
                let changed = one(&named.admin, out, Method::PATCH, path(&named.name), Some(body.into())).await;
                changed.map_err(|error| named.options.as_typed(error))
            }
            Command::List { admin } => list(&admin, out).await,
            Command::Show { name, admin } => one(&admin, out, Method::GET, path(&name), None).await,
            Command::Delete { name, yes, admin } => {
                let deleted = async |api: &Api| {
                    if !yes {
                        // One that is not there is told first.
                        api.get(&path(&name)).await?;
                    }
                    confirmed(yes, &format!("this deletes the event name {name}, and what could be replayed of it"))?;
                    api.call(Method::DELETE, &path(&name), None).await
                };
                admin.run(deleted).await?;
                out.done()
            }
            Command::Grant { app, name, rights, admin } => {
                let granted = async |api: &Api| {
                    let app = api.path_of(&app).await?;
                    let path = match &name {
                        Some(name) => format!("{app}/grants/{}", encoded(name)),
                        None => format!("{app}/rights"),
                    };
                    api.call(Method::PUT, &path, Some(rights.to_json())).await
                };
                let app = admin.run(granted).await?;
                if out.json { out.value(&app) } else { Ok(()) }
            }
            Command::Revoke { app, name, admin } => {
                let revoked = async |api: &Api| {
                    let path = format!("{}/grants/{}", api.path_of(&app).await?, encoded(&name));
                    api.call(Method::DELETE, &path, None).await
                };
                admin.run(revoked).await?;
                out.done()
            }
        }
    }
}

impl Options {
    fn read(&self) -> Result<Map<String, Value>, Failure> {
        let mut found = Map::new();
        let schema = match &self.schema_file {
            None => self.schema.clone(),
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(text.map_err(|cause| {
                    Problem::usage(format!("--schema-file: cannot read {}: {cause}", path.display()))
                })?)
            }
        };
        let time = |text: &str| -> Result<Value, Failure> {
            Ok(json!(u64::try_from(values::time(text)?.as_millis()).unwrap_or(u64::MAX)))
        };
        let mut add = |field: &str, flag: &str, text: Option<&str>, read: &dyn Fn(&str) -> Result<Value, Failure>| {
            let Some(text) = text else { return Ok::<(), Failure>(()) };
            let value = if text == DEFAULT { Ok(Value::Null) } else { read(text) };
            // A schema may be long, and is named by its place.
            let given = if field == "schema" { String::new() } else { format!(" {}", Given(text)) };
            found.insert(field.into(), value.map_err(|cause| Problem::usage(format!("{flag}{given}: {cause}")))?);
            Ok(())
        };
        let file = self.schema_file.as_ref().map(|path| format!("--schema-file {}", path.display()));
        add("schema", file.as_deref().unwrap_or("--schema"), schema.as_deref(), &|text| {
            // Read here, so that what it says twice is seen, and the place is told in the text that was given.
            let schema = Schema::parse(text)?;
            Ok(schema.fields().map(|(field, kind)| (field.to_owned(), Value::from(kind.name()))).collect())
        })?;
        add("ttl_ms", "--ttl", self.ttl.as_deref(), &time)?;
        let count = |text: &str| Ok(json!(values::at_least_one::<NonZeroU32>(text)?.get()));
        add("max_deliveries", "--max-deliveries", self.max_deliveries.as_deref(), &count)?;
        add("ack_timeout_ms", "--ack-timeout", self.ack_timeout.as_deref(), &time)?;
        Ok(found)
    }
}

impl Options {
    /// What the engine says of a time, with the time as it was typed.
    fn as_typed(&self, error: Failure) -> Failure {
        let Some(refused) = error.downcast_ref::<ensync_sdk::Error>() else { return error };
        let mut said = report(refused);
        for typed in [&self.ttl, &self.ack_timeout].into_iter().flatten() {
            let Ok(time) = values::time(typed) else { continue };
            said = said.replace(&format!(" of {} ms", time.as_millis()), &format!(" of {typed}"));
        }
        Problem::of(refused).with_message(said).into()
    }
}

/// Does something with one name, and shows it.
async fn one(admin: &Admin, out: Output, method: Method, path: String, body: Option<Value>) -> Outcome {
    let event = admin.run(async |api| api.call(method, &path, body).await).await?;
    out.table(|| event.clone(), || table(std::slice::from_ref(&event)))
}

async fn list(admin: &Admin, out: Output) -> Outcome {
    let events = admin.run(async |api| api.list("/v1/events", "events", None).await).await?;
    out.table(|| Value::Array(events.clone()), || table(&events))
}

fn table(events: &[Value]) -> Table {
    let mut table = Table::new(["NAME", "TTL", "MAX DELIVERIES", "ACK TIMEOUT", "SCHEMA"]);
    let said = |event: &Value, field: &str, otherwise: &str| match event.get(field) {
        None | Some(Value::Null) => otherwise.to_owned(),
        Some(value) => value.to_string(),
    };
    let time = |event: &Value, field: &str| {
        let ms = event.get(field).and_then(Value::as_u64).map(Duration::from_millis);
        ms.map_or_else(|| DEFAULT.to_owned(), |time| humantime::format_duration(time).to_string())
    };
    for event in events {
        let (name, count) = (text(event, "name").to_owned(), said(event, "max_deliveries", DEFAULT));
        table.row([name, time(event, "ttl_ms"), count, time(event, "ack_timeout_ms"), said(event, "schema", "any")]);
    }
    table
}

fn path(name: &str) -> String {
    format!("/v1/events/{}", encoded(name))
}
