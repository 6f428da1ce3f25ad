//! Contexts: engines by name, with the keys for them, in a file that only its owner may read.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use ensync_sdk::core::read_json;
use serde::Serialize;
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use crate::exit::{Exit, Problem};
use crate::foreign::{redacted_strictly, trimmed};
use crate::output::{Failure, note};
use crate::variables;

/// What a context can say: the field, the variable that it stands for, and whether it is a secret, for which
/// `FIELD_command` may name a command that prints it.
pub(crate) const FIELDS: [(&str, &str, bool); 10] = [
    ("url", "ENSYNC_URL", false),
    ("ca", "ENSYNC_CA_FILE", false),
    ("client_cert", "ENSYNC_CLIENT_CERT", false),
    ("client_key", "ENSYNC_CLIENT_KEY", false),
    ("app_key", "ENSYNC_APP_KEY", true),
    ("secret_key", "ENSYNC_SECRET_KEY", true),
    ("admin_url", "ENSYNC_ADMIN_URL", false),
    ("admin_ca", "ENSYNC_ADMIN_CA_FILE", false),
    ("token_file", "ENSYNC_ADMIN_TOKEN_FILE", false),
    ("admin_token", "ENSYNC_ADMIN_TOKEN", true),
];
/// The most that a secret which a command prints may have, in bytes.
const MAX_SECRET: usize = 4_096;
/// How much of what a command prints is looked at: its first line is meant.
const MAX_PRINTED: usize = 64 << 10;
/// After what time it is told that a command is waited for: it may ask for a password where nobody sees it.
const PATIENCE: Duration = Duration::from_secs(3);
/// The largest file of contexts that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// An engine, and who one is there. Secrets are among its fields.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Context(pub(crate) BTreeMap<String, Zeroizing<String>>);

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context { ")?;
        self.0.keys().try_for_each(|field| write!(f, "{field}, "))?;
        f.write_str(".. }")
    }
}

impl Context {
    /// What it says for a variable. If a command is to say it, that is run.
    pub(crate) fn value(&self, variable: &str) -> Result<Option<Zeroizing<String>>, Failure> {
        let Some((field, ..)) = FIELDS.iter().find(|(_, name, _)| *name == variable) else { return Ok(None) };
        if let Some(value) = self.0.get(*field) {
            return Ok(Some(value.clone()));
        }
        match self.0.get(&format!("{field}_command")) {
            Some(command) => run(command).map(Some).map_err(|why| format!("{field}_command: {why}").into()),
            None => Ok(None),
        }
    }

    /// Whether it says something for a variable, itself or by a command.
    pub(crate) fn says(&self, variable: &str) -> bool {
        let field = FIELDS.iter().find(|(_, name, _)| *name == variable);
        field.is_some_and(|(field, ..)| self.0.contains_key(*field) || self.0.contains_key(&format!("{field}_command")))
    }
}

/// The first line that a command prints, run by the shell: what more there is belongs to other fields, as password managers have it.
fn run(command: &str) -> Result<Zeroizing<String>, String> {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let (ended, waiting) = mpsc::channel::<()>();
    let shown = command.to_owned();
    std::thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            note(format_args!("waiting for a command of the context: {}", redacted_strictly(&format!("{shown:?}"))));
        }
    });
    let mut asked = Command::new(shell);
    asked.args([flag, command]).stdin(Stdio::inherit()).stderr(Stdio::inherit()).stdout(Stdio::piped());
    let printed = printed_by(asked);
    drop(ended);
    let (status, printed) = printed.map_err(|cause| format!("{command:?} cannot be run: {cause}"))?;
    if !status.success() {
        return Err(format!("{command:?} ended with {status}"));
    }
    let text = match std::str::from_utf8(&printed) {
        Ok(text) => text,
        // What is not looked at may have begun within a character.
        Err(cut) if printed.len() == MAX_PRINTED && cut.error_len().is_none() => {
            std::str::from_utf8(printed.get(..cut.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => return Err(format!("{command:?} printed something that is not text")),
    };
    match trimmed(trimmed(text).lines().next().unwrap_or_default()) {
        "" => Err(format!("{command:?} printed nothing")),
        text if text.len() > MAX_SECRET => Err(format!("{command:?} printed more than {MAX_SECRET} bytes")),
        text => Ok(Zeroizing::new(text.to_owned())),
    }
}

/// What a command prints, as far as it is looked at. It goes into memory that does not grow, for what grows leaves copies behind.
fn printed_by(mut command: Command) -> std::io::Result<(ExitStatus, Zeroizing<Vec<u8>>)> {
    let mut printed = Zeroizing::new(Vec::with_capacity(MAX_PRINTED + 64));
    let mut child = command.spawn()?;
    let read = child.stdout.take().map_or(Ok(0), |mut stdout| {
        stdout.by_ref().take(MAX_PRINTED as u64).read_to_end(&mut printed)?;
        // It is to come to its end, whatever more it has to say.
        std::io::copy(&mut stdout, &mut std::io::sink())
    });
    let status = child.wait()?;
    read.map(|_| (status, printed))
}

/// What was read of the file, wiped when it is dropped.
struct Wiped(Value);

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        _ => {}
    }
}

