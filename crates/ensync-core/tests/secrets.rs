//! A secret, given where something else belongs, is in no error; and no `Debug` and no `Display` shows one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::cell::Cell;
use std::fmt::{Debug, Display};

use ensync_core::crypto::{Opener, Recipient, Sealer, Suite, inspect};
use ensync_core::{
    AppId, AppKey, AppName, Block, ClientId, Delay, Endpoint, Error, ErrorKind, EventId, EventName, Given,
    IdempotencyKey, Keyring, Login, Metadata, PayloadMetadata, Peer, Schema, Scheme, SecretKey, Timestamp, Welcome,
    WirePayload, report,
};

/// A seed that is no app's id: one that is can be told from an id by nobody.
const SEED: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB0=";
const SECRET: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB2hX8vsQ/MVG/NzNwzYwgDgAA/Dk3nieaSflWlKdB+03w==";
const APP_KEY: &str = "ensync_key_q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA";

/// Every spelling in which a secret may be pasted.
fn spellings(secret: &str) -> Vec<String> {
    let url_safe = secret.replace('+', "-").replace('/', "_");
    let bare = secret.trim_end_matches('=');
    let wrapped = secret.as_bytes().chunks(40).map(|line| str::from_utf8(line).unwrap()).collect::<Vec<_>>().join("\n");
    vec![
        secret.to_owned(),
        bare.to_owned(),
        url_safe.trim_end_matches('=').to_owned(),
        url_safe,
        format!("{secret}\n"),
        format!("\u{feff} {secret}\r\n"),
        format!("{secret}x"),
        bare[..bare.len() - 1].to_owned(),
        format!("{secret},{secret}"),
        format!("\"{secret}\""),
        wrapped,
    ]
}

/// Fails if any twelve characters of a secret are in what was shown.
fn assert_hidden(what: &str, shown: &str) {
    for secret in [SECRET, SEED, APP_KEY.trim_start_matches(AppKey::PREFIX)] {
        let url_safe = secret.replace('+', "-").replace('/', "_");
        for secret in [secret, &url_safe] {
            for piece in secret.as_bytes().windows(12) {
                let piece = str::from_utf8(piece).unwrap();
                assert!(!shown.contains(piece), "{what}: {piece:?} is in {shown:?}");
                assert!(!shown.contains(&piece.to_lowercase()), "{what}: {piece:?} is in {shown:?}");
            }
        }
    }
}

thread_local! {
    /// How often a parser was asked, and how often it refused.
    static ASKED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    /// Whether the secret that is tried is a whole one: what was cut off is known by nothing.
    static WHOLE: Cell<bool> = const { Cell::new(true) };
}

/// What is taken may hold a secret, but shows none.
fn refused<T: Debug>(what: &str, result: Result<T, Error>) {
    let (asked, refused) = ASKED.get();
    ASKED.set((asked + 1, refused + usize::from(result.is_err())));
    match result {
        Err(error) => assert_hidden(what, &format!("{error} {error:?} {}", report(&error))),
        Ok(_) if !WHOLE.get() => {}
        Ok(taken) => assert_hidden(what, &format!("{taken:?} {taken:#?}")),
    }
}

/// Every way from a text to a value.
fn every_parser(text: &str) {
    refused("AppId", AppId::parse(text).and_then(|id| id.check()));
    refused("Recipient", AppId::parse(text).and_then(Recipient::new));
    refused("AppKey", AppKey::parse(text));
    refused("AppName", AppName::parse(text));
    refused("Block", text.parse::<Block>());
    refused("ClientId", ClientId::parse(text));
    refused("Endpoint", Endpoint::parse(text));
    for scheme in ["wss://", "grpc://", "http://user:"] {
        refused("Endpoint", Endpoint::parse(&format!("{scheme}{text}")));
        refused("Endpoint", Endpoint::parse(&format!("{scheme}{text}@h")));
        refused("Endpoint", Endpoint::parse(&format!("{scheme}h:{text}")));
    }
    refused("Endpoint", Endpoint::parse(&format!("{text}://h")));
    refused("ErrorKind", text.parse::<ErrorKind>());
    refused("EventId", EventId::parse(text));
    refused("EventName", EventName::parse(text));
    refused("IdempotencyKey", IdempotencyKey::parse(text));
    refused("Keyring", Keyring::parse(text));
    refused("Keyring", Keyring::parse(&format!("{text},x")));
    refused("Metadata", Metadata::parse(text));
    refused("Metadata", Metadata::parse(&format!("{{\"a\":\"{text}\",}}")));
    refused("PayloadMetadata", PayloadMetadata::parse(text));
    refused("Schema", Schema::parse(text));
    refused("Schema", Schema::parse(&format!("{{\"a\":\"{text}\"}}")));
    refused("Scheme", text.parse::<Scheme>());
    refused("SecretKey", SecretKey::parse(text));
    refused("SecretKey", SecretKey::from_seed_base64(text));
    refused("SecretKey", SecretKey::from_x25519_base64(text));
    refused("Suite", text.parse::<Suite>());
    refused("Timestamp", text.parse::<Timestamp>());
    refused("WirePayload", inspect(&WirePayload::from_wire(text.to_owned())));
    assert_hidden("Given", &Given(text).to_string());
}

