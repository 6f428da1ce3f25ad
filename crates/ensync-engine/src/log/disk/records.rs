//! The records of a log, in order.

use std::sync::Arc;
use std::vec::IntoIter;

use bytes::Bytes;
use ensync_core::{Error, ErrorKind, Result};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::task::JoinHandle;

use super::directory::unusable;
use super::format::{Frame, HEADER, RECORD, position, split};
use super::lock;
use super::segment::{PIECE, SegmentReader};
use super::shared::Shared;
use crate::model::Position;

/// The most records that are read ahead; of their bytes, a piece and one record.
const AHEAD: usize = 1_024;

type Read = (Position, Bytes);

/// What has been read ahead, and where to go on: nowhere at the end, or after an error.
type Batch = (Vec<Result<Read>>, Option<Cursor>);

/// Where a scan is.
struct Cursor {
    shared: Arc<Shared>,
    from: Position,
    /// Each segment, and where it ends; `u32::MAX` if nobody looked it up.
    segments: IntoIter<(u32, u32)>,
    current: Option<Current>,
}

/// The segment that is being read.
struct Current {
    number: u32,
    end: u32,
    /// Where to go on.
    offset: usize,
    segment: SegmentReader,
}

/// Every record from a position on, up to where the log ends now.
pub(super) fn scan(shared: &Arc<Shared>, from: Position) -> BoxStream<'static, Result<Read>> {
    let segments: Vec<_> = lock(&shared.segments).range(split(from).0..).map(|(n, end)| (*n, *end)).collect();
    let cursor = Cursor { shared: shared.clone(), from, segments: segments.into_iter(), current: None };
    stream::unfold(Some(Next::Begin(cursor)), |next| async {
        let reading = match next? {
            Next::Begin(cursor) => read_ahead(cursor),
            Next::Reading(reading) => reading,
        };
        let joined = reading.await;
        let failed = |cause| Error::new(ErrorKind::Internal, "a task of the log failed").with_source(cause);
        Some(match joined.unwrap_or_else(|cause| Err(failed(cause))) {
            Ok((found, cursor)) => (found, cursor.map(|cursor| Next::Reading(read_ahead(cursor)))),
            Err(error) => (vec![Err(error)], None),
        })
    })
    .flat_map(stream::iter)
    .boxed()
}

enum Next {
    Begin(Cursor),
    Reading(JoinHandle<Result<Batch>>),
}

/// Reads the next records while the last are looked at.
fn read_ahead(cursor: Cursor) -> JoinHandle<Result<Batch>> {
    tokio::task::spawn_blocking(move || Ok(cursor.advance()))
}

impl Cursor {
    fn advance(mut self) -> Batch {
        let (mut found, mut bytes) = (Vec::new(), 0);
        loop {
            match self.read((&mut found, &mut bytes)) {
                Ok(true) if found.len() >= AHEAD || bytes >= PIECE => return (found, Some(self)),
                Ok(true) => {}
                Ok(false) => return (found, None),
                // What came before it was read.
                Err(error) => {
                    found.push(Err(error));
                    return (found, None);
                }
            }
        }
    }

    /// Reads the next frame; `false` if there is none.
    fn read(&mut self, (found, bytes): (&mut Vec<Result<Read>>, &mut usize)) -> Result<bool> {
        let Some(mut current) = self.current.take() else { return self.next_segment() };
        let Current { number, end, offset, ref mut segment } = current;
        if offset >= segment.len().min(end as usize) {
            return self.next_segment();
        }
        let Some(frame) = segment.frame(offset, &self.shared.id)? else {
            if end == u32::MAX {
                return self.next_segment();
            }
            let path = self.shared.directory.segment(number);
            return Err(unusable(format!("the log is damaged at byte {offset} of {}", path.display())));
        };
        let at = position(number, u32::try_from(offset).unwrap_or(u32::MAX));
        if frame.kind == RECORD && at >= self.from {
            let body = segment.body(offset, &frame)?;
            *bytes += body.len();
            found.push(Ok((at, body)));
        }
        current.offset += Frame::size(frame.body);
        self.current = Some(current);
        Ok(true)
    }

    fn next_segment(&mut self) -> Result<bool> {
        let Some((number, end)) = self.segments.next() else { return Ok(false) };
        let mut segment = SegmentReader::open(&self.shared.directory, number)?;
        segment.id()?;
        let mut offset = HEADER as usize;
        // The record that a checkpoint covers, mostly: what lies before it need not be looked at.
        let (first, from) = split(self.from);
        if first == number && from > HEADER && segment.frame(from as usize, &self.shared.id)?.is_some() {
            offset = from as usize;
        }
        self.current = Some(Current { number, end, offset, segment });
        Ok(true)
    }
}
