//! Refusals as they travel: a text, with which an engine says why it does not do something.

use crate::{Error, ErrorKind, Redact, printable, redacted};

/// The longest text of a refusal that is kept, in bytes. It comes from the other side, and is stored, logged and shown.
const MAX_REFUSAL: usize = 1_024;
/// What a text may be longer than that before it is cut: room for what says that it was cut, and for its code.
const SLACK: usize = 96;

impl Error {
    /// The text that refuses a command on the wire: the kind's [code](ErrorKind::code), a colon, the message.
    ///
    /// The cause stays behind: it is for this side's logs.
    pub fn to_refusal(&self) -> String {
        format!("{}: {self}", self.kind().code())
    }

    /// Reads the text with which an engine refused a command. One of more than 1,120 bytes is cut off behind 1,024.
    ///
    /// Another engine's text carries no code. It becomes [`ErrorKind::Unavailable`] or [`ErrorKind::LimitExceeded`] where its words say
    /// that the reason passes, and [`ErrorKind::Refused`] otherwise. So does one whose code is of a kind that only
    /// [this side can know](ErrorKind::is_of_this_side), of a link that ended or an envelope that does not open: a caller would act
    /// on it. An engine that says of itself that it was interrupted may have carried the command out. Characters that would do
    /// something to a terminal or break the line are replaced, as by [`printable`](crate::printable), and secrets are left out, as by
    /// [`redacted`](crate::redacted): an engine may repeat what it was sent.
    pub fn from_refusal(text: &str) -> Self {
        let coded = text.split_once(": ").and_then(|(code, message)| Some((ErrorKind::from_code(code)?, message)));
        match coded {
            Some((ErrorKind::Interrupted, _)) => Self::new(ErrorKind::Refused, bounded(text)).perhaps_done(),
            Some((kind, message)) if !kind.is_of_this_side() => Self::new(kind, bounded(message)),
            _ if text.trim().is_empty() => {
                Self::new(ErrorKind::Refused, "the engine refused the command and gave no reason")
            }
            _ => Self::new(meant_by(text), bounded(text)),
        }
    }

    /// The same of the refusal of a login. What does not pass is about the app key, as far as engines say that in words of their own;
    /// what went wrong inside of the engine passes, for to log in again does no harm.
    pub fn from_login_refusal(text: &str) -> Self {
        const INSIDE: &[&str] = &["timeout", "timed out", "internal error", "server error"];
        let refusal = Self::from_refusal(text);
        match refusal.kind() {
            ErrorKind::Refused if text.trim().is_empty() => {
                Self::new(ErrorKind::Unauthenticated, "the engine refused the app key and gave no reason")
            }
            ErrorKind::Refused if says(text, INSIDE) => Self::new(ErrorKind::Unavailable, refusal.to_string()),
            ErrorKind::Refused => Self::new(ErrorKind::Unauthenticated, refusal.to_string()),
            _ => refusal,
        }
    }
}

/// What a refusal in an engine's own words means: whether it passes, as far as the words say so. Of anything but a limit on the size of
/// what was sent: that stays.
fn meant_by(words: &str) -> ErrorKind {
    const LIMIT: &[&str] = &["limit", "too many", "quota", "throttl"];
    const SIZE: &[&str] = &["size", "large", "long", "length", "bytes", "payload", "header"];
    const PASSING: &[&str] = &[
        "again later",
        "busy",
        "draining",
        "maintenance",
        "moment",
        "not ready",
        "overload",
        "restart",
        "shutdown",
        "shutting down",
        "starting",
        "stopping",
        "temporar",
        "try again",
        "try later",
        "unavailable",
    ];
    if says(words, PASSING) {
        ErrorKind::Unavailable
    } else if says(words, LIMIT) && !says(words, SIZE) {
        ErrorKind::LimitExceeded
    } else {
        ErrorKind::Refused
    }
}

fn says(text: &str, words: &[&str]) -> bool {
    // What is cut off a text without end says nothing.
    let head = text.get(..text.floor_char_boundary(MAX_REFUSAL)).unwrap_or_default().to_ascii_lowercase();
    words.iter().any(|word| head.contains(word))
}

