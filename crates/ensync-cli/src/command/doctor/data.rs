//! A data directory, as far as it can be looked at without reading what is in it.

use std::fs::{File, Metadata, TryLockError};
use std::path::Path;

use super::{Findings, Status};
use crate::command::Outcome;

/// Below this, an engine soon has no space for its next segments, in bytes.
const LITTLE_SPACE: u64 = 1 << 30;

pub(super) fn look(path: &Path, findings: &mut Findings) -> Outcome {
    let shown = path.display();
    let about = match std::fs::metadata(path) {
        Ok(about) if about.is_dir() => about,
        Ok(_) => return findings.add("directory", Status::Failed, format!("{shown} is no directory")),
        Err(cause) => {
            let typed = shown.to_string();
            let text = format!("{shown}: {cause}; `ensync serve --data {}` would make it", crate::shell::word(&typed));
            return findings.add("directory", Status::Failed, text);
        }
    };
    findings.add("directory", Status::Ok, shown.to_string())?;
    rights(path, &about, findings)?;
    space(path, findings)?;
    lock(path, findings)
}

#[cfg(unix)]
fn rights(path: &Path, about: &Metadata, findings: &mut Findings) -> Outcome {
    use std::os::unix::fs::MetadataExt;

    let (owner, user, mode) = (about.uid(), rustix::process::geteuid().as_raw(), about.mode() & 0o777);
    let shown = path.display();
    if owner != user && user != 0 {
        let text = format!("{shown} belongs to user {owner}, and this runs as {user}: look again as that user");
        return findings.add("rights", Status::Failed, text);
    }
    if mode & 0o077 != 0 {
        let text = format!(
            "others may look into it (mode {mode:o}); payloads are encrypted, names are not: `chmod 700 {shown}`"
        );
        return findings.add("rights", Status::Warning, text);
    }
    findings.add("rights", Status::Ok, format!("of user {owner} alone (mode {mode:o})"))
}

#[cfg(not(unix))]
fn rights(_: &Path, _: &Metadata, findings: &mut Findings) -> Outcome {
    findings.add("rights", Status::Skipped, "not looked at on this system")
}

#[cfg(unix)]
fn space(path: &Path, findings: &mut Findings) -> Outcome {
    let disk = match rustix::fs::statvfs(path) {
        Ok(disk) => disk,
        Err(cause) => return findings.add("space", Status::Failed, format!("cannot be told: {cause}")),
    };
    let (free, all) = (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize));
    let mib = |bytes: u64| bytes >> 20;
    let text = format!("{} of {} MiB are free", mib(free), mib(all));
    match free {
        0 => findings.add(
            "space",
            Status::Failed,
            format!("{text}: the engine refuses publishes; make space, it goes on by itself"),
        ),
        LITTLE_SPACE.. => findings.add("space", Status::Ok, text),
        _ => findings.add("space", Status::Warning, format!("{text}; see the manual's chapter on sizing")),
    }
}

#[cfg(not(unix))]
fn space(_: &Path, findings: &mut Findings) -> Outcome {
    findings.add("space", Status::Skipped, "not looked at on this system")
}

fn lock(path: &Path, findings: &mut Findings) -> Outcome {
    let used = match File::open(path.join("lock")) {
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(cause)) => return findings.add("lock", Status::Failed, cause.to_string()),
        },
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            return findings.add("lock", Status::Warning, "there is no lock file: no engine ever used this directory");
        }
        Err(cause) => return findings.add("lock", Status::Failed, cause.to_string()),
    };
    match used {
        true => findings.add("lock", Status::Ok, "an engine uses it"),
        false => findings.add("lock", Status::Ok, "no engine uses it; `ensync store verify` reads all that is in it"),
    }
}
