use std::time::Duration;

use ensync_core::{Command, Error, ErrorKind, EventId, Reply, Result, Settlement, Timestamp};

use super::record::{parse_record, record};
use super::{PING, PONG, sort_of};

/// Before the time of the next delivery, in the answer to a defer. Peers only look at `+PASS`.
const DELIVERY_TIME: &str = "deliveryTime=";

/// Before the length of a lease that starts anew.
const LEASE: &str = "leaseMs=";

/// What an engine sends, told apart by how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed<'a> {
    /// The answer to the oldest request that has none.
    Answer(Answer<'a>),
    /// `+RECORD:` and this JSON: a delivery, for [`parse_record`].
    Record(&'a str),
    /// Text `PING`, to be answered with `PONG`.
    Ping,
    /// Text `PONG`.
    Pong,
}

impl<'a> Pushed<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`] if it begins like none of them.
    pub fn parse(frame: &'a str) -> Result<Self> {
        if let Some(json) = frame.strip_prefix("+RECORD:") {
            return Ok(Self::Record(json));
        }
        match frame.trim_ascii_end() {
            PING => return Ok(Self::Ping),
            PONG => return Ok(Self::Pong),
            _ => {}
        }
        Answer::parse(frame).map(Self::Answer)
    }
}

/// An answer, not yet read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// `+PASS:` and this text.
    Pass(&'a str),
    /// `+REPLAY:` and this JSON.
    Replay(&'a str),
    /// `-FAIL:` and this reason.
    Fail(&'a str),
}

impl<'a> Answer<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`] if it is no answer.
    pub fn parse(frame: &'a str) -> Result<Self> {
        let after = |prefix| frame.strip_prefix(prefix).map(str::trim_ascii);
        if let Some(text) = after("+PASS:") {
            Ok(Self::Pass(text))
        } else if let Some(json) = after("+REPLAY:") {
            Ok(Self::Replay(json))
        } else if let Some(reason) = after("-FAIL:") {
            Ok(Self::Fail(reason))
        } else if frame.trim_ascii() == "-FAIL" {
            Ok(Self::Fail(""))
        } else {
            let (length, found) = (frame.len(), sort_of(frame));
            let message =
                format!("a frame of {length} bytes that begins with {found} is neither an answer nor an event");
            Err(Error::new(ErrorKind::Protocol, message))
        }
    }

    /// Whether an answer of this form can be meant for a command that expects `expect`. If not, answers and requests no longer
    /// belong together.
    pub fn fits(&self, expect: Expect) -> bool {
        !matches!(self, Self::Replay(_)) || expect == Expect::Replayed
    }

    /// What it says to the command that it answers.
    ///
    /// # Errors
    ///
    /// The engine's refusal; [`ErrorKind::Protocol`] if the answer does not hold what the command asked for.
    pub fn read(&self, expect: Expect) -> Result<Reply> {
        let wrong = |what: &str| Error::new(ErrorKind::Protocol, format!("the engine's answer {what}"));
        match (*self, expect) {
            (Self::Fail(reason), _) => Err(Error::from_refusal(reason)),
            (Self::Pass(json) | Self::Replay(json), Expect::Replayed) => parse_record(json)
                .map(|delivery| Reply::Replayed(Box::new(delivery)))
                .map_err(|cause| wrong("to replay holds no event").with_source(cause)),
            (Self::Replay(_), _) => Err(wrong("is an event, and none was asked for")),
            (Self::Pass(_), Expect::Done) => Ok(Reply::Done),
            (Self::Pass(id), Expect::Published) => EventId::parse(id)
                .map(|id| Reply::Published { id })
                .map_err(|cause| wrong("to publish holds no event id").with_source(cause)),
            (Self::Pass(text), Expect::Deferred) => {
                let until = text.strip_prefix(DELIVERY_TIME).and_then(|ms| ms.parse().ok());
                Ok(Reply::Deferred { until: until.map(Timestamp::from_millis) })
            }
            (Self::Pass(text), Expect::Extended) => {
                let lease = text.strip_prefix(LEASE).and_then(|ms| ms.parse().ok());
                Ok(Reply::Extended { lease: lease.map(Duration::from_millis) })
            }
        }
    }
}

/// Which reply a command expects: what a client keeps of a request until its answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expect {
    /// [`Reply::Done`].
    Done,
    /// [`Reply::Published`].
    Published,
    /// [`Reply::Deferred`].
    Deferred,
    /// [`Reply::Extended`].
    Extended,
    /// [`Reply::Replayed`].
    Replayed,
}

impl Expect {
    /// What `command` expects.
    pub fn of(command: &Command) -> Self {
        match command {
            Command::Publish(_) => Self::Published,
            Command::Settle(settle) => match settle.how {
                Settlement::Defer { .. } => Self::Deferred,
                Settlement::Extend => Self::Extended,
                _ => Self::Done,
            },
            Command::Replay { .. } => Self::Replayed,
            _ => Self::Done,
        }
    }
}

/// Writes the answer to a command.
pub fn write_answer(result: &Result<Reply>) -> String {
    match result {
        Ok(Reply::Published { id }) => format!("+PASS:{id}"),
        Ok(Reply::Deferred { until: Some(until) }) => format!("+PASS:{DELIVERY_TIME}{}", until.as_millis()),
        Ok(Reply::Deferred { until: None }) => "+PASS:deferred".to_owned(),
        Ok(Reply::Extended { lease: Some(lease) }) => format!("+PASS:{LEASE}{}", lease.as_millis()),
        Ok(Reply::Extended { lease: None }) => "+PASS:extended".to_owned(),
        Ok(Reply::Replayed(delivery)) => record("+REPLAY:", delivery),
        Ok(_) => "+PASS:ok".to_owned(),
        Err(refusal) => format!("-FAIL:{}", refusal.to_refusal()),
    }
}
