//! What can be done with a data directory from outside the engine: check it, repair it, back it up, restore it. The commands
//! `ensync store`, `ensync backup` and `ensync restore` call these.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> ensync_core::Result<()> {
//! # let place = tempfile::tempdir().unwrap();
//! # let (data, copy, other) = (place.path().join("data"), place.path().join("copy"), place.path().join("other"));
//! use ensync_engine::{Server, store};
//!
//! let server = Server::dev().data_dir(&data).start().await?;
//! let shop = server.create_app("shop").await?;
//! let backup = store::backup(&data, &copy, false).await?; // the engine goes on meanwhile
//! assert!(backup.report.damage.is_empty());
//! server.shutdown().await;
//!
//! store::restore(&copy, &other).await?;
//! let server = Server::dev().data_dir(&other).start().await?;
//! assert_eq!(server.broker().apps().await?[0].id, shop.app_id);
//! # Ok(())
//! # }
//! ```

mod backup;
mod copy;
mod pieces;
mod repair;
mod report;
mod salvage;
mod scan;
mod scanner;
mod verify;

#[cfg(test)]
pub(crate) use backup::backup_with;
pub use backup::{Backup, Restored, backup, restore};
pub use repair::{Assessment, LostEvents, assess, repair};
pub use report::{Contents, Damage, FileReport};
pub use verify::{Report, verify};
