//! The key that one payload is encrypted under, with a nonce of zero.
//!
//! It comes from the operating system's generator, and would be random enough as it comes from there. But that generator repeats itself in
//! a virtual machine that is started again from a snapshot, and a broken one repeats itself always; then two payloads would meet under one
//! key and one nonce, which gives away their difference and the key that AES-GCM authenticates with. So the payload goes into the key, as
//! it goes into the nonce of AES-GCM-SIV (RFC 8452), through the same fast hash; and so does the writer's own secret key, as RFC 8937
//! advises, so that one who knows what the generator gives does not know the key.
//!
//! ```text
//! h = the first 16 bytes of SHA-256("ensync/sealed/1/content-hash" ‖ random ‖ own)
//! s = POLYVAL(h, payload, zeros to a multiple of 16 ‖ 0⁶⁴ ‖ its length in bits, 64 bits, little-endian)
//! K = SHA-256("ensync/sealed/1/content-key" ‖ random ‖ own ‖ s)
//!
//! random  32 bytes of the operating system's
//! own     the writer's X25519 secret, 32 bytes; of a writer without a key, nothing
//! ```
//!
//! Nothing of it is on the wire. Where random is new, K is as random as it. Where it repeats, two payloads of n blocks have one `s`, and
//! so one K, with a probability of at most (n + 1) / 2¹²⁸ if they were not made by somebody who knows `h`. The same payload twice under
//! one K says only that it is the same.

use polyval::Polyval;
use polyval::universal_hash::UniversalHash as _;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::aead::KEY;
use crate::{Result, SecretKey, random};

const HASH_LABEL: &[u8] = b"ensync/sealed/1/content-hash";
const KEY_LABEL: &[u8] = b"ensync/sealed/1/content-key";

/// A key for `payload`, and for nothing else.
pub(super) fn fresh(payload: &[u8], own: Option<&SecretKey>) -> Result<Zeroizing<[u8; KEY]>> {
    let random = Zeroizing::new(random::array::<32>()?);
    Ok(derive(&random, payload, own.map(|own| own.agreement().as_bytes())))
}

fn derive(random: &[u8; 32], payload: &[u8], own: Option<&[u8; 32]>) -> Zeroizing<[u8; KEY]> {
    let own = own.map_or(&[][..], |own| own);
    let hash_key = sha256(&[HASH_LABEL, random, own]);
    let mut hash_half = Zeroizing::new(polyval::Key::default());
    // 16 of 32 bytes.
    hash_half.iter_mut().zip(hash_key.iter()).for_each(|(half, byte)| *half = *byte);
    let mut hash = Polyval::new(&hash_half);
    hash.update_padded(payload);
    let mut end = polyval::Block::default();
    let bits = (payload.len() as u64).wrapping_mul(8).to_le_bytes();
    end.iter_mut().skip(8).zip(bits).for_each(|(end, byte)| *end = byte);
    hash.update(&[end]);
    let sum = Zeroizing::new(hash.finalize());
    sha256(&[KEY_LABEL, random, own, &sum])
}

fn sha256(parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let hash = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part));
    let mut out = Zeroizing::new([0; 32]);
    hash.finalize_into((&mut *out).into());
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const RANDOM: [u8; 32] = [7; 32];
    const OWN: [u8; 32] = [9; 32];

    #[test]
    fn one_randomness_gives_each_payload_its_own_key() {
        let base: Vec<u8> = (0..100).collect();
        let mut payloads: Vec<Vec<u8>> = (0..=100).map(|length| base[..length].to_vec()).collect();
        // Zeros at the end are not what it is filled up with.
        payloads.extend((2..40).map(|length| vec![0; length]));
        for bit in 0..800 {
            let mut altered = base.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            payloads.push(altered);
        }
        let mut swapped = base.clone();
        swapped.rotate_left(16);
        payloads.push(swapped);
        let keys: HashSet<_> = payloads.iter().map(|payload| *derive(&RANDOM, payload, Some(&OWN))).collect();
        assert_eq!(keys.len(), payloads.len());
        assert_eq!(derive(&RANDOM, b"{}", Some(&OWN)), derive(&RANDOM, b"{}", Some(&OWN)));
    }

    #[test]
    fn the_randomness_and_the_writers_key_are_in_it() {
        let keys = [
            derive(&RANDOM, b"{}", Some(&OWN)),
            derive(&[8; 32], b"{}", Some(&OWN)),
            derive(&RANDOM, b"{}", Some(&[10; 32])),
            derive(&RANDOM, b"{}", None),
        ];
        let different: HashSet<_> = keys.iter().map(|key| **key).collect();
        assert_eq!(different.len(), keys.len());
        let own = SecretKey::from_x25519(OWN);
        assert_ne!(fresh(b"{}", Some(&own)).unwrap(), fresh(b"{}", Some(&own)).unwrap());
    }

    /// By another program: Python's hashlib, and POLYVAL by the definition of RFC 8452, section 3, which gave its appendix's example.
    #[test]
    fn it_is_what_its_description_says() {
        for (payload, own, key) in [
            (&b"{}"[..], Some(&OWN), "f36caa92e6e15f3b42e1e2c3f005ee065a0269bef31b05c7a7f44dc55db5f4fa"),
            (
                br#"{"order":7,"text":"longer than a block"}"#,
                None,
                "af281fac3546fb44fd21451827c2573d8c10a571ea3e02dda0fe9540fab14312",
            ),
        ] {
            let found: String = derive(&RANDOM, payload, own).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, key);
        }
    }
}
