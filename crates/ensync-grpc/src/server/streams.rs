//! The live streams of one session, and which of them a delivery goes down.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ensync_core::{Block, Delivery, Error, EventId, EventName};
use futures::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use super::connection::OpenStream;
use super::room::{Held, SessionRoom, StreamRoom};
use crate::generated::StreamResponse;
use crate::status;

/// The streams of a session, oldest first.
#[derive(Debug)]
pub(super) struct Streams {
    open: Vec<Open>,
    opened: u64,
    /// Everything goes down the oldest stream: the client reads no other.
    multiplexed: bool,
    broken: mpsc::UnboundedSender<Broken>,
    end: Arc<OnceLock<Error>>,
    room: Arc<SessionRoom>,
    /// What did not fit in streams that take nothing.
    late: Vec<Late>,
    /// When the first of it is due.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    number: u64,
    /// What it subscribes to; `None` once that ended and the stream only carries the others' events.
    event: Option<EventName>,
    deliveries: mpsc::UnboundedSender<Waiting>,
    room: Arc<StreamRoom>,
    /// Whether its client has taken nothing for a while: nobody waits for it then.
    stalled: bool,
}

/// A delivery that is not sent yet.
#[derive(Debug)]
struct Waiting {
    delivery: Delivery,
    /// Since when.
    since: Instant,
    _held: Held,
}

/// A delivery that found no room, without its payload: it goes back to the engine, which has it delivered again.
#[derive(Debug)]
pub(super) struct Late {
    stream: u64,
    pub(super) event: EventName,
    pub(super) id: EventId,
    pub(super) block: Block,
    /// When that has to be done, before its lease runs out, which would count as a delivery.
    due: Option<Instant>,
}

/// What became of a delivery.
#[derive(Debug)]
pub(super) enum Routed {
    /// It is in a stream, or will go back.
    Done,
    /// There is no room in its stream.
    Full(Box<Delivery>),
    /// It has no stream.
    Nobody(Box<Delivery>),
}

impl Waiting {
    /// The delivery with what is left of its lease; `None` if nothing is: the engine has taken it back.
    fn left(self) -> Option<Delivery> {
        let mut delivery = self.delivery;
        if let Some(lease) = &mut delivery.lease {
            *lease = lease.checked_sub(self.since.elapsed()).filter(|left| !left.is_zero())?;
        }
        Some(delivery)
    }
}

/// A stream whose reader is gone.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) number: u64,
    /// What it had not sent.
    pub(super) unsent: VecDeque<Delivery>,
}

impl Streams {
    pub(super) fn new(multiplexed: bool) -> (Self, mpsc::UnboundedReceiver<Broken>) {
        let (broken, gone) = mpsc::unbounded_channel();
        let (end, room) = Default::default();
        (Self { open: Vec::new(), opened: 0, multiplexed, broken, end, room, late: Vec::new(), due: None }, gone)
    }

    /// Opens a stream. Fails once the session has ended.
    pub(super) fn open(&mut self, event: &EventName) -> Result<Deliveries, Error> {
        if let Some(error) = self.end.get() {
            return Err(error.clone());
        }
        self.opened += 1;
        let number = self.opened;
        // What is in it has its room.
        let (deliveries, received) = mpsc::unbounded_channel();
        let room = StreamRoom::new(self.room.clone());
        self.open.push(Open { number, event: Some(event.clone()), deliveries, room, stalled: false });
        Ok(Deliveries {
            number,
            received,
            broken: self.broken.clone(),
            end: self.end.clone(),
            done: false,
            connection: None,
        })
    }

    /// Ends what was open for an event name before the stream `number`, or with `None` all of it.
    pub(super) fn retire(&mut self, event: &EventName, number: Option<u64>) {
        for open in &mut self.open {
            if open.event.as_ref() == Some(event) && Some(open.number) != number {
                open.event = None;
            }
        }
        // A multiplexed client reads its oldest stream only, so that one stays while it has others.
        let carried = if self.multiplexed && self.open.iter().any(|open| open.event.is_some()) {
            self.open.first().map(|open| open.number)
        } else {
            None
        };
        self.open.retain(|open| open.event.is_some() || Some(open.number) == carried);
        self.room.look();
    }

    /// Takes a stream out. `None` if it was ended from this side before.
    pub(super) fn remove(&mut self, number: u64) -> Option<Option<EventName>> {
        let index = self.open.iter().position(|open| open.number == number)?;
        self.room.look();
        Some(self.open.remove(index).event)
    }

    pub(super) fn room(&self) -> Arc<SessionRoom> {
        self.room.clone()
    }

    /// Hands a delivery to its stream, or back if there is none, or no room in it. One that has waited for room long enough, or whose stream
    /// did, is late.
    pub(super) fn route(&mut self, mut delivery: Delivery, since: Instant, waited: bool) -> Routed {
        let event = delivery.event.clone();
        for open in &mut self.open {
            if !(self.multiplexed || open.event.as_ref() == Some(&event)) || open.deliveries.is_closed() {
                continue;
            }
            let held = if open.stalled { None } else { open.room.take(&delivery) };
            let Some(_held) = held else {
                if !open.stalled && !waited {
                    return Routed::Full(Box::new(delivery));
                }
                open.stalled = true;
                // A quarter of it is time enough for the way back.
                let due = delivery.lease.map(|lease| since + lease / 4 * 3);
                self.due = self.due.into_iter().chain(due).min();
                let Delivery { event, id, block, .. } = delivery;
                self.late.push(Late { stream: open.number, event, id, block, due });
                return Routed::Done;
            };
            match open.deliveries.send(Waiting { delivery, since, _held }) {
                Ok(()) => return Routed::Done,
                // Its reader is gone and about to be reported.
                Err(mpsc::error::SendError(returned)) => delivery = returned.delivery,
            }
        }
        Routed::Nobody(Box::new(delivery))
    }

