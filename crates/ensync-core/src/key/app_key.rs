use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::SecretKey;
use crate::convert::from_text;
use crate::redact::{Checks, certain, secret_key, whole_issued};
use crate::text::trimmed;
use crate::{Error, ErrorKind, Result};

/// The key that an app logs in with ("access key" in the peers): a bearer credential.
///
/// Wiped when dropped, redacted in `Debug`, compared in constant time. There is no `Display`: call [`AppKey::expose`].
#[derive(Clone)]
pub struct AppKey(Zeroizing<String>);

impl AppKey {
    /// What every app key that an EnSync engine makes begins with, so that leaked ones are recognised. Other engines' keys begin as
    /// they like.
    pub const PREFIX: &str = "ensync_key_";

    /// Reads a key: 1 to 512 visible ASCII characters, none of them `;`. White space and a byte order mark around it, which
    /// editors and shells leave, are left out.
    ///
    /// What is or holds a whole [secret key](crate::SecretKey), in any writing, or another token of an engine is refused: the engine that
    /// it would be sent to must never see one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`]; the message does not repeat the key.
    pub fn parse(key: &str) -> Result<Self> {
        let read = Self::parse_received(key)?;
        let key = read.expose();
        if SecretKey::parse(key).is_ok() {
            return refuse("this is a secret key, not an app key; keep it on this machine");
        }
        let is_other = |what: &&str| *what != "an app key";
        let other = whole_issued(key).filter(is_other).or_else(|| secret_key(key, &mut Checks::of(key)));
        if let Some(what) = other.or_else(|| certain(key, &mut Checks::of(key)).filter(is_other)) {
            let why = format!("this holds {what}, which is no part of an app key; keep it on this machine");
            return Err(Error::new(ErrorKind::InvalidKey, why));
        }
        Ok(read)
    }

    /// Reads a key that somebody logs in with, for an engine, which compares it with those that it knows: only its form counts. To look
    /// for other secrets in it is for whoever sends it, and would be work that a stranger asks for.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn parse_received(key: &str) -> Result<Self> {
        let key = trimmed(key);
        if key.is_empty() {
            return refuse("the app key is empty; copy it from where the app was created");
        }
        if key.len() > 512 {
            return refuse("the app key is longer than 512 characters");
        }
        if !key.bytes().all(|b| b.is_ascii_graphic() && b != b';') {
            return refuse(
                "the app key holds white space, a semicolon or a character that is not ASCII; was it copied whole?",
            );
        }
        Ok(Self(Zeroizing::new(key.to_owned())))
    }

    /// The key itself, for the wire.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn refuse<T>(why: &'static str) -> Result<T> {
    Err(Error::new(ErrorKind::InvalidKey, why))
}

from_text!(secret AppKey, "an app key");

impl PartialEq for AppKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for AppKey {}

impl fmt::Debug for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::encode;
    use crate::redact::CHECKED;

    #[test]
    fn a_bad_key_is_not_repeated() {
        for bad in ["", "hush hush", "hush;hush", "hu\nsh", &"hush".repeat(200)] {
            let error = AppKey::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert!(!error.to_string().contains("hush"));
        }
    }

    #[test]
    fn a_secret_key_stays_on_this_machine() {
        let secret = SecretKey::from_seed([7; 32]).to_base64().unwrap();
        let url_safe = secret.trim_end_matches('=').replace('+', "-").replace('/', "_");
        for key in [secret.as_str(), &url_safe, &format!(" {}\n", *secret)] {
            let error = AppKey::parse(key).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert!(error.to_string().contains("a secret key, not an app key"), "{error}");
            assert!(!error.to_string().contains(&secret[..8]), "{error}");
        }
        // As a Kubernetes Secret holds it, and as JSON does when it was wrapped.
        let wrapped = format!("{}\\n{}", &secret[..40], &secret[40..]);
        let token = format!("ensync_admin_{}", "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA");
        for (text, what) in [
            (encode(secret.as_bytes()), "a secret key"),
            (encode(format!("{}\n", *secret).as_bytes()), "a secret key"),
            (wrapped, "a secret key"),
            (encode(token.as_bytes()), "an admin token"),
        ] {
            let error = AppKey::parse(&text).unwrap_err().to_string();
            assert!(error.contains(&format!("this holds {what}, which is no part of an app key")), "{error}");
        }
        // 64 bytes whose halves do not belong together may be an app key of another engine's making.
        let mut other = secret.to_string();
        other.replace_range(..1, if other.starts_with('A') { "B" } else { "A" });
        for key in [other.as_str(), "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="] {
            assert_eq!(AppKey::parse(key).unwrap().expose(), key);
        }
    }

    /// A stranger chooses what is received, and what is not looked for costs nothing.
    #[test]
    fn what_is_received_is_read_by_its_form() {
        let secret = SecretKey::from_seed([7; 32]).to_base64().unwrap();
        CHECKED.set(0);
        for key in [secret.as_str(), &"AgQw".repeat(128), &"AgQw%41%20".repeat(51)] {
            assert_eq!(AppKey::parse_received(&format!(" {key}\n")).unwrap().expose(), key);
        }
        assert_eq!(CHECKED.get(), 0);
        for bad in ["", "hush;hush", &"x".repeat(513)] {
            AppKey::parse_received(bad).unwrap_err();
        }
    }

    #[test]
    fn white_space_around_a_key_is_left_out() {
        for key in ["k-1\n", " k-1", "\u{feff}k-1\r\n"] {
            assert_eq!(AppKey::parse(key).unwrap().expose(), "k-1");
        }
    }

    #[test]
    fn debug_is_redacted() {
        assert_eq!(format!("{:?}", AppKey::parse("hush").unwrap()), "AppKey(..)");
    }
}
