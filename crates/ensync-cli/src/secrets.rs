//! Secrets on the command line and in the environment. Those that belong there are kept in memory that is wiped. Arguments that hold
//! one where none belongs are refused before anything is done with them, so that none is printed, logged or sent: whatever argument
//! there is, and whatever is done with it later.

use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

use clap::{Arg, ArgMatches, Command};
use zeroize::Zeroizing;

use crate::exit::Problem;
use crate::foreign::{perhaps_secret_in, secret_in};
use crate::output::Failure;
use crate::variables::{self, Found, Group, Source};

/// Arguments that are secrets: the flag, and the variables of the environment that stand for it. Each argument is documented by hand,
/// for clap keeps what it reads of either in memory that nobody wipes.
const SECRETS: [(&str, &[&str]); 2] =
    [("--secret-key", &["ENSYNC_SECRET_KEY"]), ("--app-key", &["ENSYNC_APP_KEY", "ENSYNC_ACCESS_KEY"])];

/// What stands in a secret's place while clap reads the command line.
const TAKEN: &str = "(taken)";

/// A payload is encrypted: whoever sends keys to somebody may.
const MAY_HOLD_SECRETS: [&str; 1] = ["payload"];
/// Digests and random texts of 32 bytes belong here, so only what is a secret for certain is refused. Of names, the library and the engine
/// say what is none, alike for everybody.
const MAY_LOOK_LIKE_SECRETS: [&str; 5] = ["header", "idempotency_key", "event", "events", "name"];

/// The secrets that were taken out of the command line, by their flags.
static GIVEN: Mutex<Vec<(&str, Zeroizing<String>)>> = Mutex::new(Vec::new());

/// The command line without the values of the flags that are secrets, which [`given`] gives.
pub(crate) fn take(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut left = Vec::new();
    let (mut arguments, mut ended) = (arguments.into_iter().peekable(), false);
    while let Some(argument) = arguments.next() {
        ended |= argument == "--";
        let found = argument.to_str().filter(|_| !ended).and_then(|text| {
            let (flag, value) = text.split_once('=').map_or((text, None), |(flag, value)| (flag, Some(value)));
            SECRETS.iter().find(|(known, _)| *known == flag).map(|(flag, _)| (*flag, value.map(keep)))
        });
        match found {
            None => left.push(argument),
            Some((flag, Some(value))) => {
                remember(flag, value);
                drop(argument.into_string().map(Zeroizing::new));
                left.push(format!("{flag}={TAKEN}").into());
            }
            Some((flag, None)) => {
                left.push(argument);
                // Another flag is no value; clap says that there is none.
                let is_value = |next: &OsString| !next.to_str().is_some_and(|next| next.starts_with("--"));
                if let Some(Ok(value)) = arguments.next_if(is_value).map(OsString::into_string) {
                    remember(flag, Zeroizing::new(value));
                    left.push(TAKEN.into());
                }
            }
        }
    }
    left
}

fn keep(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn remember(flag: &'static str, value: Zeroizing<String>) {
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner).push((flag, value));
}

/// A secret, and where it was found, in words.
pub(crate) type Given = Option<(Zeroizing<String>, String)>;

/// The value of a flag that is a secret and is not for an engine: of the command line, else what a variable says.
pub(crate) fn given(flag: &'static str) -> Result<Given, Failure> {
    if let Some(value) = typed(flag) {
        return Ok(Some((value, flag.to_owned())));
    }
    Ok(variables::first(variables_of(flag))?.map(shown))
}

/// The same for an engine at `url`, of which the place is known `from` there: only one that is for that engine.
pub(crate) fn given_for(flag: &'static str, from: Source, url: &str) -> Result<Given, Failure> {
    if let Some(value) = typed(flag) {
        variables::check_typed(flag, Group::Client, from)?;
        return Ok(Some((value, flag.to_owned())));
    }
    Ok(variables::keyed(variables_of(flag), Group::Client, from, url)?.map(shown))
}

fn typed(flag: &str) -> Option<Zeroizing<String>> {
    let given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    given.iter().find(|(known, _)| *known == flag).map(|(_, value)| value.clone())
}

fn variables_of(flag: &str) -> &'static [&'static str] {
    SECRETS.iter().find(|(known, _)| *known == flag).map_or(&[], |(_, names)| names)
}

fn shown(found: Found) -> (Zeroizing<String>, String) {
    (found.value, found.origin.to_string())
}

/// Looks at every argument of a command line, and at the variables of the environment that stand for arguments.
pub(crate) fn check(command: &Command, matches: &ArgMatches) -> Result<(), Problem> {
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let Ok(Some(values)) = matches.try_get_raw(id) else { continue };
        for value in values {
            let looked = if MAY_LOOK_LIKE_SECRETS.contains(&id) { secret_in } else { perhaps_secret_in };
            if !MAY_HOLD_SECRETS.contains(&id)
                && let Some(what) = looked(&value.to_string_lossy())
            {
                let name = shown_name(argument);
                let message = format!("{name} holds {what}, which does not belong there; keep it on this machine");
                return Err(Problem::usage(message));
            }
        }
    }
    match matches.subcommand() {
        Some((name, matches)) => command.find_subcommand(name).map_or(Ok(()), |command| check(command, matches)),
        None => Ok(()),
    }
}

/// What an argument is called.
pub(crate) fn shown_name(argument: &Arg) -> String {
    match (argument.get_long(), argument.get_value_names()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some([name, ..])) => name.to_string(),
        (None, _) => argument.get_id().as_str().to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_before_clap_reads() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let line =
            ["ensync", "publish", "--secret-key", "one", "--app-key=two=", "x", "--to", "y", "--", "--secret-key", "z"];
        let left = take(words(&line));
        let expected = [
            "ensync",
            "publish",
            "--secret-key",
            TAKEN,
            "--app-key=(taken)",
            "x",
            "--to",
            "y",
            "--",
            "--secret-key",
            "z",
        ];
        assert_eq!(left, words(&expected));
        assert_eq!(given("--secret-key").unwrap().unwrap().0.as_str(), "one");
        assert_eq!(given("--app-key").unwrap().unwrap().0.as_str(), "two=");
        // What is no value stays for clap to refuse.
        for line in [&["e", "--secret-key"][..], &["e", "--secret-key", "--app-key"], &["e", "--secret-keys", "x"]] {
            assert_eq!(take(words(line)), words(line));
        }
    }
}
