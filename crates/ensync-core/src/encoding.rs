//! Base64 in the spellings that peers use.
//!
//! One rule for all: the standard or the URL-safe alphabet, not both in one text; padded to a multiple of four characters, or not
//! padded at all; unused bits zero (RFC 4648 §3.5). Anything else is refused, stray characters, line breaks and one `=` of two
//! included.
//!
//! What is no secret goes through vector instructions where there are any; what is secret, through code whose time and memory
//! accesses do not depend on it.

use std::sync::LazyLock;

use base64::Engine as _;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use base64::engine::Simd;
use base64::engine::general_purpose::{NO_PAD, PAD};
use base64ct::{Base64, Base64Unpadded, Base64UrlUnpadded, Encoding as _};
use zeroize::Zeroizing;

/// Both alphabets, padded and not.
struct Engines<E> {
    standard: [E; 2],
    url_safe: [E; 2],
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static ENGINES: LazyLock<Engines<Simd>> = LazyLock::new(|| Engines {
    standard: [PAD, NO_PAD].map(Simd::standard),
    url_safe: [PAD, NO_PAD].map(Simd::url_safe),
});
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static ENGINES: LazyLock<Engines<base64::engine::GeneralPurpose>> = LazyLock::new(|| {
    use base64::{alphabet, engine::GeneralPurpose};
    let of = |alphabet| [PAD, NO_PAD].map(|config| GeneralPurpose::new(alphabet, config));
    Engines { standard: of(&alphabet::STANDARD), url_safe: of(&alphabet::URL_SAFE) }
});

/// Standard alphabet, padded: what we write.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let [padded, _] = &ENGINES.standard;
    padded.encode(bytes)
}

/// The same, put at the end of `text`.
pub(crate) fn encode_to(text: &mut Vec<u8>, bytes: &[u8]) {
    let [padded, _] = &ENGINES.standard;
    let start = text.len();
    text.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // There is room for exactly what is written.
    let written = text.get_mut(start..).map(|room| padded.encode_slice(bytes, room));
    debug_assert!(written.is_some_and(|written| written.is_ok()));
}

/// The bytes of a text; `None` if it breaks the rule.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let Engines { standard: [standard, standard_bare], url_safe: [url_safe, url_safe_bare] } = &*ENGINES;
    let padded = text.ends_with('=');
    #[cfg(test)]
    crate::crypto::cost::decoded(text.len());
    let read = if padded { standard } else { standard_bare }.decode(text);
    // Looked at only where it was no standard base64, for it is seldom anything else.
    match read {
        Err(_) if text.contains(['-', '_']) => {
            #[cfg(test)]
            crate::crypto::cost::decoded(text.len());
            if padded { url_safe } else { url_safe_bare }.decode(text).ok()
        }
        read => read.ok(),
    }
}

/// The bytes of a text in the one spelling that we write.
pub(crate) fn decode_canonical(text: &str) -> Option<Vec<u8>> {
    #[cfg(test)]
    crate::crypto::cost::decoded(text.len());
    let [padded, _] = &ENGINES.standard;
    padded.decode(text).ok()
}

/// [`encode`] for what is secret.
pub(crate) fn encode_secret(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(Base64::encode_string(bytes))
}

/// [`decode`] for what is secret: what was read is wiped, also when the text turns out to be no base64.
pub(crate) fn decode_secret(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    #[cfg(test)]
    crate::crypto::cost::decoded(text.len());
    let bare = text.trim_end_matches('=');
    if bare.len() != text.len() && text.len() != bare.len().next_multiple_of(4) {
        return None;
    }
    let mut bytes = Zeroizing::new(vec![0; text.len()]);
    let length = if bare.contains(['-', '_']) {
        Base64UrlUnpadded::decode(bare, &mut bytes).ok()?.len()
    } else {
        Base64Unpadded::decode(bare, &mut bytes).ok()?.len()
    };
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_reads_the_same() {
        let bytes = [0xfb, 0xff, 0xfe, 0x01];
        for text in ["+//+AQ==", "+//+AQ", "-__-AQ==", "-__-AQ"] {
            assert_eq!(decode(text).as_deref(), Some(&bytes[..]), "{text}");
            assert_eq!(decode_secret(text).unwrap().as_slice(), bytes.as_slice(), "{text}");
        }
        assert_eq!((encode(&bytes).as_str(), encode_secret(&bytes).as_str()), ("+//+AQ==", "+//+AQ=="));
        assert!(decode("").unwrap().is_empty());
        assert!(decode_secret("").unwrap().is_empty());
    }

    #[test]
    fn every_length_comes_back_from_every_writer() {
        for length in 0..400 {
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
            let text = encode(&bytes);
            let mut appended = b"before".to_vec();
            encode_to(&mut appended, &bytes);
            assert_eq!(appended, format!("before{text}").into_bytes());
            assert_eq!(*encode_secret(&bytes), text);
            assert_eq!(decode(&text).unwrap(), bytes);
            assert_eq!(decode_canonical(&text).unwrap(), bytes);
            assert_eq!(*decode_secret(&text).unwrap(), bytes);
            let url_safe = text.replace('+', "-").replace('/', "_");
            assert_eq!(decode(&url_safe).unwrap(), bytes);
            assert_eq!(decode(url_safe.trim_end_matches('=')).unwrap(), bytes);
        }
    }

    #[test]
    fn stray_characters_and_half_padding_are_refused() {
        let long = format!("{}+/-_", "A".repeat(400));
        for text in
            ["+//+AQ==\n", " +//+AQ==", "+/_-", "A", "AQ=A", "AR==", "+//+AQ=", "-__-AQ=", "AAAA=", "=", "AAA==", &long]
        {
            assert_eq!(decode(text), None, "{text:?}");
            assert!(decode_secret(text).is_none(), "{text:?}");
        }
        for text in ["+//+AQ", "-__-AQ=="] {
            assert_eq!(decode_canonical(text), None);
        }
    }
}
