use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man as Page;
use serde_json::json;

use super::Outcome;
use crate::arguments;
use crate::exit::{Exit, Problem};
use crate::output::{Failure, Output};

/// Print the manual page of the program, or write the pages of all commands.
#[derive(Args)]
#[command(after_help = "Examples:\n  ensync man | man -l -\n  ensync man --out ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// Write the page of each command to this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self, out: Output) -> Outcome {
        let mut command = arguments::command();
        command.build();
        let Some(directory) = self.out else {
            let page = String::from_utf8(page(command)?)?;
            return if out.json { out.value(&json!({"page": page})) } else { out.raw(page) };
        };
        let mut written = 0;
        write(&directory, command, "ensync", &mut written)?;
        let shown = directory.display();
        out.either(
            || json!({"pages": written, "directory": shown.to_string()}),
            || format!("{written} pages are in {shown}"),
        )
    }
}

fn page(command: Command) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    Page::new(command).render(&mut text)?;
    Ok(text)
}

/// The page of a command and of all below it: `ensync-app-create.1`, as `man` looks for them.
fn write(directory: &Path, command: Command, name: &str, written: &mut usize) -> Outcome {
    let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").cloned().collect();
    for below in below {
        let name = format!("{name}-{}", below.get_name());
        write(directory, below, &name, written)?;
    }
    let path = directory.join(format!("{name}.1"));
    let failed = |cause| Problem::new(Exit::Output, format!("cannot write {}: {cause}", path.display()));
    std::fs::create_dir_all(directory).map_err(failed)?;
    std::fs::write(&path, page(command.name(name.to_owned()))?).map_err(failed)?;
    *written += 1;
    Ok(())
}
