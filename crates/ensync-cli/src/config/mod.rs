//! What `ensync serve` is told: by flags, the environment and a file, in this order; what none of them says has a default.

mod file;
mod keys;
mod risks;
mod setup;
mod value;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use ensync_sdk::core::report;

use crate::foreign::perhaps_secret_in;

pub(crate) use keys::{Config, KEYS, Key};
pub(crate) use setup::ANY_PORT;
pub(crate) use value::{LogFormat, Raw};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    File(PathBuf, usize),
    Variable(String),
    Flag(&'static str),
}

/// Something wrong: where, and what to write instead.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) place: Option<Place>,
    pub(crate) what: String,
}

/// What was told, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// Where each of [`KEYS`] was written; `None`: it has its default.
    places: Vec<Option<Place>>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
}

/// Flags that are settings: the flag, the setting that it is, which need not be one, and its value.
pub(crate) type Flags = Vec<(&'static str, String, Raw)>;

/// Reads everything. `dev`: for development mode, which has other defaults. `variables` is the environment; a variable that is empty counts as not set. In `flags` are the flag, the
/// setting it is, and its value.
pub(crate) fn load(
    dev: bool,
    path: Option<&Path>,
    variables: impl IntoIterator<Item = (String, Option<String>)>,
    flags: Flags,
) -> Loaded {
    let config = Config::of_mode(dev);
    let mut loaded = Loaded { config, places: vec![None; KEYS.len()], ..Loaded::default() };
    if let Some(path) = path {
        loaded.read_file(path);
    }
    loaded.read_variables(variables);
    for (flag, name, raw) in flags {
        loaded.set(&name, &raw, Place::Flag(flag));
    }
    loaded.check();
    loaded
}

/// The variables that are ours, as far as they can be read; one that is not UTF-8 has no value.
pub(crate) fn variables() -> impl Iterator<Item = (String, Option<String>)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("ENSYNC_"))?;
        Some((name, value.into_string().ok()))
    })
}

impl Loaded {
    /// Looks for what only shows when an engine is put together. Nothing is started.
    pub(crate) fn check_builder(&mut self, dev: bool) {
        if self.problems.is_empty()
            && let Err(error) = self.config.builder(dev).and_then(|(builder, _)| builder.check())
        {
            self.refuse(None, report(&error));
        }
    }