fn bounded(text: &str) -> String {
    // A text that was cut once, and got a code in front on its way, is not cut again.
    let most = MAX_REFUSAL + SLACK;
    // It may repeat what it was sent. What is looked at is longer than what is shown, for a key may go beyond that.
    let head = redacted(text.get(..text.floor_char_boundary(2 * most)).unwrap_or_default(), Redact::Secrets);
    let shown = printable(&head);
    if text.len() <= most && shown.len() <= most {
        return shown.into_owned();
    }
    let end = shown.floor_char_boundary(MAX_REFUSAL);
    format!("{}… ({} bytes)", shown.get(..end).unwrap_or_default(), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for &kind in ErrorKind::ALL {
            let read = Error::from_refusal(&Error::new(kind, "publish: no: really").to_refusal());
            assert_eq!(kind.to_string().parse::<ErrorKind>().unwrap(), kind);
            if kind.is_of_this_side() {
                assert_eq!(read.kind(), ErrorKind::Refused, "only this side can know");
                assert_eq!(read.to_string(), format!("{kind}: publish: no: really"));
                continue;
            }
            assert_eq!(read.kind(), kind);
            assert_eq!(read.to_string(), "publish: no: really");
        }
    }

    #[test]
    fn foreign_refusals_keep_their_words() {
        let read = Error::from_refusal("Event not found: or no longer available");
        assert_eq!(read.kind(), ErrorKind::Refused);
        assert_eq!(read.to_string(), "Event not found: or no longer available");
        assert!(Error::from_refusal(" ").to_string().contains("no reason"));
    }

    #[test]
    fn an_engine_cannot_say_what_only_this_side_knows() {
        for kind in
            [ErrorKind::Tls, ErrorKind::BadSignature, ErrorKind::SenderNotVerified, ErrorKind::PartiallyPublished]
        {
            assert_eq!(Error::from_refusal(&format!("{kind}: believe me")).kind(), ErrorKind::Refused);
        }
        // What our engine refuses with.
        for kind in [ErrorKind::Unavailable, ErrorKind::MalformedEnvelope, ErrorKind::Timeout, ErrorKind::Internal] {
            assert_eq!(Error::from_refusal(&format!("{kind}: no")).kind(), kind);
        }
    }

    #[test]
    fn a_refusal_without_end_is_cut() {
        for text in ["x".repeat(5 << 20), format!("forbidden: {}", "é".repeat(1 << 20))] {
            let read = Error::from_refusal(&text).to_string();
            assert!(read.len() < 1_100, "{} bytes", read.len());
            assert!(read.ends_with(" bytes)"), "{}", &read[1_000..]);
        }
        let read = Error::from_refusal("not_found: \u{1b}[2J\r\n\u{9b}1m\u{202e}").to_string();
        assert!(!read.chars().any(crate::is_unprintable), "{read:?}");
        assert_eq!(Error::from_refusal(&"x".repeat(1_024)).to_string().len(), 1_024);
    }

    #[test]
    fn a_refusal_that_repeats_a_key_does_not_show_it() {
        let key = "ensync_key_q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA";
        for before in ["", "x ", &"é ".repeat(370), &"é ".repeat(371), &"é ".repeat(400)] {
            for code in ["", "forbidden: "] {
                let text = format!("{code}{before}CONN;ACCESS_KEY=:{key}");
                let read = Error::from_refusal(&text).to_string();
                assert!(!read.contains("q83v") && (before.len() > 4 || read.contains("not shown")), "{read}");
                assert!(read.len() < 1_150, "{}", read.len());
                assert!(!Error::from_login_refusal(&text).to_string().contains("q83v"));
            }
        }
        // Other engines' keys and client ids look like nothing: who knows them takes them out.
        let cause = std::io::Error::other("CID-of-a-session is gone");
        let read = Error::from_refusal("cannot parse: PUB;CLIENT_ID=:CID-of-a-session;").with_source(cause);
        let read = read.without("CID-of-a-session").without("PUB");
        assert_eq!(crate::report(&read), "cannot parse: PUB;CLIENT_ID=:(not shown: a key);");
    }

    #[test]
    fn what_passes_is_told_by_the_words() {
        use ErrorKind::{LimitExceeded, Refused, Unauthenticated, Unavailable};
        for (words, kind, of_a_login) in [
            ("Service restarting, try again", Unavailable, Unavailable),
            ("Temporarily Unavailable", Unavailable, Unavailable),
            ("the node is shutting down", Unavailable, Unavailable),
            ("Too many requests", LimitExceeded, LimitExceeded),
            ("Connection limit reached", LimitExceeded, LimitExceeded),
            // It stays, whenever it is sent again.
            ("Payload exceeds the limit of 4 MiB", Refused, Unauthenticated),
            ("message size limit exceeded", Refused, Unauthenticated),
            ("Invalid access key", Refused, Unauthenticated),
            // Of a command, it may have been done.
            ("Internal error", Refused, Unavailable),
            ("request timed out", Refused, Unavailable),
            ("", Refused, Unauthenticated),
            ("forbidden: try again", ErrorKind::Forbidden, ErrorKind::Forbidden),
        ] {
            let (read, login) = (Error::from_refusal(words), Error::from_login_refusal(words));
            assert_eq!((read.kind(), login.kind()), (kind, of_a_login), "{words}");
            assert!(!read.may_have_happened(), "{words}");
            assert!(words.is_empty() || words.ends_with(&login.to_string()), "{login}");
        }
        assert!(Error::from_refusal("interrupted: the disk failed meanwhile").may_have_happened());
        assert_eq!(Error::from_refusal(&format!("{} try again", "é".repeat(1 << 20))).kind(), Refused);
    }
}
