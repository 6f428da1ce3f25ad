use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ensync_sdk::{AppKey, Endpoint};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Outcome;
use crate::admin::{Table, check_url};
use crate::connection::check_app_key;
use crate::contexts::{self, Contexts, FIELDS};
use crate::exit::{Exit, Problem};
use crate::output::{Failure, Output, note};
use crate::variables::Group;
use crate::{foreign, secrets, variables};

/// Engines by name, with the keys for them.
///
/// They are in a file that only you may read: ensync/contexts.json in XDG_CONFIG_HOME or ~/.config, or the file that the variable
/// ENSYNC_CONTEXTS names. Every command that talks to an engine uses the one that --context names, else that of the variable
/// ENSYNC_CONTEXT, else the current one. A flag goes before a context that --context names, that before the environment, that before
/// the file .env of the directory one is in, that before the current context, and that before a default. Keys go only to the engine
/// that they were given for: those of a context to its engine.
#[derive(Args)]
pub(crate) struct Context {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Store what flags, the environment and .env say as a context. The first one becomes the current one.
    ///
    /// A secret is better not stored at all: give a command that prints it, on its first line. A key is stored only beside the engine
    /// that it would go to without a context, and the administrator's token only beside --admin-url. Nothing is tried; do that with
    /// `ensync app list` or `ensync doctor`.
    #[command(
        after_help = "Examples:\n  ensync context add shop --url grpcs://events.example.org --app-key-command 'pass show shop/key'\n  set -a; . ./shop.env; ensync context add shop --url grpcs://events.example.org\n  ensync context add operator --admin-url https://events.example.org:50052 --token-file ~/admin.token"
    )]
    Add(Box<Add>),
    /// Make a context the current one.
    #[command(after_help = "Examples:\n  ensync context use shop\n  ensync context use --none")]
    Use {
        /// Its name.
        #[arg(required_unless_present = "none")]
        name: Option<String>,
        /// Have no current one.
        #[arg(long, conflicts_with = "name")]
        none: bool,
    },
    /// List contexts.
    #[command(after_help = "Examples:\n  ensync context list")]
    List,
    /// Show a context, without its secrets.
    #[command(after_help = "Examples:\n  ensync context show\n  ensync context show shop --json")]
    Show {
        /// Its name. Default: the one that commands would use.
        name: Option<String>,
    },
    /// Remove a context, and the secrets in it.
    #[command(after_help = "Examples:\n  ensync context remove shop")]
    Remove {
        /// Its name.
        name: String,
    },
}

#[derive(Args)]
struct Add {
    /// Its name.
    name: String,
    /// Put it in the place of one that has the name.
    #[arg(long)]
    replace: bool,
    /// The engine: grpc://, grpcs://, ws:// or wss://, or a host.
    #[arg(long, env = "ENSYNC_URL")]
    url: Option<String>,
    /// A PEM file of CAs to trust beside the system's.
    #[arg(long, env = "ENSYNC_CA_FILE", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A PEM file with the certificate chain to show to an engine that asks for one.
    #[arg(long, env = "ENSYNC_CLIENT_CERT", value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// A PEM file with that certificate's private key.
    #[arg(long, env = "ENSYNC_CLIENT_KEY", value_name = "FILE")]
    client_key: Option<PathBuf>,
    /// The app key. Better given in the environment. [env: ENSYNC_APP_KEY]
    #[arg(long)]
    app_key: Option<String>,
    /// A command that prints the app key.
    #[arg(long, value_name = "COMMAND", conflicts_with = "app_key")]
    app_key_command: Option<String>,
    /// The app's secret key. Better given in the environment. [env: ENSYNC_SECRET_KEY]
    #[arg(long)]
    secret_key: Option<String>,
    /// A command that prints the secret key.
    #[arg(long, value_name = "COMMAND", conflicts_with = "secret_key")]
    secret_key_command: Option<String>,
    /// The admin API of the engine.
    #[arg(long, value_name = "URL", env = "ENSYNC_ADMIN_URL")]
    admin_url: Option<String>,
    /// A file that holds the admin token.
    #[arg(long, value_name = "FILE", env = "ENSYNC_ADMIN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// A command that prints the admin token.
    #[arg(long, value_name = "COMMAND")]
    admin_token_command: Option<String>,
    /// A PEM file of the CAs to trust for the admin API, instead of the system's.
    #[arg(long, value_name = "FILE", env = "ENSYNC_ADMIN_CA_FILE")]
    admin_ca: Option<PathBuf>,
}

