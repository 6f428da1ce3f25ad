//! A link whose other end a test plays. The simulation uses it too.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use ensync_client::core::{Command, Delivery, Error, ErrorKind, EventName, Link, Reply, Result, Transport, Welcome};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What is at the other end.
#[async_trait]
pub(crate) trait Far: Send + Sync + 'static {
    /// Given up when the link ends.
    async fn call(&self, command: Command) -> Result<Reply>;

    /// A subscription that ended by itself.
    async fn ended_subscription(&self) -> (EventName, Error) {
        std::future::pending().await
    }

    /// How many bytes it has sent, if that is counted.
    fn bytes_sent(&self) -> Option<u64> {
        None
    }

    /// Whether heartbeats are not answered by somebody else.
    fn answers_heartbeats(&self) -> bool {
        true
    }

    /// The client says goodbye.
    async fn close(&self) {}
}

/// Pushes to a link.
pub(crate) type Inbox = mpsc::UnboundedSender<Result<Delivery>>;

/// A link to `far`. It ends with an error in its inbox, with that, or when it is over, which the client may say too.
pub(crate) fn open(far: Arc<dyn Far>, welcome: Welcome, over: CancellationToken) -> (Link, Inbox) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let state = (receiver, over.clone(), false);
    let inbox = futures::stream::unfold(state, |(mut receiver, over, failed)| async move {
        if failed {
            return None;
        }
        let item: Result<Delivery> = tokio::select! {
            biased;
            item = receiver.recv() => item?,
            () = over.cancelled() => return None,
        };
        let failed = item.is_err();
        Some((item, (receiver, over, failed)))
    });
    (Link { transport: Arc::new(Near { far, over }), inbox: inbox.boxed(), welcome }, sender)
}

struct Near {
    far: Arc<dyn Far>,
    over: CancellationToken,
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Near")
    }
}

#[async_trait]
impl Transport for Near {
    async fn call(&self, command: Command) -> Result<Reply> {
        let name = command.name();
        if self.over.is_cancelled() {
            return Err(Error::new(ErrorKind::Closed, format!("{name}: the link has ended")));
        }
        tokio::select! {
            biased;
            answer = self.far.call(command) => answer,
            () = self.over.cancelled() => {
                Err(Error::new(ErrorKind::Interrupted, format!("{name}: the link ended before the answer came")))
            }
        }
    }

    fn abort(&self, _cause: Error) {
        self.over.cancel();
    }

    async fn ended_subscription(&self) -> (EventName, Error) {
        self.far.ended_subscription().await
    }

    fn bytes_received(&self) -> Option<u64> {
        self.far.bytes_sent()
    }

    fn heartbeat_reaches_the_engine(&self) -> bool {
        self.far.answers_heartbeats()
    }

    async fn close(&self) {
        self.far.close().await;
        self.over.cancel();
    }
}
