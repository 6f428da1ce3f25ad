//! The stream of a log: made with the settings that a log needs, or checked for them.

use async_nats::jetstream::context::{
    CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, RequestError, RequestErrorKind,
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use ensync_core::{Error, ErrorKind, Result};

use super::JetStreamOptions;
use super::message::Id;
use super::nats::{Nats, check_version, unusable};

/// What the stream's metadata says of the log.
const ID: &str = "ensync-log";
const FORMAT: &str = "ensync-format";
const VERSION: &str = "1";
/// What servers from 2.11 on say of themselves in the metadata of each stream.
const SERVER: &str = "_nats.ver";
/// JetStream is not enabled at all, or not for the account.
const NOT_ENABLED: [u64; 2] = [10_039, 10_076];

/// The names of a log's subjects.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    prefix: String,
}

impl Subjects {
    pub(super) fn of(name: &str) -> Self {
        Self { prefix: format!("ensync.log.{name}") }
    }

    pub(super) fn all(&self) -> String {
        format!("{}.>", self.prefix)
    }

    pub(super) fn openings(&self) -> String {
        format!("{}.open", self.prefix)
    }

    /// Of a part of the log, by the sequence with which it begins.
    pub(super) fn part(&self, first: u64) -> String {
        format!("{}.part.{first}", self.prefix)
    }

    pub(super) fn parts(&self) -> String {
        format!("{}.part.*", self.prefix)
    }

    /// The sequence with which the part begins whose subject this is.
    pub(super) fn first_of(&self, subject: &str) -> Option<u64> {
        subject.strip_prefix(&self.prefix)?.strip_prefix(".part.")?.parse().ok()
    }
}

/// Whether a log may be called this: a name that is one in NATS, too.
pub(super) fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=64).contains(&name.len()) && name.chars().all(good) {
        return Ok(());
    }
    Err(unusable(format!("a log cannot be named {name:?}: 1 to 64 of A to Z, a to z, 0 to 9, - and _")))
}

/// Finds the stream, or makes it where there is none. With the log's id.
pub(super) async fn stream(
    nats: &Nats,
    context: &Context,
    name: &str,
    options: &JetStreamOptions,
) -> Result<(Info, Id)> {
    let wanted = config(name, options, crate::random::random()?);
    let servers = nats.servers();
    let mut info = None;
    // Another engine may make it between the two, and then has.
    for _ in 0..2 {
        match context.get_stream(name).await {
            Ok(found) => {
                info = Some(found.cached_info().clone());
                break;
            }
            Err(cause) => match cause.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
                GetStreamErrorKind::JetStream(error) if NOT_ENABLED.contains(&error.error_code().0) => {
                    return Err(not_enabled(servers));
                }
                _ if has_no_responders(&cause) => return Err(not_enabled(servers)),
                _ => return Err(not_answered("find", name, servers, &cause)),
            },
        }
        match context.create_stream(wanted.clone()).await {
            Ok(made) => {
                info = Some(made.cached_info().clone());
                break;
            }
            Err(cause) => match cause.kind() {
                CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => {}
                CreateStreamErrorKind::JetStream(error) => {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        format!(
                            "NATS at {servers} does not make the stream {name}: {error}; it was asked for {} replicas in files, with the subjects {}",
                            wanted.num_replicas,
                            wanted.subjects.join(", ")
                        ),
                    ));
                }
                _ => return Err(not_answered("make", name, servers, &cause)),
            },
        }
    }
    let Some(info) = info else {
        return Err(not_answered("make", name, servers, &"it comes and goes"));
    };
    let id = check(&info.config, &wanted, servers)?;
    Ok((info, id))
}

/// Whether nobody listens where JetStream would.
fn has_no_responders(cause: &GetStreamError) -> bool {
    let request = std::error::Error::source(cause).and_then(|cause| cause.downcast_ref::<RequestError>());
    request.is_some_and(|request| request.kind() == RequestErrorKind::NoResponders)
}

fn not_enabled(servers: &str) -> Error {
    unusable(format!(
        "JetStream is not enabled on nats-server at {servers}, or not for this account: add a jetstream block to the server's configuration, or \
         enable it for the account"
    ))
}

fn not_answered(what: &str, name: &str, servers: &str, cause: &dyn std::fmt::Display) -> Error {
    let message = format!(
        "cannot {what} the stream {name} on NATS at {servers}: {cause}; check that JetStream is enabled there and that a majority of its servers runs"
    );
    Error::new(ErrorKind::Unavailable, message)
}

fn config(name: &str, options: &JetStreamOptions, id: Id) -> Config {
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    Config {
        name: name.to_owned(),
        description: Some("a log of EnSync engines; nobody else publishes here".to_owned()),
        subjects: vec![Subjects::of(name).all()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        max_bytes: options.max_bytes.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1),
        max_messages: -1,
        max_messages_per_subject: -1,
        num_replicas: options.replicas.get().into(),
        allow_direct: true,
        allow_rollup: true,
        deny_delete: true,
        metadata: [(ID.to_owned(), hex), (FORMAT.to_owned(), VERSION.to_owned())].into(),
        ..Config::default()
    }
}

