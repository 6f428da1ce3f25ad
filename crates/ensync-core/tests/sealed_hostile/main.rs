//! Sealed envelopes that somebody altered, moved or forged: each is refused with the error of the first step that it fails.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic in a test's helper is a failed test, too")]

mod form;
#[path = "../reference/mod.rs"]
mod reference;

use std::collections::BTreeSet;

use ensync_core::crypto::{
    self, Expected, Opened, Opener, Recipient, SealOptions, Sealer, SenderProof, Senders, Suite,
};
use ensync_core::{Error, ErrorKind, EventName, Keyring, SecretKey, WirePayload};
use reference::{App, EVENT, Parts, Writer, aes, b64, envelope, header, unb64, wire};
use serde_json::{Value, json};

const SHOP: App = App(1);
const WAREHOUSE: App = App(2);
const OTHER: App = App(3);
const PAYLOAD: &[u8] = br#"{"order":7}"#;

fn event() -> EventName {
    EVENT.parse().unwrap()
}

fn opener(app: App) -> Opener {
    Opener::new(Keyring::new(app.secret()))
}

fn open(envelope: &Value, to: App, expected: &Expected<'_>) -> Result<Opened, Error> {
    opener(to).open(&wire(envelope), expected)
}

fn kind(envelope: &Value, to: App, expected: &Expected<'_>) -> ErrorKind {
    open(envelope, to, expected).unwrap_err().kind()
}

/// An envelope from the shop to the warehouse.
fn sealed(signed: bool) -> Value {
    Writer::new(WAREHOUSE, Some(SHOP)).envelope(&Parts { signer: signed.then_some(SHOP), ..Parts::default() })
}

/// One that the library made.
fn ours(signed: bool) -> Value {
    let sealer = Sealer::new().own_key(SHOP.secret());
    let options = SealOptions::from(Suite::Aes256Gcm);
    let options = if signed { options.signed() } else { options };
    let to = Recipient::new(WAREHOUSE.id()).unwrap();
    envelope(&sealer.seal(PAYLOAD, &[to], &event(), options).unwrap()[0])
}

/// The same envelope with members of its header replaced.
fn with_header(envelope: &Value, changes: &[(&str, Value)]) -> Value {
    let (mut envelope, mut header) = (envelope.clone(), header(envelope));
    // Nothing else changes.
    assert_eq!(b64(header.to_string().as_bytes()), envelope["header"]);
    for (name, value) in changes {
        match value {
            Value::Null => drop(header.as_object_mut().unwrap().remove(*name)),
            value => header[*name] = value.clone(),
        }
    }
    envelope["header"] = b64(header.to_string().as_bytes()).into();
    envelope
}

/// All bytes but one bit.
fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

#[test]
fn every_flipped_bit_is_refused() {
    use ErrorKind::{BadSignature, DoesNotOpen, MalformedEnvelope, NotForMe, UnsupportedEnvelope};

    for signed in [false, true] {
        let envelope = ours(signed);
        // One opener that has opened it before, so that its kept agreement is tried, too.
        let opener = opener(WAREHOUSE);
        opener.open(&wire(&envelope), &Expected::event(&event())).unwrap();
        for (member, kinds) in [
            ("key", &[DoesNotOpen][..]),
            ("ciphertext", &[DoesNotOpen]),
            ("signature", &[BadSignature]),
            ("header", &[DoesNotOpen, MalformedEnvelope, NotForMe, UnsupportedEnvelope]),
        ] {
            if envelope.get(member).is_none() {
                continue;
            }
            let (bytes, mut seen) = (unb64(&envelope[member]), BTreeSet::new());
            for bit in 0..bytes.len() * 8 {
                let mut altered = envelope.clone();
                altered[member] = b64(&flipped(&bytes, bit)).into();
                // Under whatever name, so that a flipped name is not refused for being another.
                let error = opener.open(&wire(&altered), &Expected::any_event()).unwrap_err();
                assert!(kinds.contains(&error.kind()), "{member} bit {bit}: {error}");
                seen.insert(error.kind().code());
            }
            assert_eq!(seen.len(), kinds.len(), "{member}: {seen:?}");
        }
    }
}

