use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A value that many wait for. As tokio's `watch` channel, but who waits is woken in the order of coming, not a random one: the
/// same run can be had twice.
#[derive(Debug)]
pub(crate) struct StateCell<T> {
    value: Mutex<(u64, T)>,
    changed: Notify,
}

impl<T> StateCell<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Mutex::new((0, value)), changed: Notify::new() }
    }

    /// Looks at the value, which stays as it is meanwhile.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.lock().1)
    }

    /// Changes the value, if `change` says that it did, and wakes who waits.
    pub(super) fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        let mut value = self.lock();
        if change(&mut value.1) {
            value.0 += 1;
            drop(value);
            self.changed.notify_waiters();
        }
    }

    /// Waits until `ready` finds what it looks for.
    pub(super) async fn wait<R>(&self, mut ready: impl FnMut(&T) -> Option<R>) -> R {
        self.wait_beyond(None, |value| ready(value)).await.1
    }

    /// The same of a version later than `seen`; gives the version too.
    pub(crate) async fn wait_beyond<R>(&self, seen: Option<u64>, mut ready: impl FnMut(&T) -> Option<R>) -> (u64, R) {
        loop {
            // Made before looking: a change in between wakes it.
            let changed = self.changed.notified();
            {
                let value = self.lock();
                if seen.is_none_or(|seen| seen < value.0)
                    && let Some(found) = ready(&value.1)
                {
                    return (value.0, found);
                }
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, (u64, T)> {
        // Nothing panics while it is held.
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_in_order() {
        let (watched, order) = (Arc::new(StateCell::new(0)), Arc::new(Mutex::new(Vec::new())));
        let mut waiting = tokio::task::JoinSet::new();
        for n in 0..100 {
            let (watched, order) = (watched.clone(), order.clone());
            waiting.spawn(async move {
                watched.wait(|value| (*value == 1).then_some(())).await;
                order.lock().unwrap().push(n);
            });
        }
        // When nothing else is to be done: all of them wait.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        watched.change(|_| false);
        watched.change(|value| {
            *value = 1;
            true
        });
        waiting.join_all().await;
        assert!(order.lock().unwrap().iter().copied().eq(0..100));
        assert_eq!(watched.wait_beyond(Some(0), |value| Some(*value)).await, (1, 1));
    }
}