/// The file as it is written.
#[derive(Serialize)]
struct Written<'a> {
    current: Option<&'a str>,
    contexts: BTreeMap<&'a str, BTreeMap<&'a str, &'a str>>,
}

/// Every context, and which is used if nobody says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contexts {
    pub(crate) current: Option<String>,
    pub(crate) all: BTreeMap<String, Context>,
}

impl Contexts {
    /// Reads the file; nothing, if there is none.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let unreadable = |cause| Problem::usage(format!("cannot read the contexts in {shown}: {cause}"));
        let file = match File::open(path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(cause) => return Err(unreadable(cause).into()),
        };
        // Of the file that was opened: by its name it could be another one by now.
        let about = file.metadata().map_err(unreadable)?;
        check(path, &about)?;
        let length = usize::try_from(about.len().min(MAX_FILE)).unwrap_or_default();
        let mut text = Zeroizing::new(String::with_capacity(length + 64));
        file.take(MAX_FILE).read_to_string(&mut text).map_err(unreadable)?;
        let broken = |why: &str| {
            Problem::usage(format!(
                "the contexts in {shown} cannot be read: {why}; mend the file, or remove it and add them again"
            ))
        };
        let read = read_json("this", text.as_bytes()).map(Wiped);
        let mut read = read.map_err(|cause| broken(&cause.to_string()))?;
        let current = read.0.get("current").and_then(Value::as_str).map(str::to_owned);
        let mut contexts = Self { current, ..Self::default() };
        let all = read.0.get_mut("contexts").and_then(Value::as_object_mut);
        for (name, fields) in all.ok_or_else(|| broken("there is no \"contexts\""))? {
            let fields = fields.as_object_mut().ok_or_else(|| broken(&format!("{name:?} is no object")))?;
            let fields = fields.iter_mut().map(|(field, value)| match value {
                Value::String(text) => Ok((field.clone(), Zeroizing::new(std::mem::take(text)))),
                _ => Err(broken(&format!("{field:?} of {name:?} is no text"))),
            });
            contexts.all.insert(name.clone(), Context(fields.collect::<Result<_, Problem>>()?));
        }
        Ok(contexts)
    }

    /// Changes what is in the file. Nobody else does meanwhile.
    pub(crate) fn change<T>(path: &Path, change: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |cause: std::io::Error| {
            Problem::new(Exit::Output, format!("cannot write the contexts to {}: {cause}", path.display()))
        };
        make_directory(directory).map_err(failed)?;
        let lock = File::options().create(true).append(true).open(path.with_extension("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut contexts = Self::read(path)?;
        let done = change(&mut contexts)?;
        contexts.write(path)?;
        Ok(done)
    }

    /// Writes the file, which only its owner may read: the old one is there until the new one is whole.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = self.text()?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || {
            make_directory(directory)?;
            let new = path.with_extension(format!("new-{}", std::process::id()));
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let written = options.open(&new).and_then(|mut file| {
                file.write_all(&text)?;
                file.sync_all()
            });
            written.and_then(|()| std::fs::rename(&new, path)).inspect_err(|_| _ = std::fs::remove_file(&new))
        };
        write().map_err(|cause| {
            Problem::new(Exit::Output, format!("cannot write the contexts to {}: {cause}", path.display())).into()
        })
    }

    /// The file's text, in memory that does not grow.
    fn text(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut length = 1_024;
        let contexts = self.all.iter().map(|(name, context)| {
            let fields = context.0.iter().map(|(field, value)| {
                // A character takes six at most.
                length += 64 + 6 * (field.len() + value.len());
                (field.as_str(), value.as_str())
            });
            let fields = fields.collect();
            length += 64 + 6 * name.len();
            (name.as_str(), fields)
        });
        let written = Written { contexts: contexts.collect(), current: self.current.as_deref() };
        length += 6 * self.current.as_ref().map_or(0, String::len);
        let mut text = Zeroizing::new(Vec::with_capacity(length));
        serde_json::to_writer_pretty(&mut *text, &written)?;
        text.push(b'\n');
        Ok(text)
    }

    /// One of them.
    pub(crate) fn get(&self, name: &str) -> Result<&Context, Problem> {
        self.all.get(name).ok_or_else(|| {
            let known: Vec<_> = self.all.keys().map(String::as_str).collect();
            let known =
                if known.is_empty() { "there are none".into() } else { format!("there are {}", known.join(", ")) };
            Problem::new(Exit::NotFound, format!("there is no context {name:?}; {known}"))
        })
    }
}

