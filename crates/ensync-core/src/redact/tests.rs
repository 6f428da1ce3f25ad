//! Secrets are found in every writing, and what is none is shown.

use super::*;
use crate::{SecretKey, encoding};

/// A seed that is no app's id.
const SEED: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB0=";
const ID: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";
const SECRET: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB2hX8vsQ/MVG/NzNwzYwgDgAA/Dk3nieaSflWlKdB+03w==";
const KEY: &str = "ensync_key_q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA";

fn hex(base64: &str) -> String {
    encoding::decode(base64).unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn percent(text: &str) -> String {
    text.replace('/', "%2F").replace('+', "%2b").replace('=', "%3D")
}

/// Nothing of 12 letters in a row is left.
fn assert_hidden(secret: &str, text: &str, what: Redact) {
    let clean = redacted(text, what);
    assert!(clean.contains("not shown"), "{text:?} -> {clean:?}");
    for piece in secret.trim_end_matches('=').as_bytes().windows(12) {
        assert!(!clean.contains(str::from_utf8(piece).unwrap()), "{text:?} -> {clean:?}");
    }
}

fn around(secret: &str) -> Vec<String> {
    vec![
        secret.to_owned(),
        format!(" {secret}\n"),
        format!("--to={secret}"),
        format!("k={secret}"),
        format!("--{secret}"),
        format!("/home/{secret}"),
        format!("cannot read '{secret}': no such file"),
        format!("{secret}, and again \"{secret}\""),
    ]
}

#[test]
fn secrets_are_seen_wherever_they_stand() {
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
    let token = "ensync_admin_abc-_0123456789abcdef_";
    for secret in [SEED, SECRET, KEY, &KEY.to_uppercase(), token, pem, &hex(SECRET)] {
        for text in around(secret) {
            assert!(perhaps_secret_in(&text).is_some(), "{text}");
            for what in [Redact::Secrets, Redact::Hex, Redact::Keys] {
                assert!(!redacted(&text, what).contains("MC4CAQ"));
                let shown = if secret == pem { "MC4CAQAwBQYD" } else { secret };
                assert_hidden(shown, &text, what);
            }
        }
    }
}

#[test]
fn secrets_are_seen_in_every_writing() {
    for secret in [SEED, SECRET, KEY] {
        for cut in [5, 20, 30, 40] {
            let (first, second) = secret.split_at(cut);
            let (middle, last) = second.split_at(second.len() / 2);
            for (text, what) in [
                (format!("{first} {second}"), Redact::Keys),
                (format!("unrecognized subcommand '{first}\n  {middle}\t{last}'"), Redact::Keys),
                (percent(secret), Redact::Secrets),
                (format!("http://h/v1/{}?x=1", percent(secret)), Redact::Secrets),
                (percent(&format!("{first} {second}")), Redact::Keys),
                (format!("{{\"k\":\"{}\"}}", secret.replace('/', "\\/")), Redact::Secrets),
                (secret.replace('/', "\\u002F").replace('=', "\\u003d"), Redact::Secrets),
                (format!("{{\"k\":\"{first}\\n{middle}\\r\\n{last}\"}}"), Redact::Keys),
            ] {
                // Of what is cut, a beginning that is no key by itself is found only as a part of one.
                assert_hidden(secret, &text, what);
                assert!(perhaps_secret_in(&text).is_some(), "{text}");
            }
        }
    }
    assert_hidden("0123456789abcdef", "ensync_ke y_0123456789abcdef", Redact::Secrets);
    for key in [hex(SECRET), hex(SEED), hex(ID), hex(SEED).to_uppercase(), format!("0x{}", hex(SEED))] {
        for text in around(&key) {
            assert_hidden(&key, &text, Redact::Hex);
        }
        assert_hidden(&key, &format!("{} {}", &key[..30], &key[30..]), Redact::Hex);
    }
}

/// As a Kubernetes Secret has it, with what stood beside it in its file, wrapped as `base64` does, and behind other letters.
#[test]
fn secrets_are_seen_as_texts_in_base64() {
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
    let token = format!("ensync_admin_{}", &KEY["ensync_key_".len()..]);
    let mut tried = 0;
    for (secret, what) in [
        (SECRET, "a secret key"),
        (SECRET.trim_end_matches('='), "a secret key"),
        (&hex(SECRET), "a secret key"),
        (pem, "a private key"),
        (KEY, "an app key"),
        (&token, "an admin token"),
    ] {
        for text in
            [secret.to_owned(), format!("{secret}\n"), format!("K={secret}\n"), format!("# a\nKEY='{secret}'\nX=1")]
        {
            let all = encoding::encode(text.as_bytes());
            let (first, rest) = all.split_at(40);
            for written in [
                all.clone(),
                all.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned(),
                format!("key: {all}"),
                format!("k/{all}"),
                format!("{first}\n{rest}\n"),
                format!("{{\"k\":\"{first}\\n{rest}\"}}"),
                percent(&all),
            ] {
                assert_eq!((secret_in(&written), perhaps_secret_in(&written)), (Some(what), Some(what)), "{written}");
                for much in [Redact::Secrets, Redact::Hex, Redact::Keys] {
                    let clean = redacted(&written, much);
                    // Of the letters around it, some are left.
                    assert!(clean.contains(HIDDEN) && clean.len() < 90, "{written} -> {clean}");
                    assert_eq!(secret_in(&clean), None, "{clean}");
                }
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 168);
    // What is no secret is none in base64.
    for text in ["no app has the name \"warehouse\", and none will", ID, &KEY[..30]] {
        let all = encoding::encode(text.as_bytes());
        assert_eq!((secret_in(&all), redacted(&all, Redact::Secrets)), (None, Cow::Borrowed(&*all)), "{text}");
    }
}

/// Whoever refuses asks for what is certain; whoever hides, for what may be.
#[test]
fn what_may_be_a_secret_is_not_one_for_certain() {
    for (certain, text) in [
        ("a secret key", SECRET.to_owned()),
        ("a secret key", format!("k={}", hex(SECRET))),
        ("a secret key", format!("g{}z", hex(SECRET))),
        ("a secret key", format!("g{} {}", &hex(SECRET)[..64], &hex(SECRET)[64..])),
        ("a secret key", percent(SECRET)),
        ("a secret key", format!("{} {}", &SECRET[..44], &SECRET[44..])),
        ("a secret key", SECRET.replace('/', "\\/")),
        ("a secret key", SECRET.replace('/', "\\u002f").replace('=', "\\u003D")),
        ("an app key", KEY.replace('_', "\\u005f")),
        ("a secret key", format!("AB{}C", &SECRET[..86])),
        ("an app key", KEY.to_uppercase()),
        ("an app key", KEY.replace('_', "%5f")),
        ("an admin token", format!("a/ensync_admin_{}", "a".repeat(22))),
        ("a session's client id", format!("CLIENT_ID=:{}{}", crate::ClientId::PREFIX, "a".repeat(43))),
        ("a private key", "x -----BEGIN EC PRIVATE KEY-----".to_owned()),
    ] {
        assert_eq!((secret_in(&text), perhaps_secret_in(&text)), (Some(certain), Some(certain)), "{text}");
        for what in [Redact::Secrets, Redact::Hex, Redact::Keys] {
            assert_eq!(secret_in(&redacted(&text, what)), None, "{text}");
        }
    }
    assert_eq!((secret_in(SEED), perhaps_secret_in(SEED)), (None, Some("a secret key")));
    for text in ["audit/ensync_key_rotated", "ensync_admin_", "-----BEGIN CERTIFICATE-----", &hex(SEED), ID, "%65"] {
        assert_eq!(secret_in(text), None, "{text}");
    }
    assert_eq!(perhaps_secret_in("audit/ensync_key_rotated"), None);
    for words in [
        "metric=ensync_session_duration_seconds_bucket",
        "audit/ensync_admin_dashboard_login_succeeded",
        "audit/ensync_key_rotation_v2-was-completed_for_2_apps",
        "ENSYNC_ADMIN_TOKEN_FILE_OF_THE_OTHER_ENGINE",
        "Audit/ensync_session_Ended_By_The_Administrator",
    ] {
        assert_eq!((secret_in(words), perhaps_secret_in(words)), (None, None), "{words}");
        let metadata = crate::Metadata::parse(&format!(r#"{{"headers":{{"h":{words:?}}}}}"#)).unwrap();
        assert_eq!(metadata.secret(), None, "{words}");
    }
}

/// Whatever its letters happen to be, and whatever stands behind it.
#[test]
fn every_key_of_an_engine_is_one_for_certain() {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = 11_u64;
    for n in 0..3_000 {
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(letters.as_bytes()[(state >> 33) as usize % letters.len()])
        };
        let key: String = (0..43).map(|_| letter()).collect();
        for behind in ["", "-rotated", "_backup", "_prod", "/rotated/again"] {
            let (prefix, what) = keys::ISSUED[n % 3];
            let text = format!("a/{prefix}{key}{behind}");
            assert_eq!((secret_in(&text), perhaps_secret_in(&text)), (Some(what), Some(what)), "{text}");
        }
    }
}

#[test]
fn what_is_no_secret_is_shown() {
    for text in [
        "",
        "no app has the name \"warehouse\"",
        "/a/path/that/is/as/long/as/a/key/is/in/base/64",
        "a=b==",
        "100 % of it, %zz, %e9",
        "[env: ENSYNC_ADMIN_TOKEN_FILE] and ENSYNC_KEY_FILE",
        "In 2026 The Engine Of The Config Manager Answered With Words Of Its Own And 17 More",
        "0123456789abcdef0123456789abcdef",
    ] {
        assert_eq!((perhaps_secret_in(text), redacted(text, Redact::Keys)), (None, Cow::Borrowed(text)));
    }
    let (id, sum) = (format!("app {ID} is disabled"), format!("/volumes/{}/_data", hex(ID)));
    assert_eq!((perhaps_secret_in(&id), &*redacted(&id, Redact::Hex)), (None, &*id));
    assert_eq!((perhaps_secret_in(&sum), &*redacted(&sum, Redact::Secrets)), (None, &*sum));
    assert_hidden(ID, &id, Redact::Keys);
    assert_eq!(redacted(&sum, Redact::Hex), "/volumes/(not shown: a key)/_data");
}

#[test]
fn each_of_many_is_hidden_whatever_stands_beside_it() {
    for (one, other) in [(SECRET, SEED), (SEED, SECRET), (SECRET, SECRET), (KEY, SEED), (SEED, KEY)] {
        for between in ["", " ", "/", "-", ";", "%20", "\n", ", and "] {
            // Letters of base64 go on in the next key, and where no key ends there is none.
            let runs_on = matches!(between, "" | "-" | "/") && (one == KEY || !one.ends_with('='));
            for text in [format!("{one}{between}{other}"), percent(&format!("{one}{between}{other} {one}"))] {
                assert_hidden(one, &text, Redact::Keys);
                if !(runs_on || one == KEY) {
                    assert_hidden(other, &text, Redact::Keys);
                }
            }
        }
    }
    let many = format!("{KEY}; ensync_ke y_ABCDEFGHIJKL").repeat(3);
    assert_hidden(KEY, &many, Redact::Secrets);
    assert_hidden("ABCDEFGHIJKL", &many, Redact::Secrets);
    let pem = "-----BEGIN PRIVATE KEY-----\nAAAABBBBCCCC\n-----END PRIVATE KEY-----\n";
    for text in [format!("{pem}, {pem}x"), format!("{pem}-----BEGIN X-----\nAAAABBBBCCCC")] {
        assert_hidden("AAAABBBBCCCC", &text, Redact::Secrets);
    }
    for (hex, joint) in [hex(SEED), hex(SECRET)].into_iter().zip(["/", "-"]) {
        for text in [format!("{hex}{joint}{hex}{joint}x"), format!("a_{hex}{joint}b"), format!("{hex} {hex}")] {
            assert_hidden(&hex, &text, Redact::Hex);
        }
    }
}

#[test]
fn of_a_long_text_the_end_is_not_shown_nor_what_goes_beyond_it() {
    for most in 0..KEY.len() + 20 {
        let text = format!("0123456789 {KEY} {}", "x".repeat(100));
        let clean = redacted_head(&text, Redact::Secrets, most);
        assert!(clean.ends_with(TOO_LONG) && !clean.contains("q83v"), "{most}: {clean}");
        assert_eq!(clean.contains(HIDDEN), most > 11, "{most}: {clean}");
        let text = format!("0123456789 {SECRET}");
        let clean = redacted_head(&text, Redact::Secrets, most);
        assert!(!clean.contains("7NIy"), "{most}: {clean}");
    }
    let long = format!("{}{KEY}", "é ".repeat(MOST));
    let clean = redacted(&long, Redact::Keys);
    assert!(clean.len() < MOST + 100 && clean.ends_with(TOO_LONG), "{}", clean.len());
    assert!(matches!(redacted("é", Redact::Keys), Cow::Borrowed("é")));
}

/// Whoever sent it chose how long it is, and each candidate costs a multiplication on the curve.
#[test]
fn what_is_not_shown_of_a_text_costs_nothing() {
    for part in ["AgQw", "AgQw%20", "AgQw\\/", "AgQw "] {
        for length in [4_000, 64_000] {
            let text = part.repeat(length / part.len());
            CHECKED.set(0);
            let clean = redacted_head(&text, Redact::Hex, 512);
            assert!(CHECKED.get() <= 512 / 12, "{part:?}: {}", CHECKED.get());
            assert!(clean.len() < 512 + 100, "{part:?}: {}", clean.len());
        }
    }
}

#[test]
fn of_very_many_secrets_each_is_hidden() {
    for count in [64, 65, 1_000] {
        let clean = redacted(&format!("{}, the end", vec![KEY; count].join(", ")), Redact::Keys).into_owned();
        assert_eq!((clean.ends_with(", the end"), clean.matches(HIDDEN).count()), (true, count));
    }
}

#[test]
fn of_more_candidates_than_are_looked_at_each_is_hidden() {
    let clean = redacted(&format!("{ID};").repeat(1_100), Redact::Secrets).into_owned();
    assert_eq!(clean.matches(HIDDEN).count(), 1_100 - 1_024);
}

/// Somebody else chose the text. A search that begins anew at each slash, or behind each find, takes minutes for one of these.
#[test]
fn a_hostile_text_costs_what_its_length_does() {
    const MOST: usize = 16 << 10;
    let words = "a1 ".repeat(MOST / 3);
    for (name, text) in [
        ("slashes", "/".repeat(MOST)),
        ("hyphens", "-".repeat(MOST)),
        ("tokens", "ensync_key_;".repeat(MOST / 12)),
        ("tokens and hyphens", "ensync_key_;".repeat(MOST / 24) + &"-".repeat(MOST / 2)),
        ("tokens in pieces", "ensync_ke y_;".repeat(MOST / 13)),
        ("tokens and white space", "ensync_key_ \u{2003}".repeat(MOST / 15)),
        ("PEM", "-----BEGIN -----END ".repeat(MOST / 20)),
        ("words", words.clone()),
        ("words in percents", words.replace(' ', "%20")),
        ("mixed words", "Aa1 bB2 ".repeat(MOST / 8)),
        ("ids", format!("{ID}/").repeat(MOST / 45)),
        ("seeds in pieces", format!("{} ", SEED.split_at(20).0).repeat(MOST / 21)),
        ("candidates", "AgQw".repeat(MOST / 4)),
        ("candidates in percents", "AgQw%20".repeat(MOST / 7)),
        ("hex", format!("0x{}-", hex(SECRET)).repeat(MOST / 131)),
        ("candidates in base64", "QWdRd0FnUXdBZ1F3".repeat(MOST / 16)),
        ("tokens in base64", "ZW5zeW5jX2tleV87".repeat(MOST / 16)),
        ("escapes", "AgQw\\/\\u0041".repeat(MOST / 12)),
    ] {
        for what in [Redact::Secrets, Redact::Hex, Redact::Keys] {
            let begun = std::time::Instant::now();
            CHECKED.set(0);
            let clean = redacted(&text, what);
            let checked = CHECKED.get();
            assert!(checked <= 1_024, "{name}, {what:?}: {checked} candidates");
            assert!(clean.len() <= text.len() * 3, "{name}, {what:?}: {}", clean.len());
            // Some milliseconds each, 0.3 s without optimisation, more beside other work. What is not bounded takes minutes.
            assert!(begun.elapsed().as_secs() < 10, "{name}, {what:?}: {:?}", begun.elapsed());
        }
        // Of one that is not cut, the same.
        let begun = std::time::Instant::now();
        let _seen = (perhaps_secret_in(&text), SecretKey::find_in(&text));
        assert!(begun.elapsed().as_secs() < 10, "{name}: {:?}", begun.elapsed());
    }
}
