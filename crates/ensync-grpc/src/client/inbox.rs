use std::sync::Arc;

use ensync_core::{Delivery, Result};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{mpsc, watch};

use super::link::{self, End, Handle};

struct Inbox {
    deliveries: mpsc::Receiver<Delivery>,
    end: watch::Receiver<Option<End>>,
    finished: bool,
    /// Keeps the link alive.
    _handle: Arc<Handle>,
}

/// The deliveries of all streams; at the link's end one error if it failed, and nothing more.
pub(super) fn inbox(
    handle: Arc<Handle>,
    deliveries: mpsc::Receiver<Delivery>,
    end: watch::Receiver<Option<End>>,
) -> BoxStream<'static, Result<Delivery>> {
    stream::unfold(Inbox { deliveries, end, finished: false, _handle: handle }, |mut inbox| async move {
        if inbox.finished {
            return None;
        }
        let next = tokio::select! {
            biased;
            // What came before the end is handed out before it.
            Some(delivery) = inbox.deliveries.recv() => Ok(delivery),
            end = link::ended(&mut inbox.end) => Err(end),
        };
        match next {
            Ok(delivery) => Some((Ok(delivery), inbox)),
            Err(End::Closed) => None,
            Err(End::Lost(error)) => {
                inbox.finished = true;
                Some((Err(error), inbox))
            }
        }
    })
    .fuse()
    .boxed()
}