/// Refuses a stream with other settings, and says which they are.
fn check(found: &Config, wanted: &Config, servers: &str) -> Result<Id> {
    let name = &found.name;
    match found.metadata.get(SERVER) {
        Some(version) => check_version(version, servers)?,
        None => {
            return Err(unusable(format!(
                "the server that answers for the stream {name} at {servers} is too old: a log needs nats-server 2.11 or later on every server of \
                 the cluster; upgrade it"
            )));
        }
    }
    if found.metadata.get(FORMAT).is_some_and(|format| format != VERSION) {
        return Err(unusable(format!("the stream {name} is of a later version of the engine; use that one")));
    }
    let mut wrong = Vec::new();
    let mut expect = |setting: &str, right: bool, has: String, needs: &str| {
        if !right {
            wrong.push(format!("{setting} is {has}, and must be {needs}"));
        }
    };
    let or_none = |number: i64| if number <= 0 { "none".to_owned() } else { number.to_string() };
    expect("subjects", found.subjects == wanted.subjects, found.subjects.join(", "), &wanted.subjects.join(", "));
    expect("storage", found.storage == StorageType::File, "memory".into(), "file");
    expect("retention", found.retention == RetentionPolicy::Limits, format!("{:?}", found.retention), "limits");
    expect("discard", found.discard == DiscardPolicy::New, "old".into(), "new");
    expect("max_age", found.max_age.is_zero(), format!("{:?}", found.max_age), "none");
    expect("max_msgs", found.max_messages <= 0, or_none(found.max_messages), "none");
    let per_subject = found.max_messages_per_subject;
    expect("max_msgs_per_subject", per_subject <= 0, or_none(per_subject), "none");
    let size = found.max_message_size;
    expect("max_msg_size", size <= 0, or_none(size.into()), "none");
    let replicas = (found.num_replicas, wanted.num_replicas);
    expect("replicas", replicas.0 >= replicas.1, replicas.0.to_string(), &format!("{} or more", replicas.1));
    expect("allow_direct", found.allow_direct, "false".into(), "true");
    expect("allow_rollup_hdrs", found.allow_rollup, "false".into(), "true");
    expect("deny_delete", found.deny_delete, "false".into(), "true");
    expect("deny_purge", !found.deny_purge, "true".into(), "false");
    expect("no_ack", !found.no_ack, "true".into(), "false");
    expect("sealed", !found.sealed, "true".into(), "false");
    let others = found.mirror.is_some() || found.sources.as_ref().is_some_and(|sources| !sources.is_empty());
    expect("mirror or sources", !others, "set".into(), "unset");
    expect("subject_transform", found.subject_transform.is_none(), "set".into(), "unset");
    let id = found.metadata.get(ID).and_then(|hex| id_of(hex));
    expect("metadata ensync-log", id.is_some(), "no id".into(), "32 hexadecimal digits");
    match id {
        Some(id) if wrong.is_empty() => Ok(id),
        _ => Err(unusable(format!(
            "the stream {name} at {servers} is not made as a log needs it: {}; change that with the nats tool, or name another stream",
            wrong.join("; ")
        ))),
    }
}

fn id_of(hex: &str) -> Option<Id> {
    let digits: Vec<u8> =
        hex.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).filter_map(|two| Some(two.first()? << 4 | two.get(1)?)).collect();
    if digits.len().is_multiple_of(2) { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_from_the_metadata() {
        let options = JetStreamOptions::default();
        let id = *b"0123456789abcdef";
        let mut made = config("A", &options, id);
        made.metadata.insert(SERVER.to_owned(), "2.11.3".to_owned());
        assert_eq!(check(&made, &config("A", &options, [0; 16]), "nats:4222").unwrap(), id);
        for wrong in ["", "00", "zz", "303132333435363738396162636465", "3031323334353637383961626364656"] {
            assert_eq!(id_of(wrong), None);
        }
    }

    #[test]
    fn every_other_setting_is_named() {
        let options = JetStreamOptions::default();
        let wanted = config("A", &options, [1; 16]);
        let mut other = wanted.clone();
        other.metadata.insert(SERVER.to_owned(), "2.11.3".to_owned());
        (other.storage, other.discard, other.max_messages) = (StorageType::Memory, DiscardPolicy::Old, 9);
        (other.allow_direct, other.max_age) = (false, std::time::Duration::from_secs(1));
        let message = check(&other, &wanted, "nats:4222").unwrap_err().to_string();
        for part in [
            "stream A at nats:4222",
            "storage is memory",
            "discard is old",
            "max_msgs is 9",
            "allow_direct is false",
            "max_age is 1s",
        ] {
            assert!(message.contains(part), "{message} lacks {part:?}");
        }
        other.metadata.remove(SERVER);
        assert!(check(&other, &wanted, "nats:4222").unwrap_err().to_string().contains("2.11"));
    }

    #[test]
    fn names_are_of_both_worlds() {
        for good in ["a", "ENSYNC_orders-0", &"x".repeat(64)] {
            check_name(good).unwrap();
        }
        for bad in ["", "a.b", "a b", "*", ">", "ä", &"x".repeat(65)] {
            check_name(bad).unwrap_err();
        }
        let subjects = Subjects::of("a");
        assert_eq!(subjects.first_of(&subjects.part(12)), Some(12));
        assert_eq!(subjects.first_of(&subjects.openings()), None);
    }
}
