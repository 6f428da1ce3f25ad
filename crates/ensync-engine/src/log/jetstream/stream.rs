//! Messages of the stream: published, and read back so that none is missed which the stream has.

use std::fmt::Display;
use std::time::Duration;

use async_nats::header::{HeaderMap, NATS_EXPECTED_LAST_SEQUENCE, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_ROLLUP};
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::{Info, RawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{HeaderValue, StatusCode};
use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result, Timestamp};
use futures::StreamExt;

use super::nats::Nats;
use super::settings::Subjects;

/// How many messages are asked for at a time.
const AT_ONCE: u64 = 256;

/// A stream of a log, and how it is asked.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) nats: Nats,
    pub(super) context: Context,
    pub(super) stream: Stream<()>,
    pub(super) name: String,
    pub(super) subjects: Subjects,
    /// How long an answer is waited for.
    pub(super) patience: Duration,
}

/// A message as the stream has it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) bytes: Bytes,
    pub(super) at: Timestamp,
}

/// What the stream has to be like for a message to get in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expect {
    /// The last message of all has this sequence.
    Last(u64),
    /// The last message with the same subject has.
    LastOfSubject(u64),
}

/// What became of a message that was published.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It has this sequence.
    Stored(u64),
    /// The stream is not as it expected. It is not stored.
    Unexpected,
    /// It is not stored, for this reason.
    Refused(Refusal),
    /// Nobody knows.
    Unknown(String),
}

/// Why the stream does not take a message.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) why: String,
    /// Whether space would help.
    pub(super) full: bool,
}

