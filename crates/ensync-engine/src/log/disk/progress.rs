//! How far whoever reads a log has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much of a log has been read by whoever goes through it, which is what a start spends its time with. A handle, cheap to clone.
///
/// A program that supervises a start can tell from it whether the start goes on.
#[derive(Clone, Debug, Default)]
pub struct ReadProgress(Arc<AtomicU64>);

impl ReadProgress {
    /// So many bytes were read until now.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
