/// How much may wait in an engine: of one queue, of all queues of one recipient, and of what is nowhere but in memory. Whoever publishes
/// more is told which of them is used up, until something is settled.
///
/// What waits is all that is not settled: also what is deferred or with clients, and dead letters. Events whose publishes are under way at
/// the same time are held against the same numbers, so that a batch of them, 2,048 events or 8 MiB and one payload, may come beyond. All who publish to a recipient
/// share its quotas.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Quotas {
    /// Events of one queue. 4,000,000.
    pub queue_events: u64,
    /// Their payloads and metadata, and the reasons of dead letters, in bytes. 4 GiB.
    pub queue_bytes: u64,
    /// Events of all queues of one recipient. 8,000,000.
    pub app_events: u64,
    /// Their payloads and metadata, in bytes. 8 GiB.
    pub app_bytes: u64,
    /// Bytes of events in memory only (`persist: false`) of one recipient, each counting 512 beside payload and metadata. 64 MiB.
    pub app_memory: u64,
    /// The same, of all recipients. 256 MiB.
    pub memory: u64,
    /// Payloads and metadata of one app's publishes that wait for their turn and for the log, in bytes; also of those whose caller has
    /// gone. 64 MiB.
    pub app_waiting: u64,
    /// The same, of all apps. 256 MiB.
    pub waiting: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            queue_events: 4_000_000,
            queue_bytes: 4 << 30,
            app_events: 8_000_000,
            app_bytes: 8 << 30,
            app_memory: 64 << 20,
            memory: 256 << 20,
            app_waiting: 64 << 20,
            waiting: 256 << 20,
        }
    }
}
