//! Envelopes that the published Python and Node clients made, and some in the forms of the Go client.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic in a test's helper is a failed test, too")]

mod common;

use std::collections::BTreeSet;

use common::{App, go_vectors, hex, vectors};
use ensync_core::crypto::{self, Expected, Opener, Recipient};
use ensync_core::{AppId, ErrorKind, Keyring, SecretKey, WirePayload};

#[test]
fn every_case_opens_for_each_of_its_recipients_and_for_nobody_else() {
    let (vectors, go) = (vectors(), go_vectors());
    assert_eq!((vectors.cases.len(), go.cases.len()), (36, 24));
    for case in vectors.cases.iter().chain(&go.cases) {
        let sealed = WirePayload::from_wire(case.wire_payload_base64.clone());
        for app in &vectors.apps {
            let what = format!("{} {} {} as {}", case.generator, case.kind, case.payload, app.name);
            let opened = crypto::open(&sealed, &app.keyring());
            if case.recipients.contains(&app.name) {
                assert_eq!(opened.unwrap().as_slice(), case.plaintext.as_bytes(), "{what}");
            } else {
                // A single envelope names nobody, so it cannot be told for whom it is.
                let expected = if case.kind == "single" { ErrorKind::DoesNotOpen } else { ErrorKind::NotForMe };
                assert_eq!(opened.unwrap_err().kind(), expected, "{what}");
            }
        }
    }
    let seen: BTreeSet<_> =
        vectors.cases.iter().map(|case| (&*case.generator, &*case.kind, case.recipients.len())).collect();
    assert_eq!(seen.len(), 6, "python and node, for one, two and three recipients: {seen:?}");
    let seen: BTreeSet<_> = go.cases.iter().map(|case| (&*case.kind, case.recipients.len())).collect();
    assert_eq!(seen, [("hybrid", 1), ("hybrid", 2), ("hybrid", 3), ("single", 1)].into());
}

#[test]
fn a_bare_x25519_secret_opens_every_case_too() {
    let vectors = vectors();
    for case in &vectors.cases {
        let sealed = WirePayload::from_wire(case.wire_payload_base64.clone());
        for app in vectors.apps.iter().filter(|app| case.recipients.contains(&app.name)) {
            let keys = Keyring::new(SecretKey::from_x25519(app.x25519_secret()));
            assert_eq!(crypto::open(&sealed, &keys).unwrap().as_slice(), case.plaintext.as_bytes());
        }
    }
}

#[test]
fn any_key_of_the_ring_opens() {
    let vectors = vectors();
    let keys: Vec<SecretKey> = vectors.apps.iter().map(App::secret_key).collect();
    let new = || Keyring::new(SecretKey::generate().unwrap());
    let ring = keys.iter().cloned().fold(new(), Keyring::with_previous);
    let only_previous = keys.into_iter().fold(Keyring::default(), Keyring::with_previous);
    for case in &vectors.cases {
        let sealed = WirePayload::from_wire(case.wire_payload_base64.clone());
        assert_eq!(crypto::open(&sealed, &ring).unwrap().as_slice(), case.plaintext.as_bytes());
        assert_eq!(crypto::open(&sealed, &only_previous).unwrap().as_slice(), case.plaintext.as_bytes());
        assert!(crypto::open(&sealed, &new()).is_err());
        let none = crypto::open(&sealed, &Keyring::default()).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NotForMe);
        assert!(none.to_string().contains("no secret key was given"), "{none}");
    }
}

#[test]
fn every_malformed_one_is_refused_with_its_reason() {
    use ErrorKind::{DoesNotOpen, MalformedEnvelope};

    let expected = [
        ("not JSON", MalformedEnvelope, "not UTF-8"),
        ("empty", MalformedEnvelope, "empty"),
        ("JSON null", MalformedEnvelope, "not a JSON object"),
        ("JSON array", MalformedEnvelope, "not a JSON object"),
        ("empty object", MalformedEnvelope, "ciphertext is missing"),
        ("nonce too short", MalformedEnvelope, "nonce holds 23 bytes, not 24"),
        ("nonce too long", MalformedEnvelope, "nonce holds 25 bytes, not 24"),
        ("nonce not base64", MalformedEnvelope, "nonce is not base64"),
        ("nonce a number", MalformedEnvelope, "nonce is a number, not text"),
        ("ciphertext bit flipped", DoesNotOpen, "sealed for another key, or altered"),
        ("ciphertext shorter than its tag", MalformedEnvelope, "ciphertext holds 15 bytes, its tag alone has 16"),
        ("ciphertext empty", MalformedEnvelope, "ciphertext holds 0 bytes"),
        ("ephemeral key 31 bytes", MalformedEnvelope, "ephemeralPublicKey holds 31 bytes, not 32"),
        ("ephemeral key of low order (zero)", MalformedEnvelope, "ephemeralPublicKey is a point of small order"),
        ("hybrid without keys", MalformedEnvelope, "keys is missing"),
        ("hybrid with empty keys", MalformedEnvelope, "keys is empty"),
        ("hybrid keys a list", MalformedEnvelope, "keys: it is not a JSON object"),
    ];
    let vectors = vectors();
    assert!(vectors.malformed.iter().map(|bad| &*bad.why).eq(expected.iter().map(|(why, ..)| *why)));
    for (bad, (why, kind, part)) in vectors.malformed.iter().zip(expected) {
        for app in &vectors.apps {
            let error =
                crypto::open(&WirePayload::from_wire(bad.wire_payload_base64.clone()), &app.keyring()).unwrap_err();
            assert_eq!(error.kind(), kind, "{why}: {error}");
            assert!(error.to_string().contains(part), "{why}: {error}");
        }
    }
}