    /// When something that is late has to go back.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What goes back now: its time has come, or its stream is gone or has room again.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<Late> {
        for open in self.open.iter_mut().filter(|open| open.stalled) {
            open.stalled = !open.room.is_wide();
        }
        let stays = |late: &Late| {
            let stalled = self.open.iter().any(|open| open.number == late.stream && open.stalled);
            stalled && late.due.is_none_or(|due| due > now)
        };
        let (stay, back) = std::mem::take(&mut self.late).into_iter().partition(stays);
        self.late = stay;
        self.due = self.late.iter().filter_map(|late| late.due).min();
        back
    }

    pub(super) fn has(&self, event: &EventName) -> bool {
        self.open.iter().any(|open| open.event.as_ref() == Some(event))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Ends every stream with `error`, after what it still holds.
    pub(super) fn end(&mut self, error: Error) {
        // Set before the senders drop, so that the readers, woken by the drop, find it.
        let _ = self.end.set(error);
        self.open.clear();
        (self.late, self.due) = (Vec::new(), None);
    }
}

/// The answer to a Subscribe. Dropping it, as HTTP/2 does when the client resets the stream or the connection dies, tells the
/// session.
#[derive(Debug)]
pub(super) struct Deliveries {
    number: u64,
    received: mpsc::UnboundedReceiver<Waiting>,
    broken: mpsc::UnboundedSender<Broken>,
    end: Arc<OnceLock<Error>>,
    done: bool,
    /// Keeps its connection from being idle.
    connection: Option<OpenStream>,
}

impl Deliveries {
    pub(super) fn down(self, connection: OpenStream) -> Self {
        let mut deliveries = self;
        deliveries.connection = Some(connection);
        deliveries
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// How many deliveries wait in it.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.received.len()
    }
}

impl Stream for Deliveries {
    type Item = Result<StreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        loop {
            match ready!(self.received.poll_recv(cx)).map(Waiting::left) {
                Some(Some(delivery)) => return Poll::Ready(Some(Ok(write(delivery)))),
                Some(None) => {}
                None => {
                    self.done = true;
                    return Poll::Ready(self.end.get().map(|error| Err(status::to_status(error))));
                }
            }
        }
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.received.close();
        let mut unsent = VecDeque::new();
        while let Ok(waiting) = self.received.try_recv() {
            unsent.extend(waiting.left());
        }
        // Nobody listens once the session has ended; then the engine has taken everything back.
        let _ = self.broken.send(Broken { number: self.number, unsent });
    }
}

fn write(delivery: Delivery) -> StreamResponse {
    StreamResponse {
        message_idem: delivery.id.to_string(),
        message_name: delivery.event.to_string(),
        payload: delivery.payload.as_str().unwrap_or_default().to_owned(),
        partition_block: Block::as_i64(delivery.block),
        metadata: delivery.metadata.as_str().to_owned(),
        sender: delivery.sender.map(|key| key.to_string()).unwrap_or_default(),
        logged_at: delivery.timestamp.map_or(0, |at| i64::try_from(at.as_millis()).unwrap_or(i64::MAX)),
        attempt: delivery.attempt.unwrap_or_default(),
        recipient: delivery.recipient.map(|key| key.to_string()).unwrap_or_default(),
        lease_ms: lease_ms(delivery.lease),
    }
}

/// In milliseconds; 0 says nothing.
pub(super) fn lease_ms(lease: Option<Duration>) -> i64 {
    lease.map_or(0, |lease| i64::try_from(lease.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::tests::fake::{delivery, name};

    fn route(streams: &mut Streams, delivery: Delivery) {
        assert!(matches!(streams.route(delivery, Instant::now(), false), Routed::Done));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_lease_travels() {
        let (mut streams, mut broken) = Streams::new(false);
        let mut deliveries = streams.open(&name("a")).unwrap();
        let leased = |block| Delivery { lease: Some(Duration::from_secs(60)), ..delivery("a", block) };
        for block in 1..=3 {
            route(&mut streams, leased(block));
        }
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(deliveries.next().await.unwrap().unwrap().lease_ms, 40_000);
        route(&mut streams, leased(4));
        // Whose lease is over is with somebody else, or will be.
        tokio::time::advance(Duration::from_secs(40)).await;
        let next = deliveries.next().await.unwrap().unwrap();
        assert_eq!((next.partition_block, next.lease_ms), (4, 20_000));
        // What a stream had not sent when it broke has no more of its lease either.
        route(&mut streams, leased(5));
        tokio::time::advance(Duration::from_secs(50)).await;
        drop(deliveries);
        let unsent = broken.recv().await.unwrap().unsent;
        assert_eq!(unsent.front().unwrap().lease, Some(Duration::from_secs(10)));
    }
}
