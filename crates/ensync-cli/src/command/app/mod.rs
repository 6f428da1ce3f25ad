//! `ensync app`.

mod keys;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ensync_sdk::AppId;
use ensync_sdk::core::AppName;
use http::Method;
use serde_json::{Value, json};

use self::keys::{Issued, Keys, access_key};
use super::Outcome;
use crate::admin::{
    Admin, Api, Failure, KeyFile, Output, Rights, Table, confirmed, count_in, encoded, shown, text, time,
};
use crate::exit::{Exit, Problem};
use crate::output::note;
use crate::values::{self, app_id};

/// Create apps, give them other keys, disable and delete them.
///
/// Where APP is asked for, an app's name will do if no other app has it; else its id, or a public key of it.
#[derive(Args)]
pub(crate) struct App {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create an app. Its key pair is made on this machine, and the secret half stays here.
    #[command(
        after_help = "Examples:\n  ensync app create shop --out shop.env\n  ensync app create audit --rights subscribe\n  ensync app create till --public-key APP_ID   # the secret half is elsewhere"
    )]
    Create(Create),
    /// List apps.
    #[command(
        after_help = "Examples:\n  ensync app list\n  ensync app list --name shop\n  ensync app list --disabled --json"
    )]
    List(List),
    /// Show an app.
    #[command(after_help = "Examples:\n  ensync app show shop")]
    Show(One),
    /// Give an app another app key, with which it logs in. Its sessions end with the earlier one.
    #[command(after_help = "Examples:\n  ensync app rotate-key shop --grace 1h --out shop.env")]
    RotateKey(RotateKey),
    /// Give an app another key pair, made on this machine. What is sent to its earlier public keys still reaches it: keep the
    /// earlier secret keys until that is read. Its sessions end.
    #[command(after_help = "Examples:\n  ensync app rotate-keypair shop --out shop.env")]
    #[command(name = "rotate-keypair")]
    RotateKeyPair(RotateKeyPair),
    /// Retire an earlier public key of an app for good, after a leak or when nobody uses it: publishes to it are refused.
    #[command(after_help = "Examples:\n  ensync app retire-key shop APP_ID --yes")]
    RetireKey(RetireKey),
    /// Let an app log in no more. Its sessions end; what is sent to it waits.
    #[command(after_help = "Examples:\n  ensync app disable shop")]
    Disable(One),
    /// Let an app log in again.
    #[command(after_help = "Examples:\n  ensync app enable shop")]
    Enable(One),
    /// Delete an app, and what was sent to it.
    #[command(after_help = "Examples:\n  ensync app delete shop --yes")]
    Delete(Delete),
}

#[derive(Args)]
struct Create {
    /// The app's name, for people.
    #[arg(value_parser = AppName::parse)]
    name: AppName,
    /// Create it also if another app has that name, or one that looks like it: then only ids tell the two apart.
    #[arg(long)]
    same_name: bool,
    /// What it may do with every event name. `ensync event grant` says more.
    #[arg(long, value_enum, default_value_t = Rights::All)]
    rights: Rights,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Args)]
struct List {
    /// Only those of this name.
    #[arg(long, value_name = "NAME", value_parser = AppName::parse)]
    name: Option<AppName>,
    /// Only those that may log in.
    #[arg(long, conflicts_with = "disabled")]
    enabled: bool,
    /// Only those that may not log in.
    #[arg(long)]
    disabled: bool,
    /// Only those that are logged in.
    #[arg(long)]
    online: bool,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Args)]
struct One {
    /// The app.
    app: String,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Args)]
struct RotateKey {
    /// The app.
    app: String,
    /// How long the earlier key goes on logging in, such as 1h: up to 30 days.
    #[arg(long, value_name = "TIME", value_parser = values::time, default_value = "0s")]
    grace: Duration,
    /// Write the key to this new file, which only you may read, instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Args)]
struct RotateKeyPair {
    /// The app.
    app: String,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Args)]
struct RetireKey {
    /// The app.
    app: String,
    /// The public key to retire.
    #[arg(value_parser = app_id)]
    key: AppId,
    /// Do it.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Args)]
struct Delete {
    /// The app.
    app: String,
    /// Do it.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    admin: Admin,
}

impl App {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        match self.command {
            Command::Create(create) => create.run(out).await,
            Command::List(list) => list.run(out).await,
            Command::Show(one) => one.show(out).await,
            Command::RotateKey(rotate) => rotate.run(out).await,
            Command::RotateKeyPair(rotate) => rotate.run(out).await,
            Command::RetireKey(retire) => retire.run(out).await,
            Command::Disable(one) => one.switch("disable", out).await,
            Command::Enable(one) => one.switch("enable", out).await,
            Command::Delete(delete) => delete.run(out).await,
        }
    }
}

