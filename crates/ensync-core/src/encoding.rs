//! Base64 in the spellings that peers use.
//!
//! One rule for all: the standard or the URL-safe alphabet, not both in one text; padded to a multiple of four characters, or not
//! padded at all; unused bits zero (RFC 4648 §3.5). Anything else is refused, stray characters, line breaks and one `=` of two
//! included.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// Standard alphabet, padded: what we write.
pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of a text; `None` if it breaks the rule.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    spelling(text).decode(text).ok()
}

/// The same for what is secret: what was read is wiped, also when the text turns out to be no base64.
pub(crate) fn decode_secret(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = spelling(text).decode_slice(text, &mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

fn spelling(text: &str) -> &'static GeneralPurpose {
    let url_safe = text.bytes().any(|b| b == b'-' || b == b'_');
    match (url_safe, text.ends_with('=')) {
        (false, true) => &STANDARD,
        (false, false) => &STANDARD_NO_PAD,
        (true, true) => &URL_SAFE,
        (true, false) => &URL_SAFE_NO_PAD,
    }
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
        assert_eq!(encode(&bytes), "+//+AQ==");
        assert!(decode("").unwrap().is_empty());
        assert!(decode_secret("").unwrap().is_empty());
    }

    #[test]
    fn stray_characters_and_half_padding_are_refused() {
        for text in
            ["+//+AQ==\n", " +//+AQ==", "+/_-", "A", "AQ=A", "AR==", "+//+AQ=", "-__-AQ=", "AAAA=", "=", "AAA=="]
        {
            assert_eq!(decode(text), None, "{text:?}");
            assert!(decode_secret(text).is_none(), "{text:?}");
        }
    }
}
