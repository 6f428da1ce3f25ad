use std::path::PathBuf;

use clap::{Args, Subcommand};
use ensync_engine::store::{self, Assessment, Damage, FileReport, LostEvents, Report};
use serde_json::{Value, json};

use super::Outcome;
use crate::directory;
use crate::output::{Output, plural};

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
#[command(after_help = "Examples:\n  ensync store verify --data /var/lib/ensync")]
struct Verify {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "ENSYNC_DATA")]
    data: PathBuf,
}

/// Say what of a damaged data directory is lost; with --apply, go on without it. Files that are replaced are kept in a folder
/// beside them.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ensync store repair --data /var/lib/ensync\n  ensync store repair --data /var/lib/ensync --apply"
)]
struct Repair {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "ENSYNC_DATA")]
    data: PathBuf,
    /// Do it. Without this, nothing is changed.
    #[arg(long)]
    apply: bool,
}

impl Store {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        match self.what {
            What::Verify(verify) => verify.run(out).await,
            What::Repair(repair) => repair.run(out).await,
        }
    }
}

impl Verify {
    async fn run(self, out: Output) -> Outcome {
        directory::check(&self.data)?;
        let report = store::verify(&self.data).await.map_err(|error| directory::problem(&error))?;
        let value = || {
            let file = |file: &FileReport| json!({"name": file.name, "bytes": file.bytes, "contents": file.contents.to_string()});
            json!({
                "files": report.files.iter().map(file).collect::<Vec<_>>(),
                "damage": damage(&report.damage),
                "contents": figures(&report),
            })
        };
        let text = || {
            let file = |file: &FileReport| format!("{:<44} {:>12} bytes  {}", file.name, file.bytes, file.contents);
            let mut lines: Vec<_> = report.files.iter().map(file).collect();
            lines.extend(summary(&report));
            lines.extend(report.damage.iter().map(|damage| format!("DAMAGED: {damage}")));
            lines.join("\n")
        };
        out.either(value, text)?;
        if report.damage.is_empty() {
            return Ok(());
        }
        let data = self.data.display().to_string();
        let typed = crate::shell::word(&data);
        Err(format!("{data} is damaged; `ensync store repair --data {typed}` says what is lost").into())
    }
}

impl Repair {
    async fn run(self, out: Output) -> Outcome {
        directory::check(&self.data)?;
        let found = if self.apply { store::repair(&self.data).await } else { store::assess(&self.data).await };
        let found = found.map_err(|error| directory::problem(&error))?;
        let repaired = self.apply && !found.damage.is_empty();
        let value = || {
            let lost = |queue: &LostEvents| {
                json!({
                    "event": queue.event.as_str(),
                    "recipient": queue.recipient.to_string(),
                    "waiting": queue.waiting,
                    "perhaps": queue.perhaps,
                })
            };
            json!({
                "damage": damage(&found.damage),
                "records": found.records,
                "events": found.events.iter().map(lost).collect::<Vec<_>>(),
                "settlements": found.settlements,
                "beginning": found.beginning,
                "repaired": repaired,
                "kept": found.kept.iter().map(|kept| kept.display().to_string()).collect::<Vec<_>>(),
            })
        };
        let text = || {
            if found.damage.is_empty() {
                return "nothing is damaged".to_owned();
            }
            let mut lines = assessment(&found);
            let kept: Vec<_> = found.kept.iter().map(|kept| kept.display().to_string()).collect();
            lines.push(match (kept.is_empty(), self.apply) {
                (_, false) => "nothing was changed; do it with --apply".to_owned(),
                (true, true) => "repaired".to_owned(),
                (false, true) => format!("repaired; what was replaced is in {}", kept.join(", ")),
            });
            lines.join("\n")
        };
        out.either(value, text)
    }
}

/// The figures of a report, for programs.
pub(super) fn figures(report: &Report) -> Value {
    json!({
        "records": report.records,
        "commits": report.commits,
        "bytes": report.bytes,
        "unsettled": report.unsettled,
        "dead": report.dead,
        "checkpoints_compared": report.compared,
        "unfinished": report.unfinished.iter().map(|(file, bytes)| json!({"file": file, "bytes": bytes})).collect::<Vec<_>>(),
    })
}

fn damage(damage: &[Damage]) -> Vec<Value> {
    let one = |damage: &Damage| json!({"file": damage.file, "range": damage.range, "what": damage.what});
    damage.iter().map(one).collect()
}

/// The figures of a report, for people.
pub(super) fn summary(report: &Report) -> Vec<String> {
    let unfinished = report.unfinished.iter().map(|(file, bytes)| {
        format!("{file} ends with {bytes} bytes of a commit that was not finished; the next start removes them")
    });
    let figures = format!(
        "{} in {}, {}; {}, {}; {} compared with the log",
        plural(report.records, "record", "records"),
        plural(report.commits, "commit", "commits"),
        plural(report.bytes, "byte", "bytes"),
        plural(report.unsettled, "unsettled event", "unsettled events"),
        plural(report.dead, "dead letter", "dead letters"),
        plural(report.compared as u64, "checkpoint", "checkpoints"),
    );
    unfinished.chain([figures]).collect()
}

fn assessment(found: &Assessment) -> Vec<String> {
    let mut lines: Vec<_> = found.damage.iter().map(|damage| format!("DAMAGED: {damage}")).collect();
    for (file, bytes) in &found.unfinished {
        lines.push(format!("{file} ends with {bytes} bytes of a commit that was not finished, which is no loss"));
    }
    lines.push(match found.records {
        Some(records) => format!("lost: {}", plural(records, "record", "records")),
        None => "lost: records whose number cannot be told".to_owned(),
    });
    for queue in &found.events {
        let perhaps = if queue.perhaps > 0 { format!(", and at most {} more", queue.perhaps) } else { String::new() };
        let (event, recipient, waiting) = (&queue.event, &queue.recipient, queue.waiting);
        let waiting = plural(waiting, "event that waits", "events that wait");
        lines.push(format!("lost: of {event} for {recipient}: {waiting}{perhaps}"));
    }
    if found.settlements {
        let text = "acknowledgements, defers and discards in the lost part are forgotten: their events come again";
        lines.push(text.to_owned());
    }
    if found.beginning {
        lines.push("lost: all that was known before the first file (in the registry apps and event names, in a partition events)".to_owned());
    }
    lines
}
