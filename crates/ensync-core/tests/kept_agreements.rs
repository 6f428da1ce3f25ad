//! Agreements that a writer and a reader keep: how many, how long, and that nothing else can be told from it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic in a test's helper is a failed test, too")]

mod reference;

use std::collections::BTreeSet;
use std::time::Duration;

use ensync_core::crypto::{Expected, Keep, Opener, Recipient, SealOptions, Sealer, SenderProof, Senders, Suite};
use ensync_core::{ErrorKind, EventName, Keyring, WirePayload};
use reference::{App, EVENT, Parts, Writer, envelope, header, wire};

const SHOP: App = App(1);
const WAREHOUSE: App = App(2);
const SUITES: [Suite; 2] = [Suite::Nacl, Suite::Aes256Gcm];

fn event() -> EventName {
    EVENT.parse().unwrap()
}

fn opener(app: App) -> Opener {
    Opener::new(Keyring::new(app.secret()))
}

fn seal(sealer: &Sealer, suite: Suite, to: App) -> WirePayload {
    sealer.seal(b"{}", &[Recipient::new(to.id()).unwrap()], &event(), suite).unwrap().remove(0)
}

/// The ephemeral key, by which one agreement can be told from another.
fn ephemeral(sealed: &WirePayload) -> String {
    let envelope = envelope(sealed);
    let key = match envelope.get("ephemeralPublicKey") {
        Some(key) => key.clone(),
        None => header(&envelope)["enc"].clone(),
    };
    key.as_str().unwrap().to_owned()
}

fn agreements<'a>(events: impl IntoIterator<Item = &'a WirePayload>) -> usize {
    events.into_iter().map(ephemeral).collect::<BTreeSet<_>>().len()
}

#[test]
fn a_writer_keeps_an_agreement_for_256_events_by_default() {
    let opener = opener(WAREHOUSE);
    for suite in SUITES {
        let sealer = Sealer::new().own_key(SHOP.secret());
        let events: Vec<WirePayload> = (0..257).map(|_| seal(&sealer, suite, WAREHOUSE)).collect();
        assert_eq!(agreements(&events[..256]), 1);
        assert_eq!(agreements(&events), 2);
        assert_ne!(ephemeral(&events[255]), ephemeral(&events[256]));
        assert!(events.iter().all(|sealed| opener.open(sealed, &Expected::event(&event())).is_ok()));
    }
}

#[test]
fn one_event_means_an_agreement_for_each() {
    for suite in SUITES {
        for keep in [Keep::NONE, Keep::new(1, Keep::MAX_TIME).unwrap()] {
            let sealer = Sealer::new().own_key(SHOP.secret()).keep(keep);
            let events: Vec<WirePayload> = (0..4).map(|_| seal(&sealer, suite, WAREHOUSE)).collect();
            assert_eq!(agreements(&events), 4);
        }
    }
}

#[test]
fn other_bounds_begin_with_other_agreements() {
    for suite in SUITES {
        let sealer = Sealer::new().own_key(SHOP.secret());
        let first = seal(&sealer, suite, WAREHOUSE);
        let sealer = sealer.keep(Keep::new(2, Duration::from_secs(60)).unwrap());
        let events: Vec<WirePayload> = (0..3).map(|_| seal(&sealer, suite, WAREHOUSE)).collect();
        assert_eq!((agreements(&events[..2]), agreements(&events), agreements([&first, &events[0]])), (1, 2, 2));
    }
}

#[test]
fn recipients_suites_keys_and_sealers_share_no_agreement() {
    let sealer = Sealer::new().own_key(SHOP.secret());
    let other = Sealer::new().own_key(SHOP.secret());
    let mut events = Vec::new();
    for suite in SUITES {
        events.extend([seal(&sealer, suite, WAREHOUSE), seal(&sealer, suite, App(3)), seal(&other, suite, WAREHOUSE)]);
    }
    sealer.forget();
    events.extend(SUITES.map(|suite| seal(&sealer, suite, WAREHOUSE)));
    let sealer = sealer.own_key(App(9).secret());
    events.extend(SUITES.map(|suite| seal(&sealer, suite, WAREHOUSE)));
    assert_eq!(agreements(&events), events.len());
}

