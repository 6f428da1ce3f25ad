//! How far a file was published: a small file beside it, while that is not done. It names the run, from which the idempotency keys
//! of the lines are made; the last line up to which all are done, and a hash of the file up to there; and which lines after it
//! are done.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Common;
use super::lines::hex;
use crate::exit::{Exit, Problem};

/// What the first line begins with: the form of the file.
const FORM: &str = "ensync-publish-1";

/// The largest such file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// What is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// All lines up to this one.
    pub(super) line: u64,
    /// The hash of the file up to there.
    pub(super) hash: String,
    /// Lines after it, and the hash of each.
    pub(super) above: BTreeMap<u64, String>,
}

/// The file.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Where the line begins that changes.
    begin: u64,
    /// Of this run: what its idempotency keys begin with.
    pub(super) run: String,
    pub(super) done: Option<Done>,
}

impl Journal {
    /// Where it is.
    pub(super) fn path(of: &Path) -> PathBuf {
        let mut name = of.as_os_str().to_owned();
        name.push(".ensync-progress");
        name.into()
    }

    /// Goes on with what is there, or begins.
    pub(super) fn open(of: &Path, common: &Common, key: Option<&str>) -> Result<Self, Problem> {
        let path = Self::path(of);
        let shown = path.display();
        let failed = |cause: io::Error| {
            Problem::new(Exit::Output, format!("how far it came cannot be kept in {shown}: {cause}"))
        };
        let purpose = purpose(common, key);
        let mut options = OpenOptions::new();
        match options.read(true).write(true).open(&path) {
            Ok(mut file) => {
                let mut text = String::new();
                (&mut file).take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
                let (run, of, done) = parse(&text).ok_or_else(|| {
                    Problem::new(
                        Exit::Conflict,
                        format!("{shown} does not say how far it came; remove it to begin anew"),
                    )
                })?;
                if of != purpose {
                    let text = format!(
                        "{shown} is of another command: another event name, other recipients or another key; \
                         repeat that one, or remove the file to begin anew"
                    );
                    return Err(Problem::new(Exit::Conflict, text));
                }
                let begin = head(&purpose, &run).len() as u64;
                Ok(Self { path, file, begin, run, done })
            }
            Err(cause) if cause.kind() == ErrorKind::NotFound => {
                let run = match key {
                    Some(key) => key.to_owned(),
                    None => random().map_err(failed)?,
                };
                let mut file = options.create_new(true).open(&path).map_err(failed)?;
                let begin = head(&purpose, &run);
                // Its keys are of no use to whoever does not find them again.
                file.write_all(begin.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
                Ok(Self { path, file, begin: begin.len() as u64, run, done: None })
            }
            Err(cause) => Err(failed(cause)),
        }
    }

    /// So much is done.
    pub(super) fn write(&mut self, done: &Done) -> Result<(), Problem> {
        let text = done.text();
        let written = self.file.seek(SeekFrom::Start(self.begin)).and_then(|_| self.file.write_all(text.as_bytes()));
        let written = written.and_then(|()| self.file.set_len(self.begin + text.len() as u64));
        let shown = self.path.display();
        written.map_err(|cause| {
            Problem::new(
                Exit::Output,
                format!("how far it came cannot be kept in {shown}: {cause}; all up to line {} is done", done.line),
            )
        })
    }

    /// Nothing is left to do.
    pub(super) fn remove(self) -> Result<(), Problem> {
        let shown = self.path.display();
        std::fs::remove_file(&self.path).map_err(|cause| {
            Problem::new(Exit::Output, format!("all of it is published, but {shown} cannot be removed: {cause}"))
        })
    }
}

fn head(purpose: &str, run: &str) -> String {
    format!("{FORM} {purpose} {run}\n")
}

/// What a command publishes, for whom and under which keys: somebody else's progress says nothing of it.
fn purpose(common: &Common, key: Option<&str>) -> String {
    let mut to: Vec<_> = common.to.iter().map(ToString::to_string).collect();
    to.sort();
    let text = format!("{}\n{}\n{}", common.event, to.join("\n"), key.unwrap_or_default());
    hex(&Sha256::digest(text), 16)
}

impl Done {
    fn text(&self) -> String {
        let above: Vec<_> = self.above.iter().map(|(line, hash)| format!("{line}:{hash}")).collect();
        format!("{} {} {}\n", self.line, if self.hash.is_empty() { "-" } else { &self.hash }, above.join(","))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (line, hash) = (words.next()?.parse().ok()?, words.next()?.trim_matches('-').to_owned());
        let above = words.next()?.split(',').filter(|one| !one.is_empty()).map(|one| {
            let (line, hash) = one.split_once(':')?;
            Some((line.parse().ok()?, hash.to_owned()))
        });
        Some(Self { line, hash, above: above.collect::<Option<_>>()? })
    }
}

/// The run, what it is of, and what is done.
type Written = (String, String, Option<Done>);

fn parse(text: &str) -> Option<Written> {
    let (head, rest) = text.split_once('\n')?;
    let (of, run) = head.strip_prefix(FORM)?.strip_prefix(' ')?.split_once(' ')?;
    let done = match rest.split_once('\n') {
        // Nothing was done, or the line was being written.
        None => None,
        Some((line, _)) => Some(Done::parse(line)?),
    };
    Some((run.to_owned(), of.to_owned(), done))
}

pub(super) fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|cause| io::Error::other(cause.to_string()))?;
    Ok(hex(&bytes, 16))
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

    #[test]
    fn it_goes_on_with_the_same_keys_from_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.ndjson");
        let mut journal = Journal::open(&file, &common("a"), None).unwrap();
        let run = journal.run.clone();
        assert_eq!((run.len(), journal.done.clone()), (32, None));
        let again = Journal::open(&file, &common("a"), None).unwrap();
        assert_eq!((again.run, again.done), (run.clone(), None));
        let above = [(12, "e".to_owned()), (14, "f".to_owned())].into();
        let many = Done { line: 9, hash: "ab".to_owned(), above };
        let few = Done { line: 10, hash: "cd".to_owned(), ..Done::default() };
        for done in [many.clone(), Done::default(), few, many.clone()] {
            journal.write(&done).unwrap();
            assert_eq!(Journal::open(&file, &common("a"), None).unwrap().done, Some(done));
        }
        let again = Journal::open(&file, &common("a"), None).unwrap();
        assert_eq!((again.run, again.done), (run, Some(many)));
        for (other, key) in [(common("b"), None), (common("a"), Some("k"))] {
            let error = Journal::open(&file, &other, key).err().unwrap().to_string();
            assert!(error.contains("another command"), "{error}");
        }
        journal.remove().unwrap();
        assert_eq!(Journal::open(&file, &common("a"), Some("k")).unwrap().run, "k");
        std::fs::write(Journal::path(&file), "rubbish").unwrap();
        let error = Journal::open(&file, &common("a"), None).err().unwrap().to_string();
        assert!(error.contains("remove it to begin anew"), "{error}");
    }
}
