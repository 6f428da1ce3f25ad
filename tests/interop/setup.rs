//! The published clients on this machine, or why they cannot be there.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::OnceCell;

/// How long getting them may take, the first time.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where the clients are, each in a directory of its own. `None`, with a line to standard error, where this machine cannot have
/// them; that fails the test instead if the environment variable `ENSYNC_INTEROP` is `required`.
pub async fn clients() -> Option<&'static Path> {
    static CLIENTS: OnceCell<Result<PathBuf, String>> = OnceCell::const_new();
    match CLIENTS.get_or_init(set_up).await {
        Ok(clients) => Some(clients),
        Err(reason) => {
            assert!(!required(), "the published clients are required: {reason}");
            None
        }
    }
}

/// The program that makes envelopes in the Go client's form. `None`, with a line to standard error, where this machine cannot build
/// it; that fails the test instead if the clients are required.
pub fn envelopes(clients: &Path) -> Option<PathBuf> {
    let program = clients.join("envelopes/envelopes");
    if program.exists() {
        return Some(program);
    }
    let reason = std::fs::read_to_string(clients.join("envelopes/why-not")).unwrap_or_default();
    assert!(!required(), "the program that makes Go's envelopes is required: {reason}");
    skipped(&format!("the program that makes Go's envelopes is not here: {}", reason.trim()));
    None
}

fn required() -> bool {
    std::env::var("ENSYNC_INTEROP").is_ok_and(|value| value == "required")
}

/// Not with eprintln, which the test harness would keep to itself.
fn skipped(reason: &str) {
    _ = std::io::stderr().write_all(format!("\nskipped, {reason}\n").as_bytes());
}

async fn set_up() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    run_script(target).await.map(|()| target.join("interop")).inspect_err(|reason| {
        skipped(&format!("the published clients are not here: {reason}"));
    })
}

async fn run_script(target: &Path) -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/setup");
    let mut command = Command::new(&script);
    command.env("CARGO_TARGET_DIR", target).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.map_err(|_| "getting them took too long; is the network slow?".to_owned())?;
    let Output { status, stderr, .. } = output.map_err(|cause| format!("the script does not run here: {cause}"))?;
    let said = String::from_utf8_lossy(&stderr);
    match status.code() {
        Some(0) => Ok(()),
        Some(3) => Err(said.lines().last().unwrap_or_default().to_owned()),
        _ => panic!("{} failed:\n{said}", script.display()),
    }
}
