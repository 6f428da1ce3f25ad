//! What the engine's layers speak of: places, records, what administrators ask for, snapshots, and how all of that is written
//! down; and the settings that hold everywhere. Nothing here knows of logs, states or clocks.

mod admin;
mod change;
pub(crate) mod codec;
mod encoded;
mod options;
mod position;
mod quotas;
mod record;
mod rights;
mod settings;
mod share;
mod snapshot;

pub use admin::AdminCommand;
pub(crate) use admin::old_key_until;
pub(crate) use change::stale;
pub use change::{Applied, Change};
pub use encoded::{Encoded, Need};
pub use options::{EventChange, EventOptions, Rules};
pub use position::Position;
pub use quotas::Quotas;
pub use record::{EventRef, PublishRecord, Record, Removed};
pub use rights::{KeyHash, Rights};
pub use settings::{Defaults, Limits, MemoryUsed, Rate, Settings};
pub use share::Share;
pub(crate) use share::{partition_of, partition_of_queue};
pub(crate) use snapshot::SnapshotPart;
pub use snapshot::{
    PartitionSnapshot, RegistrySnapshot, Snapshot, SnapshotApp, SnapshotEvent, SnapshotName, SnapshotPublish,
    SnapshotPublisher, SnapshotQueue, SnapshotSettled, SnapshotWait,
};
