//! `ensync doctor`.

mod data;
mod network;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::Outcome;
use crate::connection::{Connection, Secret};
use crate::exit::{Exit, Problem};
use crate::foreign;
use crate::output::Output;

/// Try what stands between this machine and an engine, one thing after the other, and say what to do about what fails.
///
/// It looks at the address, the name, and each TCP address; with an app key also at both transports (with TLS, HTTP/2 and the WebSocket
/// upgrade), the login, and whether the secret key is the app's. With --event it sends the app an event of its own, receives it and compares the clocks.
/// With --data it looks at a data directory instead: its owner and rights, the space, whether an engine uses it.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ensync doctor grpcs://events.example.org\n  ensync doctor --event doctor/test --json\n  ensync doctor --data /var/lib/ensync"
)]
pub(crate) struct Doctor {
    /// The engine, instead of --url.
    #[arg(value_name = "URL")]
    engine: Option<String>,
    /// Also publish an event of this name to the app itself, and receive it. It has to be registered (`ensync event create NAME`). Take
    /// one that nobody uses: what else waits under it is taken for a moment, given back, and delivered once more.
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Look at this data directory, and not at a connection.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["engine", "event"])]
    data: Option<PathBuf>,
    #[command(flatten)]
    secret: Secret,
    #[command(flatten)]
    connection: Connection,
}

/// What came of a check.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    /// It works, but somebody should know.
    Warning,
    Failed,
    /// Something before it failed, or is missing.
    Skipped,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        }
    }
}

/// What was found, told as it is found.
struct Findings {
    out: Output,
    all: Vec<Value>,
    failed: usize,
}

impl Findings {
    fn add(&mut self, check: &str, status: Status, message: impl AsRef<str>) -> Outcome {
        let message = foreign::message(message.as_ref()).replace('\n', "; ");
        self.failed += usize::from(status == Status::Failed);
        if !self.out.json {
            self.out.line(format_args!("{:<8} {check:<14} {message}", status.word()))?;
        }
        self.all.push(json!({"check": check, "status": status.word().to_lowercase(), "message": message}));
        Ok(())
    }
}

impl Doctor {
    pub(crate) async fn run(mut self, out: Output) -> Outcome {
        let is_argument = self.engine.is_some();
        if let Some(url) = self.engine.take() {
            self.connection.point_at(url);
        }
        let mut findings = Findings { out, all: Vec::new(), failed: 0 };
        match &self.data {
            Some(path) => data::look(path, &mut findings)?,
            None => network::look(&self, is_argument, &mut findings).await?,
        }
        let (failed, all) = (findings.failed, findings.all.len());
        if out.json {
            out.value(&json!({"ok": failed == 0, "findings": findings.all}))?;
        }
        match failed {
            0 => Ok(()),
            failed => Err(Problem::new(Exit::Failed, format!("{failed} of {all} checks failed")).into()),
        }
    }
}
