use crate::{AppId, Result, key};

/// An app id that something can be sealed for: its key was checked and converted, once.
///
/// That is a good part of what sealing a small payload costs, so keep the value where one app is written to often. Cheap to
/// clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recipient {
    id: AppId,
    x25519: [u8; 32],
}

impl Recipient {
    /// Checks and converts an Ed25519 public key, with the strictness of libsodium's `crypto_sign_ed25519_pk_to_curve25519`:
    ///
    /// ```text
    /// x25519 = u = (1 + y) / (1 − y)        RFC 7748 §4.1
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`AppId::check`].
    pub fn new(id: AppId) -> Result<Self> {
        let point = key::point(&id)?;
        Ok(Self { id, x25519: point.to_montgomery().to_bytes() })
    }

    /// The app id.
    pub fn id(&self) -> &AppId {
        &self.id
    }

    /// The X25519 public key.
    pub(crate) fn x25519(&self) -> &[u8; 32] {
        &self.x25519
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};

    use super::*;
    use crate::ErrorKind;

    fn refused(bytes: [u8; 32]) -> String {
        let error = Recipient::new(AppId::from_bytes(bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
        assert_eq!(AppId::from_bytes(bytes).check().unwrap_err().to_string(), error.to_string());
        assert!(!error.to_string().contains(&AppId::from_bytes(bytes).to_string()[..12]), "{error}");
        error.to_string()
    }

    #[test]
    fn small_orders_are_refused() {
        for point in EIGHT_TORSION {
            assert!(refused(point.compress().to_bytes()).contains("small order"));
        }
    }

    #[test]
    fn points_with_a_torsion_part_are_refused() {
        assert!(Recipient::new(AppId::from_bytes(ED25519_BASEPOINT_POINT.compress().to_bytes())).is_ok());
        for part in EIGHT_TORSION.into_iter().skip(1) {
            let point = ED25519_BASEPOINT_POINT + part;
            assert!(refused(point.compress().to_bytes()).contains("prime-order"));
        }
    }

    #[test]
    fn other_spellings_of_a_point_are_refused() {
        // y from p = 2²⁵⁵ − 19 to 2²⁵⁵ − 1, either sign: none is canonical, and those on the curve say so.
        let mut spellings = Vec::new();
        for low in 0xed..=0xff {
            for high in [0x7f, 0xff] {
                let mut bytes = [0xff; 32];
                (bytes[0], bytes[31]) = (low, high);
                spellings.push(refused(bytes));
            }
        }
        let canonical = spellings.iter().filter(|why| why.contains("not canonical")).count();
        let no_point = spellings.iter().filter(|why| why.contains("not a point")).count();
        assert!(canonical > 8 && no_point > 8 && canonical + no_point == spellings.len(), "{canonical} {no_point}");

        // y = 1, so x = 0, with the sign that x = 0 has not.
        let mut negative_zero = [0; 32];
        (negative_zero[0], negative_zero[31]) = (1, 0x80);
        assert!(refused(negative_zero).contains("not canonical"));
    }

    #[test]
    fn what_is_no_point_is_refused() {
        // No x belongs to y = 2.
        let mut bytes = [0; 32];
        bytes[0] = 2;
        assert!(refused(bytes).contains("not a point"));
    }
}
