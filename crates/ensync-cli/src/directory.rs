//! Data directories, as commands find them that are no engine: what is there, and which sort of failure something is.

use std::error::Error as StdError;
use std::io::{self, ErrorKind as Io};
use std::path::Path;

use ensync_sdk::core::report;
use ensync_sdk::{Error, ErrorKind};

use crate::exit::{Exit, Problem};

/// What a directory holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// An engine's data, or a part of it: who opens that says what is wrong.
    Log,
    /// Nothing, or what an engine makes before its log.
    Nothing,
    /// Something else.
    Other,
}

/// Files that an engine has beside its log.
const BESIDE: [&str; 4] = ["lock", "store.unfinished", "admin.token", "admin-read.token"];

/// Looks what a directory holds, which has to be there. Nothing is made in it.
pub(crate) fn contents(path: &Path) -> Result<Contents, Problem> {
    let entries = std::fs::read_dir(path).map_err(|cause| unusable(path, &cause))?;
    let (mut contents, mut folders) = (Contents::Nothing, Vec::new());
    for entry in entries {
        let entry = entry.map_err(|cause| unusable(path, &cause))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_log(&name) || name == "store" || name == "store.copying" {
            return Ok(Contents::Log);
        }
        if !BESIDE.contains(&&*name) {
            contents = Contents::Other;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && (name == "registry" || name.starts_with("partition-")) {
            folders.push(entry.path());
        }
    }
    let in_folder = |path: &Path| {
        let mut names = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.any(|name| is_log(&name.to_string_lossy()))
    };
    if folders.iter().any(|path| in_folder(path)) { Ok(Contents::Log) } else { Ok(contents) }
}

/// Whether a file is a part of a log, by its name.
fn is_log(name: &str) -> bool {
    name.strip_suffix(".log")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// That a directory holds no data of an engine, and is left as it is.
pub(crate) fn no_log(path: &Path) -> Problem {
    let shown = path.display();
    Problem::usage(format!("the directory {shown} holds no log of an engine; is it the data directory?"))
}

/// Refuses a directory that is not there, or is none.
pub(crate) fn check(path: &Path) -> Result<std::fs::Metadata, Problem> {
    let about = std::fs::metadata(path).map_err(|cause| unusable(path, &cause))?;
    if about.is_dir() {
        Ok(about)
    } else {
        Err(Problem::usage(format!("{} is a file, and no directory", path.display())))
    }
}

fn unusable(path: &Path, cause: &io::Error) -> Problem {
    let shown = path.display();
    let hint = match cause.kind() {
        Io::NotFound => format!("; `ensync serve --data {}` would make it", crate::shell::word(&shown.to_string())),
        _ => String::new(),
    };
    Problem::usage(format!("cannot use the data directory {shown}: {cause}{hint}"))
}

/// What went wrong with a directory, as the exit code that says whose turn it is: one that another program uses is a conflict, and what
/// the operating system refuses will be refused the next time too.
pub(crate) fn problem(error: &Error) -> Problem {
    let said = report(error);
    match (error.kind(), cause(error)) {
        (ErrorKind::Unavailable, _) if said.contains("is in use by another engine") => {
            Problem::new(Exit::Conflict, said)
        }
        (_, Some(Io::NotFound | Io::NotADirectory | Io::IsADirectory | Io::PermissionDenied)) => Problem::usage(said),
        (_, Some(Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge | Io::ReadOnlyFilesystem)) => {
            Problem::new(Exit::Output, said)
        }
        _ => Problem::of(error),
    }
}

/// What the operating system said.
fn cause(error: &Error) -> Option<Io> {
    let mut next = StdError::source(error);
    while let Some(cause) = next {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            return Some(cause.kind());
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_directory_holds_is_told_from_outside() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path();
        assert_eq!(contents(path).unwrap(), Contents::Nothing);
        std::fs::write(path.join("lock"), "").unwrap();
        std::fs::write(path.join("store.unfinished"), "").unwrap();
        assert_eq!(contents(path).unwrap(), Contents::Nothing);
        std::fs::write(path.join("store.copying"), "").unwrap();
        assert_eq!(contents(path).unwrap(), Contents::Log);
        std::fs::remove_file(path.join("store.copying")).unwrap();
        std::fs::write(path.join("photo.png"), "").unwrap();
        std::fs::write(path.join("other.log"), "").unwrap();
        assert_eq!(contents(path).unwrap(), Contents::Other);
        std::fs::create_dir(path.join("registry")).unwrap();
        assert_eq!(contents(path).unwrap(), Contents::Other);
        std::fs::write(path.join("registry/0000000001.log"), "").unwrap();
        assert_eq!(contents(path).unwrap(), Contents::Log);
        std::fs::remove_dir_all(path.join("registry")).unwrap();
        std::fs::write(path.join("0000000001.log"), "").unwrap();
        assert_eq!(contents(path).unwrap(), Contents::Log);
        assert!(contents(&path.join("photo.png")).is_err() && check(&path.join("photo.png")).is_err());
        assert!(check(&path.join("nothing")).unwrap_err().to_string().contains("would make it"));
    }

    #[test]
    fn whose_turn_it_is_is_in_the_exit_code() {
        let exit = |error: Error| crate::exit::told(&problem(&error)).0;
        let unavailable = |text: &'static str| Error::new(ErrorKind::Unavailable, text);
        let of = |kind: Io| unavailable("cannot open x").with_source(io::Error::from(kind));
        assert_eq!(
            exit(unavailable("the data directory x is in use by another engine; stop it first")),
            Exit::Conflict
        );
        assert_eq!((exit(of(Io::NotFound)), exit(of(Io::PermissionDenied))), (Exit::Usage, Exit::Usage));
        assert_eq!((exit(of(Io::StorageFull)), exit(of(Io::Interrupted))), (Exit::Output, Exit::Unreachable));
        assert_eq!(exit(unavailable("the engine changes what is copied")), Exit::Unreachable);
        assert_eq!(exit(Error::new(ErrorKind::InvalidInput, "x holds no log")), Exit::Usage);
    }
}
