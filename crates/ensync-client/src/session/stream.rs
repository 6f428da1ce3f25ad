//! The stream of one subscription over one link.

use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::link::LinkLife;

/// The life of a subscription's stream over one link. What came by it keeps this, and is this client's until the stream ends, or the
/// link: the engine takes it back then.
pub(crate) struct StreamLife {
    link: Arc<LinkLife>,
    ended: CancellationToken,
}

impl StreamLife {
    pub(super) fn over(link: &Arc<LinkLife>) -> Arc<Self> {
        Arc::new(Self { link: link.clone(), ended: link.token().child_token() })
    }

    /// The link that it is over.
    pub(crate) fn link(&self) -> &Arc<LinkLife> {
        &self.link
    }

    /// The number of that link.
    pub(crate) fn epoch(&self) -> u64 {
        self.link.epoch()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// It ended, and the link goes on.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }
}

impl fmt::Debug for StreamLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamLife").field("epoch", &self.epoch()).field("ended", &self.has_ended()).finish()
    }
}

#[cfg(test)]
mod tests {
    use ensync_core::{Error, ErrorKind};

    use super::*;

    #[tokio::test]
    async fn it_ends_with_its_link_and_without_it() {
        let link = LinkLife::new(3, false);
        let (first, second) = (StreamLife::over(&link), StreamLife::over(&link));
        first.end();
        first.ended().await;
        assert!(first.has_ended() && !second.has_ended() && !link.has_ended());
        link.end(Error::new(ErrorKind::Closed, "over"));
        second.ended().await;
        assert_eq!((second.has_ended(), second.epoch()), (true, 3));
    }
}
