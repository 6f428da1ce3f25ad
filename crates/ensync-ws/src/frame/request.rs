use std::num::{NonZeroU32, NonZeroU64};

use ensync_core::{
    AppId, AppKey, Block, ClientId, Command, Delay, Error, ErrorKind, EventId, EventName, Extension, IdempotencyKey,
    Metadata, PayloadMetadata, Publish, Result, ServerConfig, Settle, Settlement, Subscribe, WirePayload,
};

use super::fields::{Fields, Writer};
use super::{PING, PONG, VERBS, sort_of};

/// What a client sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// `CONN`: logs in.
    Login(AppKey),
    /// Any other verb.
    Command {
        /// The session that the client says it is.
        client_id: ClientId,
        /// What it asks.
        command: Command,
    },
    /// Text `PING`. Answered at once, out of order.
    Ping,
    /// Text `PONG`: the answer to ours.
    Pong,
}

impl Request {
    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// As [`parse_within`](Self::parse_within).
    pub fn parse(frame: &str) -> Result<Self> {
        Self::parse_within(frame, usize::MAX)
    }

    /// Reads a frame whose metadata has at most so many bytes: what is longer is refused before it is read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the metadata is longer; [`ErrorKind::Protocol`] if the frame is not of the grammar or lacks a key; the kind of the value's own type
    /// ([`InvalidEventName`](ErrorKind::InvalidEventName), [`InvalidKey`](ErrorKind::InvalidKey),
    /// [`InvalidInput`](ErrorKind::InvalidInput)) if a value is not what it should be. The message names verb and key.
    pub fn parse_within(frame: &str, max_metadata_bytes: usize) -> Result<Self> {
        match frame {
            PING => return Ok(Self::Ping),
            PONG => return Ok(Self::Pong),
            _ => {}
        }
        let fields = Fields::split(frame, max_metadata_bytes)?;
        let command = match fields.verb() {
            "CONN" => return fields.read("ACCESS_KEY", AppKey::parse_received).map(Self::Login),
            "PUB" => Command::Publish(publish(&fields)?),
            "SUB" => Command::Subscribe(Subscribe {
                event: event(&fields)?,
                max_in_flight: fields.read_if_there("MAX_IN_FLIGHT", number::<NonZeroU32>)?,
                max_bytes_in_flight: fields.read_if_there("MAX_BYTES_IN_FLIGHT", number::<NonZeroU64>)?,
            }),
            "UNSUB" => Command::Unsubscribe { event: event(&fields)? },
            "ACK" => settle(&fields, Some(block(&fields)?), Settlement::Ack)?,
            "ROLLBACK" => settle(&fields, Some(block(&fields)?), Settlement::Rollback)?,
            "EXTEND" => settle(&fields, Some(block(&fields)?), Settlement::Extend)?,
            "RELEASE" => settle(&fields, Some(block(&fields)?), Settlement::Release)?,
            "DEFER" => {
                let delay = fields.read("DELAY", |text| number::<u64>(text).and_then(Delay::from_millis))?;
                let how = Settlement::Defer { delay, priority: 0, reason: reason(&fields) };
                settle(&fields, fields.read_optional(block_key(&fields), str::parse)?, how)?
            }
            "DISCARD" => {
                let how = Settlement::Discard { reason: reason(&fields) };
                settle(&fields, fields.read_optional(block_key(&fields), str::parse)?, how)?
            }
            "REPLAY" => Command::Replay { id: id(&fields)?, event: event(&fields)? },
            "PAUSE" => Command::Pause { event: event(&fields)?, reason: reason(&fields) },
            "CONTINUE" => Command::Continue { event: event(&fields)? },
            verb => {
                let (found, verbs) = (sort_of(verb), VERBS.join(", "));
                let message =
                    format!("byte 0 should be a verb, in capitals, but {found} stands there; there are {verbs}");
                return Err(Error::new(ErrorKind::Protocol, message));
            }
        };
        Ok(Self::Command { client_id: fields.read("CLIENT_ID", ClientId::parse)?, command })
    }
}

