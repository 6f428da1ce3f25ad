//! What we write, read the way the published clients read it, with boxes made anew from the primitives.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic in a test's helper is a failed test, too")]

mod common;

use std::collections::BTreeSet;

use common::{App, box_key, decode, json, secretbox_open, vectors};
use ensync_core::WirePayload;
use ensync_core::crypto::{self, Recipient};
use serde_json::{Map, Value};

const SMALL: &[u8] = br#"{"order":7}"#;

/// Long enough to be worth a message key.
fn large() -> Vec<u8> {
    format!(r#"{{"text":"{}"}}"#, "x".repeat(100_000)).into_bytes()
}

fn recipients(apps: &[App]) -> Vec<Recipient> {
    apps.iter().map(|app| Recipient::new(app.ed25519_public_base64.parse().unwrap()).unwrap()).collect()
}

fn text<'a>(object: &'a Value, member: &str) -> Option<&'a str> {
    object.get(member)?.as_str()
}

fn bytes<const N: usize>(object: &Value, member: &str) -> Option<[u8; N]> {
    decode(text(object, member)?).try_into().ok()
}

/// `nacl.box.open` and `Box.decrypt`.
fn open_box(object: &Value, member: &str, app: &App) -> Option<Vec<u8>> {
    let shared = box_key(app.x25519_secret(), bytes(object, "ephemeralPublicKey")?);
    secretbox_open(shared, bytes(object, "nonce")?, &decode(text(object, member)?))
}

fn open_payload(envelope: &Value, key: Vec<u8>) -> Option<Vec<u8>> {
    let payload = &envelope["payload"];
    secretbox_open(key.try_into().ok()?, bytes(payload, "nonce")?, &decode(text(payload, "ciphertext")?))
}

/// The Node client: every entry in turn, `encryptedKey` over the raw message key.
fn node_reads(sealed: &WirePayload, app: &App) -> Option<Vec<u8>> {
    let envelope = json(sealed);
    if envelope.get("type").is_none() {
        return open_box(&envelope, "ciphertext", app);
    }
    assert_eq!(envelope["type"], "hybrid");
    let key = envelope["keys"].as_object()?.values().find_map(|entry| open_box(entry, "encryptedKey", app))?;
    open_payload(&envelope, key)
}

/// The Go client: every entry in turn, in no order, `ciphertext` over the raw message key. What opens but is no key it skips.
fn go_reads(sealed: &WirePayload, app: &App) -> Option<Vec<u8>> {
    let envelope = json(sealed);
    if envelope.get("type").is_none() {
        return open_box(&envelope, "ciphertext", app);
    }
    let keys = || envelope["keys"].as_object().unwrap().values().filter_map(|entry| open_box(entry, "ciphertext", app));
    let opened: Vec<_> = keys().filter_map(|key| open_payload(&envelope, key)).collect();
    assert!(opened.len() <= 1);
    opened.into_iter().next()
}

/// The Python client: every entry in turn, `ciphertext` over UTF-8 that is base64 of the message key. What opens but is no text it
/// skips.
fn python_reads(sealed: &WirePayload, app: &App) -> Option<Vec<u8>> {
    let envelope = json(sealed);
    if envelope.get("type").is_none() {
        return open_box(&envelope, "ciphertext", app);
    }
    assert_eq!(envelope["type"], "hybrid");
    let mut keys = envelope["keys"].as_object()?.values().filter_map(|entry| open_box(entry, "ciphertext", app));
    let key = keys.find_map(|key| Some(decode(&String::from_utf8(key).ok()?)))?;
    open_payload(&envelope, key)
}

fn names(object: &Map<String, Value>) -> Vec<&str> {
    object.keys().map(String::as_str).collect()
}

#[test]
fn every_client_reads_both_forms() {
    let apps = vectors().apps;
    for (plaintext, count) in [(SMALL, 1), (SMALL, 3), (&large(), 1), (&large(), 2), (&large(), 3)] {
        let copies = crypto::seal(plaintext, &recipients(&apps[..count])).unwrap();
        assert_eq!(copies.len(), count);
        for (at, copy) in copies.iter().enumerate() {
            for app in &apps {
                let expected = (app.name == apps[at].name).then_some(plaintext);
                assert_eq!(node_reads(copy, app).as_deref(), expected);
                assert_eq!(python_reads(copy, app).as_deref(), expected);
                assert_eq!(go_reads(copy, app).as_deref(), expected);
            }
        }
    }
}