    fn read_file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(cause) => {
                return self.refuse(None, format!("cannot read the configuration file {}: {cause}", path.display()));
            }
        };
        let file = file::read(&text);
        for (line, why) in file.broken {
            self.refuse(Some(Place::File(path.to_owned(), line)), format!("this is not TOML: {why}"));
        }
        let mut unknown = BTreeSet::new();
        for (name, raw, line) in file.values {
            // One wrong name of a section is one mistake, however much is in it.
            match name.split_once('.') {
                Some((section, _)) if !is_section(section) => {
                    if unknown.insert(section.to_owned()) {
                        self.refuse_section(section, Place::File(path.to_owned(), line));
                    }
                }
                _ => self.set(&name, &raw, Place::File(path.to_owned(), line)),
            }
        }
    }

    fn read_variables(&mut self, variables: impl IntoIterator<Item = (String, Option<String>)>) {
        let sections: Vec<_> = KEYS
            .iter()
            .filter_map(|key| key.name.split_once('.'))
            .map(|(section, _)| format!("ENSYNC_{}_", section.to_uppercase()))
            .collect();
        let mut variables: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with("ENSYNC_")).collect();
        variables.sort();
        for (variable, value) in variables {
            match KEYS.iter().find(|key| key.variable() == variable) {
                Some(_) if value.as_deref() == Some("") => {}
                Some(key) => match value {
                    Some(value) => self.set(key.name, &Raw::Words(value), Place::Variable(variable)),
                    None => {
                        let what = format!("{} is not readable: the value is not UTF-8", key.name);
                        self.refuse(Some(Place::Variable(variable)), what);
                    }
                },
                // Other commands have variables too.
                None if variable.starts_with("ENSYNC_ADMIN_") => {}
                None if sections.iter().any(|section| variable.starts_with(section)) => {
                    let near = variable.strip_prefix("ENSYNC_").unwrap_or_default().to_lowercase();
                    let near = nearest_by(&near, |name| name.replace('.', "_")).map(Key::variable);
                    let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
                    self.warnings
                        .push(format!("the environment variable {variable} is no setting, and has no effect{hint}"));
                }
                None => {}
            }
        }
    }

    /// Sets one value. One that is not allowed is a problem, and the setting stays as it was.
    fn set(&mut self, name: &str, raw: &Raw, place: Place) {
        let Some((index, key)) = Key::find(name) else {
            if name.is_empty() {
                return self.refuse(Some(place), "there is no name before the equals sign".to_owned());
            }
            // The value stays out of the message: it may be a secret in the wrong place.
            let shown = match perhaps_secret_in(name) {
                Some(_) => "(not shown: a key)".to_owned(),
                None => format!("{:?}", name.chars().take(64).collect::<String>()),
            };
            let listed = "; `ensync config check --print` shows them all".to_owned();
            let hint = nearest(name).map_or(listed, |known| format!("; did you mean {known}?"));
            return self.refuse(Some(place), format!("there is no setting {shown}{hint}"));
        };
        if (key.set)(&mut self.config, raw).is_none() {
            return self.refuse(Some(place), format!("{name} cannot be {}: it is {}", raw.shown(), key.allowed));
        }
        if let Some(entry) = self.places.get_mut(index) {
            *entry = Some(place);
        }
    }

    fn refuse_section(&mut self, section: &str, place: Place) {
        let close = |known: &&str| distance(known, section) <= 2;
        let hint = sections().find(close).map_or(String::new(), |known| format!("; did you mean [{known}]?"));
        let shown: String = section.chars().take(64).collect();
        self.refuse(Some(place), format!("there is no section {shown:?}{hint}"));
    }

    fn refuse(&mut self, place: Option<Place>, what: String) {
        self.problems.push(Problem { place, what });
    }

    /// Whether nobody said where the admin API is served: then another place will do.
    pub(crate) fn admin_is_anywhere(&self) -> bool {
        !self.is_set("admin.listen")
    }

    /// A problem with a setting, wherever it was written.
    fn refuse_setting(&mut self, name: &str, what: String) {
        let place = Key::find(name).and_then(|(index, _)| self.places.get(index).cloned().flatten());
        self.refuse(place, what);
    }

    /// Whether somebody set it.
    fn is_set(&self, name: &str) -> bool {
        Key::find(name).is_some_and(|(index, _)| self.places.get(index).is_some_and(Option::is_some))
    }

    /// Every setting as a file would have it, each with where it comes from. There is no secret among them: secrets are in files
    /// of their own, of which the paths are named here.
    pub(crate) fn print(&self) -> String {
        use fmt::Write as _;
        let (mut text, mut section) = (String::new(), "");
        for (key, place) in KEYS.iter().zip(&self.places) {
            let (of, name) = key.name.split_once('.').unwrap_or(("", key.name));
            if of != section {
                _ = writeln!(text, "\n[{of}]");
                section = of;
            }
            _ = writeln!(text, "# {}", key.about);
            let from = place.as_ref().map_or("default".to_owned(), Place::to_string);
            _ = match (key.show)(&self.config) {
                Some(value) => writeln!(text, "{name} = {value} # {from}"),
                None => writeln!(text, "# {name} is not set: it is {}", key.allowed),
            };
        }
        text
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

fn sections() -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(|key| key.name.split_once('.')).map(|(section, _)| section)
}

fn is_section(name: &str) -> bool {
    sections().any(|section| section == name)
}

/// A setting that was likely meant: the same name in another section, or one that differs in two letters.
fn nearest(name: &str) -> Option<&'static str> {
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    let moved = KEYS.iter().find(|key| last(key.name) == last(name));
    moved.or_else(|| nearest_by(name, str::to_owned)).map(|key| key.name)
}

/// The setting whose name, written in some way, differs from a text in two letters at most.
fn nearest_by(text: &str, written: impl Fn(&str) -> String) -> Option<&'static Key> {
    let known = KEYS.iter().map(|key| (distance(&written(key.name), text), key));
    known.filter(|(distance, _)| *distance <= 2).min_by_key(|(distance, _)| *distance).map(|(_, key)| key)
}

/// How many letters have to be added, dropped or changed. Bounded: longer texts than any name are far from all.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let up = *cell;
            left = (corner + usize::from(x != y)).min(up + 1).min(left + 1);
            corner = up;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