impl Context {
    pub(crate) fn run(self, out: Output) -> Outcome {
        let path = contexts::path()?;
        match self.command {
            Command::Add(add) => {
                let (name, replace) = (add.name.clone(), add.replace);
                if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
                    return Err(Problem::usage("a context's name is a word without blanks").into());
                }
                if let Some(what) = foreign::perhaps_secret_in(&name) {
                    let message = format!("the context's name holds {what}, which does not belong there");
                    return Err(Problem::usage(message).into());
                }
                let fields = add.read()?;
                let told = |(field, of): (&&str, &Stored)| format!("{} ({})", field.replace('_', " "), of.from);
                let stored: Vec<_> = fields.iter().map(told).collect();
                let fields = fields.into_iter().map(|(field, stored)| (field.to_owned(), stored.value));
                let context = contexts::Context(fields.collect());
                let first = Contexts::change(&path, |contexts| {
                    if contexts.all.contains_key(&name) && !replace {
                        let text = format!("there is a context {name:?} already; --replace puts this one in its place");
                        return Err(Problem::new(Exit::Conflict, text).into());
                    }
                    let first = contexts.all.is_empty();
                    contexts.all.insert(name.clone(), context);
                    if first {
                        contexts.current = Some(name.clone());
                    }
                    Ok(first)
                })?;
                let (stored, shown) = (stored.join(", "), path.display());
                let current = if first { "; it is the current one" } else { "" };
                note(format_args!("the context {name:?} is in {shown}, with its {stored}{current}"));
                out.done()
            }
            Command::Use { name, .. } => {
                Contexts::change(&path, |contexts| {
                    if let Some(name) = &name {
                        contexts.get(name)?;
                    }
                    contexts.current = name;
                    Ok(())
                })?;
                out.done()
            }
            Command::List => {
                let contexts = Contexts::read(&path)?;
                out.table(|| list_json(&contexts), || list(&contexts))
            }
            Command::Show { name } => show(&Contexts::read(&path)?, name, out),
            Command::Remove { name } => {
                Contexts::change(&path, |contexts| {
                    contexts.get(&name)?;
                    contexts.all.remove(&name);
                    contexts.current.take_if(|current| *current == name);
                    Ok(())
                })?;
                out.done()
            }
        }
    }
}

/// What a field is to say, and where that came from.
struct Stored {
    value: Zeroizing<String>,
    from: String,
}

/// A value of a flag that says how an engine is reached, or of a variable that stands for it.
fn plain(name: &'static str, text: Option<String>) -> Option<Stored> {
    text.map(|text| Stored { value: text.into(), from: variables::origin(name).to_string() })
}

/// The same of a file, with its whole path: a context is used in every directory.
fn file(name: &'static str, path: Option<PathBuf>) -> Result<Option<Stored>, Problem> {
    Ok(plain(name, path.map(whole).transpose()?))
}

fn whole(path: PathBuf) -> Result<String, Problem> {
    let path = std::path::absolute(&path)
        .map_err(|cause| Problem::usage(format!("where {} is cannot be told: {cause}", path.display())))?;
    let text = path.into_os_string().into_string();
    text.map_err(|_| Problem::usage("a file's path is not UTF-8, and cannot be stored"))
}

/// A value that was typed, for an engine that is not the file's.
fn typed(flag: &'static str, group: Group, text: Option<String>) -> Result<Option<Stored>, Failure> {
    let Some(text) = text else { return Ok(None) };
    variables::check_typed(flag, group, variables::source(group)?)?;
    Ok(Some(Stored { value: text.into(), from: flag.to_owned() }))
}

