//! Refusals as they travel: a text, with which an engine says why it does not do something.

mod words;

use std::borrow::Cow;

use crate::{
    Command, Error, ErrorKind, EventId, EventName, Publish, Redact, Settle, Settlement, Subscribe, printable, redacted,
};
use words::Words;

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
    /// that the reason passes, and [`ErrorKind::Refused`] otherwise; [`is_read_from_words`](Self::is_read_from_words) says so. One that
    /// tells of an error inside of the engine, of its time, or of something that it failed to do, may have been carried out; so may one
    /// that gives no reason. Words are
    /// whole words, and no part of a name in quotes; of the names that the command itself contains see
    /// [`in_answer_to`](Self::in_answer_to). So does one whose code is of a kind that only
    /// [this side can know](ErrorKind::is_of_this_side), of a link that ended or an envelope that does not open: a caller would act
    /// on it. An engine that says of itself that it was interrupted may have carried the command out. Characters that would do
    /// something to a terminal or break the line are replaced, as by [`printable`](crate::printable), and secrets are left out, as by
    /// [`redacted`](crate::redacted): an engine may repeat what it was sent.
    pub fn from_refusal(text: &str) -> Self {
        let coded = text.split_once(": ").and_then(|(code, message)| Some((ErrorKind::from_code(code)?, message)));
        match coded {
            Some((ErrorKind::Interrupted, _)) => Self::new(ErrorKind::Refused, bounded(text)).perhaps_done(),
            Some((kind, message)) if !kind.is_of_this_side() => Self::new(kind, bounded(message)),
            _ if text.trim().is_empty() => Self::in_words(Words::of(NO_REASON, &[]), NO_REASON.to_owned()),
            _ => Self::in_words(Words::of(head(text), &[]), bounded(text)),
        }
    }

    /// What an engine that had no code said. One that failed in the middle does not know, or does not say, how far it came.
    fn in_words(words: Words, text: String) -> Self {
        let kind = words.meaning();
        let unsure = words.say(INSIDE) || words.say(FAILED) || text == NO_REASON;
        let read = Self::new(kind, text).by_words();
        if kind == ErrorKind::Refused && unsure { read.perhaps_done() } else { read }
    }

    /// The same refusal as the answer to `command`. Where its kind was read out of an engine's own words, it is read again without what
    /// the command contains: that a name has the word "limit" in it, which the engine repeats, says nothing of why it was refused.
    #[must_use]
    pub fn in_answer_to(self, command: &Command) -> Self {
        if !self.is_read_from_words() {
            return self;
        }
        let contained = contained(command);
        let contained: Vec<&str> = contained.iter().map(AsRef::as_ref).collect();
        let text = self.to_string();
        Self::in_words(Words::of(head(&text), &contained), text)
    }

    /// Whether it may say, in an engine's own words, that the engine does not know the session over which `command` was sent: they speak
    /// of a session or a client, and of something that is not there or not valid. That may be another than this one: who asks finds out.
    pub fn may_be_of_the_session(&self, command: &Command) -> bool {
        if self.kind() != ErrorKind::Refused || !self.is_read_from_words() {
            return false;
        }
        let contained = contained(command);
        let contained: Vec<&str> = contained.iter().map(AsRef::as_ref).collect();
        let text = self.to_string();
        let words = Words::of(head(&text), &contained);
        words.say(SESSION) && words.say(UNKNOWN)
    }

    /// The same of the refusal of a login. What does not pass is about the app key, as far as engines say that in words of their own;
    /// what went wrong inside of the engine passes, for to log in again does no harm. A text that calls the key invalid and asks to try
    /// again asks for another key.
    pub fn from_login_refusal(text: &str) -> Self {
        const FINAL: &[&str] = &["invalid", "unauthorized", "unauthorised", "unauthenticated", "denied"];
        let refusal = Self::from_refusal(text);
        let words = Words::of(head(text), &[]);
        let told = |kind| Self::new(kind, refusal.to_string()).by_words();
        match refusal.kind() {
            ErrorKind::Refused if text.trim().is_empty() => {
                Self::new(ErrorKind::Unauthenticated, "the engine refused the app key and gave no reason").by_words()
            }
            ErrorKind::Refused if words.say(INSIDE) => told(ErrorKind::Unavailable),
            ErrorKind::Refused => told(ErrorKind::Unauthenticated),
            ErrorKind::Unavailable if refusal.is_read_from_words() && words.say(FINAL) && !words.say(INSIDE) => {
                told(ErrorKind::Unauthenticated)
            }
            _ => refusal,
        }
    }
}

