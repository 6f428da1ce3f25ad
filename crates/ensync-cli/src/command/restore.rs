use std::path::PathBuf;

use clap::Args;
use ensync_engine::store;
use serde_json::json;

use super::Outcome;
use super::store::{figures, summary};
use crate::directory;
use crate::output::Output;

/// Put a backup into a data directory.
#[derive(Args)]
#[command(after_help = "Examples:\n  ensync restore --from /backup/monday --data /var/lib/ensync")]
pub(crate) struct Restore {
    /// The backup.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The data directory: empty, or not there.
    #[arg(long, value_name = "DIR", env = "ENSYNC_DATA")]
    data: PathBuf,
}

impl Restore {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        directory::check(&self.from)?;
        let restored = store::restore(&self.from, &self.data).await.map_err(|error| directory::problem(&error))?;
        let data = self.data.display();
        let value = || json!({"data": data.to_string(), "contents": figures(&restored.report)});
        let text = || {
            let mut lines = summary(&restored.report);
            lines.push(format!("restored to {data}; what was accepted after the backup is not there"));
            lines.join("\n")
        };
        out.either(value, text)
    }
}
