//! A secret that is given where something else belongs, alone or inside of it, is refused, and nothing of it is shown.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic here is a failed test")]

use ensync_core::{
    AppId, AppKey, AppName, Endpoint, Error, EventId, EventName, IdempotencyKey, Keyring, Metadata, PayloadJson,
    Schema, SecretKey, report,
};

const TOKENS: [&str; 3] = [
    "ensync_key_0123456789abcdefABCDEF",
    "ensync_admin_0123456789abcdefABCDEF",
    "ensync_session_0123456789abcdefABCDEF",
];

/// A secret key in every writing: in base64 and hex, percent-encoded, with the escapes of JSON.
fn secret_keys() -> Vec<String> {
    // One with each of the letters that are written otherwise somewhere.
    let keys = (0x5a_u8..0xff).map(|seed| (seed, SecretKey::from_seed([seed; 32])));
    let mut keys = keys.map(|(seed, secret)| (seed, secret.to_base64().unwrap().to_string(), secret));
    let (seed, base64, secret) = keys.find(|(_, base64, _)| base64.contains('/') && base64.contains('+')).unwrap();
    let public = secret.app_id().unwrap().to_hex();
    let hex = format!("{}{public}", format!("{seed:02x}").repeat(32));
    let bare = base64.trim_end_matches('=').to_owned();
    let url_safe = bare.replace('/', "_").replace('+', "-");
    let percent = base64.replace('/', "%2F").replace('+', "%2b").replace('=', "%3D");
    assert!(percent.len() > base64.len() && url_safe != bare);
    let third =
        |(at, byte): (usize, u8)| if at % 3 == 0 { format!("%{byte:02x}") } else { char::from(byte).to_string() };
    let all = bare.bytes().enumerate().map(third).collect();
    // As PHP writes JSON, and as some others do.
    let json = base64.replace('/', "\\/");
    let numbers = base64.replace('/', "\\u002f").replace('=', "\\u003D");
    assert!(json.len() > base64.len());
    vec![base64, bare, url_safe, hex.to_uppercase(), hex, percent, all, json, numbers]
}

fn secrets() -> Vec<String> {
    secret_keys().into_iter().chain(TOKENS.map(Into::into)).collect()
}

#[test]
fn names_and_ids_hold_no_secret() {
    for secret in secrets() {
        for text in [
            secret.clone(),
            format!("orders/{secret}"),
            format!("k={secret}"),
            format!("x{secret}"),
            format!("{secret}:x"),
        ] {
            let told = [
                EventName::parse(&text).map(|taken| format!("{taken:?}")),
                AppName::parse(&text).map(|taken| format!("{taken:?}")),
                EventId::parse(&text).map(|taken| format!("{taken:?}")),
                IdempotencyKey::parse(&text).map(|taken| format!("{taken:?}")),
            ];
            for told in told {
                let error = told.unwrap_err().to_string();
                assert!(!error.contains(&secret[12..20]), "{error}");
            }
        }
    }
    // What another engine calls its events is none of ours.
    for id in ["01JAR5M9K3", "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=", &"ab".repeat(64)] {
        EventId::parse(id).unwrap();
    }
    // To speak of keys is not to hold one.
    for name in ["audit/ensync_key_rotated", "ops/ensync_admin_login"] {
        EventName::parse(name).unwrap();
        EventId::parse(name).unwrap();
    }
    EventName::parse("a-long-company-name/A-Service-With-Capitals/orders/of-the-whole-day/that-were-paid/and-sent")
        .unwrap();
}

#[test]
fn urls_hold_no_secret() {
    for s in secrets() {
        for url in [
            format!("ws://h/{s}"),
            format!("ws://h/{s}/message"),
            format!("ws://h:1/k={s}"),
            format!("grpc://{s}"),
            format!("{s}:50051"),
            format!("grpc://h:{s}"),
            format!("{s}://h"),
            format!("x{s}://h"),
            format!("ws://h/?k={s}"),
            format!("ws://{s}@h"),
            format!("ws://u:{s}@h"),
            format!("a.{s}"),
        ] {
            let error = Endpoint::parse(&url).unwrap_err();
            let told = format!("{} {error:?}", report(&error)).to_lowercase();
            assert!(!told.contains(&s[12..20].to_lowercase()), "{told}");
        }
    }
}

