use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ensync_core::{AppKey, Error, ErrorKind, Result, secret_in};
use serde::Serializer;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::random::random;

/// What every token that the engine makes begins with, so that leaked ones are recognised.
const PREFIX: &str = "ensync_admin_";
/// The tokens' files in a data directory.
const FILE: &str = "admin.token";
const READ_FILE: &str = "admin-read.token";
/// Fewer characters than this cannot hold 128 random bits as text.
const LENGTH: std::ops::RangeInclusive<usize> = 22..=512;

/// Writes an app's key into the one answer that shows it.
pub(super) fn exposed<S: Serializer>(key: &AppKey, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(key.expose())
}

/// What whoever administers an engine shows to its admin API: a bearer credential (RFC 6750) for everything there.
///
/// Wiped when dropped, redacted in `Debug`, compared in constant time. There is no `Display`: call
/// [`expose`](AdminToken::expose).
///
/// ```
/// use ensync_engine::AdminToken;
///
/// let token = AdminToken::generate()?;
/// assert_eq!(format!("{token:?}"), "AdminToken(..)");
/// assert_eq!(AdminToken::parse(token.expose())?, token);
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone)]
pub struct AdminToken(Zeroizing<String>);

impl AdminToken {
    /// Makes a token of 256 random bits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] if the operating system has no randomness.
    pub fn generate() -> Result<Self> {
        let bytes = Zeroizing::new(random::<32>()?);
        Ok(Self(Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(*bytes)))))
    }

    /// Reads a token: 22 to 512 visible ASCII characters. Only one of at least 128 random bits is safe from guessing. What is or holds a
    /// secret key or an app key is refused: it would be sent to whatever answers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`]; the message does not repeat the token.
    pub fn parse(token: &str) -> Result<Self> {
        if !LENGTH.contains(&token.len()) {
            return Err(Error::new(ErrorKind::InvalidKey, "an admin token has 22 to 512 characters"));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let why = "the admin token holds white space or a character that is not ASCII; was it copied whole?";
            return Err(Error::new(ErrorKind::InvalidKey, why));
        }
        if let Some(what) = secret_in(token).filter(|what| *what != "an admin token") {
            let why = format!("this is or holds {what}, which is no part of an admin token; keep it on this machine");
            return Err(Error::new(ErrorKind::InvalidKey, why));
        }
        Ok(Self(Zeroizing::new(token.to_owned())))
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The token of a data directory, which is made if it is not there. Whoever calls holds the directory's lock, so nobody else
    /// makes it meanwhile.
    pub(crate) fn of_directory(directory: &Path) -> Result<Self> {
        Self::of_file(directory, FILE)
    }

    /// The same, of the token for those who may only look.
    pub(crate) fn reader_of_directory(directory: &Path) -> Result<Self> {
        Self::of_file(directory, READ_FILE)
    }

    fn of_file(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(name);
        match read(&path, true) {
            Ok(token) => token,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let token = Self::generate()?;
                create(directory, name, &token).map_err(|cause| failed("write", &path, cause))?;
                Ok(token)
            }
            Err(cause) => Err(failed("read", &path, cause)),
        }
    }

    /// Where a data directory has it.
    pub(super) fn file(directory: &Path) -> PathBuf {
        directory.join(FILE)
    }

    /// Where a data directory has the one for those who may only look.
    pub(super) fn reader_file(directory: &Path) -> PathBuf {
        directory.join(READ_FILE)
    }

    /// The token in a file.
    pub(super) fn read_file(path: &Path) -> Result<Self> {
        read(path, false).unwrap_or_else(|cause| Err(failed("read", path, cause)))
    }

    /// Whether a text is this token, in a time that says nothing of where they differ.
    pub(super) fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl FromStr for AdminToken {
    type Err = Error;
    fn from_str(token: &str) -> Result<Self> {
        Self::parse(token)
    }
}

impl TryFrom<&str> for AdminToken {
    type Error = Error;
    fn try_from(token: &str) -> Result<Self> {
        Self::parse(token)
    }
}

impl TryFrom<&String> for AdminToken {
    type Error = Error;
    fn try_from(token: &String) -> Result<Self> {
        Self::parse(token)
    }
}

/// What was handed over is wiped.
impl TryFrom<String> for AdminToken {
    type Error = Error;
    fn try_from(token: String) -> Result<Self> {
        Self::parse(&Zeroizing::new(token))
    }
}

