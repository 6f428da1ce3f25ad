use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Outcome;
use crate::config::{self, Loaded};
use crate::failure::Usage;
use crate::foreign;

/// Check what `ensync serve` would be told.
#[derive(Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Read a configuration file and the environment as `ensync serve` does, and report everything that is wrong or risky.
    /// Exits with 2 if something is wrong. No engine is started, and nothing is written.
    Check {
        /// The file; without one, the environment alone.
        #[arg(value_name = "FILE", env = "ENSYNC_CONFIG")]
        file: Option<PathBuf>,
        /// Also print every setting, as a file, with where each comes from.
        #[arg(long)]
        print: bool,
    },
}

impl Config {
    pub(crate) fn run(self) -> Outcome {
        let Action::Check { file, print } = self.action;
        let mut loaded = config::load(false, file.as_deref(), config::variables(), Vec::new());
        loaded.check_builder(false);
        if print {
            print!("{}", foreign::redacted(&loaded.print()));
        }
        warn(&loaded);
        refuse(&loaded)?;
        if !print {
            let what = file.map_or("the environment".into(), |file| file.display().to_string());
            println!("{what}: no problems, {} warnings", loaded.warnings.len());
        }
        Ok(())
    }
}

fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        _ = writeln!(std::io::stderr(), "warning: {}", foreign::message(warning));
    }
}

/// Everything that is wrong, as one error.
pub(crate) fn refuse(loaded: &Loaded) -> Outcome {
    if loaded.problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    Err(Usage(lines.join("\nensync: ")).into())
}
