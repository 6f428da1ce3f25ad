//! The publishes that were stored last: most are delivered at once, and need not be read back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::model::{Position, Record};

/// The latest publishes, up to so many bytes of payload and metadata.
#[derive(Debug)]
pub(super) struct Recent {
    records: HashMap<Position, Arc<Record>>,
    order: VecDeque<(Position, usize)>,
    bytes: usize,
    max_bytes: usize,
}

impl Recent {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { records: HashMap::new(), order: VecDeque::new(), bytes: 0, max_bytes }
    }

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
        while self.bytes > self.max_bytes
            && let Some((oldest, size)) = self.order.pop_front()
        {
            self.records.remove(&oldest);
            self.bytes -= size;
        }
    }
}
