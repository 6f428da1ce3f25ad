use std::path::PathBuf;

use clap::Args;
use ensync_engine::store;

use super::Outcome;
use super::store::print_summary;

/// Copy a data directory, also one that an engine uses: everything that was accepted before is in the copy.
#[derive(Args)]
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
    pub(crate) async fn run(self) -> Outcome {
        let backup = store::backup(&self.data, &self.to, self.replays).await?;
        print_summary(&backup.report);
        if !backup.left_out.is_empty() {
            println!("not copied, for it is not the log's: {}", backup.left_out.join(", "));
        }
        println!("the backup is in {}", self.to.display());
        Ok(())
    }
}