/// Each is hybrid to the first app alone, with one thing wrong.
#[test]
fn every_broken_one_in_gos_form_is_refused_with_its_reason() {
    use ErrorKind::{DoesNotOpen, MalformedEnvelope};

    let expected = [
        ("payload altered", DoesNotOpen, "the payload does not"),
        ("wrapped key altered", DoesNotOpen, "its entry does not open"),
        ("wrapped key of 31 bytes", MalformedEnvelope, "ciphertext holds 47 bytes"),
        ("wrapped key of another message", DoesNotOpen, "the payload does not"),
        ("wrapped key under another nonce", DoesNotOpen, "its entry does not open"),
        ("wrapped for another app", DoesNotOpen, "its entry does not open"),
        ("payload shorter than its tag", MalformedEnvelope, "ciphertext holds 3 bytes, its tag alone has 16"),
        ("wrapped key missing", MalformedEnvelope, "ciphertext holds 0 bytes"),
    ];
    let (apps, go) = (vectors().apps, go_vectors());
    assert!(go.malformed.iter().map(|bad| &*bad.why).eq(expected.iter().map(|(why, ..)| *why)));
    for (bad, (why, kind, part)) in go.malformed.iter().zip(expected) {
        let sealed = WirePayload::from_wire(bad.wire_payload_base64.clone());
        let error = crypto::open(&sealed, &apps[0].keyring()).unwrap_err();
        assert_eq!(error.kind(), kind, "{why}: {error}");
        assert!(error.to_string().contains(part), "{why}: {error}");
    }
}

#[test]
fn keys_convert_as_in_libsodium() {
    for app in vectors().apps {
        let id: AppId = app.ed25519_public_base64.parse().unwrap();
        assert_eq!(id.to_hex(), app.ed25519_public_hex);
        assert!(Recipient::new(id).is_ok());
        let key = app.secret_key();
        assert_eq!(key.app_id(), Some(id));
        assert_eq!(key, SecretKey::from_seed(hex(&app.seed_hex).try_into().unwrap()));
        assert_eq!(key.to_base64().unwrap().as_str(), app.app_secret_key_base64);
        assert_eq!(common::x25519_public(app.x25519_secret()).as_slice(), hex(&app.x25519_public_hex));

        // The converted halves belong together: what is sealed for the id opens with the converted secret alone.
        let sealed = crypto::seal(b"{}", &[Recipient::new(id).unwrap()]).unwrap();
        let bare = Keyring::new(SecretKey::from_x25519(app.x25519_secret()));
        assert_eq!(crypto::open(&sealed[0], &bare).unwrap().as_slice(), b"{}");
    }
}

/// What is nearly an envelope. The console's page is held to the same file, which is made by `console/test/strict.ts` of the engine.
#[test]
fn what_is_nearly_an_envelope_is_opened_or_refused_as_the_page_does() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("vectors/strict.json")).unwrap();
    let seed = vectors["recipient_seed_base64"].as_str().unwrap();
    let opener = Opener::new(Keyring::new(SecretKey::from_seed_base64(seed).unwrap()));
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 60, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let payload = WirePayload::from_wire(case["payload"].as_str().unwrap().to_owned());
        let opened = opener.open(&payload, &Expected::any_event());
        let found = match &opened {
            Ok(opened) => (opened.plaintext.as_slice() != br#"{"order":7}"#).then(|| "other bytes".to_owned()),
            Err(error) => Some(error.kind().code().to_owned()),
        };
        if found.as_deref() != case["refused"].as_str() {
            wrong.push(format!("{}: {found:?}, not {}", case["name"], case["refused"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
