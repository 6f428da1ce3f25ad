//! An engine whose word is not kept: what a suite that counts must not let pass.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::{
    AppKey, Command, Connector, Endpoint, Error, ErrorKind, EventId, EventName, Link, Reply, Result, Transport,
};

/// What is made of publishes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Word {
    Kept,
    /// Each is refused.
    RefusesAll,
    /// One of a thousand is answered, and not stored.
    LosesOneInAThousand,
    /// One of a thousand is stored twice.
    StoresTwice,
}

impl Word {
    /// The same engine, with this made of its word.
    pub fn through(self, connector: Arc<dyn Connector>) -> Arc<dyn Connector> {
        match self {
            Self::Kept => connector,
            word => Arc::new(Liar { word, connector, published: Arc::default() }),
        }
    }
}

#[derive(Debug)]
struct Liar {
    word: Word,
    connector: Arc<dyn Connector>,
    published: Arc<AtomicU64>,
}

#[async_trait]
impl Connector for Liar {
    async fn connect(&self, to: &Endpoint, app_key: &AppKey) -> Result<Link> {
        let link = self.connector.connect(to, app_key).await?;
        let transport = Way { word: self.word, inner: link.transport, published: self.published.clone() };
        Ok(Link { transport: Arc::new(transport), ..link })
    }
}

struct Way {
    word: Word,
    inner: Arc<dyn Transport>,
    published: Arc<AtomicU64>,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl Transport for Way {
    async fn call(&self, command: Command) -> Result<Reply> {
        let Command::Publish(publish) = &command else { return self.inner.call(command).await };
        // A scenario publishes fewer than a thousand: it is one in the midst of them.
        let is_one = self.published.fetch_add(1, Ordering::Relaxed) % 1_000 == 300;
        match self.word {
            Word::RefusesAll => Err(Error::new(ErrorKind::Forbidden, "this engine takes nothing")),
            Word::LosesOneInAThousand if is_one => {
                Ok(Reply::Published { id: EventId::parse("lost").expect("it is an id") })
            }
            Word::StoresTwice if is_one => {
                let mut again = publish.clone();
                again.idempotency_key = None;
                self.inner.call(Command::Publish(again)).await?;
                self.inner.call(command).await
            }
            _ => self.inner.call(command).await,
        }
    }

    fn abort(&self, cause: Error) {
        self.inner.abort(cause);
    }

    async fn ended_subscription(&self) -> (EventName, Error) {
        self.inner.ended_subscription().await
    }

    fn silent_for(&self) -> Option<Duration> {
        self.inner.silent_for()
    }

    fn bytes_received(&self) -> Option<u64> {
        self.inner.bytes_received()
    }

    fn heartbeat_reaches_the_engine(&self) -> bool {
        self.inner.heartbeat_reaches_the_engine()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
