//! Where a value comes from that no flag gives: the context that `--context` names, the environment, the file `.env` of the directory
//! one is in, the current context, in this order; then its default. What is empty counts as not given, everywhere.
//!
//! Keys belong to an engine, so they come from where the engine comes from: `table` says who may name what.

mod file;
mod place;
mod table;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use zeroize::Zeroizing;

use crate::contexts::{self, Context};
use crate::exit::{Exit, Problem, told};
use crate::foreign::trimmed;
use crate::output::{Failure, note};

pub(crate) use place::{apply, for_engine_at, origin, tell_unused};
pub(crate) use table::{Group, Source};
use table::{KNOWN, Own, find, may};

/// The file that is looked for in the directory one is in.
const FILE: &str = ".env";

static VARIABLES: OnceLock<Variables> = OnceLock::new();

/// What gives values.
#[derive(Default)]
struct Variables {
    /// What flags say in the place of variables.
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
    let defaults = KNOWN.into_iter().filter(|(_, what, _)| table::is_default(*what));
    let mut variables = Variables {
        flags: defaults.filter_map(|(name, _, flag)| Some((name, typed(flag)?))).collect(),
        environment: KNOWN.into_iter().filter_map(|(name, ..)| Some((name, environment(name)?))).collect(),
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
            Source::Flag => self.flags.get(name).and_then(|_| find(name)).map(|(.., flag)| Origin::Flag(flag)),
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

    /// Whether what one source says for a variable may be used with the engine that another one names. `url`: where that is.
    fn goes(&self, name: &str, of: Source, group: Group, from: Source, url: &str) -> bool {
        let Some((_, what, _)) = find(name) else { return false };
        let own = match self.get(of, group.url().0) {
            Ok(Some(own)) if *own.value == url => Own::Here,
            Ok(Some(_)) => Own::Elsewhere,
            Ok(None) | Err(_) => Own::Nowhere,
        };
        may(what, of, from, own)
    }

    fn keyed(&self, names: &[&'static str], group: Group, from: Source, url: &str) -> Result<Option<Found>, Failure> {
        let mut other = None;
        for source in Source::MANY {
            self.check(source)?;
            let Some((name, origin)) = names.iter().find_map(|name| Some((*name, self.has(source, name)?))) else {
                continue;
            };
            if !self.goes(name, source, group, from, url) {
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

#[cfg(test)]
mod tests;
