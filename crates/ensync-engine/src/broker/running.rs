//! Whether the tasks run.

use tokio::sync::watch;

/// What a task holds while it runs. It tells when that ends without having been asked to, as after a panic.
#[derive(Debug)]
pub(super) struct Running {
    /// `true` once a task has failed. The last one drops it.
    failed: watch::Sender<bool>,
    ended: bool,
}

impl Running {
    pub(super) fn new() -> (Self, watch::Receiver<bool>) {
        let (failed, receiver) = watch::channel(false);
        (Self { failed, ended: false }, receiver)
    }

    /// The task has done all that it was asked for.
    pub(super) fn end(mut self) {
        self.ended = true;
    }
}

/// For another task.
impl Clone for Running {
    fn clone(&self) -> Self {
        Self { failed: self.failed.clone(), ended: false }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.failed.send_replace(true);
        }
    }
}
