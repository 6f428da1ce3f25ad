use sha2::{Digest, Sha256};

use crate::AppId;

/// A short form of an app id that people can compare, by eye or over the telephone.
///
/// ```text
/// the first 16 bytes of SHA-256("ensync/fingerprint/1" ‖ the raw Ed25519 public key), in hex, in groups of four
/// ```
///
/// 128 bits: nobody finds another key with the same fingerprint. A part of it is not enough, for keys that agree in some groups
/// can be searched for.
///
/// ```
/// use ensync_core::{AppId, crypto};
///
/// let id: AppId = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=".parse()?;
/// assert_eq!(crypto::fingerprint(&id), "c45a 6dd7 b172 3be8 98d5 50a2 b7c6 a822");
/// # Ok::<(), ensync_core::Error>(())
/// ```
pub fn fingerprint(id: &AppId) -> String {
    let hash = Sha256::new().chain_update("ensync/fingerprint/1").chain_update(id.as_bytes()).finalize();
    let groups = hash.chunks(2).take(8).map(|pair| pair.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    groups.collect::<Vec<String>>().join(" ")
}