/// What went wrong inside of an engine.
const INSIDE: &[&str] =
    &["timeout", "timed out", "deadline exceeded", "internal error", "internal server error", "server error"];

/// What it did not bring to an end.
const FAILED: &[&str] = &["failed to", "could not", "couldn t", "unable to"];

/// What is said of an engine that said nothing.
const NO_REASON: &str = "the engine refused the command and gave no reason";

/// What engines call a session, or who has it.
const SESSION: &[&str] = &["client", "clientid", "session", "sessionid", "sessions"];

/// What they say of one that they do not know.
const UNKNOWN: &[&str] = &[
    "does not exist",
    "expired",
    "gone",
    "invalid",
    "log in",
    "logged out",
    "missing",
    "no client",
    "no longer",
    "no session",
    "no such",
    "not authenticated",
    "not authorized",
    "not connected",
    "not exist",
    "not found",
    "not known",
    "not logged in",
    "not registered",
    "unauthorized",
    "unknown",
    "unrecognized",
];

/// What a command contains that a refusal of it may repeat.
fn contained(command: &Command) -> Vec<Cow<'_, str>> {
    fn name(event: &EventName) -> Cow<'_, str> {
        event.as_str().into()
    }
    fn id(id: &EventId) -> Cow<'_, str> {
        id.as_str().into()
    }
    match command {
        Command::Publish(Publish { event, recipient, idempotency_key, .. }) => {
            let key = idempotency_key.as_ref().map(|key| key.as_str().into());
            [name(event), recipient.to_string().into()].into_iter().chain(key).collect()
        }
        Command::Subscribe(Subscribe { event, .. })
        | Command::Unsubscribe { event }
        | Command::Release { event }
        | Command::Continue { event } => vec![name(event)],
        Command::Pause { event, reason } => vec![name(event), reason.into()],
        Command::Replay { id: event_id, event } => vec![id(event_id), name(event)],
        Command::Settle(Settle { id: event_id, event, how, .. }) => {
            let reason = match how {
                Settlement::Defer { reason, .. } | Settlement::Discard { reason } => Some(reason.into()),
                _ => None,
            };
            [id(event_id)].into_iter().chain(event.as_ref().map(name)).chain(reason).collect()
        }
        Command::Heartbeat => Vec::new(),
    }
}

