//! The publishes that were stored last: most are delivered at once, and need not be read back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::log::{Position, Record};

/// The latest publishes, up to [`Recent::BYTES`] of them.
#[derive(Debug, Default)]
pub(super) struct Recent {
    records: HashMap<Position, Arc<Record>>,
    order: VecDeque<(Position, usize)>,
    bytes: usize,
}

impl Recent {
    /// The most bytes of payload and metadata.
    const BYTES: usize = 16 << 20;

    pub(super) fn find(&self, at: Position) -> Option<Arc<Record>> {
        self.records.get(&at).cloned()
    }

    pub(super) fn insert(&mut self, at: Position, record: &Arc<Record>) {
        let Record::Publish(publish) = &**record else { return };
        // Small ones take memory beside their bytes.
        let size = publish.size() + 512;
        self.records.insert(at, record.clone());
        self.order.push_back((at, size));
        self.bytes += size;
        while self.bytes > Self::BYTES
            && let Some((oldest, size)) = self.order.pop_front()
        {
            self.records.remove(&oldest);
            self.bytes -= size;
        }
    }
}
