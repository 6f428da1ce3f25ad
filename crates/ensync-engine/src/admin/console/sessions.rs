//! Who is logged in at the console. In memory: a restart ends it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ensync_core::Result;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::admin::context::Access;
use crate::admin::tokens::Tokens;
use crate::random::random;

/// How long a session lasts after it was used last, and at most.
const IDLE: Duration = Duration::from_secs(30 * 60);
pub(super) const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);
/// How many there may be of a token; of them, the one that was used longest ago makes room.
const MOST: usize = 64;

/// What a session is called here: the hash of its cookie, so that looking one up takes a time that says nothing of the others.
pub(super) type Id = [u8; 32];

/// What a browser gets for a new session: both, of 256 random bits each, are to be shown with every request.
#[derive(Debug)]
pub(super) struct Opened {
    /// For the cookie, which no script can read.
    pub(super) cookie: String,
    /// For the header, which no other origin can send.
    pub(super) key: String,
    /// Whether another session of the token made room.
    pub(super) pushed_out: bool,
}

/// The sessions of a console. A handle, cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    tokens: Tokens,
    open: Arc<Mutex<BTreeMap<Id, Open>>>,
}

struct Open {
    /// The hash of what the header has to hold.
    key: Id,
    /// What was shown: a session is good for as long as that is the present token.
    token: Zeroizing<String>,
    begun: Instant,
    used: Instant,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("begun", &self.begun).field("used", &self.used).finish_non_exhaustive()
    }
}

impl Sessions {
    pub(super) fn new(tokens: Tokens) -> Self {
        Self { tokens, open: Arc::default() }
    }

    /// Opens a session for a token that is taken.
    pub(super) fn open(&self, token: &str) -> Result<Opened> {
        let [cookie, key] = [random::<32>()?, random::<32>()?].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        let now = Instant::now();
        let mut open = self.lock();
        open.retain(|_, session| self.is_good(session, now));
        // Whoever opens too many ends his own: those of another token are somebody else's.
        let own = || open.iter().filter(|(_, session)| *session.token == token);
        let oldest = own().min_by_key(|(_, session)| session.used).map(|(id, _)| *id);
        let pushed_out = oldest.filter(|_| own().count() >= MOST);
        if let Some(oldest) = pushed_out {
            open.remove(&oldest);
        }
        let session = Open { key: hash(&key), token: Zeroizing::new(token.to_owned()), begun: now, used: now };
        open.insert(hash(&cookie), session);
        Ok(Opened { cookie, key, pushed_out: pushed_out.is_some() })
    }

