//! The one check of every public key that enters: the first step of sealing for it.

use curve25519_dalek::EdwardsPoint;
use curve25519_dalek::edwards::CompressedEdwardsY;

use crate::{AppId, Error, ErrorKind, Result};

/// The point of the curve that an app id is. See [`AppId::check`].
pub(crate) fn of(id: &AppId) -> Result<EdwardsPoint> {
    let refuse = |why| {
        let message =
            format!("this cannot be an app's id: {why}; was it copied from the right app, and is it not a secret?");
        Err(Error::new(ErrorKind::InvalidKey, message))
    };
    let compressed = CompressedEdwardsY(*id.as_bytes());
    let Some(point) = compressed.decompress() else {
        return refuse("its bytes are not a point on the curve");
    };
    // `decompress` takes y ≥ p and the sign of x = 0, which RFC 8032 forbids.
    if point.compress() != compressed {
        return refuse("its encoding is not canonical");
    }
    if point.is_small_order() {
        return refuse("it is a point of small order");
    }
    if !point.is_torsion_free() {
        return refuse("it is a point outside the prime-order group");
    }
    Ok(point)
}