/// What an engine understands beyond the official protocol, and so what may be written to it.
///
/// The default is an engine that announced nothing. Such an engine may split a frame at every `;`, so there a `;` in a reason goes
/// out as `,`, and one in JSON as `\u003b`: otherwise the text after it could pass for keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dialect {
    /// `PUB` may have `IDEMPOTENCY_KEY`.
    pub deduplication: bool,
    /// `SUB` may have `MAX_IN_FLIGHT` and `MAX_BYTES_IN_FLIGHT`.
    pub flow_control: bool,
    /// `DEFER` and `DISCARD` may have `BLOCK`.
    pub fencing: bool,
    /// There are `EXTEND` and `RELEASE`.
    pub leases: bool,
}

impl Dialect {
    /// Of an engine that has every extension.
    pub const EXTENDED: Self = Self { deduplication: true, flow_control: true, fencing: true, leases: true };

    /// Of the engine that announced this at login.
    pub fn of(config: &ServerConfig) -> Self {
        Self {
            deduplication: config.has(Extension::Deduplication),
            flow_control: config.has(Extension::FlowControl),
            fencing: config.has(Extension::Fencing),
            leases: config.has(Extension::Leases),
        }
    }

    /// Whether it reads a reason to the end of the frame, and JSON to the end of its value: every engine with an extension does.
    fn reads_values_whole(self) -> bool {
        self.deduplication || self.flow_control || self.fencing || self.leases
    }
}

/// Writes the frame that logs in.
pub fn write_login(app_key: &AppKey) -> String {
    Writer::new("CONN", 32 + app_key.expose().len()).token("ACCESS_KEY", app_key.expose()).finish()
}

/// Writes a command's frame.
///
/// # Errors
///
/// [`ErrorKind::MalformedEnvelope`] if the sealed payload is not base64. [`ErrorKind::InvalidInput`] if the frame cannot carry the
/// command: an ack or the like without block, a heartbeat (which is a protocol-level ping, not a frame of text).
/// [`ErrorKind::Unsupported`] if the engine does not have the verb.
pub fn write_request(client_id: &ClientId, command: &Command, dialect: Dialect) -> Result<String> {
    let begin = |verb, more: usize| {
        Writer::new(verb, 96 + client_id.expose().len() + more).token("CLIENT_ID", client_id.expose())
    };
    let cannot = |why: &str| Err(Error::new(ErrorKind::InvalidInput, format!("over WebSocket: {why}")));
    let whole = dialect.reads_values_whole();
    let with_reason = |writer: Writer, reason: &str| {
        if whole { writer.reason(reason) } else { writer.reason(&reason.replace(';', ",")) }
    };
    let about = |verb, event: &EventName| begin(verb, event.as_str().len()).token("EVENT_NAME", event.as_str());
    Ok(match command {
        Command::Publish(publish) if !publish.payload.looks_like_base64() => {
            return Err(Error::new(ErrorKind::MalformedEnvelope, "the sealed payload is not base64 text"));
        }
        Command::Publish(publish) => {
            let more = 256 + publish.event.as_str().len() + publish.payload.len() + publish.metadata.as_str().len();
            write_publish(begin("PUB", more), publish, dialect)
        }
        Command::Subscribe(subscribe) => {
            let mut writer = about("SUB", &subscribe.event);
            if let Some(max) = subscribe.max_in_flight.filter(|_| dialect.flow_control) {
                writer = writer.number("MAX_IN_FLIGHT", max.get().into());
            }
            if let Some(max) = subscribe.max_bytes_in_flight.filter(|_| dialect.flow_control) {
                writer = writer.number("MAX_BYTES_IN_FLIGHT", max.get());
            }
            writer.finish()
        }
        Command::Unsubscribe { event } => about("UNSUB", event).finish(),
        Command::Settle(settle) => {
            let begin = |verb| begin(verb, settle.id.as_str().len()).token("EVENT_IDEM", settle.id.as_str());
            let event = |writer: Writer| match &settle.event {
                Some(event) => writer.token("EVENT_NAME", event.as_str()),
                None => writer,
            };
            let fence = |writer: Writer| match settle.block {
                Some(block) if dialect.fencing => writer.number("BLOCK", block.as_u64()),
                _ => writer,
            };
            match (&settle.how, settle.block) {
                (Settlement::Ack, Some(block)) => event(begin("ACK").number("BLOCK", block.as_u64())).finish(),
                (Settlement::Rollback, Some(block)) => begin("ROLLBACK").number("BLOCK", block.as_u64()).finish(),
                (Settlement::Extend | Settlement::Release, _) if !dialect.leases => {
                    return Err(Extension::Leases.missing());
                }
                (Settlement::Extend, Some(block)) => begin("EXTEND").number("BLOCK", block.as_u64()).finish(),
                (Settlement::Release, Some(block)) => begin("RELEASE").number("BLOCK", block.as_u64()).finish(),
                (Settlement::Ack | Settlement::Rollback | Settlement::Extend | Settlement::Release, None) => {
                    return cannot("the delivery's block is missing");
                }
                (Settlement::Defer { delay, reason, .. }, _) => {
                    with_reason(fence(event(begin("DEFER")).number("DELAY", delay.as_millis())), reason)
                }
                (Settlement::Discard { reason }, _) => with_reason(fence(event(begin("DISCARD"))), reason),
                _ => return cannot("there is no frame for it"),
            }
        }
        Command::Replay { id, event } => {
            begin("REPLAY", 384).token("EVENT_IDEM", id.as_str()).token("EVENT_NAME", event.as_str()).finish()
        }
        Command::Pause { event, reason } => with_reason(about("PAUSE", event), reason),
        Command::Continue { event } => about("CONTINUE", event).finish(),
        Command::Heartbeat => return cannot("heartbeats are protocol-level pings"),
        _ => return cannot("there is no frame for it"),
    })
}

