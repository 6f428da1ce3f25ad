//! Arguments that hold a secret where none belongs are refused before anything is done with them, so that none is printed, logged or
//! sent: whatever argument there is, and whatever is done with it later.

use clap::{ArgMatches, Command};

use crate::exit::Problem;
use crate::foreign::secret_in;

/// Arguments that are secrets, and a payload, which is encrypted: whoever sends keys to somebody may.
const MAY_HOLD_SECRETS: [&str; 3] = ["secret_key", "app_key", "payload"];

/// Looks at every argument of a command line, and at the variables of the environment that stand for arguments.
pub(crate) fn check(command: &Command, matches: &ArgMatches) -> Result<(), Problem> {
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let Ok(Some(values)) = matches.try_get_raw(id) else { continue };
        for value in values {
            if !MAY_HOLD_SECRETS.contains(&id)
                && let Some(what) = secret_in(&value.to_string_lossy())
            {
                let name = match (argument.get_long(), argument.get_value_names()) {
                    (Some(long), _) => format!("--{long}"),
                    (None, Some([name, ..])) => name.to_string(),
                    (None, _) => id.to_uppercase(),
                };
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
