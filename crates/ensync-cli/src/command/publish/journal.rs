//! How far a file was published: a small file beside it, while that is not done. It is written anew each time, synced, and put in the
//! place of the one before, so that there is always a whole one. It names the run, from which the idempotency keys of the lines are
//! made, and the command that it is of, for the same lines under another command are other events.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use ensync_sdk::core::read_json;
use serde_json::{Value, json};

use super::Common;
use super::ledger::{Noted, Standing};
use super::lines::{from_hex, hex};
use crate::exit::{Exit, Problem};

/// The form of the file.
const FORM: &str = "ensync-publish-2";
/// The largest such file that is read, in bytes. The longest that is written is much smaller.
const MAX_FILE: u64 = 16 << 20;

/// What a command publishes where, for whom and how: by field, as a person would name it.
pub(super) type Purpose = BTreeMap<&'static str, String>;

/// The file.
pub(super) struct Journal {
    path: PathBuf,
    purpose: Purpose,
    /// What the idempotency keys of the lines begin with.
    pub(super) run: String,
}

impl Journal {
    /// Where it is.
    pub(super) fn path(of: &Path) -> PathBuf {
        let mut name = of.as_os_str().to_owned();
        name.push(".ensync-progress");
        name.into()
    }

    /// Reads what is there, or begins. Nothing is written by that.
    pub(super) fn open(of: &Path, purpose: Purpose, key: Option<&str>) -> Result<(Self, Noted), Problem> {
        let path = Self::path(of);
        let shown = path.display();
        let text = match read(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == ErrorKind::NotFound => {
                let run = match key {
                    Some(key) => key.to_owned(),
                    None => random().map_err(|cause| Problem::new(Exit::Failed, cause.to_string()))?,
                };
                return Ok((Self { path, purpose, run }, Noted::default()));
            }
            Err(cause) => {
                return Err(Problem::new(Exit::Output, format!("how far it came cannot be read in {shown}: {cause}")));
            }
        };
        // Never taken for "nothing was done": then all of it would be published again.
        let (run, of, noted) = parse(&text).ok_or_else(|| {
            let text = format!(
                "{shown} does not say how far it came; look which lines arrived, and remove it to publish the whole file anew"
            );
            Problem::new(Exit::Conflict, text)
        })?;
        let differs: Vec<_> =
            purpose.iter().filter(|(field, value)| of.get(**field) != Some(*value)).map(|(field, _)| *field).collect();
        if !differs.is_empty() {
            let text = format!(
                "{shown} is of another command ({}): part of the file was published by that; repeat that one, or remove {shown} to \
                 publish all of the file with this one",
                differs.join(", ")
            );
            return Err(Problem::new(Exit::Conflict, text));
        }
        Ok((Self { path, purpose, run }, noted))
    }

    /// So much is known.
    pub(super) fn write(&self, noted: &Noted) -> Result<(), Problem> {
        let text = text(&self.run, &self.purpose, noted);
        let shown = self.path.display();
        replace(&self.path, text.as_bytes())
            .map_err(|cause| Problem::new(Exit::Output, format!("how far it came cannot be kept in {shown}: {cause}")))
    }

    /// There is nothing to go on with.
    pub(super) fn remove(&self) -> Result<(), Problem> {
        match std::fs::remove_file(&self.path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                let shown = self.path.display();
                let text = format!("nothing is left to do, but {shown} cannot be removed: {cause}");
                Err(Problem::new(Exit::Output, text))
            }
            _ => Ok(()),
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// Puts a new file in a place, whole and on the disk. Only its owner may read it.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // One that a run left which was killed meanwhile.
    _ = std::fs::remove_file(&new);
    let written = options.open(&new).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_data()
    });
    written.and_then(|()| std::fs::rename(&new, path)).inspect_err(|_| _ = std::fs::remove_file(&new))?;
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        // Without it the old one could be there again after the power failed.
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// What a command publishes. Somebody else's progress says nothing of it.
pub(super) fn purpose(common: &Common, key: Option<&str>, engine: String, sender: String) -> Purpose {
    let mut to: Vec<_> = common.to.iter().map(ToString::to_string).collect();
    to.sort();
    let mut headers = common.headers.clone();
    headers.sort();
    let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Purpose::from([
        ("another engine", engine),
        ("another sender", sender),
        ("another event name", common.event.clone()),
        ("other recipients", to.join(" ")),
        ("other headers", headers.join("\n")),
        ("another suite", common.suite.to_string()),
        ("another --sign", common.sign.to_string()),
        ("another --persist", common.persist.to_string()),
        ("another --idempotency-key", key.unwrap_or_default().to_owned()),
    ])
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Done => "done",
        Standing::Not => "not",
        Standing::Unsure => "unsure",
    }
}

fn text(run: &str, purpose: &Purpose, noted: &Noted) -> String {
    let apart =
        noted.apart.iter().map(|(line, (own, standing))| (line.to_string(), json!([hex(own), word(*standing)])));
    let value = json!({
        "form": FORM,
        "run": run,
        "command": purpose,
        "line": noted.line,
        "chain": hex(&noted.chain),
        "begun": noted.begun,
        "since": noted.since,
        "published": noted.published,
        "apart": Value::Object(apart.collect()),
    });
    format!("{value}\n")
}

/// The run, what it is of, and what is known.
type Written = (String, BTreeMap<String, String>, Noted);

