//! Futures that are carried out also if they are dropped.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;

use crate::session::Session;

/// Work that goes on in a task of its own if whoever waits for it gives up.
pub(crate) struct Finished<T: Send + 'static> {
    session: Session,
    work: Option<BoxFuture<'static, T>>,
}

impl<T: Send + 'static> Finished<T> {
    /// Work of a session's, which its `close` waits for.
    pub(crate) fn new(session: Session, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { session, work: Some(work.boxed()) }
    }
}

impl<T: Send + 'static> Future for Finished<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for Finished<T> {
    fn drop(&mut self) {
        // Without a runtime there is nothing that would carry it out.
        if let Some(work) = self.work.take()
            && Handle::try_current().is_ok()
        {
            self.session.spawn(async move { drop(work.await) });
        }
    }
}
