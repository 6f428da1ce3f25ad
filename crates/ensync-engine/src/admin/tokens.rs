//! The tokens that are taken now: the one in the file, and for a while the one that was there before.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ensync_core::{Result, report};
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::AdminToken;
use super::context::Access;

/// How often the file is looked at.
const CHECK: Duration = Duration::from_secs(5);
/// For how long the token before the present one is taken too, if nobody says.
pub(crate) const OVERLAP: Duration = Duration::from_secs(10 * 60);

/// The tokens of an admin API. A handle, cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tokens(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: Option<PathBuf>,
    overlap: Duration,
    taken: Mutex<Taken>,
    /// Those of whoever may only look.
    readers: Option<Tokens>,
}

#[derive(Debug)]
struct Taken {
    present: AdminToken,
    /// The one before, and until when it is taken.
    before: Option<(AdminToken, Instant)>,
    /// What was last told of a file that is of no use, so that it is told once.
    complaint: Option<String>,
}

impl Tokens {
    /// One that never changes, and one for those who may only look, if there is one.
    pub(crate) fn fixed(token: AdminToken, reader: Option<AdminToken>) -> Self {
        let readers = reader.map(|token| Self::new(token, None, OVERLAP, None));
        Self::new(token, None, OVERLAP, readers)
    }

    /// Those in the files of a data directory, which are made if they are not there; see [`follow`](Self::follow).
    pub(crate) fn of_directory(directory: &Path, overlap: Duration) -> Result<Self> {
        let (reader, file) = (AdminToken::reader_of_directory(directory)?, AdminToken::reader_file(directory));
        let readers = Self::new(reader, Some(file), overlap, None);
        let (token, file) = (AdminToken::of_directory(directory)?, AdminToken::file(directory));
        Ok(Self::new(token, Some(file), overlap, Some(readers)))
    }

    fn new(present: AdminToken, file: Option<PathBuf>, overlap: Duration, readers: Option<Self>) -> Self {
        let taken = Mutex::new(Taken { present, before: None, complaint: None });
        Self(Arc::new(Shared { file, overlap, taken, readers }))
    }

    /// The present one.
    pub(crate) fn present(&self) -> AdminToken {
        self.lock().present.clone()
    }

    /// The present one of those who may only look.
    pub(crate) fn reader(&self) -> Option<AdminToken> {
        self.0.readers.as_ref().map(Self::present)
    }

    /// Looks at the files again and again, and takes what they hold.
    pub(crate) async fn follow(self) {
        while self.0.file.is_some() {
            tokio::time::sleep(CHECK).await;
            let tokens = self.clone();
            // A disk that hangs holds nobody else up.
            _ = tokio::task::spawn_blocking(move || tokens.look()).await;
        }
    }

    /// Looks at the files now.
    pub(crate) fn look(&self) {
        if let Some(readers) = &self.0.readers {
            readers.look();
        }
        let Some(file) = &self.0.file else { return };
        let found = AdminToken::read_file(file);
        let mut taken = self.lock();
        match found {
            Ok(token) => {
                taken.complaint = None;
                if token != taken.present {
                    let before = std::mem::replace(&mut taken.present, token);
                    tracing::info!(
                        file = %file.display(),
                        old = &*fingerprint(&before),
                        new = &*fingerprint(&taken.present),
                        old_for_s = self.0.overlap.as_secs(),
                        "there is another admin token"
                    );
                    taken.before = Some((before, Instant::now() + self.0.overlap));
                }
            }
            Err(error) => {
                let why = report(&error);
                if taken.complaint.as_ref() != Some(&why) {
                    tracing::warn!(
                        error = why,
                        "the file of the admin token is of no use; the token stays what it was"
                    );
                    taken.complaint = Some(why);
                }
            }
        }
    }

    /// Whether the headers of a request show a token that is taken, whatever it is good for.
    pub(super) fn shown_by(&self, headers: &HeaderMap) -> bool {
        bearer(headers).is_some_and(|shown| self.known(shown).is_some())
    }

    /// The name of a token that is taken, and what it is good for.
    pub(super) fn known(&self, shown: &str) -> Option<(Arc<str>, Access)> {
        let full = self.whose(shown).map(|who| (who, Access::Full));
        full.or_else(|| Some((self.0.readers.as_ref()?.whose(shown)?, Access::Read)))
    }

    /// Whether it is one of the present ones: not one that is taken for a while only.
    pub(super) fn is_present(&self, shown: &str) -> bool {
        let present = |tokens: &Self| tokens.lock().present.is(shown);
        present(self) || self.0.readers.as_ref().is_some_and(present)
    }

    /// The name of a token that is taken, and good for everything.
    pub(super) fn whose(&self, shown: &str) -> Option<Arc<str>> {
        let taken = self.lock();
        if taken.present.is(shown) {
            return Some(fingerprint(&taken.present));
        }
        let (before, until) = taken.before.as_ref()?;
        (*until > Instant::now() && before.is(shown)).then(|| fingerprint(before))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing panics while it is held.
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands behind "Bearer". RFC 9110, section 11.1: the scheme's name is read in either case.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// What a token is called in logs. Of a token with 128 random bits its hash gives nothing away.
fn fingerprint(token: &AdminToken) -> Arc<str> {
    let hash = Sha256::digest(token.expose());
    hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, token: &AdminToken) {
        std::fs::write(AdminToken::file(directory), token.expose()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_in_the_file_is_taken_and_the_old_one_for_a_while() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::of_directory(directory.path(), Duration::from_secs(60)).unwrap();
        let following = tokio::spawn(tokens.clone().follow());
        let (old, new) = (tokens.present(), AdminToken::generate().unwrap());
        let names = |token: &AdminToken| tokens.whose(token.expose());
        assert!(names(&old).is_some() && names(&new).is_none());
        write(directory.path(), &new);
        tokio::time::sleep(CHECK + Duration::from_millis(1)).await;
        assert!(names(&old).is_some() && names(&new).is_some() && names(&old) != names(&new));
        assert_eq!(tokens.present(), new);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(names(&old).is_none() && names(&new).is_some());
        following.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_of_no_use_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::of_directory(directory.path(), OVERLAP).unwrap();
        let (token, file) = (tokens.present(), AdminToken::file(directory.path()));
        for removed in [false, true] {
            if removed { std::fs::remove_file(&file) } else { std::fs::write(&file, "x") }.unwrap();
            tokens.look();
            assert_eq!(tokens.present(), token);
            assert!(tokens.whose(token.expose()).is_some() && tokens.lock().complaint.is_some());
        }
        write(directory.path(), &token);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        tokens.look();
        assert!(tokens.lock().complaint.is_none() && tokens.lock().before.is_none(), "it is the same");
    }
}
