//! What can be done with a data directory from outside: check it, repair it, copy it.

mod backup;
mod pieces;
mod repair;
mod report;
mod salvage;
mod scan;
mod verify;

pub use backup::{Backup, Restored, backup, restore};
pub use repair::{Assessment, LostEvents, assess, repair};
pub use report::{Contents, Damage, FileReport};
pub use verify::{Report, verify};