impl Add {
    /// Its fields. A key is taken for an engine as every command takes it: one that would not go there is refused, for the context would
    /// send it there for good.
    fn read(self) -> Result<BTreeMap<&'static str, Stored>, Failure> {
        // They are printed by `list` and `show`, so nothing may be in them that is not for everybody's eyes.
        if let Some(url) = &self.url {
            Endpoint::parse(url).map_err(|error| Problem::at("--url", &error))?;
        }
        if let Some(url) = &self.admin_url {
            check_url(url, true).map_err(|why| Problem::usage(format!("--admin-url: {why}")))?;
        }
        let from = variables::source(Group::Client)?;
        let secret = |flag: &'static str, command: &Option<String>| -> Result<Option<Stored>, Failure> {
            if command.is_some() {
                return Ok(None);
            }
            let given = secrets::given_for(flag, from, self.url.as_deref().unwrap_or_default())?;
            Ok(given.map(|(value, from)| Stored { value, from }))
        };
        let app_key = secret("--app-key", &self.app_key_command)?;
        // A secret key in its place would be sent to engines.
        if let Some(key) = &app_key {
            AppKey::parse(&key.value).map_err(|error| Problem::at("--app-key", &error))?;
            check_app_key(&key.value, "the app key")?;
        }
        let secret_key = secret("--secret-key", &self.secret_key_command)?;
        let (in_file, admin_token) = self.token()?;
        let token_file = match self.token_file {
            Some(path) => typed("--token-file", Group::Admin, Some(whole(path)?))?,
            None => in_file,
        };
        let fields = [
            ("url", plain("ENSYNC_URL", self.url)),
            ("ca", file("ENSYNC_CA_FILE", self.ca)?),
            ("client_cert", file("ENSYNC_CLIENT_CERT", self.client_cert)?),
            ("client_key", file("ENSYNC_CLIENT_KEY", self.client_key)?),
            ("app_key", app_key),
            ("app_key_command", typed("--app-key-command", Group::Client, self.app_key_command)?),
            ("secret_key", secret_key),
            ("secret_key_command", typed("--secret-key-command", Group::Client, self.secret_key_command)?),
            ("admin_url", plain("ENSYNC_ADMIN_URL", self.admin_url)),
            ("admin_ca", file("ENSYNC_ADMIN_CA_FILE", self.admin_ca)?),
            ("token_file", token_file),
            ("admin_token_command", typed("--admin-token-command", Group::Admin, self.admin_token_command)?),
            ("admin_token", admin_token),
        ];
        let fields: BTreeMap<_, _> = fields.into_iter().filter_map(|(field, value)| Some((field, value?))).collect();
        if !fields.contains_key("url") && !fields.contains_key("admin_url") {
            return Err(Problem::usage("a context names an engine: give --url, --admin-url or both").into());
        }
        Ok(fields)
    }

    /// The file of the admin token that a variable names, or the token of one.
    fn token(&self) -> Result<(Option<Stored>, Option<Stored>), Failure> {
        // Who makes a context of an app has the administrator's token at hand as well, and does not mean that.
        let Some(url) = &self.admin_url else { return Ok((None, None)) };
        if self.token_file.is_some() || self.admin_token_command.is_some() {
            return Ok((None, None));
        }
        let names = ["ENSYNC_ADMIN_TOKEN_FILE", "ENSYNC_ADMIN_TOKEN"];
        let from = variables::source(Group::Admin)?;
        let Some(found) = variables::keyed(&names, Group::Admin, from, url)? else { return Ok((None, None)) };
        let (name, from) = (found.name, found.origin.to_string());
        if name == "ENSYNC_ADMIN_TOKEN" {
            return Ok((None, Some(Stored { value: found.value, from })));
        }
        let value = whole(PathBuf::from(found.value.as_str()))?.into();
        Ok((Some(Stored { value, from }), None))
    }
}

/// What a field says, as far as it may be shown: the file may have been written by hand, with more in it than `add` lets in.
fn shown(field: &str, value: &str) -> String {
    let is_secret = FIELDS.iter().any(|(known, _, secret)| *known == field && *secret);
    let is_url = match field {
        "url" => Endpoint::parse(value).is_ok(),
        "admin_url" => check_url(value, true).is_ok(),
        _ => true,
    };
    match (is_secret, is_url) {
        (true, _) => "(not shown)".to_owned(),
        (_, false) => "(not shown: no URL of an engine)".to_owned(),
        _ => foreign::redacted_strictly(value),
    }
}

fn list(contexts: &Contexts) -> Table {
    let mut table = Table::new(["CURRENT", "NAME", "URL", "ADMIN URL"]);
    for (name, context) in &contexts.all {
        let current = if contexts.current.as_ref() == Some(name) { "*" } else { "" };
        let [url, admin] =
            ["url", "admin_url"].map(|field| context.0.get(field).map_or_else(|| "-".into(), |url| shown(field, url)));
        table.row([current.into(), foreign::redacted_strictly(name), url, admin]);
    }
    table
}

fn list_json(contexts: &Contexts) -> Value {
    let one = |(name, context): (&String, &contexts::Context)| {
        let current = contexts.current.as_ref() == Some(name);
        let [url, admin] = ["url", "admin_url"].map(|field| context.0.get(field).map(|url| shown(field, url)));
        json!({"name": foreign::redacted_strictly(name), "current": current, "url": url, "admin_url": admin})
    };
    Value::Array(contexts.all.iter().map(one).collect())
}

fn show(contexts: &Contexts, name: Option<String>, out: Output) -> Outcome {
    let meant = || variables::environment("ENSYNC_CONTEXT")?.into_string().ok();
    let Some(name) = name.or_else(meant).or_else(|| contexts.current.clone()) else {
        return Err(Problem::new(Exit::NotFound, "no context is the current one; `ensync context use NAME`").into());
    };
    let context = contexts.get(&name)?;
    let name = foreign::redacted_strictly(&name);
    let value = || {
        let fields = context
            .0
            .iter()
            .map(|(field, value)| (foreign::redacted_strictly(field), Value::from(shown(field, value))));
        let name = ("name".to_owned(), Value::from(name.clone()));
        Value::Object(fields.chain([name]).collect())
    };
    let table = || {
        let mut table = Table::new(["NAME", &name]);
        for (field, value) in &context.0 {
            table.row([foreign::redacted_strictly(field).to_uppercase().replace('_', " "), shown(field, value)]);
        }
        table
    };
    out.table(value, table)
}
