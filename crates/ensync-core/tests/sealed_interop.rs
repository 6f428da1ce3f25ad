//! Sealed envelopes both ways with an implementation on another HPKE, and those that a third one made.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic in a test's helper is a failed test, too")]

mod reference;

use ensync_core::crypto::{Expected, Inspected, Opener, Recipient, SealOptions, Sealer, SenderProof, Suite, inspect};
use ensync_core::{EventName, Keyring, SecretKey, Timestamp, WirePayload};
use proptest::prelude::*;
use reference::{App, EVENT, Parts, Reader, Writer, envelope, header, wire};
use serde_json::{Value, json};

fn event() -> EventName {
    EVENT.parse().unwrap()
}

fn opener(app: App) -> Opener {
    Opener::new(Keyring::new(app.secret()))
}

fn recipient(app: App) -> Recipient {
    Recipient::new(app.id()).unwrap()
}

const SHOP: App = App(1);
const WAREHOUSE: App = App(2);

#[test]
fn envelopes_made_elsewhere_open() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("vectors/sealed.json")).unwrap();
    let opener = opener(WAREHOUSE);
    for vector in &vectors {
        let sealed = WirePayload::from_wire(reference::b64(vector["envelope"].as_str().unwrap().as_bytes()));
        let signed = vector["signed"].as_bool().unwrap();
        let sender = match vector["mode"].as_str().unwrap() {
            "auth" => SenderProof::Verified { key: SHOP.id(), signed },
            _ => SenderProof::Unverified,
        };
        let opened = opener.open(&sealed, &Expected::event(&event()).engine_sender(Some(SHOP.id()))).unwrap();
        assert_eq!(opened.plaintext.as_slice(), vector["plaintext"].as_str().unwrap().as_bytes());
        assert_eq!(opened.sender, sender);
        assert_eq!(opened.id.unwrap().as_str(), "01JD8Z3V9K6Q4W2N7X5T1B0C8E");
        assert_eq!(opened.created, Some(Timestamp::from_millis(1_763_769_600_000)));
        assert_eq!(
            Reader::of(&envelope(&sealed), WAREHOUSE).open(&envelope(&sealed)).unwrap(),
            opened.plaintext.to_vec()
        );
    }
    assert_eq!(vectors.len(), 3);
}

#[test]
fn another_hpke_opens_what_we_seal_several_events_with_one_context() {
    for (sealer, from) in [(Sealer::new().own_key(SHOP.secret()), Some(SHOP)), (Sealer::new(), None)] {
        let mut reader = None;
        for turn in 0..5_u8 {
            let signed = from.is_some() && turn % 2 == 0;
            let options = SealOptions::from(Suite::Aes256Gcm);
            let options = if signed { options.signed() } else { options };
            let payload = format!("{{\"turn\":{turn}}}");
            let sealed = sealer.seal(payload.as_bytes(), &[recipient(WAREHOUSE)], &event(), options).unwrap().remove(0);
            let envelope = envelope(&sealed);
            assert_eq!(header(&envelope).get("from").is_some(), from.is_some());
            assert_eq!(envelope.get("signature").is_some(), signed);
            // One context of the other side, made from the first envelope, reads all of them.
            let reader = reader.get_or_insert_with(|| Reader::of(&envelope, WAREHOUSE));
            assert_eq!(reader.open(&envelope).unwrap(), payload.as_bytes());
        }
    }
}

#[test]
fn we_open_what_another_hpke_seals_several_events_with_one_context() {
    let opener = opener(WAREHOUSE);
    for from in [Some(SHOP), None] {
        let writer = Writer::new(WAREHOUSE, from);
        let events: Vec<(Vec<u8>, Option<App>)> =
            (0..5_u8).map(|turn| (vec![turn; usize::from(turn) * 100], from.filter(|_| turn % 2 == 0))).collect();
        // In any order, and repeated: a context counts nothing.
        for at in [3, 0, 4, 4, 1, 2, 0] {
            let (payload, signer) = &events[at];
            let parts = Parts { content_key: [at as u8; 32], payload, signer: *signer, ..Parts::default() };
            let opened = opener.open(&wire(&writer.envelope(&parts)), &Expected::event(&event())).unwrap();
            assert_eq!(opened.plaintext.as_slice(), payload);
            assert_eq!(
                opened.sender,
                match from {
                    Some(from) => SenderProof::Verified { key: from.id(), signed: signer.is_some() },
                    None => SenderProof::Unverified,
                }
            );
        }
    }
}

