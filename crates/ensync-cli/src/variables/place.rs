//! What the file and the context say for flags that were not typed: how an engine is reached.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Once;

use clap::Command;
use clap::builder::{OsStr, Resettable};

use super::table::{self, Group, KNOWN, Source, What, find};
use super::{Origin, Variables, environment, loaded};
use crate::foreign::redacted_strictly;
use crate::output::note;

/// Where the value of a flag that a variable stands for came from.
pub(crate) fn origin(name: &'static str) -> Origin {
    loaded().found(name)
}

/// A command line whose flags know what the file and the context say, and do not know variables that are empty.
pub(crate) fn apply(command: Command) -> Command {
    apply_all(command, loaded())
}

fn apply_all(command: Command, variables: &Variables) -> Command {
    let groups = Group::ALL.into_iter().filter(|group| {
        let url = group.url().0;
        command.get_arguments().any(|argument| argument.get_env().is_some_and(|name| name == url))
    });
    let groups: Vec<_> = groups.collect();
    let command = command.mut_args(|argument| {
        let Some(name) = argument.get_env().and_then(|name| name.to_str()).map(str::to_owned) else { return argument };
        let Some((name, ..)) = find(&name).filter(|(_, what, _)| table::is_default(*what)) else {
            // Where a secret is, is looked up with the secrets.
            let keep = environment(&name).is_some() && find(&name).is_none();
            return if keep { argument } else { argument.env(Resettable::<OsStr>::Reset) };
        };
        match variables.place(name, &groups) {
            Some((Source::Environment, _)) => argument,
            Some((_, value)) => {
                argument.env(Resettable::<OsStr>::Reset).default_value(OsStr::from(value)).hide_default_value(true)
            }
            None => argument.env(Resettable::<OsStr>::Reset),
        }
    });
    command.mut_subcommands(|command| apply_all(command, variables))
}

/// What counts for a flag that was not typed, where an argument says that the engine is at `url`.
pub(crate) fn for_engine_at(name: &'static str, url: &str) -> Option<OsString> {
    let (variables, engines) = (loaded(), [(Group::of(name), Source::Flag, url.to_owned())]);
    variables.place_for(name, &engines).map(|(_, value)| value)
}

/// Tells of what the file says of the way to an engine, and what is not used because another place names that. Once.
pub(crate) fn tell_unused(group: Group, from: Source, url: &str) {
    static TOLD: Once = Once::new();
    if let Some(text) = loaded().unused(group, from, url) {
        TOLD.call_once(|| note(redacted_strictly(&text)));
    }
}

impl Variables {
    /// What says how an engine is reached, and where that is from, for a command that reaches these.
    pub(super) fn place(&self, name: &'static str, groups: &[Group]) -> Option<(Source, OsString)> {
        let (_, what, _) = find(name)?;
        // The certificate is for both, and so it has to be right for each that the command reaches.
        let own = [Group::of(name)];
        let groups = if what == What::Identity && !groups.is_empty() { groups } else { &own };
        let engine = |group: Group| {
            let from = self.source(group).ok()?;
            let url = self.get(from, group.url().0).ok().flatten().map(|found| found.value.to_string());
            Some((group, from, url.unwrap_or_default()))
        };
        let engines = groups.iter().map(|group| engine(*group)).collect::<Option<Vec<_>>>()?;
        self.place_for(name, &engines)
    }

    fn place_for(&self, name: &'static str, engines: &[(Group, Source, String)]) -> Option<(Source, OsString)> {
        Source::MANY.into_iter().find_map(|source| {
            let value = match source {
                Source::Environment => self.environment.get(name)?.clone(),
                _ => self.get(source, name).ok().flatten()?.value.as_str().into(),
            };
            let mut engines = engines.iter();
            engines
                .all(|(group, from, url)| {
                    let goes = self.goes(name, source, *group, *from, url);
                    goes && (source != Source::File || *from != Source::File || is_beside(name, Path::new(&value)))
                })
                .then_some((source, value))
        })
    }

    fn found(&self, name: &'static str) -> Origin {
        let typed = self.has(Source::Flag, name);
        let place = || self.has(self.place(name, &[])?.0, name);
        typed.or_else(place).unwrap_or(Origin::Default)
    }

    pub(super) fn unused(&self, group: Group, from: Source, url: &str) -> Option<String> {
        let engines = [(group, from, url.to_owned())];
        let mut left = KNOWN.into_iter().filter_map(|(name, what, flag)| {
            let is_meant = match what {
                What::Trust => Group::of(name) == group,
                _ => what == What::Identity,
            };
            let said = self.has(Source::File, name).filter(|_| is_meant && !self.flags.contains_key(name))?;
            let used = self.place_for(name, &engines).map(|(source, _)| source);
            // What goes before the file hides it, as everywhere.
            (!matches!(used, Some(Source::Named | Source::Environment | Source::File))).then_some((said, flag))
        });
        let (said, flag) = left.next()?;
        let engine = self.origin(group, from);
        Some(match from {
            Source::File => {
                format!("warning: {said} is not used: it names a file elsewhere than beside it; give {flag}")
            }
            _ => format!("warning: {said} is not used: the engine comes from {engine}; give {flag}"),
        })
    }
}

/// Whether a file that is shown to an engine lies where the file does that names both, links followed. Whom to trust may lie anywhere;
/// and one that is not there is told of by whoever reads it.
fn is_beside(name: &str, path: &Path) -> bool {
    let is_identity = find(name).is_some_and(|(_, what, _)| what == What::Identity);
    match (path.canonicalize(), Path::new(".").canonicalize()) {
        (Ok(path), Ok(here)) if is_identity => path.starts_with(here),
        _ => true,
    }
}