#[test]
fn events_under_one_agreement_have_nothing_else_in_common() {
    let sealer = Sealer::new().own_key(SHOP.secret());
    let sealed: Vec<_> = (0..50).map(|_| envelope(&seal(&sealer, Suite::Aes256Gcm, WAREHOUSE))).collect();
    for member in ["header", "key", "ciphertext"] {
        assert_eq!(sealed.iter().map(|envelope| envelope[member].to_string()).collect::<BTreeSet<_>>().len(), 50);
    }
    let boxes: Vec<_> = (0..50).map(|_| envelope(&seal(&sealer, Suite::Nacl, WAREHOUSE))).collect();
    for member in ["nonce", "ciphertext"] {
        assert_eq!(boxes.iter().map(|envelope| envelope[member].to_string()).collect::<BTreeSet<_>>().len(), 50);
    }
    // Both entries of a hybrid are under one agreement, and so with nonces of their own, from event to event, too.
    let to = [WAREHOUSE, App(3)].map(|app| Recipient::new(app.id()).unwrap());
    let mut nonces = BTreeSet::new();
    for _ in 0..5 {
        let hybrid = envelope(&sealer.seal(&[b' '; 20_000], &to, &event(), Suite::Nacl).unwrap()[0]);
        nonces.extend(hybrid["keys"].as_object().unwrap().values().map(|entry| entry["nonce"].to_string()));
        nonces.insert(hybrid["payload"]["nonce"].to_string());
    }
    assert_eq!(nonces.len(), 15);
}

#[test]
fn a_reader_keeps_an_agreement_only_after_an_event_opened() {
    let (writer, forger) = (Writer::new(WAREHOUSE, Some(SHOP)), Writer::forging(WAREHOUSE, SHOP));
    let wrong_key = writer.envelope(&Parts { wrong_content_key: true, ..Parts::default() });
    let good = writer.envelope(&Parts::default());
    let bad_signature = forger.envelope(&Parts { signer: Some(App(3)), ..Parts::default() });
    let mut bad_key = good.clone();
    bad_key["key"] = reference::b64(&[0; 48]).into();
    let other: EventName = "another/name".parse().unwrap();
    let (event, nobody) = (event(), Senders::verified_from([]));

    let opener = opener(WAREHOUSE);
    let kept = |nacl: u32, sealed: u32| {
        let debug = format!("{opener:?}");
        assert!(debug.contains(&format!("nacl: {nacl} agreements, sealed: {sealed} agreements")), "{debug}");
    };
    for (envelope, expected, kind) in [
        (&wrong_key, Expected::event(&event), ErrorKind::DoesNotOpen),
        (&bad_key, Expected::event(&event), ErrorKind::DoesNotOpen),
        (&bad_signature, Expected::event(&event), ErrorKind::BadSignature),
        (&good, Expected::event(&other), ErrorKind::Misdirected),
        (&good, Expected::event(&event).senders(&nobody), ErrorKind::SenderNotVerified),
    ] {
        assert_eq!(opener.open(&wire(envelope), &expected).unwrap_err().kind(), kind);
        kept(0, 0);
    }
    opener.open(&wire(&good), &Expected::event(&event)).unwrap();
    kept(0, 1);
    opener.open(&wire(&good), &Expected::event(&event)).unwrap();
    kept(0, 1);

    // What is kept opens nothing that would not open without it.
    for (envelope, kind) in [(&wrong_key, ErrorKind::DoesNotOpen), (&bad_key, ErrorKind::DoesNotOpen)] {
        assert_eq!(opener.open(&wire(envelope), &Expected::event(&event)).unwrap_err().kind(), kind);
    }
    kept(0, 1);

    let nacl = seal(&Sealer::new(), Suite::Nacl, WAREHOUSE);
    let mut altered = envelope(&nacl);
    altered["nonce"] = reference::b64(&[0; 24]).into();
    assert!(opener.open(&wire(&altered), &Expected::any_event()).is_err());
    kept(0, 1);
    opener.open(&nacl, &Expected::any_event()).unwrap();
    kept(1, 1);
    let hybrids: Vec<_> = {
        let to = [WAREHOUSE, App(3)].map(|app| Recipient::new(app.id()).unwrap());
        Sealer::new().seal(&[b' '; 20_000], &to, &event, Suite::Nacl).unwrap()
    };
    let mut altered = envelope(&hybrids[0]);
    altered["payload"]["nonce"] = reference::b64(&[0; 24]).into();
    assert!(opener.open(&wire(&altered), &Expected::any_event()).is_err());
    kept(1, 1);
    opener.open(&hybrids[0], &Expected::any_event()).unwrap();
    kept(2, 1);

    opener.forget();
    kept(0, 0);
    assert!(opener.open(&nacl, &Expected::any_event()).is_ok());
}