#[test]
fn a_single_envelope_has_its_three_members() {
    let apps = vectors().apps;
    for plaintext in [SMALL, &large()] {
        let envelope = json(&crypto::seal(plaintext, &recipients(&apps[..1])).unwrap()[0]);
        assert_eq!(names(envelope.as_object().unwrap()), ["ciphertext", "ephemeralPublicKey", "nonce"]);
        assert!(bytes::<24>(&envelope, "nonce").is_some() && bytes::<32>(&envelope, "ephemeralPublicKey").is_some());
        assert_eq!(decode(text(&envelope, "ciphertext").unwrap()).len(), plaintext.len() + 16);
    }
}

#[test]
fn few_bytes_are_sealed_for_each_recipient_and_many_once() {
    let apps = vectors().apps;
    for copy in crypto::seal(SMALL, &recipients(&apps)).unwrap() {
        assert_eq!(json(&copy).get("type"), None);
    }
    let copies: Vec<Value> = crypto::seal(&large(), &recipients(&apps)).unwrap().iter().map(json).collect();
    for copy in &copies {
        assert_eq!(copy["type"], "hybrid");
        assert_eq!(copy["payload"], copies[0]["payload"]);
    }
}

#[test]
fn a_hybrid_copy_holds_its_own_recipients_two_entries_and_no_more() {
    let apps = vectors().apps;
    for (copy, app) in crypto::seal(&large(), &recipients(&apps)).unwrap().iter().zip(&apps) {
        let envelope = json(copy);
        assert_eq!(names(envelope.as_object().unwrap()), ["keys", "payload", "type"]);
        assert_eq!(names(envelope["payload"].as_object().unwrap()), ["ciphertext", "nonce"]);
        let keys = envelope["keys"].as_object().unwrap();
        let ids: BTreeSet<_> = [app.ed25519_public_base64.as_str(), &app.ed25519_public_hex].into();
        assert_eq!(names(keys).into_iter().collect::<BTreeSet<_>>(), ids);

        let (node, python) = (&keys[&app.ed25519_public_base64], &keys[&app.ed25519_public_hex]);
        assert_eq!(names(node.as_object().unwrap()), ["ciphertext", "encryptedKey", "ephemeralPublicKey", "nonce"]);
        // Go's name for the same box.
        assert_eq!(node["ciphertext"], node["encryptedKey"]);
        assert_eq!(names(python.as_object().unwrap()), ["ciphertext", "ephemeralPublicKey", "nonce"]);
        let (raw, base64) =
            (open_box(node, "encryptedKey", app).unwrap(), open_box(python, "ciphertext", app).unwrap());
        assert_eq!((raw.len(), base64.len()), (32, 44));
        assert_eq!(decode(std::str::from_utf8(&base64).unwrap()), raw);

        // Under one nonce the two boxes would reveal the message key.
        assert_ne!(node["nonce"], python["nonce"]);
        assert_eq!(
            copy.as_str().unwrap().matches('=').count(),
            copy.as_str().unwrap().len() - copy.as_str().unwrap().trim_end_matches('=').len(),
            "padding stands at the end only"
        );
    }
}

#[test]
fn nothing_random_is_used_twice() {
    let apps = vectors().apps;
    // The same recipient twice in one publish is two copies like any others.
    let to: Vec<Recipient> = recipients(&apps).into_iter().chain(recipients(&apps)).collect();
    let (mut nonces, mut ephemeral_keys, mut copies) = (BTreeSet::new(), BTreeSet::new(), 0);
    for _ in 0..8 {
        for copy in crypto::seal(SMALL, &to).unwrap() {
            let envelope = json(&copy);
            nonces.insert(envelope["nonce"].to_string());
            ephemeral_keys.insert(envelope["ephemeralPublicKey"].to_string());
            copies += 1;
        }
    }
    assert_eq!((nonces.len(), ephemeral_keys.len()), (copies, copies));

    let (mut payload_nonces, mut nonces, mut ephemeral_keys) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for _ in 0..8 {
        for copy in crypto::seal(&large(), &to).unwrap() {
            let envelope = json(&copy);
            payload_nonces.insert(envelope["payload"]["nonce"].to_string());
            for entry in envelope["keys"].as_object().unwrap().values() {
                nonces.insert(entry["nonce"].to_string());
                ephemeral_keys.insert(entry["ephemeralPublicKey"].to_string());
            }
        }
    }
    // One payload a publish; per copy one ephemeral key, and a nonce for each of its two boxes.
    assert_eq!((payload_nonces.len(), ephemeral_keys.len(), nonces.len()), (8, 8 * to.len(), 8 * to.len() * 2));
}

#[test]
fn nobody_is_no_copies() {
    assert!(crypto::seal(SMALL, &[]).unwrap().is_empty());
    assert!(crypto::seal(&large(), &[]).unwrap().is_empty());
}
