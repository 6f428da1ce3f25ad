//! What the engine's layers speak of: places, records, what administrators ask for, snapshots, and how all of that is written
//! down. Nothing here knows of logs, states or clocks.

mod admin;
pub(crate) mod codec;
mod encoded;
mod options;
mod position;
mod record;
mod rights;
mod snapshot;

pub use admin::AdminCommand;
pub(crate) use admin::old_key_until;
pub use encoded::Encoded;
pub use options::{EventChange, EventOptions};
pub use position::Position;
pub use record::{EventRef, PublishRecord, Record};
pub use rights::{KeyHash, Rights};
pub use snapshot::{
    Snapshot, SnapshotApp, SnapshotEvent, SnapshotName, SnapshotPublish, SnapshotPublisher, SnapshotQueue,
    SnapshotSettled, SnapshotWait,
};