impl PartialEq for AdminToken {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for AdminToken {}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

/// Reads the file, and looks at the rights of what it opened: not at what may be at that path a moment later.
///
/// That others on the machine may do something with it is refused. A group's rights are taken away: a volume that is mounted for a
/// group (`fsGroup` of Kubernetes) gives them to every file that it finds. Where that is not possible they are told of, at the start.
fn read(path: &Path, start: bool) -> io::Result<Result<AdminToken>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        let message =
            format!("{} is no file; remove it, and the next start makes one that holds a token", path.display());
        return Ok(Err(Error::new(ErrorKind::InvalidInput, message)));
    }
    let mode = mode(&file)?;
    if mode & 0o007 != 0 {
        let message = format!(
            "{} may be read or written by others (mode {mode:o}): whoever has read it can administer this engine; remove it, and \
             the next start makes another, or keep it with `chmod 600`",
            path.display()
        );
        return Ok(Err(Error::new(ErrorKind::InvalidInput, message)));
    }
    if mode & 0o070 != 0 {
        let narrowed = narrow(&file).is_ok();
        if narrowed || start {
            let file = path.display();
            tracing::warn!(%file, mode = format!("{mode:o}"), narrowed, "the admin token could be read or written by a group");
        }
    }
    let mut text = Zeroizing::new(String::new());
    file.take(1_024).read_to_string(&mut text)?;
    Ok(AdminToken::parse(text.trim_end()).map_err(|error| {
        error.context(format!("{} holds no admin token; remove it, and the next start makes one", path.display()))
    }))
}

/// Writes the token to a new file, and gives that its name once it is whole: a crash leaves a whole one or none.
fn create(directory: &Path, name: &str, token: &AdminToken) -> io::Result<()> {
    let unfinished = directory.join(format!("{name}.unfinished"));
    match std::fs::remove_file(&unfinished) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&unfinished)?;
    file.write_all(token.expose().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&unfinished, directory.join(name))?;
    // Else a power failure could bring the directory back without the name.
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    Ok(())
}

#[cfg(unix)]
fn mode(file: &File) -> io::Result<u32> {
    Ok(std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions()) & 0o7777)
}

#[cfg(not(unix))]
fn mode(_: &File) -> io::Result<u32> {
    Ok(0o600)
}

/// Leaves a file to its owner alone.
#[cfg(unix)]
fn narrow(file: &File) -> io::Result<()> {
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
}

#[cfg(not(unix))]
fn narrow(_: &File) -> io::Result<()> {
    Ok(())
}

fn failed(verb: &str, path: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("cannot {verb} the admin token in {}", path.display()))
        .with_source(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_token_is_not_repeated() {
        for bad in ["", "hush", "hush hush hush hush hush", &"hush".repeat(200)] {
            let error = AdminToken::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert!(!error.to_string().contains("hush"));
        }
    }

    #[test]
    fn another_secret_is_no_token() {
        let secret = ensync_core::SecretKey::from_seed([7; 32]).to_base64().unwrap();
        let key = format!("ensync_key_{}", "a".repeat(43));
        for bad in [secret.to_string(), format!("ENSYNC_ADMIN_TOKEN={}", &*secret), key] {
            let error = AdminToken::parse(&bad).unwrap_err().to_string();
            assert!(error.contains("keep it on this machine") && !error.contains(&bad[30..40]), "{error}");
        }
        assert!(AdminToken::parse("of-my-own-making-0123456789").is_ok());
    }

    #[test]
    fn only_the_whole_token_is_it() {
        let token = AdminToken::generate().unwrap();
        assert!(token.is(token.expose()));
        for other in ["", &token.expose()[1..], &format!("{}x", token.expose()), &token.expose().to_uppercase()] {
            assert!(!token.is(other));
        }
        assert_ne!(AdminToken::generate().unwrap(), token);
    }

    #[test]
    fn a_directory_keeps_its_token() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("admin.token.unfinished"), "left by a crash").unwrap();
        let token = AdminToken::of_directory(directory.path()).unwrap();
        assert_eq!(AdminToken::of_directory(directory.path()).unwrap(), token);
        let names: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, ["admin.token"]);
    }

    #[test]
    fn what_is_no_file_is_told_as_that() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("admin.token")).unwrap();
        let error = AdminToken::of_directory(directory.path()).unwrap_err();
        assert!(error.to_string().contains("admin.token is no file"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused_and_left() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.token");
        let token = AdminToken::of_directory(directory.path()).unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for wide in [0o604, 0o646, 0o644, 0o601] {
            mode(wide);
            let error = AdminToken::of_directory(directory.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&format!("mode {wide:o}")), "{error}");
            assert!(!error.to_string().contains(token.expose()));
        }
        mode(0o400);
        assert_eq!(AdminToken::of_directory(directory.path()).unwrap(), token);
        // As a volume's fsGroup leaves it.
        for wide in [0o660, 0o640, 0o620] {
            mode(wide);
            assert_eq!(AdminToken::of_directory(directory.path()).unwrap(), token);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_without_a_token_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.token");
        AdminToken::of_directory(directory.path()).unwrap();
        std::fs::write(&path, "hush\n").unwrap();
        let error = AdminToken::of_directory(directory.path()).unwrap_err().to_string();
        assert!(error.contains("admin.token holds no admin token") && !error.contains("hush"), "{error}");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        AdminToken::of_directory(directory.path()).unwrap_err();
    }
}