impl Create {
    async fn run(self, out: Output) -> Outcome {
        let (pair, file) = (self.keys.pair()?, self.keys.file()?);
        let new = json!({
            "name": self.name,
            "same_name": self.same_name,
            "public_key": pair.public_key(),
            "rights": self.rights.to_json(),
        });
        let mut created = self.admin.run(async |api| api.call(Method::POST, "/v1/apps", Some(new)).await).await?;
        let handed_over = access_key(&mut created).and_then(|key| {
            Issued { name: self.name.as_str(), pair: Some(&pair), access_key: Some(&key) }.hand_over(file, out)
        });
        let Err(why) = handed_over else { return Ok(()) };
        // It is there, and nobody has its keys.
        let path = format!("/v1/apps/{}", encoded(text(created.get("app").unwrap_or(&Value::Null), "id")));
        let undone = self.admin.run(async |api| api.call(Method::DELETE, &path, None).await).await;
        let text = match undone {
            Ok(_) => format!("its keys could not be handed over ({why}), so the app was not made"),
            Err(error) => format!(
                "the app {:?} was made, its keys could not be handed over ({why}), and it could not be deleted again ({error}): \
                 delete it, or give it other keys",
                self.name
            ),
        };
        Err(Problem::new(Exit::Output, text).into())
    }
}

impl List {
    async fn run(self, out: Output) -> Outcome {
        let path = self
            .name
            .as_ref()
            .map_or_else(|| "/v1/apps".to_owned(), |name| format!("/v1/apps?name={}", encoded(name.as_str())));
        let mut apps = self.admin.run(async |api| api.list(&path, "apps", None).await).await?;
        let enabled = |app: &Value| app.get("enabled") == Some(&Value::Bool(true));
        let online = |app: &Value| app.get("sessions").and_then(Value::as_u64).is_some_and(|sessions| sessions > 0);
        apps.retain(|app| {
            (!self.enabled || enabled(app)) && (!self.disabled || !enabled(app)) && (!self.online || online(app))
        });
        let table = || {
            let mut table = Table::new(["NAME", "APP ID", "ENABLED", "SESSIONS", "CREATED"]);
            for app in &apps {
                let (name, id) = (text(app, "name").to_owned(), text(app, "public_key").to_owned());
                table.row([name, id, shown(app, "enabled"), shown(app, "sessions"), time(app.get("created_at"))]);
            }
            table
        };
        out.table(|| apps.iter().map(for_programs).collect(), table)
    }
}

impl One {
    async fn show(self, out: Output) -> Outcome {
        let app = self.admin.run(async |api| api.app(&self.app).await).await?;
        show(&app, out)
    }

    async fn switch(self, what: &str, out: Output) -> Outcome {
        let switched = async |api: &Api| {
            let path = api.path_of(&self.app).await?;
            api.call(Method::POST, &format!("{path}/{what}"), None).await
        };
        let app = self.admin.run(switched).await?;
        show(&app, out)
    }
}

impl RotateKey {
    async fn run(self, out: Output) -> Outcome {
        let file = self.out.as_deref().map(KeyFile::create).transpose()?;
        let grace_ms = u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX);
        let rotated = async |api: &Api| {
            let path = api.path_of(&self.app).await?;
            api.call(Method::POST, &format!("{path}/access-key"), Some(json!({"grace_ms": grace_ms}))).await
        };
        let mut rotated = self.admin.run(rotated).await?;
        let key = access_key(&mut rotated);
        let app = rotated.get("app").unwrap_or(&Value::Null);
        if let Some(until) = app.get("old_access_key_until").filter(|until| !until.is_null()) {
            note(format_args!("the earlier key logs in until {}", time(Some(until))));
        }
        let handed_over = key.and_then(|key| {
            Issued { name: text(app, "name"), pair: None, access_key: Some(&key) }.hand_over(file, out)
        });
        handed_over.map_err(|why| {
            let text =
                format!("the key was changed, and the new one could not be handed over ({why}): change it once more");
            Problem::new(Exit::Output, text).into()
        })
    }
}