#[test]
fn a_secret_in_the_wrong_place_is_in_no_error() {
    for secret in [SECRET, SEED, APP_KEY] {
        for text in spellings(secret) {
            let whole = text.contains(secret.trim_end_matches('=')) || text.contains(['\n', '-']);
            // Other engines' ids may be 32 bytes.
            WHOLE.set(whole && secret != SEED);
            every_parser(&text);
        }
    }
    // A parser that takes everything would show nothing.
    let (asked, refused) = ASKED.get();
    assert!(asked >= 1_000 && refused * 100 >= asked * 90, "{refused} of {asked} refused");
}

#[test]
fn a_whole_secret_key_is_called_by_its_name() {
    for text in &spellings(SECRET)[..6] {
        let errors = [
            AppId::parse(text).unwrap_err(),
            EventName::parse(text).unwrap_err(),
            AppName::parse(text).unwrap_err(),
            Endpoint::parse(text).unwrap_err(),
            EventId::parse(text).unwrap_err(),
            IdempotencyKey::parse(text).unwrap_err(),
            AppKey::parse(text).unwrap_err(),
        ];
        for error in errors {
            assert!(error.to_string().contains("this is a secret key"), "{text:?}: {error}");
        }
    }
}

#[test]
fn serde_repeats_no_secret() {
    fn tried<T: serde::de::DeserializeOwned>(what: &str) {
        for secret in [SECRET, SEED, APP_KEY] {
            for text in spellings(secret) {
                if let Err(error) = serde_json::from_value::<T>(text.into()) {
                    assert_hidden(what, &error.to_string());
                }
            }
        }
    }
    tried::<AppId>("AppId");
    tried::<AppKey>("AppKey");
    tried::<AppName>("AppName");
    tried::<EventName>("EventName");
    tried::<Endpoint>("Endpoint");
    tried::<Scheme>("Scheme");
    tried::<ErrorKind>("ErrorKind");
    tried::<SecretKey>("SecretKey");
    tried::<Keyring>("Keyring");
    tried::<EventId>("EventId");
}

#[test]
fn nothing_that_holds_a_secret_shows_it() {
    fn shown(value: &dyn Debug) {
        assert_hidden("Debug", &format!("{value:?} {value:#?}"));
    }
    let (secret, bare) = (SecretKey::parse(SECRET).unwrap(), SecretKey::from_x25519_base64(SEED).unwrap());
    let (app_key, client_id) = (AppKey::parse(APP_KEY).unwrap(), ClientId::parse(APP_KEY).unwrap());
    shown(&secret);
    shown(&bare);
    shown(&app_key);
    shown(&client_id);
    let ring = Keyring::new(secret.clone()).with_previous(bare);
    shown(&ring);
    shown(&Opener::new(ring));
    shown(&Sealer::new().own_key(secret.clone()));
    shown(&Login { app_key, transport: "ws", remote: None });
    let app_id = secret.app_id().unwrap();
    shown(&Peer { client_id: client_id.clone(), app_id });
    shown(&Welcome { client_id, app_id: None, config: Default::default() });
    shown(&Delay::MIN);
    let display: &dyn Display = &app_id;
    assert_eq!(display.to_string(), "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=");
}
