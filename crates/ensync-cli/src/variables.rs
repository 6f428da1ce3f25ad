//! Where a value comes from that no flag gives: the environment, the file `.env` of the directory one is in, the context, in this
//! order; then its default. What is empty counts as not given, everywhere.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use clap::Command;
use clap::builder::{OsStr, Resettable};

use crate::contexts::{self, Context};
use crate::exit::Problem;
use crate::output::{Failure, note};

/// Variables that `.env` and a context may give too, as far as they say how an engine is reached: flags get them as their defaults.
const PLACES: [&str; 6] = [
    "ENSYNC_URL",
    "ENSYNC_CA_FILE",
    "ENSYNC_CLIENT_CERT",
    "ENSYNC_CLIENT_KEY",
    "ENSYNC_ADMIN_URL",
    "ENSYNC_ADMIN_CA_FILE",
];
/// Those that are secrets, or say where one is: looked for when they are needed.
const SECRETS: [&str; 5] =
    ["ENSYNC_APP_KEY", "ENSYNC_ACCESS_KEY", "ENSYNC_SECRET_KEY", "ENSYNC_ADMIN_TOKEN", "ENSYNC_ADMIN_TOKEN_FILE"];
/// The file that is looked for in the directory one is in.
const FILE: &str = ".env";
/// The largest such file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

static VARIABLES: OnceLock<Variables> = OnceLock::new();

/// What else than the environment gives values.
#[derive(Default)]
struct Variables {
    file: HashMap<String, String>,
    context: Option<(String, Context)>,
    /// Why there is no context, although one was meant: told to whoever could need it.
    broken: Option<String>,
}

/// Where a value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Environment(&'static str),
    File(&'static str),
    Context(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "the variable {name}"),
            Self::File(name) => write!(f, "{name} in the file {FILE}"),
            Self::Context(context) => write!(f, "the context {context:?}"),
        }
    }
}

/// A value, and where it was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

/// A variable of the environment, if it says anything.
pub(crate) fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Reads what there is, once. `context`: the one that a flag names, or `None` where contexts have no say.
pub(crate) fn load(context: Option<Option<&str>>) {
    let (file, remark) = read_file(Path::new(FILE));
    if let Some(remark) = remark {
        note(format_args!("warning: {remark}"));
    }
    let mut variables = Variables { file, ..Variables::default() };
    match context.map_or(Ok(None), contexts::chosen) {
        Ok(chosen) => variables.context = chosen.map(|(name, context)| (name, context.beside(&variables.file))),
        Err(error) => variables.broken = Some(error.to_string()),
    }
    _ = VARIABLES.set(variables);
}

/// Whether the context that is meant can be read; for commands that could need it.
pub(crate) fn check() -> Result<(), Failure> {
    match VARIABLES.get().and_then(|variables| variables.broken.as_ref()) {
        Some(why) => Err(Problem::usage(why.clone()).into()),
        None => Ok(()),
    }
}

/// The first of these variables that is given: in the environment, else in the file, else by the context.
pub(crate) fn first(names: &[&'static str]) -> Result<Option<Found>, Failure> {
    for &name in names {
        if let Some(value) = environment(name) {
            let value = value.into_string().map_err(|_| Problem::usage(format!("the variable {name} is not UTF-8")))?;
            return Ok(Some(Found { name, value, origin: Origin::Environment(name) }));
        }
    }
    let Some(variables) = VARIABLES.get() else { return Ok(None) };
    for &name in names {
        if let Some(value) = variables.file.get(name) {
            return Ok(Some(Found { name, value: value.clone(), origin: Origin::File(name) }));
        }
    }
    let Some((of, context)) = &variables.context else { return Ok(None) };
    for &name in names {
        if let Some(value) = context.value(name).map_err(|error| format!("the context {of:?}: {error}"))? {
            return Ok(Some(Found { name, value, origin: Origin::Context(of.clone()) }));
        }
    }
    Ok(None)
}

/// Where the value of a flag came from, in words: the flag itself, if it was given.
pub(crate) fn origin(flag: &str, name: &'static str) -> String {
    let given = std::env::args_os().any(|argument| {
        argument
            .to_str()
            .is_some_and(|text| text.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')))
    });
    match (given, first(&[name])) {
        (false, Ok(Some(found))) => found.origin.to_string(),
        _ => flag.to_owned(),
    }
}

/// A command line whose flags know what the file and the context say, and do not know variables that are empty.
pub(crate) fn apply(command: Command) -> Command {
    let nothing = Variables::default();
    let variables = VARIABLES.get().unwrap_or(&nothing);
    apply_all(command, variables)
}

fn apply_all(command: Command, variables: &Variables) -> Command {
    let command = command.mut_args(|argument| {
        let Some(name) = argument.get_env().and_then(|name| name.to_str()).map(str::to_owned) else { return argument };
        if environment(&name).is_some() {
            return argument;
        }
        let argument = argument.env(Resettable::<OsStr>::Reset);
        if !PLACES.contains(&name.as_str()) {
            return argument;
        }
        let from_file = variables.file.get(&name).cloned();
        let from_context = || variables.context.as_ref().and_then(|(_, context)| context.plain(&name));
        match from_file.or_else(from_context) {
            Some(value) => argument.default_value(OsStr::from(value)).hide_default_value(true),
            None => argument,
        }
    });
    command.mut_subcommands(|command| apply_all(command, variables))
}

/// The variables of a file that are ours, and what is to be said of the file.
fn read_file(path: &Path) -> (HashMap<String, String>, Option<String>) {
    let nothing = HashMap::new();
    let Ok(about) = std::fs::metadata(path) else { return (nothing, None) };
    if !about.is_file() {
        return (nothing, None);
    }
    let shown = path.display();
    // Whoever can write where one happens to be would choose the engine that keys are sent to.
    if !is_mine(&about) {
        return (nothing, Some(format!("the file {shown} belongs to another user, and is not read")));
    }
    if about.len() > MAX_FILE {
        return (nothing, Some(format!("the file {shown} is larger than {MAX_FILE} bytes, and is not read")));
    }
    match std::fs::read_to_string(path) {
        Ok(text) => (parse(&text), None),
        Err(cause) => (nothing, Some(format!("the file {shown} cannot be read: {cause}"))),
    }
}

#[cfg(unix)]
fn is_mine(about: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let owner = about.uid();
    owner == 0 || owner == rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn is_mine(_: &std::fs::Metadata) -> bool {
    true
}

/// Lines `NAME=value`, of which `export` may come before and quotes around the value. Others than ours are not looked at.
fn parse(text: &str) -> HashMap<String, String> {
    let lines = text.trim_start_matches('\u{feff}').lines().filter_map(|line| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let quoted =
            |quote: char| value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)).map(|(inner, _)| inner);
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        let ours = PLACES.contains(&name) || SECRETS.contains(&name);
        (ours && !value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_what_is_ours_and_not_empty() {
        let text = "\u{feff}# keys\nENSYNC_URL = grpc://h:1 \nexport ENSYNC_APP_KEY=\"k=1\" # mine\nENSYNC_SECRET_KEY='s'\nENSYNC_CA_FILE=\nPATH=/evil\nENSYNC_DATA=d\nrubbish\n";
        let mut found: Vec<_> = parse(text).into_iter().collect();
        found.sort();
        let expected = [("ENSYNC_APP_KEY", "k=1"), ("ENSYNC_SECRET_KEY", "s"), ("ENSYNC_URL", "grpc://h:1")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