#[test]
fn openers_that_share_still_open_with_their_own_keys_only() {
    let shared = opener(WAREHOUSE);
    let other = shared.with_keys(Keyring::new(App(3).secret()));
    for suite in SUITES {
        let sealed = seal(&Sealer::new().own_key(SHOP.secret()), suite, WAREHOUSE);
        assert!(shared.open(&sealed, &Expected::any_event()).is_ok());
        assert!(other.open(&sealed, &Expected::any_event()).is_err());
        assert!(shared.clone().open(&sealed, &Expected::any_event()).is_ok());
    }
    assert_eq!(other.keys().len(), 1);
}

#[test]
fn many_threads_seal_and_open_with_one_of_each() {
    let (sealer, opener) = (Sealer::new().own_key(SHOP.secret()), opener(WAREHOUSE));
    let sealer = sealer.keep(Keep::new(3, Duration::from_secs(60)).unwrap());
    std::thread::scope(|scope| {
        for suite in SUITES.into_iter().cycle().take(4) {
            let (sealer, opener) = (&sealer, &opener);
            scope.spawn(move || {
                for _ in 0..20 {
                    let opened = opener.open(&seal(sealer, suite, WAREHOUSE), &Expected::event(&event())).unwrap();
                    assert_eq!(opened.sender != SenderProof::Unverified, suite == Suite::Aes256Gcm);
                }
            });
        }
    });
}

#[test]
fn nothing_secret_is_shown() {
    let sealer = Sealer::new().own_key(SHOP.secret());
    let sealed = seal(&sealer, Suite::Aes256Gcm, WAREHOUSE);
    let opener = opener(WAREHOUSE);
    let expected_event = event();
    let opened = opener.open(&sealed, &Expected::event(&expected_event)).unwrap();
    let id = opened.id.clone().unwrap();
    let created = opened.created.unwrap().as_millis();
    for (debug, expected) in [
        (
            format!("{sealer:?}"),
            "Sealer { own: Some(SecretKey(iojj…, ..)), keep: Keep { events: 256, time: 60s }, nacl: 0 agreements, \
             sealed: 1 agreements }"
                .to_owned(),
        ),
        (
            format!("{opener:?}"),
            "Opener { keys: Keyring[SecretKey(gTl3…, ..)], nacl: 0 agreements, sealed: 1 agreements }".to_owned(),
        ),
        (
            format!("{opened:?}"),
            format!(
                "Opened {{ plaintext: 2 bytes, sender: Verified {{ key: AppId({}), signed: false }}, id: \
                 Some(SealedId(\"{id}\")), created: Some(Timestamp({created})) }}",
                SHOP.id()
            ),
        ),
        (
            format!("{:?}", SealOptions::from(Suite::Aes256Gcm).signed()),
            "SealOptions { suite: Aes256Gcm, signed: true, single: false }".to_owned(),
        ),
    ] {
        assert_eq!(debug, expected);
    }
}