    /// The session that a cookie and a key are both of. A browser may send several cookies of the name: every port of the host can set
    /// one.
    pub(super) fn find<'a>(&self, cookies: impl IntoIterator<Item = &'a str>, key: &str) -> Option<Id> {
        let (open, key) = (self.lock(), hash(key));
        let mut ids = cookies.into_iter().map(hash);
        ids.find(|id| open.get(id).is_some_and(|session| session.key == key))
    }

    /// Whose session it is, and what it is good for. It is used by that if somebody is there.
    pub(super) fn admit(&self, id: &Id, attended: bool) -> Option<(Arc<str>, Access)> {
        let now = Instant::now();
        let mut open = self.lock();
        let session = open.get_mut(id)?;
        if !self.is_good(session, now) {
            open.remove(id);
            return None;
        }
        if attended {
            session.used = now;
        }
        self.tokens.known(&session.token)
    }

    /// Whether a session is open still. It is not used by that.
    pub(super) fn is_in(&self, id: &Id) -> bool {
        self.lock().get(id).is_some_and(|session| self.is_good(session, Instant::now()))
    }

    /// Ends a session, and says whose it was; `None` if there is no such session.
    pub(super) fn close(&self, id: &Id) -> Option<(Arc<str>, Access)> {
        let session = self.lock().remove(id)?;
        self.tokens.known(&session.token).filter(|_| self.is_good(&session, Instant::now()))
    }

    fn is_good(&self, session: &Open, now: Instant) -> bool {
        now.duration_since(session.used) < IDLE
            && now.duration_since(session.begun) < LONGEST
            && self.tokens.is_present(&session.token)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], Open>> {
        // Nothing panics while it is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(shown: &str) -> Id {
    Sha256::digest(shown).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AdminToken;

    fn sessions() -> (Sessions, AdminToken, AdminToken) {
        let [token, reader] = [(); 2].map(|()| AdminToken::generate().unwrap());
        (Sessions::new(Tokens::fixed(token.clone(), Some(reader.clone()))), token, reader)
    }

    fn open(sessions: &Sessions, token: &AdminToken) -> Id {
        let opened = sessions.open(token.expose()).unwrap();
        sessions.find([&*opened.cookie], &opened.key).unwrap()
    }

    #[tokio::test]
    async fn a_session_is_found_by_both_of_its_halves_and_by_neither_alone() {
        let (sessions, token, reader) = sessions();
        let [one, other] = [&token, &reader].map(|token| sessions.open(token.expose()).unwrap());
        let find = |cookies: &[&str], key: &str| sessions.find(cookies.iter().copied(), key).is_some();
        assert!(find(&[&one.cookie], &one.key) && find(&["x", &other.cookie, &one.cookie], &one.key));
        for (cookies, key) in [
            (&[][..], &*one.key),
            (&[&*one.cookie], ""),
            (&[&*one.cookie], &*other.key),
            (&[&*one.cookie], &*one.cookie),
            (&[&*one.key], &*one.key),
            (&[&*one.key], &*one.cookie),
        ] {
            assert!(!find(cookies, key));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_opens_too_many_ends_his_own_only() {
        let (sessions, token, reader) = sessions();
        let full = open(&sessions, &token);
        let mut pushed_out = 0;
        for _ in 0..3 * MOST {
            tokio::time::advance(Duration::from_millis(10)).await;
            pushed_out += usize::from(sessions.open(reader.expose()).unwrap().pushed_out);
        }
        assert!(sessions.is_in(&full), "somebody else's");
        assert_eq!((pushed_out, sessions.lock().len()), (2 * MOST, MOST + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_page_asks_by_itself_does_not_prolong_a_session() {
        let (sessions, token, _) = sessions();
        let (left, attended) = (open(&sessions, &token), open(&sessions, &token));
        let begun = Instant::now();
        while begun.elapsed() < 2 * IDLE {
            assert_eq!(sessions.admit(&left, false).is_some(), begun.elapsed() < IDLE);
            assert!(sessions.admit(&attended, true).is_some());
            tokio::time::advance(IDLE / 4).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_when_it_is_not_used_and_at_last_though_it_is() {
        let (sessions, token, reader) = sessions();
        let (idle, used) = (open(&sessions, &token), open(&sessions, &reader));
        assert_eq!(sessions.admit(&idle, true).unwrap().1, Access::Full);
        let begun = Instant::now();
        while begun.elapsed() < LONGEST {
            assert_eq!(sessions.admit(&used, true).unwrap().1, Access::Read, "{:?}", begun.elapsed());
            assert_eq!(sessions.is_in(&idle), begun.elapsed() < IDLE, "to ask is not to use");
            tokio::time::advance(IDLE / 2).await;
        }
        assert!(
            sessions.admit(&used, true).is_none()
                && sessions.admit(&idle, true).is_none()
                && sessions.lock().is_empty()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_and_the_one_used_longest_ago_makes_room() {
        let (sessions, token, _) = sessions();
        let mut ids = Vec::new();
        for _ in 0..MOST {
            ids.push(open(&sessions, &token));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(sessions.admit(&ids[0], true).is_some());
        ids.push(open(&sessions, &token));
        assert!(!sessions.is_in(&ids[1]) && sessions.is_in(&ids[0]) && sessions.is_in(&ids[MOST]));
        assert_eq!(sessions.lock().len(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn another_token_ends_the_sessions_of_the_one_before_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::of_directory(directory.path(), Duration::from_secs(600)).unwrap();
        let sessions = Sessions::new(tokens.clone());
        let (full, reader) = (tokens.present(), tokens.reader().unwrap());
        let (id, other) = (open(&sessions, &full), open(&sessions, &reader));
        std::fs::write(AdminToken::file(directory.path()), AdminToken::generate().unwrap().expose()).unwrap();
        tokens.look();
        assert!(tokens.known(full.expose()).is_some(), "programs go on with it for a while");
        assert!(!sessions.is_in(&id) && sessions.admit(&id, true).is_none() && sessions.is_in(&other));
        std::fs::write(AdminToken::reader_file(directory.path()), AdminToken::generate().unwrap().expose()).unwrap();
        tokens.look();
        assert!(!sessions.is_in(&other));
    }

    #[tokio::test]
    async fn what_is_closed_is_closed_and_what_was_never_open_is_nobodys() {
        let (sessions, token, _) = sessions();
        let opened = sessions.open(token.expose()).unwrap();
        let (cookie, key) = (&opened.cookie, &opened.key);
        assert_eq!((cookie.len(), key.len()), (43, 43));
        let id = sessions.find([&**cookie], key).unwrap();
        for wrong in ["", &cookie[1..], &format!("{cookie}A"), token.expose()] {
            assert!(sessions.find([wrong], key).is_none() && sessions.admit(&hash(wrong), true).is_none());
        }
        assert_eq!(sessions.close(&id).unwrap().1, Access::Full);
        assert!(sessions.close(&id).is_none());
        assert!(sessions.admit(&id, true).is_none());
        assert!(!format!("{sessions:?}").contains(token.expose()));
    }
}
