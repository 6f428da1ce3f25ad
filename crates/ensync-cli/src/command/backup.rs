use std::path::{Path, PathBuf};

use clap::Args;
use ensync_engine::store;
use serde_json::json;

use super::Outcome;
use super::store::{figures, summary};
use crate::directory::{self, Contents};
use crate::exit::Problem;
use crate::output::Output;

/// Copy a data directory, also one that an engine uses: everything that was accepted before is in the copy.
#[derive(Args)]
#[command(after_help = "Examples:\n  ensync backup --data /var/lib/ensync --to /backup/monday")]
pub(crate) struct Backup {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "ENSYNC_DATA")]
    data: PathBuf,
    /// Where the copy goes: a directory that is empty, or not there.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Copy settled events too, which are only kept to be replayed.
    #[arg(long)]
    replays: bool,
}

impl Backup {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        // Before anything is made.
        directory::check(&self.data)?;
        if directory::contents(&self.data)? != Contents::Log {
            return Err(directory::no_log(&self.data).into());
        }
        if self.to.is_file() {
            let text =
                format!("--to {}: this is a file; name a directory that is empty, or not there", self.to.display());
            return Err(Problem::usage(text).into());
        }
        if is_within(&self.to, &self.data) {
            let text = "--to is inside of the data directory, where an engine would take it for its own: put the copy elsewhere";
            return Err(Problem::usage(text).into());
        }
        let backup = store::backup(&self.data, &self.to, self.replays).await;
        let backup = backup.map_err(|error| directory::problem(&error))?;
        let to = self.to.display();
        let value = || json!({"to": to.to_string(), "left_out": backup.left_out, "contents": figures(&backup.report)});
        let text = || {
            let mut lines = summary(&backup.report);
            if !backup.left_out.is_empty() {
                lines.push(format!("not copied, for it is not the log's: {}", backup.left_out.join(", ")));
            }
            lines.push(format!("the backup is in {to}"));
            lines.join("\n")
        };
        out.either(value, text)
    }
}

/// Whether a path, which need not be there yet, leads into a directory that is there.
fn is_within(path: &Path, directory: &Path) -> bool {
    let Ok(directory) = directory.canonicalize() else { return false };
    let there = std::path::absolute(path).ok();
    let there = there.as_deref().and_then(|path| path.ancestors().find_map(|path| path.canonicalize().ok()));
    there.is_some_and(|there| there.starts_with(directory))
}
