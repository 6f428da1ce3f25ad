//! What the program exits with, and how an error is told: as one line, or, with `--json`, as one JSON object.

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

use ensync_sdk::ErrorKind;
use ensync_sdk::core::report;
use serde_json::json;

use crate::foreign;

macro_rules! exits {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $word:literal, $says:literal;)*) => {
        /// What the program exits with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Exit { $($(#[$doc])* $name = $code,)* }

        impl Exit {
            /// Every code but 0: the code, its word in JSON, and when it is used.
            pub(crate) const ALL: &'static [(u8, &'static str, &'static str)] = &[$(($code, $word, $says),)*];

            fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

exits! {
    Failed = 1, "failed", "it failed in a way that none of the codes below names; an engine did not start";
    Usage = 2, "usage", "it was told something wrong: an argument, a variable, a file, a payload";
    Unfinished = 3, "unfinished", "an engine stopped as it was told, but not everybody had finished";
    NotFound = 4, "not_found", "there is no such app, event name, event or context";
    Denied = 5, "denied", "the key or token is not known, or does not allow it";
    Unreachable = 6, "unreachable", "the engine was not reached, did not answer, or cannot do it now: try again later";
    Partly = 7, "partly", "some of it was done: some recipients or lines were served, and others not";
    Conflict = 8, "conflict", "it contradicts what is there: it exists already, or is in use";
    Unreadable = 9, "unreadable", "an envelope cannot be opened with the keys at hand";
    Output = 10, "output", "the result could not be written, such as to a full disk";
}

impl Exit {
    /// The code for a kind of error.
    pub(crate) fn of(kind: ErrorKind) -> Self {
        use ErrorKind as Kind;
        match kind {
            Kind::InvalidUrl
            | Kind::FeatureDisabled
            | Kind::InvalidEventName
            | Kind::InvalidKey
            | Kind::InvalidInput
            | Kind::InvalidPayload
            | Kind::PayloadTooLarge
            | Kind::SchemaMismatch
            | Kind::Unsupported => Self::Usage,
            Kind::NotFound | Kind::UnknownEvent | Kind::UnknownRecipient => Self::NotFound,
            Kind::Unauthenticated | Kind::Forbidden => Self::Denied,
            Kind::Connect
            | Kind::Tls
            | Kind::Timeout
            | Kind::Interrupted
            | Kind::Closed
            | Kind::Unavailable
            | Kind::LimitExceeded => Self::Unreachable,
            Kind::PartiallyPublished => Self::Partly,
            Kind::Conflict | Kind::StaleDelivery => Self::Conflict,
            Kind::MalformedEnvelope
            | Kind::UnsupportedEnvelope
            | Kind::NotForMe
            | Kind::DoesNotOpen
            | Kind::Misdirected
            | Kind::SenderNotVerified
            | Kind::BadSignature
            | Kind::Decode => Self::Unreadable,
            // Whatever comes after these.
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error of the tool's own.
#[derive(Debug)]
pub(crate) struct Problem {
    exit: Exit,
    /// The word for programs, if another error said it better than the exit code does.
    kind: Option<&'static str>,
    message: String,
}

impl Problem {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, kind: None, message: message.into() }
    }

    /// It was told something wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What the library says.
    pub(crate) fn of(error: &ensync_sdk::Error) -> Self {
        let kind = error.kind();
        Self { exit: Exit::of(kind), kind: Some(kind.code()), message: report(error) }
    }

    /// The same, told otherwise.
    pub(crate) fn with_message(self, message: String) -> Self {
        Self { message, ..self }
    }

    /// What the library says, with where it happened.
    pub(crate) fn at(place: impl fmt::Display, error: &ensync_sdk::Error) -> Self {
        let kind = error.kind();
        Self { exit: Exit::of(kind), kind: Some(kind.code()), message: format!("{place}: {}", report(error)) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Problem {}

/// Whoever read standard output has gone, which is no failure: nothing is said of it.
#[derive(Debug)]
pub(crate) struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("whoever read standard output has closed it")
    }
}

impl StdError for ReaderGone {}

/// The code for an error, and its word for programs.
pub(crate) fn told(error: &(dyn StdError + 'static)) -> (Exit, &'static str) {
    if let Some(problem) = error.downcast_ref::<Problem>() {
        return (problem.exit, problem.kind.unwrap_or(problem.exit.word()));
    }
    match error.downcast_ref::<ensync_sdk::Error>() {
        Some(error) => (Exit::of(error.kind()), error.kind().code()),
        None => (Exit::Failed, Exit::Failed.word()),
    }
}

/// The error of an engine: it was told something wrong, it could not finish, or it failed.
pub(crate) fn of_an_engine(error: Box<dyn StdError>) -> Box<dyn StdError> {
    match error.downcast_ref::<Problem>().map(|problem| problem.exit) {
        Some(Exit::Usage | Exit::Unfinished) => error,
        _ => Problem::new(Exit::Failed, report(&*error)).into(),
    }
}

/// An error as it is printed.
pub(crate) fn shown(error: &(dyn StdError + 'static), json: bool) -> String {
    let message = foreign::message(&report(error));
    let (exit, kind) = told(error);
    match json {
        true => as_json(exit, kind, &message),
        false => format!("ensync: {message}"),
    }
}

/// The one shape of errors for programs.
pub(crate) fn as_json(exit: Exit, kind: &str, message: &str) -> String {
    let error = json!({"error": {"kind": kind, "message": message, "exit_code": exit as u8}});
    foreign::json(&error.to_string())
}

/// The codes, for `--help`.
pub(crate) fn list() -> String {
    let lines = Exit::ALL.iter().map(|(code, word, says)| format!("  {code:>2}  {word:<12} {says}"));
    let lines: Vec<_> = std::iter::once("   0  -            it was done".to_owned()).chain(lines).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_code() {
        let codes: Vec<_> = ErrorKind::ALL.iter().map(|kind| (kind.code(), Exit::of(*kind) as u8)).collect();
        for (kind, code) in [("unknown_event", 4), ("forbidden", 5), ("connect", 6), ("conflict", 8), ("not_for_me", 9)]
        {
            assert!(codes.contains(&(kind, code)), "{kind}");
        }
        // What is nobody's fault that the tool could name.
        let others: Vec<_> = codes.iter().filter(|(_, code)| *code == 1).map(|(kind, _)| *kind).collect();
        assert_eq!(others, ["refused", "protocol", "internal"]);
    }

    #[test]
    fn an_engine_has_three_ways_to_fail() {
        let code = |error: Box<dyn StdError>| told(&*of_an_engine(error)).0 as u8;
        let taken = || ensync_sdk::Error::new(ErrorKind::InvalidInput, "cannot listen");
        assert_eq!(code(taken().into()), 1);
        assert_eq!(code(Problem::new(Exit::Output, "no").into()), 1);
        assert_eq!(code(Problem::usage("no").into()), 2);
        assert_eq!(code(Problem::new(Exit::Unfinished, "no").into()), 3);
    }

    #[test]
    fn an_error_is_one_line_or_one_object() {
        let error = Problem::usage("--to: no");
        assert_eq!(shown(&error, false), "ensync: --to: no");
        assert_eq!(shown(&error, true), r#"{"error":{"exit_code":2,"kind":"usage","message":"--to: no"}}"#);
        let error = ensync_sdk::Error::new(ErrorKind::UnknownEvent, "no\u{1b}[2J");
        let shown: serde_json::Value = serde_json::from_str(&shown(&error, true)).unwrap();
        assert_eq!((&shown["error"]["kind"], &shown["error"]["exit_code"]), (&"unknown_event".into(), &4.into()));
    }
}
