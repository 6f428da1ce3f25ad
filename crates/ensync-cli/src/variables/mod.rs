//! Where a value comes from that no flag gives: the context that `--context` names, the environment, the file `.env` of the directory
//! one is in, the current context, in this order; then its default. What is empty counts as not given, everywhere.
//!
//! Keys belong to an engine, so they come from where the engine comes from: see [`Variables::goes`].

mod file;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use clap::Command;
use clap::builder::{OsStr, Resettable};
use zeroize::Zeroizing;

use crate::contexts::{self, Context};
use crate::exit::{Exit, Problem, told};
use crate::foreign::trimmed;
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

static VARIABLES: OnceLock<Variables> = OnceLock::new();

/// What belongs to one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// The engine, and who one is there.
    Client,
    /// Its admin API, and the token for it.
    Admin,
}

impl Group {
    /// The variable and the flag that say where it is.
    fn url(self) -> (&'static str, &'static str) {
        match self {
            Self::Client => ("ENSYNC_URL", "--url"),
            Self::Admin => ("ENSYNC_ADMIN_URL", "--admin-url"),
        }
    }

    fn of(name: &str) -> Self {
        if name.starts_with("ENSYNC_ADMIN_") { Self::Admin } else { Self::Client }
    }
}

/// Where values come from, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    /// The context that a flag names.
    Named,
    Environment,
    File,
    /// The context that is used if no flag names one.
    Current,
    Default,
}

impl Source {
    /// Those that give more than one value.
    const MANY: [Self; 4] = [Self::Named, Self::Environment, Self::File, Self::Current];
}

/// What gives values.
#[derive(Default)]
struct Variables {
    /// Where flags say that engines are.
    flags: HashMap<&'static str, String>,
    environment: HashMap<&'static str, OsString>,
    file: file::Values,
    context: Option<(String, Context)>,
    /// Whether a flag names the context.
    is_named: bool,
    /// Why there is no context, although one was meant: told to whoever could need it.
    broken: Option<(Exit, String)>,
}

/// Where a value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(&'static str),
    Environment(&'static str),
    File(&'static str),
    Context(String),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => f.write_str(name),
            Self::Environment(name) => write!(f, "the variable {name}"),
            Self::File(name) => write!(f, "{name} in the file {FILE}"),
            Self::Context(context) => write!(f, "the context {context:?}"),
            Self::Default => f.write_str("nowhere: it is the default"),
        }
    }
}

/// A value, which may be a secret, and where it was found.
pub(crate) struct Found {
    pub(crate) name: &'static str,
    pub(crate) value: Zeroizing<String>,
    pub(crate) origin: Origin,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("name", &self.name).field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// A variable of the environment, if it says anything.
pub(crate) fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Reads what there is, once. `context`: the one that a flag names, or `None` where contexts have no say. `typed`: the value of a
/// flag.
pub(crate) fn load(context: Option<Option<&str>>, typed: impl Fn(&str) -> Option<String>) {
    let (file, remark) = file::read(Path::new(FILE));
    if let Some(remark) = remark {
        note(format_args!("warning: {remark}"));
    }
    let flags = [Group::Client, Group::Admin].map(Group::url).into_iter();
    let names = PLACES.iter().chain(&SECRETS);
    let mut variables = Variables {
        flags: flags.filter_map(|(name, flag)| Some((name, typed(flag)?))).collect(),
        environment: names.filter_map(|name| Some((*name, environment(name)?))).collect(),
        file,
        is_named: context.flatten().is_some(),
        ..Variables::default()
    };
    match context.map_or(Ok(None), contexts::chosen) {
        Ok(chosen) => variables.context = chosen,
        Err(error) => variables.broken = Some((told(&*error).0, error.to_string())),
    }
    _ = VARIABLES.set(variables);
}

/// What a file says: for tests.
#[cfg(test)]
#[cfg(target_os = "linux")]
pub(crate) fn read_file(path: &Path) -> file::Values {
    file::read(path).0
}

fn loaded() -> &'static Variables {
    VARIABLES.get_or_init(Variables::default)
}

