//! Checkpoints: objects beside the stream, each whole or not there.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::object_store::{Config, ObjectInfo, ObjectMetadata, ObjectStore};
use async_nats::jetstream::stream::StorageType;
use bytes::{BufMut, Bytes, BytesMut};
use ensync_core::{Error, ErrorKind, Result, Timestamp};
use futures::stream::{self, TryStreamExt};
use tokio::io::AsyncReadExt;
use tokio_util::io::StreamReader;

use super::JetStreamOptions;
use super::message::Id;
use super::nats::unusable;
use crate::model::Position;

const MAGIC: &[u8; 8] = b"ENSJCKPT";
/// The length of the header.
const HEAD: usize = 48;
/// Where the checksum is.
const CRC: usize = 40;
/// How many are kept: the second one is for when the first cannot be read.
const KEPT: usize = 2;
/// How long the pieces of an object are.
const CHUNK: usize = 128 << 10;

pub(super) struct Checkpoints {
    store: ObjectStore,
    bucket: String,
    id: Id,
    patience: Duration,
}

impl Checkpoints {
    /// Those of a log, in the object store beside its stream.
    pub(super) async fn open(context: &Context, name: &str, id: Id, options: &JetStreamOptions) -> Result<Self> {
        let bucket = format!("{name}-checkpoints");
        let config = Config {
            bucket: bucket.clone(),
            description: Some("checkpoints of a log of EnSync engines".to_owned()),
            max_bytes: -1,
            storage: StorageType::File,
            num_replicas: options.replicas.get().into(),
            ..Config::default()
        };
        // Made if it is not there; one that is, with these settings, is what this gives as well.
        let store = match context.get_object_store(&bucket).await {
            Ok(store) => store,
            Err(_) => {
                context.create_object_store(config).await.map_err(|cause| unavailable("make", &bucket, &cause))?
            }
        };
        Ok(Self { store, bucket, id, patience: options.answer_within })
    }

    fn unavailable(&self, what: &str, cause: &dyn Display) -> Error {
        unavailable(what, &self.bucket, cause)
    }

    /// Waits for an answer, but not for ever: what reads an object of which a piece is missing waits for that.
    async fn within<T, E: Display>(&self, what: &str, answer: impl Future<Output = Result<T, E>>) -> Result<T> {
        match tokio::time::timeout(self.patience, answer).await {
            Ok(answer) => answer.map_err(|cause| self.unavailable(what, &cause)),
            Err(_) => Err(self.unavailable(what, &"no answer")),
        }
    }

    /// All that are there, the oldest first.
    async fn list(&self) -> Result<Vec<(Position, ObjectInfo)>> {
        let list = self.within("list", self.store.list()).await?;
        let found: Vec<ObjectInfo> = self.within("list", list.try_collect()).await?;
        let known =
            |info: ObjectInfo| Some((Position::new(info.name.parse().ok()?), info)).filter(|(_, info)| !info.deleted);
        let mut found: Vec<_> = found.into_iter().filter_map(known).collect();
        found.sort_by_key(|(at, _)| *at);
        Ok(found)
    }

    pub(super) async fn oldest(&self) -> Result<Option<Position>> {
        Ok(self.list().await?.first().map(|(at, _)| *at))
    }

    /// The newest one's bytes, and when it was saved.
    pub(super) async fn last_saved(&self) -> Result<(u64, Option<Timestamp>)> {
        let list = self.list().await?;
        let at = |info: &ObjectInfo| u64::try_from(info.modified?.unix_timestamp_nanos() / 1_000_000).ok();
        Ok(list.last().map_or((0, None), |(_, info)| (info.size as u64, at(info).map(Timestamp::from_millis))))
    }