/// What of a text is looked at: what is cut off one without end says nothing.
fn head(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_REFUSAL)).unwrap_or_default()
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
    use crate::{AppId, Metadata, WirePayload};

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
            ("Internal Server Error", Refused, Unavailable),
            ("deadline exceeded", Refused, Unavailable),
            ("request timed out", Refused, Unavailable),
            ("Failed to store the event", Refused, Unauthenticated),
            ("could not acknowledge", Refused, Unauthenticated),
            ("A failed event has no dead letters", Refused, Unauthenticated),
            ("", Refused, Unauthenticated),
            ("forbidden: try again", ErrorKind::Forbidden, ErrorKind::Forbidden),
            // As engines write codes of their own.
            ("RateLimitExceeded", LimitExceeded, LimitExceeded),
            ("TOO_MANY_REQUESTS", LimitExceeded, LimitExceeded),
            (r#"{"error":"Too many requests"}"#, LimitExceeded, LimitExceeded),
            // Whole words, and none of a name.
            ("Event 'payments/limit/exceeded' not found", Refused, Unauthenticated),
            ("Unknown field \"busy\", the engine's own", Refused, Unauthenticated),
            ("Unlimited events need another plan", Refused, Unauthenticated),
            ("the schema has no momentum", Refused, Unauthenticated),
            // Another key is meant.
            ("Invalid access key. Please check it and try again", Unavailable, Unauthenticated),
            ("Unauthorized, try again", Unavailable, Unauthenticated),
            ("Access denied; try again later", Unavailable, Unauthenticated),
            ("Internal error: invalid state; try again", Unavailable, Unavailable),
            ("Too many invalid attempts", LimitExceeded, LimitExceeded),
        ] {
            let (read, login) = (Error::from_refusal(words), Error::from_login_refusal(words));
            assert_eq!((read.kind(), login.kind()), (kind, of_a_login), "{words}");
            let inside = ["internal error", "internal server", "timed out", "deadline", "failed to", "could not"];
            let inside = kind == Refused && inside.iter().any(|part| words.to_lowercase().contains(part));
            let unsure = inside || words.is_empty();
            assert_eq!((read.may_have_happened(), login.may_have_happened()), (unsure, false), "{words}");
            let coded = words.starts_with("forbidden");
            assert_eq!(read.is_read_from_words(), !coded, "{words}");
            assert!(words.is_empty() || words.ends_with(&login.to_string()), "{login}");
        }
        assert!(Error::from_refusal("interrupted: the disk failed meanwhile").may_have_happened());
        assert_eq!(Error::from_refusal(&format!("{} try again", "é".repeat(1 << 20))).kind(), Refused);
    }

    #[test]
    fn what_the_command_contains_is_no_reason() {
        use ErrorKind::{LimitExceeded, Refused, Unavailable};
        let publish = |event: &str| {
            Command::Publish(Publish {
                event: event.parse().unwrap(),
                recipient: AppId::from_bytes([7; 32]),
                payload: WirePayload::from_wire(String::new()),
                metadata: Metadata::default(),
                payload_metadata: None,
                idempotency_key: Some("busy-7".parse().unwrap()),
            })
        };
        let pause = |reason: &str| Command::Pause { event: "a/b".parse().unwrap(), reason: reason.into() };
        let discard = Command::Settle(Settle {
            id: "quota-1".parse().unwrap(),
            event: Some("a/limit".parse().unwrap()),
            block: None,
            how: Settlement::Discard { reason: "too many of them".into() },
        });
        let subscribe = |event: &str| Command::Unsubscribe { event: event.parse().unwrap() };
        for (command, text, kind) in [
            (publish("payments/limit/exceeded"), "no event payments/limit/exceeded", Refused),
            (publish("payments/limit/exceeded"), "rate limit of payments/limit/exceeded reached", LimitExceeded),
            // The size is not what the limit is on, but the event's name.
            (publish("payload/size"), "rate limit of payload/size reached", LimitExceeded),
            (publish("engine/restart/requested"), "Unknown event: engine/restart/requested.", Refused),
            (publish("engine/restart/requested"), "engine/restart/requested: the engine is restarting", Unavailable),
            (publish("a"), "a moment, a restart", Unavailable),
            (publish("a/b"), "key busy-7 is taken", Refused),
            (publish("a/b"), "key busy-70 is taken", Unavailable),
            (pause("busy until noon"), "cannot pause a/b (busy until noon)", Refused),
            (pause(" "), "busy", Unavailable),
            (discard.clone(), "quota-1 of a/limit: too many of them", Refused),
            (discard, "quota-1 of a/limit: too many requests", LimitExceeded),
            (subscribe("starting/unavailable"), "starting/unavailable is not known", Refused),
            // A code of ours is no word.
            (publish("a/b"), "limit_exceeded: a/b", LimitExceeded),
        ] {
            let read = Error::from_refusal(text).in_answer_to(&command);
            assert_eq!((read.kind(), read.may_have_happened()), (kind, false), "{text}");
            assert!(text.ends_with(&read.to_string()), "{read}");
        }
        let nothing = Error::from_refusal(" ").in_answer_to(&publish("a/b"));
        assert!(nothing.may_have_happened() && nothing.to_string().contains("no reason"));
        let recipient = AppId::from_bytes([7; 32]);
        let text = format!("no app {recipient}");
        assert_eq!(contained(&publish("a/b")), ["a/b", &recipient.to_string(), "busy-7"]);
        assert_eq!(Error::from_refusal(&text).in_answer_to(&publish("a/b")).kind(), Refused);
    }

    #[test]
    fn words_about_a_session_are_told_from_others() {
        let of = |event: &str| Command::Unsubscribe { event: event.parse().unwrap() };
        for (event, text, is) in [
            ("a/b", "Client not found", true),
            ("a/b", "Invalid client_id", true),
            ("a/b", "clientId unknown", true),
            ("a/b", "SessionExpired", true),
            ("a/b", "the session has expired; log in again", true),
            ("a/b", "No such session", true),
            ("a/b", "failed to find client: it does not exist", true),
            ("a/b", "Event not found", false),
            ("a/b", "the client may not do that", false),
            ("client/invalid", "client/invalid is not known", false),
            ("a/b", "event 'session' not found", false),
            ("a/b", "unauthenticated: no such session", false),
            ("a/b", "client limit reached, unknown until when", false),
            ("a/b", "", false),
        ] {
            assert_eq!(Error::from_refusal(text).may_be_of_the_session(&of(event)), is, "{text}");
        }
    }
}
