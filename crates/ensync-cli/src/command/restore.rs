use std::path::PathBuf;

use clap::Args;
use ensync_engine::store;

use super::Outcome;
use super::store::print_summary;

/// Put a backup into a data directory.
#[derive(Args)]
pub(crate) struct Restore {
    /// The backup.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The data directory: empty, or not there.
    #[arg(long, value_name = "DIR", env = "ENSYNC_DATA")]
    data: PathBuf,
}

impl Restore {
    pub(crate) async fn run(self) -> Outcome {
        let restored = store::restore(&self.from, &self.data).await?;
        print_summary(&restored.report);
        println!("restored to {}; what was accepted after the backup is not there", self.data.display());
        Ok(())
    }
}
