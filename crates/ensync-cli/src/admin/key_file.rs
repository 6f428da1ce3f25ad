//! Where keys go.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::exit::{Exit, Problem};
use crate::output::{Failure, Output, note};

/// Milliseconds since the Unix epoch, for people.
pub(crate) fn time(value: Option<&Value>) -> String {
    let at = value.and_then(Value::as_u64).and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    let mut text = String::new();
    // Years of more than four digits cannot be written.
    match at.map(|at| write!(text, "{}", humantime::format_rfc3339_seconds(at))) {
        Some(Ok(())) => text,
        _ => "-".to_owned(),
    }
}

/// A new file for keys, which only its owner may read. It is made before anything is asked for: keys that are shown once must not
/// be lost to a directory that cannot be written.
pub(crate) struct KeyFile {
    path: PathBuf,
    /// `None` when the keys are in it.
    file: Option<File>,
}

impl KeyFile {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => {
                let text = format!("{} is there already, and may hold keys; give another name", path.display());
                Problem::new(Exit::Conflict, text)
            }
            _ => Problem::new(Exit::Output, format!("cannot make {}: {cause}", path.display())),
        })?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes lines, and says where.
    pub(crate) fn write(mut self, lines: &Zeroizing<String>, out: Output) -> Result<(), Failure> {
        if let Some(mut file) = self.file.take() {
            let written = file.write_all(lines.as_bytes()).and_then(|()| file.sync_all());
            if let Err(cause) = written {
                // They exist, and would be lost.
                out.raw(lines.as_bytes())?;
                let text = format!("cannot write {}: {cause}; the keys are printed above", self.path.display());
                return Err(Problem::new(Exit::Output, text).into());
            }
        }
        note(format_args!("the keys are in {}", self.path.display()));
        Ok(())
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_by_people() {
        assert_eq!(time(Some(&1_700_000_000_123_u64.into())), "2023-11-14T22:13:20Z");
        assert_eq!((time(None), time(Some(&Value::Null))), ("-".to_owned(), "-".to_owned()));
        for far in [u64::MAX, 253_402_300_800_000] {
            assert_eq!(time(Some(&far.into())), "-");
        }
    }

    #[test]
    fn a_key_file_is_new_and_the_owners() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.env");
        drop(KeyFile::create(&path).unwrap());
        assert!(!path.exists(), "nothing was asked for");
        KeyFile::create(&path).unwrap().write(&Zeroizing::new("A=1\n".to_owned()), Output { json: false }).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "A=1\n");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let error = KeyFile::create(&path).err().unwrap().to_string();
        assert!(error.contains("there already"), "{error}");
    }
}
