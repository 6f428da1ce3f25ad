//! The command line: read, checked, and what is wrong with it told.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

use crate::exit::{self, Exit, Problem};
use crate::output::note;
use crate::{Cli, foreign, secrets, variables};

/// What is told at the end of `ensync --help`.
const MORE: &str = "Values that no flag gives come from the context that --context names, else from the environment, else from the file \
                    .env of the directory one is in, else from the current context (`ensync context --help`), else they have their \
                    defaults. Keys come from where the engine comes from. A variable that is empty counts as not set.";
/// The first things to do.
const EXAMPLES: &str =
    "  ensync serve --dev\n  ensync publish orders/new '{\"order\":7}' --to APP_ID\n  ensync subscribe orders/new";

/// The whole command line, as it is described.
pub(crate) fn command() -> Command {
    described(Cli::command()).after_help("`ensync --help` also lists the exit codes.").after_long_help(format!(
        "Examples:\n{EXAMPLES}\n\n{MORE}\n\nIt exits with\n{}\nWith --json an error is one line on standard error: \
         {{\"error\": {{\"kind\": WORD, \"message\": TEXT, \"exit_code\": NUMBER}}}}, where the word is one of those above or a \
         more exact one.",
        exit::list()
    ))
}

/// What numbers and times are called in the help.
const AMOUNTS: [&str; 3] = ["TIME", "COUNT", "EVENTS"];

/// A command whose help shows no value of the environment: a URL may have a password, and nobody can tell. And a number or a time that
/// is negative is a wrong value, and no flag that nobody knows.
fn described(command: Command) -> Command {
    let described = |argument: Arg| {
        let is_amount =
            argument.get_value_names().is_some_and(|names| names.iter().any(|name| AMOUNTS.contains(&name.as_str())));
        let argument = argument.hide_env_values(true);
        if is_amount && argument.get_long().is_some() { argument.allow_hyphen_values(true) } else { argument }
    };
    command.mut_args(described).mut_subcommands(self::described)
}

/// The command line, if it can be carried out.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    let context = typed("--context");
    // Where contexts are made and shown, none gives values.
    let words = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let about_contexts = command_of(words).as_deref() == Some("context");
    variables::load((!about_contexts).then_some(context.as_deref()), typed);
    let mut command = variables::apply(command());
    let read = command.try_get_matches_from_mut(secrets::take(std::env::args_os())).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli, matches))
    });
    match read {
        Ok((cli, matches)) => checked(cli, &command, &matches),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => Err(help(&error)),
        Err(error) => Err(refuse(&error, &command)),
    }
}

/// The word that names the command: the first that is no flag, nor the value of one.
fn command_of(mut words: impl Iterator<Item = String>) -> Option<String> {
    while let Some(word) = words.next() {
        match word.as_str() {
            "--context" => _ = words.next(),
            flag if flag.starts_with('-') => {}
            _ => return Some(word),
        }
    }
    None
}

fn checked(cli: Cli, command: &Command, matches: &ArgMatches) -> Result<Cli, ExitCode> {
    secrets::check(command, matches).and_then(|()| check_filled(command, matches)).map(|()| cli).map_err(|error| {
        note(exit::shown(&error, is_json()));
        Exit::Usage.into()
    })
}

/// Texts for which nothing is something.
const MAY_BE_EMPTY: [&str; 1] = ["payload"];
/// Flags that say of which event name, or of whom.
const NAMES: [&str; 3] = ["app", "event", "events"];

/// Refuses what is empty where a name or an id belongs: a variable that a script has not set would be looked up, and not be found.
fn check_filled(command: &Command, matches: &ArgMatches) -> Result<(), Problem> {
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        if MAY_BE_EMPTY.contains(&id) || !(argument.is_positional() || NAMES.contains(&id)) {
            continue;
        }
        let Ok(Some(mut values)) = matches.try_get_raw(id) else { continue };
        if values.any(|value| value.to_string_lossy().trim().is_empty()) {
            return Err(Problem::usage(format!("{} is empty", secrets::shown_name(argument))));
        }
    }
    match matches.subcommand() {
        Some((name, matches)) => command.find_subcommand(name).map_or(Ok(()), |command| check_filled(command, matches)),
        None => Ok(()),
    }
}