/// The file that contexts are in.
pub(crate) fn path() -> Result<PathBuf, Failure> {
    if let Some(path) = variables::environment("ENSYNC_CONTEXTS") {
        return Ok(path.into());
    }
    let folder = match cfg!(windows) {
        true => variables::environment("APPDATA").map(PathBuf::from),
        false => variables::environment("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(variables::environment("HOME")?).join(".config"))),
    };
    let folder = folder
        .ok_or_else(|| Problem::usage("there is no place for contexts: set HOME, or ENSYNC_CONTEXTS to a file"))?;
    Ok(folder.join("ensync").join("contexts.json"))
}

/// The context that is meant: the one that a flag names, else the variable `ENSYNC_CONTEXT`, else the current one.
pub(crate) fn chosen(flag: Option<&str>) -> Result<Option<(String, Context)>, Failure> {
    let named = flag.map(str::to_owned).or_else(|| variables::environment("ENSYNC_CONTEXT")?.into_string().ok());
    let path = match path() {
        Ok(path) => path,
        Err(error) => return if named.is_some() { Err(error) } else { Ok(None) },
    };
    let contexts = Contexts::read(&path)?;
    match named.or(contexts.current.clone()) {
        Some(name) => Ok(Some((name.clone(), contexts.get(&name)?.clone()))),
        None => Ok(None),
    }
}

fn make_directory(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Refuses a file that is not one's own alone: commands in it are run, and its keys are for nobody else.
#[cfg(unix)]
fn check(path: &Path, about: &Metadata) -> Result<(), Problem> {
    use std::os::unix::fs::MetadataExt;
    let (owner, user, shown) = (about.uid(), rustix::process::geteuid().as_raw(), path.display());
    if owner != user && owner != 0 {
        let text = format!("the contexts in {shown} belong to the user with number {owner}, and this runs as {user}");
        return Err(Problem::usage(format!("{text}; ENSYNC_CONTEXTS names another file")));
    }
    match about.mode() & 0o077 {
        0 => Ok(()),
        _ => Err(Problem::usage(format!(
            "the contexts in {shown} may be read or written by others; `chmod 600 {shown}`"
        ))),
    }
}

#[cfg(not(unix))]
fn check(_: &Path, _: &Metadata) -> Result<(), Problem> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(fields: &[(&str, &str)]) -> Context {
        Context(fields.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned().into())).collect())
    }

    #[test]
    fn what_is_written_is_read_and_only_by_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/contexts.json");
        assert_eq!(Contexts::read(&path).unwrap(), Contexts::default());
        let all = BTreeMap::from([("a".to_owned(), context(&[("url", "ws://h"), ("app_key", "k\"")]))]);
        let contexts = Contexts { current: Some("a".to_owned()), all };
        contexts.write(&path).unwrap();
        contexts.write(&path).unwrap();
        assert_eq!(Contexts::read(&path).unwrap(), contexts);
        assert!(contexts.get("b").unwrap_err().to_string().contains("there are a"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
            assert!(Contexts::read(&path).unwrap_err().to_string().contains("chmod 600"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_command_says_a_secret_when_it_is_asked_for() {
        let one = context(&[
            ("app_key_command", "echo ' k '; echo user: shop"),
            ("secret_key_command", "exit 3"),
            ("url", "h"),
        ]);
        assert_eq!(one.value("ENSYNC_APP_KEY").unwrap().unwrap().as_str(), "k");
        let error = one.value("ENSYNC_SECRET_KEY").unwrap_err().to_string();
        assert!(error.contains("secret_key_command") && error.contains("exit status: 3"), "{error}");
        assert!(one.says("ENSYNC_SECRET_KEY") && one.says("ENSYNC_URL") && !one.says("ENSYNC_ADMIN_URL"));
        assert!(context(&[("admin_token_command", "true")]).value("ENSYNC_ADMIN_TOKEN").is_err());
        // More than is looked at, and characters of two bytes.
        let long = context(&[("app_key_command", "printf 'k\\n'; yes é | head -c 300000")]);
        assert_eq!(long.value("ENSYNC_APP_KEY").unwrap().unwrap().as_str(), "k");
    }
}