/// The first of these variables that is given, for what is not sent to an engine.
pub(crate) fn first(names: &[&'static str]) -> Result<Option<Found>, Failure> {
    loaded().first(names)
}

/// Where a flag, or what stands for it, says that an engine is.
pub(crate) fn source(group: Group) -> Result<Source, Failure> {
    loaded().source(group)
}

/// The first of these variables that may be used with an engine at `url`, of which the place is known `from` there.
pub(crate) fn keyed(names: &[&'static str], group: Group, from: Source, url: &str) -> Result<Option<Found>, Failure> {
    loaded().keyed(names, group, from, url)
}

/// Refuses a key of a flag for an engine that the file names: whoever can write where one happens to be would choose where keys go.
pub(crate) fn check_typed(flag: &'static str, group: Group, from: Source) -> Result<(), Failure> {
    match from {
        Source::File => Err(loaded().apart(&Origin::Flag(flag), group, from).into()),
        _ => Ok(()),
    }
}

impl Variables {
    /// Whether a source says something, and where. No command is run for it.
    fn has(&self, source: Source, name: &'static str) -> Option<Origin> {
        let context = || {
            let (of, context) = self.context.as_ref()?;
            context.says(name).then(|| Origin::Context(of.clone()))
        };
        match source {
            Source::Flag => self.flags.contains_key(name).then_some(Origin::Flag(Group::of(name).url().1)),
            Source::Named if self.is_named => context(),
            Source::Current if !self.is_named => context(),
            Source::Environment => self.environment.contains_key(name).then_some(Origin::Environment(name)),
            Source::File => self.file.contains_key(name).then_some(Origin::File(name)),
            Source::Named | Source::Current | Source::Default => None,
        }
    }

    fn get(&self, source: Source, name: &'static str) -> Result<Option<Found>, Failure> {
        let Some(origin) = self.has(source, name) else { return Ok(None) };
        let value = match source {
            Source::Flag => self.flags.get(name).cloned().map(Zeroizing::new),
            Source::Environment => {
                let not_text = || Problem::usage(format!("the variable {name} is not UTF-8"));
                self.environment
                    .get(name)
                    .map(|value| value.to_str().map(|value| Zeroizing::new(value.to_owned())).ok_or_else(not_text))
                    .transpose()?
            }
            Source::File => self.file.get(name).cloned(),
            Source::Named | Source::Current => match &self.context {
                Some((of, context)) => {
                    context.value(name).map_err(|error| Problem::usage(format!("the context {of:?}: {error}")))?
                }
                None => None,
            },
            Source::Default => None,
        };
        Ok(value.map(|value| Found { name, value, origin }))
    }

    /// Fails if a context is meant here that cannot be read.
    fn check(&self, source: Source) -> Result<(), Problem> {
        match &self.broken {
            Some((exit, why)) if self.is_named || source == Source::Current => Err(Problem::new(*exit, why.clone())),
            _ => Ok(()),
        }
    }

    fn first(&self, names: &[&'static str]) -> Result<Option<Found>, Failure> {
        for source in Source::MANY {
            self.check(source)?;
            for name in names {
                if let Some(found) = self.get(source, name)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    fn source(&self, group: Group) -> Result<Source, Failure> {
        let url = group.url().0;
        self.check(Source::Flag)?;
        if self.has(Source::Flag, url).is_some() {
            return Ok(Source::Flag);
        }
        for source in Source::MANY {
            self.check(source)?;
            if self.has(source, url).is_some() {
                return Ok(source);
            }
        }
        Ok(Source::Default)
    }

    /// Whether a key of one source may go to an engine that another one names. `url`: where that is.
    fn goes(&self, key: Source, group: Group, from: Source, url: &str) -> bool {
        let own = || self.get(key, group.url().0).ok().flatten().map(|found| found.value);
        match (from, key) {
            (from, key) if from == key => true,
            // Nobody says where the engine is, so it is on this machine.
            (Source::Default, _) => true,
            // A flag is typed by whoever has the keys. A context's are for its engine, unless a flag names the context too.
            (Source::Flag, Source::Named | Source::Environment | Source::File) => true,
            (Source::Environment, Source::File) => own().is_none_or(|own| *own == url),
            _ => own().is_some_and(|own| *own == url),
        }
    }

    fn keyed(&self, names: &[&'static str], group: Group, from: Source, url: &str) -> Result<Option<Found>, Failure> {
        let mut other = None;
        for source in Source::MANY {
            self.check(source)?;
            let Some((name, origin)) = names.iter().find_map(|name| Some((*name, self.has(source, name)?))) else {
                continue;
            };
            if !self.goes(source, group, from, url) {
                other.get_or_insert((source, name, origin));
                continue;
            }
            let found = self.get(source, name)?;
            if let Some((aside, name, origin)) = &other {
                let engine = self.origin(group, from);
                if self.has(*aside, group.url().0).is_some() {
                    note(format_args!("{origin} is not used: the engine comes from {engine}, and so does its key"));
                } else if !self.says_the_same(*aside, name, found.as_ref())? {
                    // It names no engine, so whoever said it may well mean this one, and to be another app there.
                    let flag = group.url().1;
                    return Err(Problem::usage(format!(
                        "the engine comes from {engine}, and so does a key for it; {origin} is another key, which may be for another \
                         engine: take one of the two away, or name the engine with {flag}"
                    ))
                    .into());
                }
            }
            return Ok(found);
        }
        match other {
            Some((.., origin)) => Err(self.apart(&origin, group, from).into()),
            None => Ok(None),
        }
    }

    /// Whether a key that is not used is the one that is. No command is run to know it.
    fn says_the_same(&self, source: Source, name: &'static str, used: Option<&Found>) -> Result<bool, Failure> {
        if !matches!(source, Source::Environment | Source::File) {
            return Ok(false);
        }
        let said = self.get(source, name)?;
        Ok(said.zip(used).is_some_and(|(said, used)| trimmed(&said.value) == trimmed(&used.value)))
    }

    fn origin(&self, group: Group, from: Source) -> Origin {
        let (name, flag) = group.url();
        // An argument may stand for the flag.
        if from == Source::Flag { Origin::Flag(flag) } else { self.has(from, name).unwrap_or(Origin::Default) }
    }

    fn apart(&self, key: &Origin, group: Group, from: Source) -> Problem {
        let (engine, flag) = (self.origin(group, from), group.url().1);
        Problem::usage(format!(
            "the engine comes from {engine}, and its key from {key}, which may be for another one: give both in one place, or the \
             engine with {flag}"
        ))
    }
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
    apply_all(command, loaded())
}

fn apply_all(command: Command, variables: &Variables) -> Command {
    let command = command.mut_args(|argument| {
        let Some(name) = argument.get_env().and_then(|name| name.to_str()).map(str::to_owned) else { return argument };
        let Some(name) = PLACES.into_iter().find(|place| *place == name) else {
            // Where a secret is, is looked up with the secrets.
            let keep = environment(&name).is_some() && !SECRETS.contains(&name.as_str());
            return if keep { argument } else { argument.env(Resettable::<OsStr>::Reset) };
        };
        match variables.place(name) {
            Some((Source::Environment, _)) => argument,
            Some((_, value)) => {
                argument.env(Resettable::<OsStr>::Reset).default_value(OsStr::from(value)).hide_default_value(true)
            }
            None => argument.env(Resettable::<OsStr>::Reset),
        }
    });
    command.mut_subcommands(|command| apply_all(command, variables))
}

impl Variables {
    /// What says how an engine is reached, and where that is from.
    fn place(&self, name: &'static str) -> Option<(Source, String)> {
        let group = Group::of(name);
        let from = self.source(group).ok()?;
        let url = self.get(from, group.url().0).ok().flatten().map(|found| found.value).unwrap_or_default();
        let is_url = name == group.url().0;
        Source::MANY.into_iter().find_map(|source| {
            let found = self.get(source, name).ok().flatten()?;
            (is_url || source == Source::Environment || self.goes(source, group, from, &url))
                .then(|| (source, found.value.to_string()))
        })
    }
}

#[cfg(test)]
mod tests;