/// An engine that a secret key is sent to has it, and so has whoever listens on the way.
#[test]
fn no_secret_key_is_taken_for_an_app_key() {
    for secret in secret_keys() {
        for text in [
            secret.clone(),
            format!("ENSYNC_SECRET_KEY={secret}"),
            format!("\"{secret}\""),
            format!("{secret},{secret}"),
            format!("{secret}x"),
            format!("x{secret}"),
            format!("{},{secret}", TOKENS[0]),
        ] {
            let refused = AppKey::parse(&text).map(|_| "taken").unwrap_err().to_string();
            assert!(refused.contains("keep it on this machine"), "{text}: {refused}");
            assert!(!refused.contains(&secret[12..20]), "{refused}");
        }
    }
    assert!(AppKey::parse("-----BEGIN-PRIVATE-KEY-----MC4CAQ").is_ok());
    for token in &TOKENS[1..] {
        for text in [(*token).to_owned(), format!("k={token}")] {
            assert!(AppKey::parse(&text).map(|_| "taken").unwrap_err().to_string().contains("no part of an app key"));
        }
    }
    // Other engines' keys begin as they like, and may be 32 bytes or more.
    for key in
        [TOKENS[0], "acme-live-0123456789abcdef", "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=", &"aB1_".repeat(60)]
    {
        AppKey::parse(key).unwrap();
    }
}

#[test]
fn in_pieces_a_secret_key_is_one_too() {
    for secret in secret_keys().into_iter().filter(|secret| !secret.contains(['%', '\\'])) {
        for cut in [1, 20, 44, 80] {
            let (first, second) = secret.split_at(cut);
            let error = AppName::parse(&format!("{first} {second}")).map(|_| "taken").unwrap_err().to_string();
            assert!(error.contains("a secret key") && !error.contains(&secret[20..30]), "{error}");
        }
    }
}

#[test]
fn a_host_is_looked_at_as_it_will_be_looked_up() {
    let wide: String = TOKENS[0].chars().map(|c| char::from_u32(u32::from(c) + 0xfee0).unwrap()).collect();
    let percent: String = TOKENS[0].bytes().map(|byte| format!("%{byte:02x}")).collect();
    for host in [wide.as_str(), &percent, &TOKENS[0].replace('_', "%5F"), &format!("a.{percent}.example")] {
        for url in [format!("ws://{host}"), format!("grpcs://{host}:50051")] {
            let error = Endpoint::parse(&url).map(|_| "taken").unwrap_err();
            assert!(!report(&error).contains("0123456789ab"), "{error}");
        }
    }
}

#[test]
fn no_part_of_a_secret_is_shown() {
    let secret = secrets().remove(0);
    let hex = "5a".repeat(32);
    for s in [secret.as_str(), &hex, TOKENS[0]] {
        for text in [
            format!("\"{s}\""),
            format!("'{s}'"),
            format!("{s};"),
            format!("={s}"),
            format!("{s}\n{s}"),
            format!("{s},{s}"),
            format!("{s}\0"),
            s[..s.len() - 3].to_owned(),
        ] {
            let errors: [Option<Error>; 11] = [
                AppId::parse(&text).err(),
                EventName::parse(&text).err(),
                AppName::parse(&text).err(),
                EventId::parse(&text).err(),
                SecretKey::parse(&text).err(),
                Keyring::parse(&text).err(),
                AppKey::parse(&text).err(),
                Endpoint::parse(&text).err(),
                Schema::parse(&format!("{{{text:?}:1}}")).err(),
                Metadata::parse(&text).err(),
                PayloadJson::parse(text.clone()).err(),
            ];
            let part = if s == TOKENS[0] { &s[11..15] } else { &s[..6] };
            for error in errors.into_iter().flatten() {
                let told = format!("{} {error:?}", report(&error));
                assert!(!told.contains(part), "{told}");
            }
        }
    }
}

/// What was accepted once is read again, whatever later versions refuse.
#[test]
fn what_is_stored_is_read_by_its_form_alone() {
    // A backslash is in no name, whenever it was taken.
    for secret in secrets().into_iter().filter(|secret| !secret.contains('\\')) {
        // One of the two alphabets, not both.
        let other = if secret.contains('%') { secret } else { secret.replace('/', "_").replace('+', "-") };
        let name = format!("orders/x{other}");
        assert!(EventName::parse(&name).is_err());
        assert_eq!(EventName::parse_stored(&name).unwrap().as_str(), name);
        assert_eq!(IdempotencyKey::parse_stored(&name).unwrap().as_str(), name);
    }
    for text in ["", "a//b", "a b", &"a".repeat(257)] {
        assert!(EventName::parse_stored(text).is_err(), "{text}");
    }
    assert!(IdempotencyKey::parse_stored(&"a".repeat(257)).is_err());
}
