use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{AppId, Error, ErrorKind, Result};

/// Whose payloads a reader takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Senders {
    /// Anybody's, proven or not.
    #[default]
    Any,
    /// Those of any proven sender. Anybody can prove to be himself: compare [`SenderProof::Verified`]'s key, or say whose.
    Verified,
    /// Those that one of these proves to have sealed.
    VerifiedFrom(Arc<BTreeSet<AppId>>),
}

impl Senders {
    /// Only payloads that one of these proves to have sealed.
    pub fn verified_from(keys: impl IntoIterator<Item = AppId>) -> Self {
        Self::VerifiedFrom(Arc::new(keys.into_iter().collect()))
    }

    /// Step 4 of reading: nothing is decrypted for somebody who is not allowed. `from` is the sender that the envelope names and
    /// step 5 will prove.
    pub(super) fn check(&self, from: Option<&AppId>) -> Result<()> {
        let refuse = |why| Err(Error::new(ErrorKind::SenderNotVerified, why));
        match (self, from) {
            (Self::Any, _) | (Self::Verified, Some(_)) => Ok(()),
            (Self::VerifiedFrom(allowed), Some(from)) if allowed.contains(from) => Ok(()),
            (Self::VerifiedFrom(_), Some(from)) => refuse(format!("the sender, app {from}, is not one of those allowed")),
            (Self::Verified | Self::VerifiedFrom(_), None) => refuse(
                "the envelope does not prove its sender, and only verified senders are taken; the sender must use the suite \
                 aes-256-gcm with its own secret key"
                    .to_owned(),
            ),
        }
    }
}

/// Who sealed a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SenderProof {
    /// The holder of this key sealed the payload, for this recipient, under this event name, id and time; or a holder of the
    /// recipient's own key made it look so, which a signature excludes.
    Verified {
        /// The sender's app id.
        key: AppId,
        /// Whether a signature proves it.
        signed: bool,
    },
    /// Nothing proves it. What the engine says about the sender is all there is.
    Unverified,
}