/// Help, made of the command as it is described: what the environment says is in it, and also that a variable is there that is empty.
fn help(error: &clap::Error) -> ExitCode {
    let described = command().try_get_matches_from(secrets::take(std::env::args_os())).err();
    // Whoever reads it may have gone.
    _ = described.as_ref().filter(|described| described.kind() == error.kind()).unwrap_or(error).print();
    ExitCode::SUCCESS
}

fn refuse(error: &clap::Error, command: &Command) -> ExitCode {
    let from = origin(error, command).map_or_else(String::new, |origin| format!("\nThe value comes from {origin}.\n"));
    let plain = format!("{}{from}", error.render());
    // What was typed is repeated there, and may be a secret, or do something to a terminal.
    let clean = foreign::redacted_strictly(&plain).lines().map(foreign::printable).collect::<Vec<_>>().join("\n");
    if is_json() {
        // What is wrong, and where it comes from; how the command is used is for people.
        let (said, place) = (clean.trim().split("\n\n").next().unwrap_or_default(), from.trim());
        let message = said.strip_prefix("error: ").unwrap_or(said);
        let message = if place.is_empty() { message.to_owned() } else { format!("{message}\n{place}") };
        let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        note(exit::as_json(Exit::Usage, "usage", &foreign::message(&message)));
    } else if clean.trim_end() == plain.trim_end() {
        _ = error.print();
        if !from.is_empty() {
            note(from.trim_start());
        }
    } else {
        note(clean.trim_end());
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Where a value came from that is refused, if it was no flag's.
fn origin(error: &clap::Error, command: &Command) -> Option<String> {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let argument = find(command, shown)?;
    let (flag, name) = (format!("--{}", argument.get_long()?), argument.get_env()?.to_str()?);
    (typed(&flag).is_none() && variables::environment(name).is_some()).then(|| format!("the variable {name}"))
}

fn find<'a>(command: &'a Command, shown: &str) -> Option<&'a Arg> {
    let flag = shown.split_whitespace().next()?.strip_prefix("--")?;
    let here = command.get_arguments().find(|argument| argument.get_long() == Some(flag));
    here.or_else(|| command.get_subcommands().find_map(|command| find(command, shown)))
}

/// Whether errors are to be JSON, also where the command line cannot be read.
fn is_json() -> bool {
    std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// The value of a flag as it was typed.
fn typed(flag: &str) -> Option<String> {
    let mut arguments = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .skip(1)
        .take_while(|argument| argument != "--");
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix(flag) {
            Some("") => return Some(arguments.next().unwrap_or_default()),
            Some(rest) if rest.starts_with('=') => return Some(rest.trim_start_matches('=').to_owned()),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_well_formed_also_with_defaults() {
        command().debug_assert();
        variables::apply(command()).debug_assert();
    }

    #[test]
    fn the_command_is_the_first_word_that_is_no_flag_nor_the_value_of_one() {
        for (line, command) in [
            ("--context context publish", Some("publish")),
            ("-v --json context add", Some("context")),
            ("--context=shop context", Some("context")),
            ("--help", None),
        ] {
            assert_eq!(command_of(line.split(' ').map(str::to_owned)).as_deref(), command, "{line}");
        }
    }

    #[test]
    fn every_command_shows_an_example() {
        fn look(command: &Command, path: &str, seen: &mut usize) {
            for below in command.get_subcommands() {
                look(below, &format!("{path} {}", below.get_name()), seen);
            }
            if command.has_subcommands() {
                return;
            }
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Example") && help.contains(&format!("  {path}")), "{path}:\n{help}");
            *seen += 1;
        }
        let mut seen = 0;
        look(&command(), "ensync", &mut seen);
        assert!(seen >= 36, "{seen} commands");
    }

    #[test]
    fn the_manual_names_commands_that_are_there() {
        let (all, mut seen) = (command(), 0);
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../ensync-engine/src/manual");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            for rest in text.split("`ensync ").skip(1) {
                let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
                let span = rest.split('`').next().unwrap();
                let mut words = span.split_whitespace().take_while(|word| is_name(word) && !word.starts_with('-'));
                let Some(first) = words.next() else { continue };
                let found = all.find_subcommand(first);
                assert!(found.is_some(), "{}: ensync {first}", path.display());
                if let (Some(found), Some(second)) = (found.filter(|found| found.has_subcommands()), words.next()) {
                    assert!(found.find_subcommand(second).is_some(), "{}: ensync {first} {second}", path.display());
                }
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen}");
    }
}
