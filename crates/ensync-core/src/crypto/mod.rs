//! Stub.
use crate::{AppId, Keyring, Result, Sealed};
use zeroize::Zeroizing;
/// Stub.
#[derive(Clone, Debug)]
pub struct Recipient(AppId);
impl Recipient {
    /// Stub.
    pub fn new(id: AppId) -> Result<Self> {
        Ok(Self(id))
    }
    /// Stub.
    pub fn id(&self) -> &AppId {
        &self.0
    }
}
/// Stub.
pub fn seal(_: &[u8], to: &[Recipient]) -> Result<Vec<Sealed>> {
    Ok(to.iter().map(|_| Sealed::default()).collect())
}
/// Stub.
pub fn open(_: &Sealed, _: &Keyring) -> Result<Zeroizing<Vec<u8>>> {
    Ok(Zeroizing::new(Vec::new()))
}