fn parse(text: &str) -> Option<Written> {
    let read = read_json("the journal", text.as_bytes()).ok()?;
    let number = |name: &str| read.get(name).and_then(Value::as_u64);
    if read.get("form").and_then(Value::as_str) != Some(FORM) {
        return None;
    }
    let command = read.get("command")?.as_object()?.iter();
    let command = command.map(|(field, value)| Some((field.clone(), value.as_str()?.to_owned())));
    let apart = read.get("apart")?.as_object()?.iter().map(|(line, known)| {
        let (own, standing) = (known.get(0)?.as_str()?, known.get(1)?.as_str()?);
        let standing =
            [Standing::Done, Standing::Not, Standing::Unsure].into_iter().find(|known| word(*known) == standing)?;
        Some((line.parse().ok()?, (from_hex(own)?, standing)))
    });
    let noted = Noted {
        line: number("line")?,
        chain: from_hex(read.get("chain")?.as_str()?)?,
        begun: number("begun")?,
        since: number("since"),
        published: number("published")?,
        apart: apart.collect::<Option<_>>()?,
    };
    Some((read.get("run")?.as_str()?.to_owned(), command.collect::<Option<_>>()?, noted))
}

pub(super) fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|cause| io::Error::other(cause.to_string()))?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ensync_sdk::Suite;

    use super::*;

    fn common(event: &str) -> Common {
        let (to, headers) = (Vec::new(), Vec::new());
        let (sign, timeout, persist) = (false, Duration::from_secs(1), true);
        Common { event: event.to_owned(), to, headers, suite: Suite::Nacl, sign, timeout, persist }
    }

    fn of(event: &str) -> Purpose {
        purpose(&common(event), None, "ws://h".to_owned(), "app".to_owned())
    }

    fn noted() -> Noted {
        let apart = (1..200).map(|line| (line * 3, ([u8::try_from(line).unwrap(); 16], Standing::Done)));
        let mut noted =
            Noted { line: 2, chain: [7; 32], begun: 900, since: Some(12), published: 5, apart: apart.collect() };
        noted.apart.insert(1, ([1; 16], Standing::Not));
        noted.apart.insert(2, ([2; 16], Standing::Unsure));
        noted
    }

    #[test]
    fn it_goes_on_with_the_same_keys_from_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.ndjson");
        let (journal, nothing) = Journal::open(&file, of("a"), None).unwrap();
        assert_eq!((journal.run.len(), nothing), (32, Noted::default()));
        assert!(!Journal::path(&file).exists(), "nothing was done");
        journal.write(&noted()).unwrap();
        let (again, read) = Journal::open(&file, of("a"), None).unwrap();
        assert_eq!((again.run, read), (journal.run.clone(), noted()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(Journal::path(&file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "hashes of short payloads can be guessed");
        }
        journal.remove().unwrap();
        journal.remove().unwrap();
        assert_eq!(Journal::open(&file, of("a"), Some("k")).unwrap().0.run, "k");
    }

    #[test]
    fn what_it_is_of_is_compared_field_by_field() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.ndjson");
        Journal::open(&file, of("a"), None).unwrap().0.write(&noted()).unwrap();
        let other = |change: &dyn Fn(&mut Common)| {
            let mut common = common("a");
            change(&mut common);
            purpose(&common, None, "ws://h".to_owned(), "app".to_owned())
        };
        for (purpose, part) in [
            (of("b"), "another event name"),
            (purpose(&common("a"), Some("k"), "ws://h".into(), "app".into()), "another --idempotency-key"),
            (purpose(&common("a"), None, "ws://other".into(), "app".into()), "another engine"),
            (purpose(&common("a"), None, "ws://h".into(), "other".into()), "another sender"),
            (other(&|common| common.persist = false), "another --persist"),
            (other(&|common| common.sign = true), "another --sign"),
            (other(&|common| common.suite = Suite::Aes256Gcm), "another suite"),
            (other(&|common| common.headers.push(("a".into(), "1".into()))), "other headers"),
        ] {
            let error = Journal::open(&file, purpose, None).err().unwrap().to_string();
            assert!(error.contains("another command") && error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_not_whole_never_says_that_nothing_was_done() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.ndjson");
        Journal::open(&file, of("a"), None).unwrap().0.write(&noted()).unwrap();
        let path = Journal::path(&file);
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.len() > 8_192, "more than two pages");
        for length in (0..whole.len() - 1).step_by(7).chain([whole.len() - 2]) {
            std::fs::write(&path, whole.get(..length).unwrap()).unwrap();
            let error = Journal::open(&file, of("a"), None).err().unwrap().to_string();
            assert!(error.contains("does not say how far it came"), "{length}: {error}");
        }
        std::fs::write(&path, vec![0; whole.len()]).unwrap();
        assert!(Journal::open(&file, of("a"), None).is_err());
    }

    #[test]
    fn one_that_cannot_be_written_leaves_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.ndjson");
        let (journal, _) = Journal::open(&file, of("a"), None).unwrap();
        journal.write(&noted()).unwrap();
        let mut new = Journal::path(&file).into_os_string();
        new.push(".new");
        // What is left of a run that was killed while it wrote is in nobody's way.
        std::fs::write(&new, "half").unwrap();
        journal.write(&noted()).unwrap();
        std::fs::create_dir(&new).unwrap();
        let error = journal.write(&Noted::default()).unwrap_err().to_string();
        assert!(error.contains("cannot be kept"), "{error}");
        assert_eq!(Journal::open(&file, of("a"), None).unwrap().1, noted());
    }
}