#[test]
fn every_flipped_bit_of_the_text_is_refused() {
    let envelope = ours(true).to_string().into_bytes();
    let opener = opener(WAREHOUSE);
    for bit in 0..envelope.len() * 8 {
        let text = WirePayload::from_wire(b64(&flipped(&envelope, bit)));
        assert!(opener.open(&text, &Expected::event(&event())).is_err(), "bit {bit}");
        // Nor does it pass for the other suite, or stop an inspection from answering.
        assert!(crypto::open(&text, opener.keys()).is_err());
        let _ = crypto::inspect(&text);
    }
    for length in 0..envelope.len() {
        let text = WirePayload::from_wire(b64(&envelope[..length]));
        let error = opener.open(&text, &Expected::event(&event())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedEnvelope, "first {length} bytes");
    }
}

#[test]
fn a_content_key_seals_one_ciphertext_and_no_other() {
    // Each recipient learns the content key, and could put another payload under it for the others.
    let parts = Parts { payload: PAYLOAD, ..Parts::default() };
    for from in [Some(SHOP), None] {
        let mut envelope = Writer::new(WAREHOUSE, from).envelope(&parts);
        assert!(open(&envelope, WAREHOUSE, &Expected::event(&event())).is_ok());
        envelope["ciphertext"] = b64(&aes(&parts.content_key, br#"{"order":8}"#)).into();
        assert_eq!(kind(&envelope, WAREHOUSE, &Expected::event(&event())), ErrorKind::DoesNotOpen);
    }
}

#[test]
fn an_event_cannot_be_passed_off_as_another() {
    let envelope = sealed(false);
    let other: EventName = "orders/status/cancelled".parse().unwrap();
    assert_eq!(kind(&envelope, WAREHOUSE, &Expected::event(&other)), ErrorKind::Misdirected);
    let renamed = with_header(&envelope, &[("event", other.as_str().into())]);
    assert_eq!(kind(&renamed, WAREHOUSE, &Expected::event(&other)), ErrorKind::DoesNotOpen);
    for change in [("id", json!("another")), ("created", json!(1_763_769_600_001_u64))] {
        let altered = with_header(&envelope, &[change]);
        assert_eq!(kind(&altered, WAREHOUSE, &Expected::event(&event())), ErrorKind::DoesNotOpen);
    }
}

#[test]
fn an_event_cannot_be_passed_on_to_another_recipient() {
    let envelope = sealed(false);
    let event = event();
    let expect = Expected::event(&event);
    assert_eq!(kind(&envelope, OTHER, &expect), ErrorKind::NotForMe);
    let readdressed = with_header(&envelope, &[("to", OTHER.id().to_string().into())]);
    assert_eq!(kind(&readdressed, OTHER, &expect), ErrorKind::DoesNotOpen);
    assert_eq!(kind(&readdressed, WAREHOUSE, &expect), ErrorKind::NotForMe);

    // The parts of the copies of one publish do not fit together otherwise.
    let sealer = Sealer::new().own_key(SHOP.secret());
    let to = [WAREHOUSE, OTHER].map(|app| Recipient::new(app.id()).unwrap());
    let copies = sealer.seal(PAYLOAD, &to, &event, Suite::Aes256Gcm).unwrap();
    let (mine, others) = (reference::envelope(&copies[0]), reference::envelope(&copies[1]));
    for member in ["header", "key"] {
        let mut mixed = mine.clone();
        mixed[member] = others[member].clone();
        let kind = kind(&mixed, WAREHOUSE, &expect);
        assert_eq!(kind, if member == "key" { ErrorKind::DoesNotOpen } else { ErrorKind::NotForMe });
    }
}

#[test]
fn an_event_cannot_be_passed_off_as_anothers() {
    let expect = Expected::any_event();
    let (auth, base) = (sealed(false), Writer::new(WAREHOUSE, None).envelope(&Parts::default()));
    for (envelope, from) in
        [(&auth, Value::Null), (&auth, json!(OTHER.id().to_string())), (&base, json!(SHOP.id().to_string()))]
    {
        let altered = with_header(envelope, &[("from", from)]);
        assert_eq!(kind(&altered, WAREHOUSE, &expect), ErrorKind::DoesNotOpen);
    }
    // What the engine says must agree with what the envelope proves.
    assert!(open(&auth, WAREHOUSE, &expect.engine_sender(Some(SHOP.id()))).is_ok());
    assert_eq!(kind(&auth, WAREHOUSE, &expect.engine_sender(Some(OTHER.id()))), ErrorKind::Misdirected);
    // Where the envelope proves nothing, there is nothing to compare.
    let opened = open(&base, WAREHOUSE, &expect.engine_sender(Some(OTHER.id()))).unwrap();
    assert_eq!(opened.sender, SenderProof::Unverified);
}

#[test]
fn a_sender_that_is_no_usable_key_opens_nothing() {
    // u = 0 and u = 1 of X25519, an odd encoding, no point at all; and an ephemeral key of small order.
    let keys = [
        [0; 32],
        [1; 32].map(|_| 0xff),
        {
            let mut one = [0; 32];
            one[0] = 1;
            one
        },
        {
            let mut two = [0; 32];
            two[0] = 2;
            two
        },
    ];
    for key in keys {
        let altered = with_header(&sealed(false), &[("from", b64(&key).into())]);
        let error = open(&altered, WAREHOUSE, &Expected::any_event()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DoesNotOpen);
        assert!(error.to_string().contains("not a usable key"), "{error}");
    }
    let altered = with_header(&sealed(false), &[("enc", b64(&[0; 32]).into())]);
    let error = open(&altered, WAREHOUSE, &Expected::any_event()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DoesNotOpen);
    assert!(error.to_string().contains("all zero"), "{error}");
}

#[test]
fn senders_are_required_before_anything_is_decrypted() {
    let (auth, base) = (sealed(true), Writer::new(WAREHOUSE, None).envelope(&Parts::default()));
    let nacl = crypto::seal(PAYLOAD, &[Recipient::new(WAREHOUSE.id()).unwrap()]).unwrap().remove(0);
    let some = Senders::verified_from([OTHER.id(), SHOP.id()]);
    let others = Senders::verified_from([OTHER.id()]);
    let nobody = Senders::verified_from([]);
    for senders in [&Senders::Verified, &some] {
        assert!(open(&auth, WAREHOUSE, &Expected::event(&event()).senders(senders)).is_ok());
    }
    for senders in [&others, &nobody] {
        let expected = Expected::any_event().senders(senders);
        assert_eq!(kind(&auth, WAREHOUSE, &expected), ErrorKind::SenderNotVerified);
    }
    for senders in [&Senders::Verified, &some, &nobody] {
        let expected = Expected::any_event().senders(senders);
        assert_eq!(kind(&base, WAREHOUSE, &expected), ErrorKind::SenderNotVerified);
        let error = opener(WAREHOUSE).open(&nacl, &expected).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SenderNotVerified);
        assert!(error.to_string().contains("aes-256-gcm"), "{error}");
    }
    let anybody = Expected::any_event().senders(&Senders::Any).engine_sender(Some(OTHER.id()));
    assert_eq!(opener(WAREHOUSE).open(&nacl, &anybody).unwrap().sender, SenderProof::Unverified);
}

#[test]
fn the_first_step_that_fails_decides() {
    let others = Senders::verified_from([OTHER.id()]);
    let (event, name): (_, EventName) = (event(), "orders/status/cancelled".parse().unwrap());
    let writer = Writer::new(WAREHOUSE, Some(SHOP));
    // The signature is another's, so that everything before it can be wrong, too.
    let mut envelope = writer.envelope(&Parts { signer: Some(OTHER), ..Parts::default() });
    let strict = Expected::event(&name).engine_sender(Some(OTHER.id())).senders(&others);

    let key = envelope["key"].take();
    assert_eq!(kind(&envelope, OTHER, &strict), ErrorKind::MalformedEnvelope, "1");
    envelope["key"] = b64(&[0; 48]).into();
    assert_eq!(kind(&envelope, OTHER, &strict), ErrorKind::NotForMe, "2");
    assert_eq!(kind(&envelope, WAREHOUSE, &strict), ErrorKind::Misdirected, "3, name");
    let strict = Expected::event(&event).engine_sender(Some(OTHER.id())).senders(&others);
    assert_eq!(kind(&envelope, WAREHOUSE, &strict), ErrorKind::Misdirected, "3, sender");
    let strict = Expected::event(&event).engine_sender(Some(SHOP.id())).senders(&others);
    assert_eq!(kind(&envelope, WAREHOUSE, &strict), ErrorKind::SenderNotVerified, "4");
    let strict = strict.senders(&Senders::Verified);
    assert_eq!(kind(&envelope, WAREHOUSE, &strict), ErrorKind::DoesNotOpen, "5");
    envelope["key"] = key;
    assert_eq!(kind(&envelope, WAREHOUSE, &strict), ErrorKind::BadSignature, "6");
    let envelope = writer.envelope(&Parts { signer: Some(SHOP), ..Parts::default() });
    assert!(open(&envelope, WAREHOUSE, &strict).is_ok(), "7");
}

#[test]
fn a_sender_that_boxes_the_wrong_content_key_is_found_out_at_last() {
    let parts = Parts { payload: PAYLOAD, wrong_content_key: true, signer: Some(SHOP), ..Parts::default() };
    let error =
        open(&Writer::new(WAREHOUSE, Some(SHOP)).envelope(&parts), WAREHOUSE, &Expected::any_event()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DoesNotOpen);
    assert!(error.to_string().contains("the payload does not"), "{error}");
}

#[test]
fn who_has_the_recipients_key_can_forge_to_it_but_not_sign() {
    // Known, and documented: mode auth proves the sender to the recipient, not to a thief of the recipient's key.
    let forger = Writer::forging(WAREHOUSE, SHOP);
    let forged = open(&forger.envelope(&Parts::default()), WAREHOUSE, &Expected::any_event()).unwrap();
    assert_eq!(forged.sender, SenderProof::Verified { key: SHOP.id(), signed: false });
    for signer in [WAREHOUSE, OTHER] {
        let forged = forger.envelope(&Parts { signer: Some(signer), ..Parts::default() });
        assert_eq!(kind(&forged, WAREHOUSE, &Expected::any_event()), ErrorKind::BadSignature);
    }
}

#[test]
fn a_signature_serves_one_envelope() {
    let writer = Writer::new(WAREHOUSE, Some(SHOP));
    let first = writer.envelope(&Parts { signer: Some(SHOP), ..Parts::default() });
    for parts in [
        Parts { signer: Some(SHOP), content_key: [5; 32], ..Parts::default() },
        Parts { signer: Some(SHOP), payload: b"{}", ..Parts::default() },
        Parts { signer: Some(SHOP), header: json!({"id": "another"}), ..Parts::default() },
    ] {
        let mut second = writer.envelope(&parts);
        assert!(open(&second, WAREHOUSE, &Expected::any_event()).is_ok());
        second["signature"] = first["signature"].clone();
        assert_eq!(kind(&second, WAREHOUSE, &Expected::any_event()), ErrorKind::BadSignature);
    }
    // It cannot be taken away unnoticed either, for the header says that it is there.
    let mut stripped = first.clone();
    stripped.as_object_mut().unwrap().remove("signature");
    assert_eq!(kind(&stripped, WAREHOUSE, &Expected::any_event()), ErrorKind::MalformedEnvelope);
    let unsaid = with_header(&stripped, &[("signed", Value::Null)]);
    assert_eq!(kind(&unsaid, WAREHOUSE, &Expected::any_event()), ErrorKind::DoesNotOpen);
    let added = with_header(&first, &[("signed", Value::Null)]);
    assert_eq!(kind(&added, WAREHOUSE, &Expected::any_event()), ErrorKind::MalformedEnvelope);
}

#[test]
fn an_empty_ring_says_so_and_the_simple_door_points_to_the_other() {
    let sealed = wire(&sealed(false));
    let error = Opener::new(Keyring::default()).open(&sealed, &Expected::any_event()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotForMe);
    assert!(error.to_string().contains("no secret key was given"), "{error}");
    let error = crypto::open(&sealed, &Keyring::new(WAREHOUSE.secret())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedEnvelope);
    assert!(error.to_string().contains("use an opener"), "{error}");
    let ring = Keyring::new(OTHER.secret()).with_previous(WAREHOUSE.secret());
    assert!(Opener::new(ring).open(&sealed, &Expected::any_event()).is_ok());
}

#[test]
fn a_signature_that_cannot_be_made_is_refused_before_anything_is_sealed() {
    let to = [Recipient::new(WAREHOUSE.id()).unwrap()];
    let bare = Sealer::new().own_key(SecretKey::from_x25519([7; 32]));
    for (sealer, suite, part) in [
        (Sealer::new().own_key(SHOP.secret()), Suite::Nacl, "nacl has no signatures"),
        (Sealer::new(), Suite::Aes256Gcm, "none was given"),
        (bare, Suite::Aes256Gcm, "bare X25519"),
    ] {
        let error = sealer.seal(PAYLOAD, &to, &event(), SealOptions::from(suite).signed()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(part), "{error}");
    }
}
