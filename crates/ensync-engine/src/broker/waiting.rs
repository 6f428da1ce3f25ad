//! What publishes that wait for a partition's task hold.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ensync_core::{AppId, Error, ErrorKind, Result};

use crate::state::Quotas;

/// Bytes of publishes that wait, of each app and of all. When the disk is slow nobody's fill the memory, nor keep out another's.
#[derive(Debug)]
pub(super) struct Waiting {
    per_app: u64,
    total: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: u64,
    apps: HashMap<AppId, u64>,
}

/// What one of them holds, until this is dropped.
#[derive(Debug)]
#[must_use = "it is given back when this is dropped"]
pub(super) struct Charge {
    waiting: Arc<Waiting>,
    app: AppId,
    bytes: u64,
}

impl Waiting {
    pub(super) fn new(quotas: &Quotas) -> Self {
        Self { per_app: quotas.app_waiting, total: quotas.waiting, held: Mutex::default() }
    }

    /// Takes room for a publish. One that is alone always has it.
    pub(super) fn charge(self: &Arc<Self>, app: AppId, bytes: usize) -> Result<Charge> {
        let bytes = bytes as u64;
        let mut held = self.held();
        let used = held.apps.get(&app).copied().unwrap_or_default();
        let full = |used: u64, quota: u64| used > 0 && used.saturating_add(bytes) > quota;
        let (name, quota) = match () {
            () if full(used, self.per_app) => ("app_waiting", self.per_app),
            () if full(held.total, self.total) => ("waiting", self.total),
            () => {
                held.total += bytes;
                *held.apps.entry(app).or_default() += bytes;
                return Ok(Charge { waiting: self.clone(), app, bytes });
            }
        };
        let whose = if name == "waiting" { "all apps" } else { "this app" };
        Err(Error::new(
            ErrorKind::LimitExceeded,
            format!(
                "publishes of {whose} hold {quota} bytes until they are stored, which is as much as they may (quotas.{name}); try again"
            ),
        ))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // No code that holds the lock can panic half-way through a change.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut held = self.waiting.held();
        held.total = held.total.saturating_sub(self.bytes);
        if let Some(used) = held.apps.get_mut(&self.app) {
            *used = used.saturating_sub(self.bytes);
            if *used == 0 {
                held.apps.remove(&self.app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_app_leaves_room_for_others_and_all_have_an_end() {
        let mut quotas = Quotas::default();
        (quotas.app_waiting, quotas.waiting) = (100, 150);
        let waiting = Arc::new(Waiting::new(&quotas));
        let app = |n| AppId::from_bytes([n; 32]);
        let large = waiting.charge(app(1), 400).unwrap();
        assert!(waiting.charge(app(1), 1).unwrap_err().to_string().contains("quotas.app_waiting"));
        drop(large);
        let held = [waiting.charge(app(1), 60).unwrap(), waiting.charge(app(1), 40).unwrap()];
        let error = waiting.charge(app(1), 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        let other = waiting.charge(app(2), 50).unwrap();
        assert!(waiting.charge(app(3), 1).unwrap_err().to_string().contains("(quotas.waiting)"));
        drop((held, other));
        let left = waiting.held();
        assert_eq!((left.total, left.apps.len()), (0, 0));
    }
}
