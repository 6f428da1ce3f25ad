//! How a log is opened, and taken over with that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use ensync_core::{Error, ErrorKind, Result};
use futures::TryStreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::cache::Cache;
use super::checkpoint::Checkpoints;
use super::message::{HEAD, Id, Message, Opening};
use super::nats::{Nats, unusable};
use super::settings::{self, Subjects};
use super::stream::{Expect, Link, Outcome, Stored};
use super::writer::Writer;
use super::{JetStreamLog, JetStreamOptions, Running, Shared, Waits};
use crate::log::failure::Failure;
use crate::seldom::Seldom;

/// How often an opening is tried while others open the log, too.
const TRIES: u32 = 8;
/// What of `max_payload` is left to headers.
const HEADERS: usize = 1 << 10;
/// How many jobs wait for the writer.
const WAITING: usize = 64;

impl JetStreamLog {
    /// Opens the log in the stream of this name, and makes the stream if there is none. Whoever had it open stores nothing more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if JetStream is not enabled, the stream has other settings than a log needs, a server is too old, or the
    /// stream holds what no engine of this version wrote; [`ErrorKind::Unavailable`] if the servers do not answer, or refuse.
    pub async fn open(nats: &Nats, name: &str, options: JetStreamOptions) -> Result<Self> {
        settings::check_name(name)?;
        let replicas = options.replicas.get();
        if replicas > 5 || options.part_bytes < 64 << 10 {
            let part = options.part_bytes;
            return Err(unusable(format!(
                "{replicas} replicas, parts of {part} bytes: there are 1 to 5, and parts have 64 KiB or more"
            )));
        }
        let context = nats.jetstream(options.answer_within);
        let (info, id) = settings::stream(nats, &context, name, &options).await?;
        let unavailable = |cause: &dyn std::fmt::Display| {
            let message = format!("cannot look at the stream {name} on NATS at {}: {cause}", nats.servers());
            Error::new(ErrorKind::Unavailable, message)
        };
        let stream = context.get_stream_no_info(name).await.map_err(|cause| unavailable(&cause))?;
        let link = Link {
            nats: nats.clone(),
            context: context.clone(),
            stream,
            name: name.to_owned(),
            subjects: Subjects::of(name),
            patience: options.answer_within,
        };
        let checkpoints = Checkpoints::open(&context, name, id, &options).await?;
        let run = crate::random::random()?;
        let (sequence, epoch) = take_over(&link, &id, &run).await?;
        let openings = openings(&link, &id, sequence).await?;
        let parts = parts(&link).await?;
        let most = nats.max_payload().saturating_sub(HEADERS);
        let max_bytes = u64::try_from(info.config.max_bytes).ok().filter(|bytes| *bytes > 0);
        // Of a small stream no part takes too much.
        let part_bytes = options.part_bytes.min(max_bytes.map_or(u64::MAX, |bytes| (bytes / 16).max(64 << 10)));
        let shared = Arc::new(Shared {
            link,
            id,
            run,
            epoch,
            cache: Cache::new(options.cache_bytes),
            openings: Mutex::new(openings),
            last: AtomicU64::new(sequence),
            parts: Mutex::new(parts),
            sizes: (options.message_bytes.clamp(2 * HEAD, most), most),
            part_bytes,
            max_bytes,
            used: AtomicU64::new(info.state.bytes),
            failure: Failure::default(),
            foreign: Seldom::new(),
            waits: Waits::default(),
            closing: CancellationToken::new(),
        });
        let (jobs, waiting) = mpsc::channel(WAITING);
        let writer = tokio::spawn(Writer::new(shared.clone(), waiting, sequence).run());
        Ok(Self { shared, checkpoints, running: Mutex::new(Some(Running { jobs, writer })) })
    }
}

/// Publishes an opening. Its sequence, and the epoch that begins with it.
async fn take_over(link: &Link, id: &Id, run: &Id) -> Result<(u64, u64)> {
    let mut why = "others open it at the same time".to_owned();
    for _ in 0..TRIES {
        let (last, epoch) = match link.leader_last(&link.subjects.openings()).await? {
            None => (0, 0),
            Some(stored) => {
                let opening = opening(link, id, &stored)?;
                if opening.run == *run {
                    // An earlier try, of which the answer was lost.
                    return Ok((stored.sequence, opening.epoch));
                }
                (stored.sequence, opening.epoch)
            }
        };
        let opening = Opening { epoch: epoch.saturating_add(1), run: *run, attempt: 0 };
        let message = (link.subjects.openings(), opening.encode(id));
        let answer = match link.publish(message, Expect::LastOfSubject(last), false).await {
            Ok(answer) => answer.await,
            Err(error) => Err(error),
        };
        match link.outcome(answer) {
            Outcome::Stored(sequence) => return Ok((sequence, opening.epoch)),
            Outcome::Unexpected => {}
            Outcome::Unknown(cause) => why = cause,
            Outcome::Refused(refusal) => return Err(link.unavailable("open a log in", &refusal.why)),
        }
    }
    Err(link.unavailable("open a log in", &why))
}

/// The message of an opening's subject that is one.
fn opening(link: &Link, id: &Id, stored: &Stored) -> Result<Opening> {
    match Message::decode(&stored.bytes, id) {
        Ok(Message::Opening(opening)) => Ok(opening),
        _ => Err(unusable(format!(
            "message {} of the stream {} is on the subject of openings and is none: the stream is of another log, of a later version, or \
             damaged; restore it from a backup, or name another",
            stored.sequence, link.name
        ))),
    }
}

/// The sequence of every opening, up to the last.
async fn openings(link: &Link, id: &Id, last: u64) -> Result<BTreeSet<u64>> {
    let (mut found, mut from) = (BTreeSet::new(), 1);
    while from <= last {
        let Some(stored) = link.leader_next(&link.subjects.openings(), from).await? else { break };
        opening(link, id, &stored)?;
        from = stored.sequence + 1;
        found.insert(stored.sequence);
    }
    if found.contains(&last) {
        return Ok(found);
    }
    Err(link.unavailable("read", &format_args!("message {last}, which was just stored, is not there")))
}

/// Where each part begins.
async fn parts(link: &Link) -> Result<BTreeMap<u64, Option<super::Part>>> {
    let subjects = link.stream.info_with_subjects(link.subjects.parts()).await;
    let subjects = subjects.map_err(|cause| link.unavailable("look at", &cause))?;
    let found = subjects.try_filter_map(|(subject, _)| {
        let first = link.subjects.first_of(&subject);
        async move { Ok(first.map(|first| (first, None))) }
    });
    found.try_collect().await.map_err(|cause| link.unavailable("look at", &cause))
}
