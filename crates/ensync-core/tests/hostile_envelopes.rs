//! Envelopes that are not what a peer writes: each is refused with its kind, or read, and none panics.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic in a test's helper is a failed test, too")]

mod common;

use common::{box_key, encode, json, secretbox, wire, x25519_public};
use ensync_core::crypto::{self, Expected, Opener, Recipient, Sealer, Senders, Suite};
use ensync_core::{ErrorKind, EventName, Keyring, SecretKey, WirePayload};
use proptest::prelude::*;
use serde_json::{Value, json as value};

const KEY: [u8; 32] = [9; 32];
const PLAINTEXT: &[u8] = br#"{"order":7}"#;

fn app(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn recipient(key: &SecretKey) -> Recipient {
    Recipient::new(key.app_id().unwrap()).unwrap()
}

fn open(envelope: &Value, key: &SecretKey) -> Result<Vec<u8>, (ErrorKind, String)> {
    open_text(&envelope.to_string(), key)
}

fn open_text(envelope: &str, key: &SecretKey) -> Result<Vec<u8>, (ErrorKind, String)> {
    match crypto::open(&wire(envelope), &Keyring::new(key.clone())) {
        Ok(plaintext) => Ok(plaintext.to_vec()),
        Err(error) => Err((error.kind(), error.to_string())),
    }
}

/// A bare X25519 secret, and its public key for boxes made by hand.
fn bare(secret: u8) -> (SecretKey, [u8; 32]) {
    (SecretKey::from_x25519([secret; 32]), x25519_public([secret; 32]))
}

/// An entry of `keys` whose box holds `content`.
fn entry(field: &str, content: &[u8], to: [u8; 32]) -> Value {
    let (ephemeral, nonce) = ([5; 32], [6; 24]);
    let boxed = secretbox(box_key(ephemeral, to), nonce, content);
    value!({"nonce": encode(&nonce), field: encode(&boxed), "ephemeralPublicKey": encode(&x25519_public(ephemeral))})
}

fn hybrid(keys: Value) -> Value {
    let nonce = [7; 24];
    let payload = value!({"nonce": encode(&nonce), "ciphertext": encode(&secretbox(KEY, nonce, PLAINTEXT))});
    value!({"type": "hybrid", "payload": payload, "keys": keys})
}

#[test]
fn the_type_decides() {
    let me = app(1);
    let mut envelope = json(&crypto::seal(PLAINTEXT, &[recipient(&me)]).unwrap()[0]);
    for (kind, expected, part) in [
        (value!("sealed"), ErrorKind::UnsupportedEnvelope, "use an opener"),
        (value!("single"), ErrorKind::MalformedEnvelope, "type is \"single\""),
        (value!("Hybrid"), ErrorKind::MalformedEnvelope, "type is \"Hybrid\""),
        (value!("x".repeat(10_000)), ErrorKind::MalformedEnvelope, "type is \"xxxxxxxx…\""),
        (value!(null), ErrorKind::MalformedEnvelope, "type is null"),
        (value!(1), ErrorKind::MalformedEnvelope, "type is a number"),
        (value!("hybrid"), ErrorKind::MalformedEnvelope, "payload is missing"),
    ] {
        envelope["type"] = kind;
        let (kind, message) = open(&envelope, &me).unwrap_err();
        assert_eq!(kind, expected, "{message}");
        assert!(message.contains(part) && message.len() < 300, "{message}");
    }
}

#[test]
fn members_that_peers_may_add_are_ignored() {
    let me = app(1);
    for plaintext in [PLAINTEXT.to_vec(), vec![b'x'; 100_000]] {
        for copies in 1..=2 {
            let mut envelope = json(&crypto::seal(&plaintext, &vec![recipient(&me); copies]).unwrap()[0]);
            envelope["version"] = value!({"major": [1, null]});
            if let Some(keys) = envelope.get_mut("keys").and_then(Value::as_object_mut) {
                keys.values_mut().for_each(|entry| entry["algorithm"] = value!("x25519"));
                envelope["payload"]["algorithm"] = value!("xsalsa20");
            }
            assert_eq!(open(&envelope, &me).unwrap(), plaintext);
        }
    }
}

#[test]
fn depth_and_repetition_do_not_hurt() {
    let me = app(1);
    let text = json(&crypto::seal(PLAINTEXT, &[recipient(&me)]).unwrap()[0]).to_string();
    let nested = |levels| format!("{{\"x\":{}0{},{}", "[".repeat(levels), "]".repeat(levels), &text[1..]);
    assert_eq!(open_text(&nested(126), &me).unwrap(), PLAINTEXT);
    for levels in [127, 200_000] {
        assert_eq!(open_text(&nested(levels), &me).unwrap_err().0, ErrorKind::MalformedEnvelope);
    }
    for unclosed in ["[", "{\"a\":", "{\"keys\":{\"a\":", "{\"payload\":["] {
        assert_eq!(open_text(&unclosed.repeat(200_000), &me).unwrap_err().0, ErrorKind::MalformedEnvelope);
    }
    for (member, again) in [("nonce", r#""nonce":"AAAA""#), ("ciphertext", r#""ciphertext":"AAAA""#)] {
        assert!(text.contains(member));
        let (kind, message) = open_text(&format!("{{{again},{}", &text[1..]), &me).unwrap_err();
        assert_eq!(kind, ErrorKind::MalformedEnvelope);
        assert!(message.contains("occurs twice"), "{message}");
    }
    let (_, message) = open_text(r#"{"type":"hybrid","type":"hybrid"}"#, &me).unwrap_err();
    assert!(message.contains("occurs twice"), "{message}");
}

#[test]
fn the_wire_text_is_base64_of_json() {
    let me = Keyring::new(app(1));
    let sealed = crypto::seal(PLAINTEXT, &[recipient(&app(1))]).unwrap().remove(0);
    for unpadded in
        [sealed.as_str().unwrap().trim_end_matches('='), &sealed.as_str().unwrap().replace('+', "-").replace('/', "_")]
    {
        assert_eq!(crypto::open(&WirePayload::from_wire(unpadded.to_owned()), &me).unwrap().as_slice(), PLAINTEXT);
    }
    for (text, part) in [
        (format!("{}\n", sealed.as_str().unwrap()), "not base64"),
        (format!(" {}", sealed.as_str().unwrap()), "not base64"),
        ("e30=e30=".to_owned(), "not base64"),
        (encode(b"{\"nonce\""), "not JSON"),
        (encode(b"\"text\""), "not a JSON object"),
    ] {
        let error = crypto::open(&WirePayload::from_wire(text), &me).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedEnvelope);
        assert!(error.to_string().starts_with("malformed envelope: ") && error.to_string().contains(part), "{error}");
    }
    let error = crypto::open(&WirePayload::from_wire(vec![0xff, 0xfe]), &me).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MalformedEnvelope);
}

#[test]
fn a_wrapped_key_is_raw_or_base64_under_either_name() {
    let (me, public) = bare(3);
    let text = encode(&KEY);
    for field in ["encryptedKey", "ciphertext"] {
        for content in [KEY.as_slice(), text.as_bytes()] {
            assert_eq!(open(&hybrid(value!({"any": entry(field, content, public)})), &me).unwrap(), PLAINTEXT);
        }
    }
}

#[test]
fn an_own_entry_that_is_broken_says_how() {
    let me = app(1);
    let public = common::x25519_public(x25519_secret(&me));
    let id = me.app_id().unwrap();
    let not_a_key = [b'A'; 43].iter().chain(b"?").copied().collect::<Vec<u8>>();
    let short_key = encode(&[1; 31]);
    let long_key = encode(&[1; 33]);
    for (entry, expected, part) in [
        (value!(null), ErrorKind::MalformedEnvelope, "not a JSON object"),
        (value!([]), ErrorKind::MalformedEnvelope, "not a JSON object"),
        (value!({}), ErrorKind::MalformedEnvelope, "ciphertext is missing"),
        (value!({"encryptedKey": 7}), ErrorKind::MalformedEnvelope, "encryptedKey is a number"),
        (value!({"encryptedKey": "AAAA"}), ErrorKind::MalformedEnvelope, "encryptedKey holds 3 bytes"),
        (entry("ciphertext", &[1; 31], public), ErrorKind::MalformedEnvelope, "ciphertext holds 47 bytes"),
        (entry("ciphertext", &[1; 45], public), ErrorKind::MalformedEnvelope, "ciphertext holds 61 bytes"),
        (entry("ciphertext", &not_a_key, public), ErrorKind::MalformedEnvelope, "not base64"),
        (entry("ciphertext", &[0xff; 44], public), ErrorKind::MalformedEnvelope, "not base64"),
        (entry("ciphertext", short_key.as_bytes(), public), ErrorKind::MalformedEnvelope, "base64 of 31 bytes"),
        (entry("ciphertext", long_key.as_bytes(), public), ErrorKind::MalformedEnvelope, "base64 of 33 bytes"),
        (entry("encryptedKey", &KEY, bare(3).1), ErrorKind::DoesNotOpen, "its entry does not open"),
        (entry("encryptedKey", &[8; 32], public), ErrorKind::DoesNotOpen, "the payload does not"),
    ] {
        for name in [id.to_string(), id.to_hex()] {
            let (kind, message) = open(&hybrid(value!({name: entry})), &me).unwrap_err();
            assert_eq!(kind, expected, "{entry}: {message}");
            assert!(message.contains(part), "{entry}: {message}");
        }
    }
    // Of two broken ones, the well-formed one decides, whichever comes first.
    let (broken, closed) = (value!({}), entry("encryptedKey", &KEY, bare(3).1));
    for (first, second) in [(&broken, &closed), (&closed, &broken)] {
        let (kind, _) = open(&hybrid(value!({id.to_string(): first, id.to_hex(): second})), &me).unwrap_err();
        assert_eq!(kind, ErrorKind::DoesNotOpen);
    }
    // A broken one does not stop a good one.
    let good = entry("ciphertext", &KEY, public);
    for broken in [broken, closed] {
        assert_eq!(open(&hybrid(value!({id.to_string(): broken, id.to_hex(): good})), &me).unwrap(), PLAINTEXT);
    }
}

/// The secret of a key, as libsodium converts it.
fn x25519_secret(key: &SecretKey) -> [u8; 32] {
    let bytes = common::decode(&key.to_base64().unwrap());
    ed25519_dalek::SigningKey::from_bytes(&bytes[..32].try_into().unwrap()).to_scalar_bytes()
}

#[test]
fn a_small_order_ephemeral_key_is_refused_even_if_its_box_opens() {
    // Under the all-zero agreement everybody can make the box.
    let (ephemeral, nonce) = ([0; 32], [6; 24]);
    let known = box_key([5; 32], ephemeral);
    let single = value!({
        "nonce": encode(&nonce),
        "ciphertext": encode(&secretbox(known, nonce, PLAINTEXT)),
        "ephemeralPublicKey": encode(&ephemeral),
    });
    let (kind, message) = open(&single, &app(1)).unwrap_err();
    assert_eq!(kind, ErrorKind::MalformedEnvelope);
    assert!(message.contains("small order"), "{message}");

    let wrapped = value!({
        "nonce": encode(&nonce),
        "encryptedKey": encode(&secretbox(known, nonce, &KEY)),
        "ephemeralPublicKey": encode(&ephemeral),
    });
    let me = app(1);
    let (kind, _) = open(&hybrid(value!({me.app_id().unwrap().to_hex(): wrapped})), &me).unwrap_err();
    assert_eq!(kind, ErrorKind::MalformedEnvelope);
    assert_eq!(open(&hybrid(value!({"any": wrapped})), &me).unwrap_err().0, ErrorKind::NotForMe);
}

#[test]
fn own_entries_are_found_among_thousands_and_unnamed_ones_tried_8_times() {
    let (me, public) = bare(3);
    let other = entry("encryptedKey", &KEY, bare(4).1);
    let among = |before: usize, mine: (&str, Value)| {
        let mut keys: serde_json::Map<String, Value> =
            (0..before).map(|n| (format!("a{n:04}"), other.clone())).collect();
        keys.insert(mine.0.to_owned(), mine.1);
        hybrid(keys.into())
    };
    let mine = entry("encryptedKey", &KEY, public);
    assert_eq!(open(&among(7, ("b", mine.clone())), &me).unwrap(), PLAINTEXT);
    let (kind, message) = open(&among(8, ("b", mine.clone())), &me).unwrap_err();
    assert_eq!(kind, ErrorKind::NotForMe);
    assert!(message.contains("none of its 9 entries"), "{message}");
    // Those that cannot be read cost no try, but are not all looked at.
    let hollow = |before: usize| {
        let mut keys: serde_json::Map<String, Value> = (0..before).map(|n| (format!("a{n:05}"), value!({}))).collect();
        keys.insert("b".into(), mine.clone());
        hybrid(keys.into())
    };
    assert_eq!(open(&hollow(63), &me).unwrap(), PLAINTEXT);
    for many in [64, 50_000] {
        assert_eq!(open(&hollow(many), &me).unwrap_err().0, ErrorKind::NotForMe);
    }
    // The tries of all keys together, for each is an agreement.
    let two = Keyring::new(app(1)).with_previous(me.clone());
    for (before, opens) in [(3, true), (4, false)] {
        let opened = crypto::open(&wire(&among(before, ("b", mine.clone())).to_string()), &two);
        assert_eq!(opened.is_ok(), opens, "{before}");
    }

    let me = app(1);
    let mine = entry("encryptedKey", &KEY, x25519_public(x25519_secret(&me)));
    for name in [me.app_id().unwrap().to_string(), me.app_id().unwrap().to_hex()] {
        assert_eq!(open(&among(5_000, (&name, mine.clone())), &me).unwrap(), PLAINTEXT);
    }
}

#[test]
fn an_entry_named_after_another_app_is_not_tried() {
    let (me, public) = bare(3);
    let mine = entry("encryptedKey", &KEY, public);
    let other = app(9).app_id().unwrap();
    for name in [other.to_string(), other.to_hex(), other.to_string().replace('=', "")] {
        assert_eq!(open(&hybrid(value!({name: mine})), &me).unwrap_err().0, ErrorKind::NotForMe);
    }
    assert_eq!(open(&hybrid(value!({"anybody": mine})), &me).unwrap(), PLAINTEXT);
}

#[test]
fn a_bare_key_finds_its_own_entry_among_many() {
    let keys: Vec<SecretKey> = (1..=60).map(app).collect();
    let to: Vec<Recipient> = keys.iter().map(recipient).collect();
    let plaintext = vec![b' '; 20_000];
    // Every recipient's entries in one envelope, as the peers write it.
    let copies: Vec<Value> = crypto::seal(&plaintext, &to).unwrap().iter().map(json).collect();
    let mut all = copies[0].clone();
    for copy in &copies {
        all["keys"].as_object_mut().unwrap().extend(copy["keys"].as_object().unwrap().clone());
    }
    for key in &keys {
        let bare = SecretKey::from_x25519(x25519_secret(key));
        assert_eq!(open(&all, key).unwrap(), plaintext);
        assert_eq!(open(&all, &bare).unwrap(), plaintext);
    }
}

#[test]
fn form_and_recipient_come_before_the_sender() {
    let me = app(1);
    let opener = Opener::new(Keyring::new(me.clone()));
    let senders = Senders::Verified;
    let kind = |envelope: &Value, opener: &Opener| {
        opener.open(&wire(&envelope.to_string()), &Expected::any_event().senders(&senders)).unwrap_err().kind()
    };
    let single = json(&crypto::seal(PLAINTEXT, &[recipient(&me)]).unwrap()[0]);
    let other = app(9).app_id().unwrap().to_string();
    let wrapped_for = |public| entry("encryptedKey", &KEY, public);
    let entry = wrapped_for(bare(3).1);
    assert_eq!(kind(&value!({"nonce": 7}), &opener), ErrorKind::MalformedEnvelope);
    assert_eq!(kind(&value!({"type": "hybrid"}), &opener), ErrorKind::MalformedEnvelope);
    assert_eq!(kind(&single, &Opener::new(Keyring::default())), ErrorKind::NotForMe);
    assert_eq!(kind(&hybrid(value!({ other: entry })), &opener), ErrorKind::NotForMe);
    // Also where only a try can tell for whom it is.
    assert_eq!(kind(&hybrid(value!({ "somebody": entry })), &opener), ErrorKind::NotForMe);
    let mine = wrapped_for(x25519_public(x25519_secret(&me)));
    assert_eq!(kind(&hybrid(value!({ "somebody": mine })), &opener), ErrorKind::SenderNotVerified);
    // Under its name, an entry that does not open is for the reader all the same.
    let named = hybrid(value!({ me.app_id().unwrap().to_string(): entry, "somebody": entry }));
    assert_eq!(kind(&named, &opener), ErrorKind::SenderNotVerified);
    // So in the other suite, which says for whom it is.
    let event = EventName::parse("a/b").unwrap();
    for (to, told) in [(9, ErrorKind::NotForMe), (1, ErrorKind::SenderNotVerified)] {
        let sealed = Sealer::new().seal(PLAINTEXT, &[recipient(&app(to))], &event, Suite::Aes256Gcm).unwrap();
        assert_eq!(kind(&json(&sealed[0]), &opener), told);
    }
    assert_eq!(kind(&single, &opener), ErrorKind::SenderNotVerified);
    assert_eq!(kind(&hybrid_of_small(&me), &opener), ErrorKind::SenderNotVerified);
}

#[test]
fn every_altered_byte_is_refused() {
    let me = app(1);
    let copies = |plaintext: &[u8], n| crypto::seal(plaintext, &vec![recipient(&me); n]).unwrap().remove(0);
    for envelope in [json(&copies(PLAINTEXT, 1)), hybrid_of_small(&me)] {
        let mut paths = vec!["/nonce", "/ciphertext", "/ephemeralPublicKey"];
        if envelope["type"] == "hybrid" {
            paths = vec!["/payload/nonce", "/payload/ciphertext"];
        }
        for path in paths {
            let original = common::decode(envelope.pointer(path).unwrap().as_str().unwrap());
            for at in 0..original.len() {
                // The highest bit of an X25519 public key is no part of it (RFC 7748 §5).
                let mut altered = original.clone();
                altered[at] ^= 0x41;
                let mut envelope = envelope.clone();
                *envelope.pointer_mut(path).unwrap() = encode(&altered).into();
                assert_eq!(open(&envelope, &me).unwrap_err().0, ErrorKind::DoesNotOpen, "{path} {at}");
            }
        }
    }
    // Any character of the wire's text: refused, unless it was that one already or carries only the ephemeral key's highest bit.
    let single = copies(PLAINTEXT, 1);
    let keys = Keyring::new(me.clone());
    for at in 0..single.len() {
        for character in [b'A', b'/', b'=', b'"', 0xff] {
            let mut altered = single.as_str().unwrap().as_bytes().to_vec();
            altered[at] = character;
            match crypto::open(&WirePayload::from_wire(altered), &keys) {
                Ok(plaintext) => assert_eq!(plaintext.as_slice(), PLAINTEXT),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::DoesNotOpen | ErrorKind::MalformedEnvelope), "{error}");
                }
            }
        }
    }
}