fn write_publish(writer: Writer, publish: &Publish, dialect: Dialect) -> String {
    let mut writer = writer
        .token("EVENT_NAME", publish.event.as_str())
        .token("PAYLOAD", publish.payload.as_str().unwrap_or_default())
        .token("DELIVERY_TO", &publish.recipient.to_string());
    if let Some(key) = publish.idempotency_key.as_ref().filter(|_| dialect.deduplication) {
        writer = writer.token("IDEMPOTENCY_KEY", key.as_str());
    }
    let whole = dialect.reads_values_whole();
    writer = writer.json("METADATA", publish.metadata.as_str(), whole);
    if let Some(about) = &publish.payload_metadata {
        writer = writer.json("PAYLOAD_METADATA", &about.to_json(), whole);
    }
    writer.finish()
}

fn publish(fields: &Fields<'_>) -> Result<Publish> {
    Ok(Publish {
        event: event(fields)?,
        recipient: fields.read("DELIVERY_TO", AppId::parse)?,
        payload: fields.read("PAYLOAD", |text| {
            let payload = WirePayload::from_wire(text.to_owned());
            if payload.looks_like_base64() {
                Ok(payload)
            } else {
                Err(Error::new(
                    ErrorKind::MalformedEnvelope,
                    "not base64 text; it is the base64 of the sealed envelope",
                ))
            }
        })?,
        metadata: fields.read("METADATA", |text| Metadata::received(text, fields.max_metadata))?,
        payload_metadata: fields.read_optional("PAYLOAD_METADATA", PayloadMetadata::received)?.flatten(),
        idempotency_key: fields.read_if_there("IDEMPOTENCY_KEY", IdempotencyKey::parse)?,
    })
}

fn settle(fields: &Fields<'_>, block: Option<Block>, how: Settlement) -> Result<Command> {
    let event = fields.read_optional("EVENT_NAME", EventName::parse)?;
    Ok(Command::Settle(Settle { id: id(fields)?, event, block, how }))
}

fn block(fields: &Fields<'_>) -> Result<Block> {
    fields.read(block_key(fields), str::parse)
}

/// What the block is called here. The Go client names it otherwise where it rolls back; where both are there, `BLOCK` counts.
fn block_key(fields: &Fields<'_>) -> &'static str {
    match (fields.optional("BLOCK"), fields.optional("PARTITION_BLOCK")) {
        (None, Some(_)) => "PARTITION_BLOCK",
        _ => "BLOCK",
    }
}

fn id(fields: &Fields<'_>) -> Result<EventId> {
    fields.read("EVENT_IDEM", EventId::parse)
}

fn event(fields: &Fields<'_>) -> Result<EventName> {
    fields.read("EVENT_NAME", EventName::parse)
}

fn reason(fields: &Fields<'_>) -> String {
    fields.optional("REASON").unwrap_or_default().to_owned()
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    let wrong = |_| {
        let found = match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true if !text.is_empty() => "a number out of its range",
            _ => sort_of(text),
        };
        Error::new(ErrorKind::InvalidInput, format!("not a whole number that it can be: {found}"))
    };
    text.parse().map_err(wrong)
}
