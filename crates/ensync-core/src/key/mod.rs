//! The three keys of an app: the [app key](AppKey) that it logs in with, the [app id](AppId) that others address it by, and the
//! [secret key](SecretKey) that opens what was sealed for that id.

mod app_id;
mod app_key;
mod keyring;
mod point;
mod secret;

pub use app_id::AppId;
pub use app_key::AppKey;
pub use keyring::Keyring;
pub use secret::SecretKey;

pub(crate) use point::of as point;