    pub(super) async fn save(&self, at: Position, state: Vec<Bytes>) -> Result<()> {
        let mut head = Vec::with_capacity(HEAD);
        head.put_slice(MAGIC);
        head.put_slice(&self.id);
        head.put_u64_le(at.as_u64());
        head.put_u64_le(state.iter().map(|piece| piece.len() as u64).sum());
        let sum = state.iter().fold(crc32c::crc32c(&head), |sum, piece| crc32c::crc32c_append(sum, piece));
        head.put_u32_le(sum);
        head.resize(HEAD, 0);
        let pieces = std::iter::once(Bytes::from(head)).chain(state).map(Ok::<_, io::Error>);
        let mut object = StreamReader::new(stream::iter(pieces));
        let meta = ObjectMetadata { name: name(at), chunk_size: Some(CHUNK), ..ObjectMetadata::default() };
        self.store.put(meta, &mut object).await.map_err(|cause| self.unavailable("write", &cause))?;
        self.keep(|_| KEPT).await
    }

    /// Removes all but the last so many.
    async fn keep(&self, kept: impl FnOnce(usize) -> usize) -> Result<()> {
        let list = self.list().await?;
        let kept = kept(list.len());
        for (at, _) in list.iter().rev().skip(kept) {
            self.within("drop", self.store.delete(name(*at))).await?;
        }
        Ok(())
    }

    /// The newest that can be read.
    pub(super) async fn newest(&self) -> Result<Option<(Position, Bytes)>> {
        let list = self.list().await?;
        let mut why = None;
        for (at, info) in list.into_iter().rev() {
            match self.load(at, &info).await {
                Ok(state) => return Ok(Some((at, state))),
                Err(error) => {
                    tracing::warn!(error = %ensync_core::report(&error), "a checkpoint cannot be read; the one before is taken");
                    why.get_or_insert(error);
                }
            }
        }
        // Without any of them the log's beginning may be gone.
        why.map_or(Ok(None), Err)
    }

    /// Removes all before the newest that can be read.
    pub(super) async fn keep_newest(&self) -> Result<()> {
        let Some((newest, _)) = self.newest().await? else { return Ok(()) };
        let behind = self.list().await?.iter().filter(|(at, _)| *at >= newest).count();
        self.keep(|_| behind).await
    }

    async fn load(&self, at: Position, info: &ObjectInfo) -> Result<Bytes> {
        let mut object = self.within("read", self.store.get(name(at))).await?;
        let mut bytes = BytesMut::with_capacity(info.size.min(CHUNK));
        // No longer than it is said to be, whatever comes.
        while bytes.len() < info.size {
            bytes.reserve(CHUNK);
            if self.within("read", object.read_buf(&mut bytes)).await? == 0 {
                break;
            }
        }
        let bytes = bytes.freeze();
        let (head, state) = bytes.split_at_checked(HEAD).ok_or_else(|| self.damaged(at))?;
        let number = |from: usize| head.get(from..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let sum = crc32c::crc32c_append(crc32c::crc32c(head.get(..CRC).unwrap_or_default()), state);
        let fits = head.starts_with(MAGIC) && head.get(8..24) == Some(&self.id[..]);
        let whole = number(24) == Some(at.as_u64())
            && number(32) == Some(state.len() as u64)
            && number(CRC) == Some(sum.into());
        if fits && whole { Ok(bytes.slice(HEAD..)) } else { Err(self.damaged(at)) }
    }

    fn damaged(&self, at: Position) -> Error {
        unusable(format!(
            "the object {} of the object store {} is damaged, or is no checkpoint of this log",
            name(at),
            self.bucket
        ))
    }
}

impl std::fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoints").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

fn name(at: Position) -> String {
    format!("{:020}", at.as_u64())
}

fn unavailable(what: &str, bucket: &str, cause: &dyn Display) -> Error {
    let message = format!(
        "cannot {what} checkpoints in the object store {bucket} on NATS: {cause}; check that a majority of its servers runs and can be reached"
    );
    Error::new(ErrorKind::Unavailable, message)
}
