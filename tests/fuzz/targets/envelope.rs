use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ensync_core::crypto::{self, Expected, Inspected, Opened, Opener, SenderProof, Senders};
use ensync_core::{AppId, Error, ErrorKind, EventName, Keyring, Result, SecretKey, WirePayload};
use serde_json::Value;

use super::check_refusal;

/// Takes the input for an envelope's text on the wire, and for an envelope's JSON.
pub fn envelope(input: &[u8]) -> bool {
    let as_wire = check(&WirePayload::from_wire(input.to_vec()));
    let as_json = check(&WirePayload::from_wire(STANDARD.encode(input)));
    as_wire || as_json
}

/// What the fuzzers know: keys, and what was really sealed for them.
pub(super) struct World {
    /// A key with an id that peers sealed for, one that our own vectors are sealed for, and a bare X25519 secret.
    pub(super) ring: Keyring,
    /// The envelopes' JSON of suite "aes-256-gcm".
    pub(super) sealed: Vec<Value>,
    plaintexts: BTreeSet<String>,
    stranger: AppId,
    event: EventName,
}

pub(super) static WORLD: LazyLock<World> = LazyLock::new(|| {
    let nacl: Value =
        serde_json::from_str(include_str!("../../../crates/ensync-core/tests/vectors/envelopes.json")).unwrap();
    let own: Value =
        serde_json::from_str(include_str!("../../../crates/ensync-core/tests/vectors/sealed.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let warehouse = SecretKey::parse(&text(&nacl["apps"][0]["app_secret_key_base64"])).unwrap();
    let bare = SecretKey::from_x25519(bytes_32(&text(&nacl["apps"][1]["x25519_secret_hex"])));
    let recipient = SecretKey::from_seed(bytes_32(&text(&own[0]["recipient_seed"])));
    let own = own.as_array().unwrap();
    World {
        ring: Keyring::new(warehouse).with_previous(recipient).with_previous(bare),
        sealed: own.iter().map(|vector| serde_json::from_str(&text(&vector["envelope"])).unwrap()).collect(),
        plaintexts: nacl["cases"].as_array().unwrap().iter().chain(own).map(|case| text(&case["plaintext"])).collect(),
        stranger: SecretKey::from_seed([99; 32]).app_id().unwrap(),
        event: EventName::parse("not/what/was/sealed").unwrap(),
    }
});

fn bytes_32(hex: &str) -> [u8; 32] {
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
}

fn check(wire: &WirePayload) -> bool {
    let world = &*WORLD;
    let opener = Opener::new(world.ring.clone());
    let opened = opener.open(wire, &Expected::any_event());
    let nobody = Opener::new(Keyring::default()).open(wire, &Expected::any_event());

    let inspected = match crypto::inspect(wire) {
        Ok(inspected) => inspected,
        // The form comes first, so whoever reads it finds the same fault.
        Err(fault) => {
            check_refusal(&fault, &[ErrorKind::MalformedEnvelope, ErrorKind::UnsupportedEnvelope]);
            assert_eq!(told(&opened), Err(of(&fault)));
            assert_eq!(told(&nobody), Err(of(&fault)));
            check_simple(wire, &opened, true);
            return false;
        }
    };
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::NotForMe);
    check_simple(wire, &opened, matches!(inspected, Inspected::Sealed { .. }));
    match &opened {
        Ok(opened) => check_opened(wire, opened, &inspected),
        Err(error) => check_refusal(
            error,
            &[
                // The entry of a hybrid that is the reader's own, or a point of small order, is found only when it is opened.
                ErrorKind::MalformedEnvelope,
                ErrorKind::NotForMe,
                ErrorKind::DoesNotOpen,
                ErrorKind::BadSignature,
            ],
        ),
    }
    // What the opener has kept by now changes nothing.
    assert_eq!(told(&opener.open(wire, &Expected::any_event())), told(&opened));
    check_expected(wire, &opener, &opened, &inspected);
    true
}

/// Nobody can make anything that opens without a key that is not in the input, so what opens is what was sealed.
fn check_opened(wire: &WirePayload, opened: &Opened, inspected: &Inspected) {
    let plaintext = std::str::from_utf8(&opened.plaintext).unwrap();
    assert!(WORLD.plaintexts.contains(plaintext), "forged: {plaintext}");
    assert!(plaintext.len() <= wire.len());
    let expected = match inspected {
        Inspected::Single { plaintext_bytes } => (*plaintext_bytes, SenderProof::Unverified, None),
        Inspected::Hybrid { recipients, entries, plaintext_bytes } => {
            assert!(recipients.len() <= *entries);
            (*plaintext_bytes, SenderProof::Unverified, None)
        }
        Inspected::Sealed { from, id, created, signed, plaintext_bytes, .. } => {
            let proof = from.map_or(SenderProof::Unverified, |key| SenderProof::Verified { key, signed: *signed });
            (*plaintext_bytes, proof, Some((id, *created)))
        }
        _ => unreachable!("there are three forms"),
    };
    assert_eq!((plaintext.len(), opened.sender, opened.id.as_ref().zip(opened.created)), expected);
}

/// The simple door opens what the opener opens, except the suite that it refuses.
fn check_simple(wire: &WirePayload, opened: &Result<Opened>, may_be_sealed: bool) {
    let simple = crypto::open(wire, &WORLD.ring).map(|plaintext| plaintext.to_vec());
    match simple {
        Err(error) if error.kind() == ErrorKind::UnsupportedEnvelope => assert!(may_be_sealed),
        simple => assert_eq!(
            simple.map_err(|error| of(&error)),
            opened.as_ref().map(|opened| opened.plaintext.to_vec()).map_err(of)
        ),
    }
}

/// Each expectation that the envelope breaks is told by its own kind, and the others change nothing.
fn check_expected(wire: &WirePayload, opener: &Opener, opened: &Result<Opened>, inspected: &Inspected) {
    let world = &*WORLD;
    let kind = |expected: &Expected<'_>| opener.open(wire, expected).map_err(|error| error.kind());
    let as_before = opened.clone().map_err(|error| error.kind());
    let elsewhere = Expected::event(&world.event);
    let by_stranger = Expected::any_event().engine_sender(Some(world.stranger));
    let verified = Expected::any_event().senders(&Senders::Verified);
    let only_stranger = Senders::verified_from([world.stranger]);
    let only_stranger = Expected::any_event().senders(&only_stranger);

    let Inspected::Sealed { event, from, .. } = inspected else {
        assert_eq!(kind(&elsewhere), as_before);
        assert_eq!(kind(&by_stranger), as_before);
        let not_for_me = as_before == Err(ErrorKind::NotForMe);
        assert_eq!(kind(&verified), if not_for_me { as_before } else { Err(ErrorKind::SenderNotVerified) });
        return;
    };
    if as_before == Err(ErrorKind::NotForMe) {
        for expected in [elsewhere, by_stranger, verified, only_stranger] {
            assert_eq!(kind(&expected), Err(ErrorKind::NotForMe));
        }
        return;
    }
    assert_eq!(kind(&Expected::event(event).engine_sender(*from)), as_before);
    // The input cannot hold the name by chance only: names are compared byte by byte.
    let misdirected = if *event == world.event { as_before.clone() } else { Err(ErrorKind::Misdirected) };
    assert_eq!(kind(&elsewhere), misdirected);
    match from {
        None => {
            assert_eq!(kind(&by_stranger), as_before);
            assert_eq!(kind(&verified), Err(ErrorKind::SenderNotVerified));
        }
        Some(from) if *from == world.stranger => assert_eq!(kind(&only_stranger), as_before),
        Some(_) => {
            assert_eq!(kind(&by_stranger), Err(ErrorKind::Misdirected));
            assert_eq!(kind(&verified), as_before);
            assert_eq!(kind(&only_stranger), Err(ErrorKind::SenderNotVerified));
        }
    }
}

/// An outcome that can be compared.
fn told(outcome: &Result<Opened>) -> Result<&Opened, (ErrorKind, String)> {
    outcome.as_ref().map_err(of)
}

fn of(error: &Error) -> (ErrorKind, String) {
    (error.kind(), error.to_string())
}