impl Link {
    /// Publishes a message. What becomes of it is told by [`outcome`](Self::outcome): messages reach the server in the order of these
    /// calls.
    pub(super) async fn publish(
        &self,
        (subject, bytes): (String, Bytes),
        expect: Expect,
        rollup: bool,
    ) -> Result<PublishAckFuture, PublishError> {
        let mut headers = HeaderMap::new();
        match expect {
            Expect::Last(sequence) => headers.insert(NATS_EXPECTED_LAST_SEQUENCE, HeaderValue::from(sequence)),
            Expect::LastOfSubject(sequence) => {
                headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(sequence));
            }
        }
        if rollup {
            headers.insert(NATS_ROLLUP, "sub");
        }
        self.context.send_publish(subject, PublishMessage::build().payload(bytes).headers(headers)).await
    }

    /// What an answer says, or its absence.
    pub(super) fn outcome(&self, answer: Result<PublishAck, PublishError>) -> Outcome {
        let error = match answer {
            Ok(ack) if ack.stream == self.name => return Outcome::Stored(ack.sequence),
            Ok(ack) => {
                let why = format!("the stream {} took it instead", ack.stream);
                return Outcome::Refused(Refusal { why, full: false });
            }
            Err(error) => error,
        };
        let refused = |full| Outcome::Refused(Refusal { why: error.to_string(), full });
        match error.kind() {
            PublishErrorKind::WrongLastSequence => Outcome::Unexpected,
            PublishErrorKind::MaxPayloadExceeded => refused(false),
            PublishErrorKind::Other => {
                let said = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<jetstream::Error>());
                match said.map(jetstream::Error::error_code) {
                    Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT) => Outcome::Unexpected,
                    Some(
                        ErrorCode::STREAM_STORE_FAILED
                        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
                        | ErrorCode::INSUFFICIENT_RESOURCES
                        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
                    ) => refused(true),
                    Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM) => refused(false),
                    // A server that is not the leader any more, say: another copy may be under way.
                    _ => Outcome::Unknown(error.to_string()),
                }
            }
            _ => Outcome::Unknown(error.to_string()),
        }
    }

    /// The messages from a sequence on and up to another, in order: at least one if there is one, and not many more than so many bytes.
    /// Between two of them the stream has none, and none before the first.
    pub(super) async fn next(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Stored>> {
        if from > to {
            return Ok(Vec::new());
        }
        let count = (to - from).saturating_add(1).min(AT_ONCE);
        let mut found = match self.direct(from, count, max_bytes).await {
            Ok(found) => found,
            Err(cause) => {
                tracing::debug!(stream = self.name, %cause, "a batch of messages cannot be read; the leader is asked");
                Vec::new()
            }
        };
        found.retain(|message| (from..=to).contains(&message.sequence));
        let mut expected = from;
        for index in 0..=found.len() {
            let got = found.get(index).map(|message| message.sequence);
            if got == Some(expected) {
                expected += 1;
            } else if got.is_none() && index > 0 {
                // Whoever wants more asks again.
                break;
            } else {
                // A replica that lags behind has gaps which the stream does not have.
                let next = self.leader_next(&self.subjects.all(), expected).await?.filter(|next| next.sequence <= to);
                match next {
                    Some(next) if Some(next.sequence) == got => expected = next.sequence + 1,
                    next => {
                        found.truncate(index);
                        found.extend(next);
                        break;
                    }
                }
            }
        }
        Ok(found)
    }

    /// What some replica has.
    async fn direct(&self, from: u64, count: u64, max_bytes: usize) -> Result<Vec<Stored>, String> {
        let client = self.nats.client();
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|cause| cause.to_string())?;
        let request = if count == 1 {
            serde_json::json!({ "seq": from })
        } else {
            serde_json::json!({ "seq": from, "batch": count, "max_bytes": max_bytes.max(1), "next_by_subj": self.subjects.all() })
        };
        let subject = format!("$JS.API.DIRECT.GET.{}", self.name);
        let sent = client.publish_with_reply(subject, inbox, request.to_string().into()).await;
        sent.map_err(|cause| cause.to_string())?;
        let mut found: Vec<Stored> = Vec::new();
        loop {
            let next = tokio::time::timeout(self.patience, answers.next()).await;
            let message = next.map_err(|_| "no answer".to_owned())?.ok_or("the connection ended")?;
            match message.status {
                None => {}
                // The end of the batch, or nothing to be found.
                Some(StatusCode::NOT_FOUND) => return Ok(found),
                Some(status) if status.as_u16() == 204 => return Ok(found),
                Some(status) => return Err(format!("status {status} {}", message.description.unwrap_or_default())),
            }
            let message = stored(message).ok_or("a message without its sequence")?;
            if found.last().is_some_and(|last| last.sequence >= message.sequence) {
                return Err("messages out of order".to_owned());
            }
            found.push(message);
            if found.len() as u64 >= count {
                return Ok(found);
            }
        }
    }

    /// The next message with a subject from a sequence on, as the stream's leader has it.
    pub(super) async fn leader_next(&self, subject: &str, from: u64) -> Result<Option<Stored>> {
        let from = from.max(1);
        self.raw(self.stream.raw_message_builder().sequence(from).next_by_subject(subject).send().await)
    }

    /// The last message with a subject, as the stream's leader has it.
    pub(super) async fn leader_last(&self, subject: &str) -> Result<Option<Stored>> {
        self.raw(self.stream.raw_message_builder().last_by_subject(subject).send().await)
    }

    fn raw(
        &self,
        answer: Result<jetstream::message::StreamMessage, jetstream::stream::RawMessageError>,
    ) -> Result<Option<Stored>> {
        match answer {
            Ok(message) => {
                let at = u64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
                Ok(Some(Stored { sequence: message.sequence, bytes: message.payload, at: Timestamp::from_millis(at) }))
            }
            Err(error) => match error.kind() {
                RawMessageErrorKind::NoMessageFound => Ok(None),
                RawMessageErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    Err(self.gone())
                }
                _ => Err(self.unavailable("read", &error)),
            },
        }
    }

    pub(super) async fn info(&self) -> Result<Info> {
        self.stream.get_info().await.map_err(|cause| self.unavailable("look at", &cause))
    }

    pub(super) fn unavailable(&self, what: &str, cause: &dyn Display) -> Error {
        let (name, servers) = (&self.name, self.nats.servers());
        let message = format!(
            "cannot {what} the stream {name} on NATS at {servers}: {cause}; check that a majority of its servers runs and can be reached"
        );
        Error::new(ErrorKind::Unavailable, message)
    }

    /// The stream is not there any more.
    pub(super) fn gone(&self) -> Error {
        let (name, servers) = (&self.name, self.nats.servers());
        let message = format!(
            "the stream {name} on NATS at {servers} was deleted: restore it from a backup, then start the engine again"
        );
        Error::new(ErrorKind::InvalidInput, message)
    }

    /// The stream goes on before what it had acknowledged: positions would be given out once more.
    pub(super) fn lost(&self, stored: u64, end: u64) -> Error {
        let (name, servers) = (&self.name, self.nats.servers());
        let message = format!(
            "the stream {name} on NATS at {servers} lost messages that it had acknowledged: message {stored} was stored, and it goes on at {end} now; \
             look after the disks of the servers, then start the engine again"
        );
        Error::new(ErrorKind::InvalidInput, message)
    }
}

/// A message that came by direct get: what it is says its headers.
fn stored(message: async_nats::Message) -> Option<Stored> {
    let headers = message.headers.as_ref()?;
    let sequence = headers.get("Nats-Sequence")?.as_str().parse().ok()?;
    let at = headers.get("Nats-Time-Stamp").and_then(|at| async_nats::datetime::parse_rfc3339(at.as_str()).ok());
    let at = at.and_then(|at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()).unwrap_or(0);
    Some(Stored { sequence, bytes: message.payload, at: Timestamp::from_millis(at) })
}