#[test]
fn a_header_may_be_spelled_otherwise_for_its_bytes_decide() {
    let writer = Writer::new(WAREHOUSE, Some(SHOP));
    let mut sealed = writer.envelope(&Parts { header: json!({"id": "a"}), ..Parts::default() });
    assert!(opener(WAREHOUSE).open(&wire(&sealed), &Expected::event(&event())).is_ok());
    // White space between members of the envelope is nobody's; within the header it is another header.
    let text = sealed.to_string().replace("\",\"", "\" ,\n\"");
    assert!(
        opener(WAREHOUSE)
            .open(&WirePayload::from_wire(reference::b64(text.as_bytes())), &Expected::any_event())
            .is_ok()
    );
    let respelled = header(&sealed).to_string().replace("\"a\"", " \"a\"");
    sealed["header"] = reference::b64(respelled.as_bytes()).into();
    assert!(opener(WAREHOUSE).open(&wire(&sealed), &Expected::any_event()).is_err());
}

#[test]
fn one_payload_encryption_and_one_id_for_all_recipients() {
    let apps = [App(2), App(3), App(4), App(2)];
    let sealer = Sealer::new().own_key(SHOP.secret());
    let to: Vec<Recipient> = apps.into_iter().map(recipient).collect();
    let copies = sealer.seal(&[b'x'; 1000], &to, &event(), SealOptions::from(Suite::Aes256Gcm).signed()).unwrap();
    let envelopes: Vec<Value> = copies.iter().map(envelope).collect();
    let first = &envelopes[0];
    for (app, envelope) in apps.into_iter().zip(&envelopes) {
        assert_eq!(header(envelope)["to"], app.id().to_string());
        assert_eq!(header(envelope)["id"], header(first)["id"]);
        assert_eq!(header(envelope)["created"], header(first)["created"]);
        assert_eq!(envelope["ciphertext"], first["ciphertext"]);
        assert_eq!(Reader::of(envelope, app).open(envelope).unwrap(), [b'x'; 1000]);
    }
    assert_ne!(envelopes[0]["key"], envelopes[1]["key"]);
    let id = header(first)["id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 26, "a ULID");

    let again = sealer.seal(&[b'x'; 1000], &to[..1], &event(), Suite::Aes256Gcm).unwrap();
    assert_ne!(header(&envelope(&again[0]))["id"], id);
    assert_ne!(envelope(&again[0])["ciphertext"], first["ciphertext"]);
    assert!(sealer.seal(b"{}", &[], &event(), Suite::Aes256Gcm).unwrap().is_empty());
}

#[test]
fn parts_are_as_if_sealed_at_once() {
    let apps = [App(2), App(3), App(4), App(2)];
    let sealer = Sealer::new().own_key(SHOP.secret());
    let to: Vec<Recipient> = apps.into_iter().map(recipient).collect();
    let options = SealOptions::from(Suite::Aes256Gcm).signed();
    let mut begun = sealer.begin(&[b'x'; 1000], to.len(), &event(), options).unwrap();
    let parts = to.chunks(3).map(|part| sealer.seal_part(&mut begun, &[b'x'; 1000], part).unwrap());
    let envelopes: Vec<Value> = parts.flatten().map(|copy| envelope(&copy)).collect();
    for (app, sealed) in apps.into_iter().zip(&envelopes) {
        assert_eq!(header(sealed)["id"], header(&envelopes[0])["id"]);
        assert_eq!(sealed["ciphertext"], envelopes[0]["ciphertext"]);
        assert_eq!(Reader::of(sealed, app).open(sealed).unwrap(), [b'x'; 1000]);
    }
    assert_eq!(envelopes.len(), 4);
    assert!(Sealer::new().begin(b"{}", 1, &event(), options).is_err(), "it cannot sign");
    let mut begun = sealer.begin(b"{}", 2, &event(), Suite::Nacl).unwrap();
    for app in [App(2), App(3)] {
        let copies = sealer.seal_part(&mut begun, b"{}", &[recipient(app)]).unwrap();
        assert_eq!(opener(app).open(&copies[0], &Expected::any_event()).unwrap().text().unwrap(), "{}");
    }
}

#[test]
fn a_bare_x25519_secret_reads_and_writes_in_mode_base() {
    let bare = SecretKey::from_x25519(WAREHOUSE.x25519_secret());
    let reader = Opener::new(Keyring::new(App(9).secret()).with_previous(bare));
    let sealed = wire(&Writer::new(WAREHOUSE, Some(SHOP)).envelope(&Parts { signer: Some(SHOP), ..Parts::default() }));
    let opened = reader.open(&sealed, &Expected::event(&event())).unwrap();
    assert_eq!(opened.sender, SenderProof::Verified { key: SHOP.id(), signed: true });

    let sealer = Sealer::new().own_key(SecretKey::from_x25519(SHOP.x25519_secret()));
    assert_eq!(sealer.own_id(), None);
    let sealed = sealer.seal(b"{}", &[recipient(WAREHOUSE)], &event(), Suite::Aes256Gcm).unwrap().remove(0);
    assert_eq!(opener(WAREHOUSE).open(&sealed, &Expected::any_event()).unwrap().sender, SenderProof::Unverified);
}

#[test]
fn inspecting_needs_no_key() {
    let sealer = Sealer::new().own_key(SHOP.secret());
    let options = SealOptions::from(Suite::Aes256Gcm).signed();
    let sealed = sealer.seal(b"{}", &[recipient(WAREHOUSE)], &event(), options).unwrap().remove(0);
    let opened = opener(WAREHOUSE).open(&sealed, &Expected::any_event()).unwrap();
    let expected = Inspected::Sealed {
        event: event(),
        to: WAREHOUSE.id(),
        from: Some(SHOP.id()),
        id: opened.id.unwrap(),
        created: opened.created.unwrap(),
        signed: true,
        plaintext_bytes: 2,
    };
    assert_eq!(inspect(&sealed).unwrap(), expected);

    let to = [recipient(WAREHOUSE), recipient(SHOP)];
    let single = sealer.seal(b"{}", &to, &event(), Suite::Nacl).unwrap().remove(0);
    assert_eq!(inspect(&single).unwrap(), Inspected::Single { plaintext_bytes: 2 });
    let hybrid = sealer.seal(&[b' '; 20_000], &to, &event(), Suite::Nacl).unwrap().remove(0);
    let recipients = vec![WAREHOUSE.id()];
    assert_eq!(inspect(&hybrid).unwrap(), Inspected::Hybrid { recipients, entries: 2, plaintext_bytes: 20_000 });
    assert!(inspect(&WirePayload::from_wire("e30=")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_suite_opens_for_each_of_its_recipients_alone(
        seeds in proptest::collection::btree_set(2..u8::MAX, 1..=5),
        own in prop_oneof![Just(None), Just(Some(SHOP.secret())), Just(Some(SecretKey::from_x25519([7; 32])))],
        suite in prop_oneof![Just(Suite::Nacl), Just(Suite::Aes256Gcm)],
        sign in any::<bool>(),
        size in prop_oneof![Just(0_usize), 0..300_usize, 0..40_000_usize],
        fill in any::<u8>(),
    ) {
        let apps: Vec<App> = seeds.into_iter().map(App).collect();
        let to: Vec<Recipient> = apps.iter().copied().map(recipient).collect();
        let plaintext: Vec<u8> = (0..size).map(|at| fill.wrapping_add(at as u8)).collect();
        let sealer = own.into_iter().fold(Sealer::new(), Sealer::own_key);
        let from = sealer.own_id().filter(|_| suite == Suite::Aes256Gcm);
        let signed = sign && from.is_some();
        let options = if signed { SealOptions::from(suite).signed() } else { suite.into() };
        // Twice, so that kept agreements serve, too.
        let openers: Vec<Opener> = apps.iter().copied().map(opener).collect();
        for _ in 0..2 {
            let copies = sealer.seal(&plaintext, &to, &event(), options).unwrap();
            prop_assert_eq!(copies.len(), apps.len());
            for (at, copy) in copies.iter().enumerate() {
                for (who, opener) in openers.iter().enumerate() {
                    match opener.open(copy, &Expected::event(&event())) {
                        Ok(opened) => {
                            prop_assert_eq!(who, at);
                            prop_assert_eq!(opened.plaintext.as_slice(), plaintext.as_slice());
                            let proof = from.map_or(SenderProof::Unverified, |key| SenderProof::Verified { key, signed });
                            prop_assert_eq!(opened.sender, proof);
                        }
                        Err(error) => {
                            prop_assert_ne!(who, at, "{}", error);
                        }
                    }
                }
            }
        }
    }
}
