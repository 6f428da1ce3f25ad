use std::path::PathBuf;

use clap::Args;
use ensync_engine::store;
use serde_json::json;

use super::Outcome;
use super::store::{figures, summary};
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
        let backup = store::backup(&self.data, &self.to, self.replays).await?;
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
