use std::path::PathBuf;

use clap::{Args, Subcommand};
use ensync_engine::store::{self, Assessment, Report};

use super::Outcome;

/// Check or repair a data directory that no engine uses.
#[derive(Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Verify(Verify),
    Repair(Repair),
}

/// Read everything, and say what is there and whether it is as it was written. Changes nothing; fails if something is damaged.
#[derive(Args)]
struct Verify {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "ENSYNC_DATA")]
    data: PathBuf,
}

/// Say what of a damaged data directory is lost; with --apply, go on without it. Files that are replaced are kept in a folder
/// beside them.
#[derive(Args)]
struct Repair {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "ENSYNC_DATA")]
    data: PathBuf,
    /// Do it. Without this, nothing is changed.
    #[arg(long)]
    apply: bool,
}

impl Store {
    pub(crate) async fn run(self) -> Outcome {
        match self.what {
            What::Verify(verify) => verify.run().await,
            What::Repair(repair) => repair.run().await,
        }
    }
}

impl Verify {
    async fn run(self) -> Outcome {
        let report = store::verify(&self.data).await?;
        for file in &report.files {
            println!("{:<32} {:>12} bytes  {}", file.name, file.bytes, file.contents);
        }
        print_summary(&report);
        if report.damage.is_empty() {
            return Ok(());
        }
        for damage in &report.damage {
            println!("DAMAGED: {damage}");
        }
        let data = self.data.display();
        Err(format!("{data} is damaged; `ensync store repair --data {data}` says what is lost").into())
    }
}

impl Repair {
    async fn run(self) -> Outcome {
        let found = if self.apply { store::repair(&self.data).await? } else { store::assess(&self.data).await? };
        if found.damage.is_empty() {
            println!("nothing is damaged");
            return Ok(());
        }
        print_assessment(&found);
        match (&found.kept, self.apply) {
            (_, false) => println!("nothing was changed; do it with --apply"),
            (None, true) => println!("repaired"),
            (Some(kept), true) => println!("repaired; what was replaced is in {}", kept.display()),
        }
        Ok(())
    }
}

/// The figures of a report, on one line.
pub(super) fn print_summary(report: &Report) {
    if let Some((file, bytes)) = &report.unfinished {
        println!("{file} ends with {bytes} bytes of a commit that was not finished; the next start removes them");
    }
    println!(
        "{} records in {} commits, {} bytes; {} unsettled events, {} dead letters; {} checkpoints compared with the log",
        report.records, report.commits, report.bytes, report.unsettled, report.dead, report.compared
    );
}

fn print_assessment(found: &Assessment) {
    for damage in &found.damage {
        println!("DAMAGED: {damage}");
    }
    if let Some((file, bytes)) = &found.unfinished {
        println!("{file} ends with {bytes} bytes of a commit that was not finished, which is no loss");
    }
    match found.records {
        Some(records) => println!("lost: {records} records"),
        None => println!("lost: records whose number cannot be told"),
    }
    for queue in &found.events {
        let (waiting, perhaps) = (queue.waiting, queue.perhaps);
        print!("lost: of {} for {}: {waiting} events that wait", queue.event, queue.recipient);
        if perhaps > 0 {
            print!(", and at most {perhaps} more");
        }
        println!();
    }
    if found.settlements {
        println!("acknowledgements, defers and discards in the lost part are forgotten: their events come again");
    }
    if found.beginning {
        println!("lost: all that was known before the first file: apps, event names, events");
    }
}
