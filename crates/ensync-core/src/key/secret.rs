//! Stub.
use crate::{AppId, Result};
/// Stub.
#[derive(Clone, Debug)]
pub struct SecretKey;
impl SecretKey {
    /// Stub.
    pub fn parse(_: &str) -> Result<Self> {
        Ok(Self)
    }
    /// Stub.
    pub fn generate() -> Result<Self> {
        Ok(Self)
    }
    /// Stub.
    pub fn app_id(&self) -> Option<AppId> {
        None
    }
}
/// Stub.
#[derive(Clone, Debug, Default)]
pub struct Keyring;
impl From<SecretKey> for Keyring {
    fn from(_: SecretKey) -> Self {
        Self
    }
}