impl RotateKeyPair {
    async fn run(self, out: Output) -> Outcome {
        let (pair, file) = (self.keys.pair()?, self.keys.file()?);
        let app = self.admin.run(async |api| api.app(&self.app).await).await?;
        // Before the engine hears of it: whatever becomes of its answer, nobody sends to a key that nobody has.
        let issued = Issued { name: text(&app, "name"), pair: Some(&pair), access_key: None };
        issued.hand_over(file, out).map_err(|why| -> Failure {
            let text =
                format!("the new key pair could not be handed over ({why}), so the app has its former one still");
            Problem::new(Exit::Output, text).into()
        })?;
        let rotated = async |api: &Api| {
            let path = api.path_of(&self.app).await?;
            let new = json!({"public_key": pair.public_key()});
            api.call(Method::POST, &format!("{path}/key-pair"), Some(new)).await
        };
        self.admin.run(rotated).await.inspect_err(|_| {
            note("the new key pair was handed over before this; `ensync app show` says whether the app has it");
        })?;
        note("keep the earlier secret key beside the new one until what was sent to it is read");
        Ok(())
    }
}

impl RetireKey {
    async fn run(self, out: Output) -> Outcome {
        confirmed(self.yes, "this refuses publishes to that key for good")?;
        let retired = async |api: &Api| {
            let path =
                format!("{}/earlier-public-keys/{}", api.path_of(&self.app).await?, encoded(&self.key.to_string()));
            api.call(Method::DELETE, &path, None).await
        };
        self.admin.run(retired).await?;
        out.done()
    }
}

impl Delete {
    async fn run(self, out: Output) -> Outcome {
        let deleted = async |api: &Api| {
            let path = api.path_of(&self.app).await?;
            if !self.yes {
                let id = path.trim_start_matches("/v1/apps/");
                let count = count_in(&api.list(&format!("/v1/queues?app={id}"), "queues", None).await?);
                let text = format!("this deletes the app {:?} and the {count} events that are there for it", self.app);
                confirmed(self.yes, &text)?;
            }
            api.call(Method::DELETE, &path, None).await
        };
        self.admin.run(deleted).await?;
        out.done()
    }
}

fn show(app: &Value, out: Output) -> Outcome {
    out.table(|| for_programs(app), || table(app))
}

/// An app, with what it is called everywhere: `app_id` is its address now. Its `id`, the first that it had, is known to an engine's
/// administration for as long as it exists, and perhaps to nobody who publishes.
fn for_programs(app: &Value) -> Value {
    let mut app = app.clone();
    if let Some(members) = app.as_object_mut() {
        let now = members.get("public_key").cloned().unwrap_or_default();
        members.insert("app_id".to_owned(), now);
    }
    app
}

fn table(app: &Value) -> Table {
    let mut table = Table::new(["NAME", text(app, "name")]);
    table.row(["APP ID".into(), text(app, "public_key").into()]);
    for key in items(app, "earlier_public_keys") {
        table.row(["EARLIER APP ID".into(), key.as_str().unwrap_or_default().into()]);
    }
    table.row(["FIRST APP ID".into(), text(app, "id").into()]);
    if app.get("old_access_key_until").is_some_and(|until| !until.is_null()) {
        table.row(["EARLIER APP KEY UNTIL".into(), time(app.get("old_access_key_until"))]);
    }
    table.row(["ENABLED".into(), shown(app, "enabled")]);
    table.row(["SESSIONS".into(), shown(app, "sessions")]);
    table.row(["CREATED".into(), time(app.get("created_at"))]);
    table.row(["MAY".into(), rights(app)]);
    for grant in items(app, "grants") {
        table.row([format!("MAY, {}", text(grant, "event")), rights(grant)]);
    }
    table
}

/// What is in an answer's `rights`, in words.
fn rights(of: &Value) -> String {
    let may = |what: &str| of.get("rights").and_then(|rights| rights.get(what)) == Some(&Value::Bool(true));
    let words = match (may("publish"), may("subscribe")) {
        (true, true) => "publish, subscribe",
        (true, false) => "publish",
        (false, true) => "subscribe",
        (false, false) => "nothing",
    };
    words.to_owned()
}

fn items<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    of.get(name).and_then(Value::as_array).into_iter().flatten()
}
