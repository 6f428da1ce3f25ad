use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::Outcome;
use crate::config::{self, Loaded};
use crate::exit::Problem;
use crate::foreign;
use crate::output::{Output, note};

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
    #[command(after_help = "Examples:\n  ensync config check /etc/ensync/ensync.toml\n  ensync config check --print")]
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
    pub(crate) fn run(self, out: Output) -> Outcome {
        let Action::Check { file, print } = self.action;
        let mut loaded = config::load(false, file.as_deref(), config::variables(), Vec::new());
        loaded.check_builder(false);
        let what = || file.as_ref().map_or("the environment".into(), |file| file.display().to_string());
        let settings = || foreign::redacted(&loaded.print());
        if out.json {
            let problems: Vec<_> =
                loaded.problems.iter().map(|problem| foreign::message(&problem.to_string())).collect();
            let warnings: Vec<_> = loaded.warnings.iter().map(|warning| foreign::message(warning)).collect();
            let settings = print.then(settings);
            out.value(&json!({"checked": what(), "problems": problems, "warnings": warnings, "settings": settings}))?;
            return refuse(&loaded);
        }
        if print {
            out.raw(settings())?;
        }
        for warning in &loaded.warnings {
            note(format_args!("warning: {}", foreign::message(warning)));
        }
        refuse(&loaded)?;
        match print {
            true => Ok(()),
            false => out.line(format_args!("{}: no problems, {} warnings", what(), loaded.warnings.len())),
        }
    }
}

/// Everything that is wrong, as one error.
pub(crate) fn refuse(loaded: &Loaded) -> Outcome {
    if loaded.problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    Err(Problem::usage(lines.join("\nensync: ")).into())
}
