use std::fmt;
use std::sync::Arc;

use super::{Log, MemoryLog};

/// The logs of an engine: one of what administrators asked for, which makes the registry, and one of each partition.
///
/// How many partitions there are is fixed when a store is made: which of them has an app's queues depends on it.
#[derive(Clone)]
pub struct Logs {
    pub(crate) registry: Arc<dyn Log>,
    pub(crate) partitions: Vec<Arc<dyn Log>>,
}

impl Logs {
    /// From the registry's and those of the partitions, in their order. An engine starts on at least one.
    pub fn new(registry: Arc<dyn Log>, partitions: Vec<Arc<dyn Log>>) -> Self {
        Self { registry, partitions }
    }

    /// The registry's.
    pub fn registry(&self) -> &Arc<dyn Log> {
        &self.registry
    }

    /// Those of the partitions, in their order.
    pub fn partitions(&self) -> &[Arc<dyn Log>] {
        &self.partitions
    }

    /// All of them: the registry's first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Log>> {
        [&self.registry].into_iter().chain(&self.partitions)
    }

    /// Each as something makes of it.
    #[must_use]
    pub(crate) fn map(self, mut make: impl FnMut(Arc<dyn Log>) -> Arc<dyn Log>) -> Self {
        Self { registry: make(self.registry), partitions: self.partitions.into_iter().map(make).collect() }
    }
}

impl From<MemoryLog> for Logs {
    fn from(log: MemoryLog) -> Self {
        let partitions = log.partitions().map(|log| Arc::new(log) as Arc<dyn Log>).collect();
        Self { registry: Arc::new(log.registry()), partitions }
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("registry", &self.registry).field("partitions", &self.partitions).finish()
    }
}