/// A hybrid envelope for `me` that is small enough to alter each of its bytes.
fn hybrid_of_small(me: &SecretKey) -> Value {
    let wrapped = entry("encryptedKey", &KEY, x25519_public(x25519_secret(me)));
    hybrid(value!({me.app_id().unwrap().to_string(): wrapped}))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_sealed_opens_for_its_recipient_alone(
        seeds in proptest::collection::btree_set(1..u8::MAX, 1..=5),
        size in prop_oneof![Just(0_usize), 0..300_usize, 0..40_000_usize],
        fill in any::<u8>(),
    ) {
        let apps: Vec<SecretKey> = seeds.into_iter().map(app).collect();
        let plaintext: Vec<u8> = (0..size).map(|at| fill.wrapping_add(at as u8)).collect();
        let copies = crypto::seal(&plaintext, &apps.iter().map(recipient).collect::<Vec<_>>()).unwrap();
        prop_assert_eq!(copies.len(), apps.len());
        for (at, copy) in copies.iter().enumerate() {
            prop_assert!(copy.looks_like_base64());
            for (who, key) in apps.iter().enumerate() {
                let opened = crypto::open(copy, &Keyring::new(key.clone()));
                if who == at {
                    prop_assert_eq!(opened.unwrap().to_vec(), plaintext.clone());
                } else {
                    let kind = opened.unwrap_err().kind();
                    prop_assert!(matches!(kind, ErrorKind::DoesNotOpen | ErrorKind::NotForMe));
                }
            }
        }
    }

    #[test]
    fn arbitrary_text_is_refused(text in ".{0,200}", json_like in r#"[\[\]{}",:0-9a-z\\ ]{0,100}"#) {
        let keys = Keyring::new(app(1));
        prop_assert!(crypto::open(&WirePayload::from_wire(text.clone()), &keys).is_err());
        for json in [text, json_like.clone(), format!(r#"{{"type":"hybrid","keys":{{{json_like}}}}}"#)] {
            let error = crypto::open(&wire(&json), &keys).unwrap_err();
            prop_assert_eq!(error.kind(), ErrorKind::MalformedEnvelope);
        }
    }
}
