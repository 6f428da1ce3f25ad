//! What is not of the one form of a sealed envelope.

use ensync_core::crypto::Expected;
use ensync_core::{ErrorKind, WirePayload};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::reference::{b64, wire};
use super::{WAREHOUSE, event, kind, open, opener, sealed};

#[test]
fn what_is_not_of_the_one_form_is_malformed() {
    let base = sealed(false);
    let long = b64(&[b' '; 4097]);
    for (member, value, part) in [
        ("type", json!("Sealed"), "type is \"Sealed\""),
        ("type", Value::Null, "type is null"),
        ("header", Value::Null, "header is null"),
        ("header", json!(""), "header: it is not a JSON object"),
        ("header", json!("e30="), "header: v is missing"),
        ("header", json!("e30"), "header is not standard base64"),
        ("header", json!(long), "header holds more than 4096 bytes"),
        ("header", json!(b64(b"[1]")), "header: it is not a JSON object"),
        ("header", json!(b64(br#"{"v":1,"v":1}"#)), "header: a member occurs twice"),
        ("header", json!(b64(b"\xff{}")), "header: it is not UTF-8"),
        ("header", json!({"v": 1}), "header is an object, not text"),
        ("key", Value::Null, "key is null"),
        ("key", json!(b64(&[0; 47])), "key holds 47 bytes, not 48"),
        ("key", json!(b64(&[0; 49])), "key holds more than 48 bytes"),
        ("key", json!(format!("{}-", &b64(&[0; 48])[..63])), "key is not standard base64"),
        ("ciphertext", json!(b64(&[0; 15])), "ciphertext holds 15 bytes, its tag alone has 16"),
        ("ciphertext", json!(7), "ciphertext is a number, not text"),
        ("ciphertext", json!("AAAAAAAAAAAAAAAAAAAAAB=="), "ciphertext is not standard base64"),
        ("signature", Value::Null, "signature is null"),
        ("signature", json!(b64(&[0; 63])), "signature holds 63 bytes, not 64"),
        ("signature", json!(b64(&[0; 64])), "there is a signature, but the header does not say signed"),
        ("nonce", json!(b64(&[0; 12])), "does not belong"),
    ] {
        let mut envelope = base.clone();
        envelope[member] = value;
        let error = open(&envelope, WAREHOUSE, &Expected::event(&event())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedEnvelope, "{member}: {error}");
        let message = error.to_string();
        assert!(message.starts_with("malformed envelope: ") && message.contains(part), "{member}: {message}");
        assert!(message.len() < 200, "{message}");
    }
    for member in ["header", "key", "ciphertext"] {
        let mut envelope = base.clone();
        envelope.as_object_mut().unwrap().remove(member);
        let error = open(&envelope, WAREHOUSE, &Expected::event(&event())).unwrap_err();
        assert!(error.to_string().contains(&format!("{member} is missing")), "{error}");
    }
    for again in [r#""type":"sealed""#, r#""key":"AAAA""#, r#""he\u0061der":"e30=""#] {
        let text = format!("{{{again},{}", &base.to_string()[1..]);
        let error =
            opener(WAREHOUSE).open(&WirePayload::from_wire(b64(text.as_bytes())), &Expected::any_event()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedEnvelope);
        assert!(error.to_string().contains("occurs twice"), "{error}");
    }
}

#[test]
fn a_later_version_is_unsupported_even_if_its_form_is_another() {
    let mut envelope = sealed(false);
    envelope["header"] = b64(br#"{"v":2,"recipients":[1]}"#).into();
    envelope["tag"] = json!([]);
    assert_eq!(kind(&envelope, WAREHOUSE, &Expected::event(&event())), ErrorKind::UnsupportedEnvelope);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_headers_and_members_open_nothing(
        header in r#"[\[\]{}",:0-9a-z\\ ]{0,60}"#,
        key in proptest::collection::vec(any::<u8>(), 40..56),
        ciphertext in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let opener = opener(WAREHOUSE);
        for header in [header.clone(), format!("{{{header}}}"), format!(r#"{{"v":1,{header}}}"#)] {
            let envelope = json!({
                "type": "sealed", "header": b64(header.as_bytes()), "key": b64(&key), "ciphertext": b64(&ciphertext),
            });
            let error = opener.open(&wire(&envelope), &Expected::any_event()).unwrap_err();
            prop_assert!(matches!(error.kind(), ErrorKind::MalformedEnvelope | ErrorKind::UnsupportedEnvelope));
        }
    }
}
